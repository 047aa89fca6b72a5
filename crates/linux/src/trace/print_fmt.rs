//! The way an event wants to be shown: its `print_fmt`, a format and expressions in C over its fields
//! (include/trace/stages), parsed once for each event.

use std::iter::Peekable;
use std::str::CharIndices;

/// An expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expr {
    Int(i64),
    Text(String),
    /// `REC->name`.
    Field(String),
    /// An enumerator, or the name of a field as an argument.
    Name(String),
    Index(Box<Expr>, Box<Expr>),
    Not(Box<Expr>),
    Invert(Box<Expr>),
    Negate(Box<Expr>),
    Binary(&'static str, Box<Expr>, Box<Expr>),
    Choose(Box<Expr>, Box<Expr>, Box<Expr>),
    /// To an integer of so many bytes, signed or not.
    Cast(u32, bool, Box<Expr>),
    Call(String, Vec<Expr>),
    /// `{ value, "name" }`.
    Braces(Vec<Expr>),
}

/// A parsed `print_fmt`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PrintFmt {
    /// The format.
    pub(super) text: String,
    /// What it shows.
    pub(super) arguments: Vec<Expr>,
}

impl PrintFmt {
    /// Takes it apart; `None` for one that says more than this understands.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parser = Parser { tokens: tokens(text)?.into_iter().peekable(), depth: 0 };
        let Expr::Text(text) = parser.expression()? else { return None };
        let mut arguments = Vec::new();
        while parser.eat(",") {
            arguments.push(parser.expression()?);
        }
        parser.tokens.next().is_none().then_some(Self { text, arguments })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Int(i64),
    Text(String),
    Word(String),
    Mark(&'static str),
}

/// Longest first.
const MARKS: &[&str] = &[
    "->", "<<", ">>", "<=", ">=", "==", "!=", "&&", "||", "(", ")", "[", "]", "{", "}", ",", "?", ":", "+",
    "-", "*", "/", "%", "&", "|", "^", "~", "!", "<", ">", ".",
];

fn tokens(text: &str) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let length = if word(first) {
            let length = rest.find(|c| !word(c)).unwrap_or(rest.len());
            let word = rest.get(..length)?;
            tokens.push(if first.is_ascii_digit() {
                Token::Int(integer(word)?)
            } else {
                Token::Word(word.into())
            });
            length
        } else if first == '"' || first == '\'' {
            let (text, length) = quoted(rest, first)?;
            tokens.push(match first {
                '"' => Token::Text(text),
                _ => Token::Int(i64::from(text.bytes().next()?)),
            });
            length
        } else {
            let mark = MARKS.iter().find(|mark| rest.starts_with(**mark))?;
            tokens.push(Token::Mark(mark));
            mark.len()
        };
        rest = rest.get(length..)?.trim_start();
    }
    Some(tokens)
}

fn integer(word: &str) -> Option<i64> {
    let digits = word.trim_end_matches(['u', 'U', 'l', 'L']);
    let value = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(digits) => u64::from_str_radix(digits, 16),
        None if digits.len() > 1 && digits.starts_with('0') => u64::from_str_radix(digits, 8),
        None => digits.parse(),
    };
    value.ok().map(u64::cast_signed)
}

/// The text between quotes, and how long it is with them.
fn quoted(rest: &str, quote: char) -> Option<(String, usize)> {
    let mut text = String::new();
    let mut characters: Peekable<CharIndices<'_>> = rest.char_indices().peekable();
    characters.next();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => match characters.next()?.1 {
                'n' => text.push('\n'),
                't' => text.push('\t'),
                '0' => text.push('\0'),
                other => text.push(other),
            },
            end if end == quote => return Some((text, at.saturating_add(1))),
            other => text.push(other),
        }
    }
    None
}

struct Parser {
    tokens: Peekable<std::vec::IntoIter<Token>>,
    depth: u32,
}

/// Deepest nesting: flags of memory allocations have a dozen parentheses around each number.
const MOST_DEPTH: u32 = 100;

/// Binary operators by precedence, the loosest first.
const BINARY: &[&[&str]] = &[
    &["||"],
    &["&&"],
    &["|"],
    &["^"],
    &["&"],
    &["==", "!="],
    &["<", ">", "<=", ">="],
    &["<<", ">>"],
    &["+", "-"],
    &["*", "/", "%"],
];

impl Parser {
    fn eat(&mut self, mark: &str) -> bool {
        self.tokens.next_if(|token| matches!(token, Token::Mark(is) if *is == mark)).is_some()
    }

    fn expression(&mut self) -> Option<Expr> {
        self.depth = self.depth.checked_add(1).filter(|depth| *depth <= MOST_DEPTH)?;
        let condition = self.binary(0)?;
        let whole = if self.eat("?") {
            let yes = self.expression()?;
            let no = if self.eat(":") { self.expression()? } else { return None };
            Expr::Choose(Box::new(condition), Box::new(yes), Box::new(no))
        } else {
            condition
        };
        self.depth = self.depth.saturating_sub(1);
        Some(whole)
    }

    fn binary(&mut self, level: usize) -> Option<Expr> {
        let Some(operators) = BINARY.get(level) else { return self.unary() };
        let tighter = level.saturating_add(1);
        let mut left = self.binary(tighter)?;
        while let Some(operator) = operators.iter().find(|operator| self.eat(operator)) {
            left = Expr::Binary(operator, Box::new(left), Box::new(self.binary(tighter)?));
        }
        Some(left)
    }

    fn unary(&mut self) -> Option<Expr> {
        self.depth = self.depth.checked_add(1).filter(|depth| *depth <= MOST_DEPTH)?;
        let whole = if self.eat("!") {
            Expr::Not(Box::new(self.unary()?))
        } else if self.eat("~") {
            Expr::Invert(Box::new(self.unary()?))
        } else if self.eat("-") {
            Expr::Negate(Box::new(self.unary()?))
        } else if self.eat("+") {
            self.unary()?
        } else if self.eat("(") {
            self.parenthesised()?
        } else {
            let first = self.primary()?;
            self.postfix(first)?
        };
        self.depth = self.depth.saturating_sub(1);
        Some(whole)
    }

    /// Behind `(`: a cast, or an expression.
    fn parenthesised(&mut self) -> Option<Expr> {
        if let Some(Token::Word(word)) = self.tokens.peek()
            && is_type(word)
        {
            let mut words = Vec::new();
            while let Some(Token::Word(word)) = self.tokens.next_if(|token| matches!(token, Token::Word(_))) {
                words.push(word);
            }
            let mut is_pointer = false;
            while self.eat("*") {
                is_pointer = true;
            }
            if !self.eat(")") {
                return None;
            }
            let (bytes, signed) = if is_pointer { (8, false) } else { width(&words) };
            return Some(Expr::Cast(bytes, signed, Box::new(self.unary()?)));
        }
        let inner = self.expression()?;
        if !self.eat(")") {
            return None;
        }
        self.postfix(inner)
    }

    fn primary(&mut self) -> Option<Expr> {
        match self.tokens.next()? {
            Token::Int(value) => Some(Expr::Int(value)),
            Token::Text(mut text) => {
                while let Some(Token::Text(more)) =
                    self.tokens.next_if(|token| matches!(token, Token::Text(_)))
                {
                    text.push_str(&more);
                }
                Some(Expr::Text(text))
            }
            Token::Word(word) if word == "REC" => match (self.eat("->"), self.tokens.next()) {
                (true, Some(Token::Word(field))) => Some(Expr::Field(field)),
                _ => None,
            },
            Token::Word(word) if self.eat("(") => Some(Expr::Call(word, self.list(")")?)),
            Token::Word(word) => Some(Expr::Name(word)),
            Token::Mark("{") => Some(Expr::Braces(self.list("}")?)),
            Token::Mark(_) => None,
        }
    }

    fn postfix(&mut self, mut whole: Expr) -> Option<Expr> {
        while self.eat("[") {
            whole = Expr::Index(Box::new(whole), Box::new(self.expression()?));
            if !self.eat("]") {
                return None;
            }
        }
        Some(whole)
    }

    fn list(&mut self, end: &str) -> Option<Vec<Expr>> {
        let mut items = Vec::new();
        while !self.eat(end) {
            items.push(self.expression()?);
            if !self.eat(",") {
                return self.eat(end).then_some(items);
            }
        }
        Some(items)
    }
}

fn is_type(word: &str) -> bool {
    const TYPES: &[&str] = &[
        "char", "short", "int", "long", "signed", "unsigned", "void", "const", "struct", "enum", "union",
        "bool",
    ];
    let plain = word.trim_start_matches("__").trim_start_matches(['u', 's', 'l', 'b', 'e']);
    TYPES.contains(&word) || word.ends_with("_t") || ["8", "16", "32", "64"].contains(&plain)
}

/// Bytes of an integer type, and whether it is signed.
fn width(words: &[String]) -> (u32, bool) {
    let has = |word: &str| words.iter().any(|is| is == word);
    let last = words.last().map_or("", String::as_str);
    let plain = last.trim_start_matches("__").trim_end_matches("_t");
    let unsigned = has("unsigned")
        || plain.starts_with(['u', 'l', 'b']) && plain.ends_with(|c: char| c.is_ascii_digit());
    let bytes = match plain {
        "char" | "bool" | "u8" | "s8" | "uint8" | "int8" => 1,
        "short" | "u16" | "s16" | "uint16" | "int16" | "umode" => 2,
        "long" | "u64" | "s64" | "uint64" | "int64" | "size" | "ssize" | "loff" | "sector" | "void"
        | "ino" => 8,
        "int" if has("long") => 8,
        "int" if has("short") => 2,
        "int" | "unsigned" | "signed" | "u32" | "s32" | "uint32" | "int32" | "gfp" | "dev" | "pid" => 4,
        // A type that is not known keeps the value as it is.
        _ => 8,
    };
    (bytes, !unsigned)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_format_is_taken_apart() {
        let parsed = PrintFmt::parse(
            r#""dev %d,%d" " %s\n", ((unsigned int) ((REC->dev) >> 20)), REC->a[1], __get_str(name)"#,
        );
        let parsed = parsed.unwrap();
        assert_eq!(parsed.text, "dev %d,%d %s\n");
        let dev = Expr::Binary(">>", Box::new(Expr::Field("dev".into())), Box::new(Expr::Int(20)));
        assert_eq!(parsed.arguments[0], Expr::Cast(4, false, Box::new(dev)));
        let index = Expr::Index(Box::new(Expr::Field("a".into())), Box::new(Expr::Int(1)));
        assert_eq!(parsed.arguments[1], index);
        assert_eq!(parsed.arguments[2], Expr::Call("__get_str".into(), vec![Expr::Name("name".into())]));
    }

    #[test]
    fn operators_bind_as_in_c() {
        let parsed = PrintFmt::parse(r#""%d", 1 + 2 * 3 == 7 ? -1 : (u8)~0"#).unwrap();
        let Expr::Choose(condition, yes, no) = &parsed.arguments[0] else { panic!("{parsed:?}") };
        assert!(matches!(&**condition, Expr::Binary("==", ..)));
        assert_eq!(**yes, Expr::Negate(Box::new(Expr::Int(1))));
        assert!(matches!(&**no, Expr::Cast(1, false, _)));
    }

    #[test]
    fn what_is_not_understood_is_no_format() {
        for text in
            ["", "REC->a", r#""%d", REC->a.b"#, r#""%d", (REC->a"#, r#""%d" 1"#, r#""%d", f("#, "\"%d"]
        {
            assert_eq!(PrintFmt::parse(text), None, "{text}");
        }
        assert_eq!(PrintFmt::parse(&format!("\"%d\", {}1", "(".repeat(100_000))), None);
    }

    proptest! {
        #[test]
        fn any_text_ends(text in r#"[-a-z0-9_"'()\[\]{}<>=!&|+*/%?:,~ \\>]{0,200}"#) {
            let _ = PrintFmt::parse(&text);
        }
    }
}
