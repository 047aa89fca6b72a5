//! From a text to tokens.

use std::ops::Range;

use super::error::Fault;

/// A token and the bytes of the text that it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token<'t> {
    pub(super) kind: Kind<'t>,
    pub(super) at: Range<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind<'t> {
    Number(Number),
    /// A character constant: one byte.
    Char(u8),
    /// A string literal, without its NUL.
    Text(Vec<u8>),
    /// An identifier or keyword.
    Word(&'t str),
    /// `$name`, the `$` included.
    Variable(&'t str),
    /// A name between single quotes that is no character constant: `'file.c'`.
    Quoted(&'t str),
    Punct(&'static str),
}

/// An integer constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Number {
    pub(super) value: u64,
    /// Suffix `u`.
    pub(super) unsigned: bool,
    /// Suffix `l` or `ll`.
    pub(super) long: bool,
    /// Written in decimal: such a constant is never unsigned unless it says so.
    pub(super) decimal: bool,
}

/// Longest first, so that the first that fits is the token.
const PUNCTUATION: &[&str] = &[
    "<<=", ">>=", "...", "->", "++", "--", "<<", ">>", "<=", ">=", "==", "!=", "&&", "||", "::", "+=", "-=",
    "*=", "/=", "%=", "&=", "^=", "|=", "(", ")", "[", "]", "{", "}", ".", "+", "-", "~", "!", "&", "*", "/",
    "%", "<", ">", "^", "|", "?", ":", "=", ",", "@", ";",
];

/// The tokens of a text.
pub(super) fn tokens(text: &str) -> Result<Vec<Token<'_>>, Fault> {
    let mut lexer = Lexer { text, at: 0 };
    let mut tokens = Vec::new();
    while let Some(token) = lexer.next()? {
        tokens.push(token);
    }
    Ok(tokens)
}

struct Lexer<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Lexer<'t> {
    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn next(&mut self) -> Result<Option<Token<'t>>, Fault> {
        let rest = self.rest();
        let trimmed = rest.trim_start();
        self.at = self.at.saturating_add(rest.len().saturating_sub(trimmed.len()));
        let start = self.at;
        let Some(first) = trimmed.chars().next() else { return Ok(None) };
        let kind = match first {
            '0'..='9' => self.number()?,
            'a'..='z' | 'A'..='Z' | '_' => Kind::Word(self.word()),
            '$' => self.variable(),
            '\'' => self.quoted()?,
            '"' => self.string()?,
            _ => self.punctuation(first)?,
        };
        Ok(Some(Token { kind, at: start..self.at }))
    }

    /// Takes characters while they fit.
    fn take(&mut self, fits: impl Fn(char) -> bool) -> &'t str {
        let rest = self.rest();
        let length = rest.find(|c: char| !fits(c)).unwrap_or(rest.len());
        self.at = self.at.saturating_add(length);
        rest.get(..length).unwrap_or_default()
    }

    fn word(&mut self) -> &'t str {
        self.take(is_word)
    }

    /// `$name`, `$1`, `$` and `$$`, `$$2`.
    fn variable(&mut self) -> Kind<'t> {
        let start = self.at;
        self.take(|c| c == '$');
        self.word();
        Kind::Variable(self.text.get(start..self.at).unwrap_or_default())
    }

    fn punctuation(&mut self, first: char) -> Result<Kind<'t>, Fault> {
        let rest = self.rest();
        if let Some(found) = PUNCTUATION.iter().find(|punctuation| rest.starts_with(**punctuation)) {
            self.at = self.at.saturating_add(found.len());
            return Ok(Kind::Punct(found));
        }
        let end = self.at.saturating_add(first.len_utf8());
        let shown = kdive_base::printable(first.to_string().as_bytes());
        Err(Fault::wrong(self.at..end, format!("{shown} means nothing in C")))
    }

    fn number(&mut self) -> Result<Kind<'t>, Fault> {
        let start = self.at;
        let word = self.take(|c| is_word(c) || c == '\'');
        let at = start..self.at;
        if self.rest().starts_with('.') && word.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Fault::wrong(at, "floating-point constants are not supported"));
        }
        match number(word) {
            Some(number) => Ok(Kind::Number(number)),
            None => Err(not_a_number(word, at)),
        }
    }

    /// A character constant, or a name: what stands before `::`, and what no character constant can be.
    fn quoted(&mut self) -> Result<Kind<'t>, Fault> {
        let start = self.at;
        let open = |end| Fault::wrong(start..end, "this quote is not closed");
        let inner = self.rest().get(1..).unwrap_or_default();
        let mut length = 0_usize;
        let mut escaped = false;
        for byte in inner.bytes() {
            match byte {
                b'\'' if !escaped => break,
                _ => escaped = byte == b'\\' && !escaped,
            }
            length = length.saturating_add(1);
        }
        let inner = inner.get(..length).ok_or_else(|| open(self.text.len()))?;
        self.at = start.saturating_add(length).saturating_add(2);
        if self.at > self.text.len() {
            return Err(open(self.text.len()));
        }
        let names_a_scope = self.rest().trim_start().starts_with("::");
        let bytes = unescape(inner).filter(|_| !names_a_scope);
        match bytes.as_deref() {
            Some([one]) => Ok(Kind::Char(*one)),
            _ if inner.is_empty() => Err(Fault::wrong(start..self.at, "an empty character constant")),
            _ if inner.contains('\\') => Err(Fault::wrong(start..self.at, "no character constant")),
            _ => Ok(Kind::Quoted(inner)),
        }
    }

    fn string(&mut self) -> Result<Kind<'t>, Fault> {
        let start = self.at;
        let inner = self.rest().get(1..).unwrap_or_default();
        let mut escaped = false;
        let end = inner.bytes().position(|byte| {
            let closes = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            closes
        });
        let Some(inner) = end.and_then(|end| inner.get(..end)) else {
            return Err(Fault::wrong(start..self.text.len(), "this quote is not closed"));
        };
        self.at = start.saturating_add(inner.len()).saturating_add(2);
        let bytes = unescape(inner);
        bytes.map(Kind::Text).ok_or_else(|| Fault::wrong(start..self.at, "an escape that C does not have"))
    }
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// An integer constant (C11 6.4.4.1, and `0b` of C23). `None` for anything else, and for what 64 bits do not hold.
pub(super) fn number(word: &str) -> Option<Number> {
    let lower = word.to_ascii_lowercase();
    let (radix, rest) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, lower.get(2..)?),
        [b'0', b'b', ..] => (2, lower.get(2..)?),
        [b'0', _, ..] => (8, lower.as_str()),
        _ => (10, lower.as_str()),
    };
    let end = rest.find(|c: char| !c.is_digit(if radix == 16 { 16 } else { 10 })).unwrap_or(rest.len());
    let (digits, suffix) = rest.split_at_checked(end)?;
    let (unsigned, long) = match suffix {
        "" => (false, false),
        "u" => (true, false),
        "l" | "ll" => (false, true),
        "ul" | "ull" | "lu" | "llu" => (true, true),
        _ => return None,
    };
    let value = u64::from_str_radix(digits, radix).ok()?;
    Some(Number { value, unsigned, long, decimal: radix == 10 })
}

/// What is wrong with something that begins like a number.
fn not_a_number(word: &str, at: Range<usize>) -> Fault {
    let fault = Fault::wrong(at, format!("{word} is not a number in C"));
    match hexadecimal(word) {
        Some(hint) => fault.hinting(hint),
        None => fault,
    }
}

/// What to type instead of hexadecimal digits without `0x`.
pub(super) fn hexadecimal(word: &str) -> Option<String> {
    let digits = word.bytes().all(|byte| byte.is_ascii_hexdigit());
    (digits && word.len() >= 4 && word.len() <= 16).then(|| format!("did you mean 0x{word}?"))
}

/// The bytes that the inside of a literal stands for.
fn unescape(inner: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(inner.len());
    let mut rest = inner.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        let (&escape, behind) = rest.split_first()?;
        let radix = match escape {
            b'x' => 16,
            b'0'..=b'7' => 8,
            _ => {
                bytes.push(simple_escape(escape)?);
                rest = behind;
                continue;
            }
        };
        let digits = if radix == 16 { behind } else { rest };
        let most = if radix == 16 { 2 } else { 3 };
        let fits = |byte: &&u8| char::from(**byte).is_digit(radix);
        let length = digits.iter().take(most).take_while(fits).count();
        let text = std::str::from_utf8(digits.get(..length)?).ok()?;
        bytes.push(u8::from_str_radix(text, radix).ok()?);
        rest = digits.get(length..)?;
    }
    Some(bytes)
}

fn simple_escape(escape: u8) -> Option<u8> {
    Some(match escape {
        b'n' => b'\n',
        b't' => b'\t',
        b'r' => b'\r',
        b'a' => 7,
        b'b' => 8,
        b'v' => 11,
        b'f' => 12,
        b'e' => 27,
        b'\\' | b'\'' | b'"' | b'?' => escape,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<Kind<'_>> {
        tokens(text).unwrap().into_iter().map(|token| token.kind).collect()
    }

    fn value(text: &str) -> Option<u64> {
        number(text).map(|number| number.value)
    }

    #[test]
    fn integers_of_all_bases() {
        assert_eq!(value("0"), Some(0));
        assert_eq!(value("1234"), Some(1234));
        assert_eq!(value("0xffff888003a40000"), Some(0xffff_8880_03a4_0000));
        assert_eq!(value("0XffUL"), Some(255));
        assert_eq!(value("0b101"), Some(5));
        assert_eq!(value("0777"), Some(511));
        assert_eq!(number("7ull"), Some(Number { value: 7, unsigned: true, long: true, decimal: true }));
        for wrong in ["08", "0b2", "0x", "12ab", "1lul", "1f", "0x10000000000000000", "1'000"] {
            assert_eq!(number(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn quotes_are_characters_or_names() {
        assert_eq!(kinds("'a' '\\n' '\\0' '\\x41' '\\'' '\\101'").len(), 6);
        assert_eq!(kinds("'\\x41'"), [Kind::Char(0x41)]);
        assert_eq!(kinds("'\\''"), [Kind::Char(b'\'')]);
        assert_eq!(kinds("'sched/core.c'::x").first(), Some(&Kind::Quoted("sched/core.c")));
        assert_eq!(kinds("'x'::y").first(), Some(&Kind::Quoted("x")));
        assert_eq!(kinds("'count.0'"), [Kind::Quoted("count.0")]);
        assert_eq!(kinds("\"a\\tb\\\"\""), [Kind::Text(b"a\tb\"".to_vec())]);
        for open in ["'", "'a", "'\\'", "\"", "\"\\\"", "''", "\"\\q\"", "'\\q'"] {
            assert!(tokens(open).is_err(), "{open}");
        }
    }

    #[test]
    fn operators_are_as_long_as_they_can_be() {
        let text = "a->b - --$x>>=2 $$ $";
        let found: Vec<_> = tokens(text).unwrap().iter().map(|token| &text[token.at.clone()]).collect();
        assert_eq!(found, ["a", "->", "b", "-", "--", "$x", ">>=", "2", "$$", "$"]);
    }

    #[test]
    fn digits_without_a_prefix_get_a_hint() {
        let fault = tokens("8880003a4000ab00").unwrap_err();
        assert_eq!(fault.hint.as_deref(), Some("did you mean 0x8880003a4000ab00?"));
        assert!(tokens("1.5").is_err());
        assert!(tokens("a é").is_err());
    }
}
