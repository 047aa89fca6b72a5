//! Undoes what terminals, mail and web pages did to a line. What comes out has no control characters.

use std::borrow::Cow;
use std::fmt::Write as _;

use kdive_base::Printable;

const ESCAPE: u8 = 0x1b;

/// The text of a line: UTF-8, without control characters, typography or markup.
pub(in crate::text) fn clean(raw: &[u8]) -> Cow<'_, str> {
    let raw = raw.strip_suffix(b"\n").unwrap_or(raw);
    let raw = raw.trim_ascii_end();
    match std::str::from_utf8(raw) {
        // All bytes are looked at, without a way out: that runs many at once.
        Ok(text) if raw.iter().fold(true, |plain, &byte| plain & is_plain(byte)) => Cow::Borrowed(text),
        _ => Cow::Owned(slowly(raw)),
    }
}

/// Bytes that no rule is about. `&` and `<` may begin markup, `^` and `#` an escape that a logger spelled out.
fn is_plain(byte: u8) -> bool {
    (byte.wrapping_sub(b' ') <= b'~' - b' ')
        & (byte != b'&')
        & (byte != b'<')
        & (byte != b'^')
        & (byte != b'#')
}

fn slowly(raw: &[u8]) -> String {
    let mut text = String::with_capacity(raw.len());
    for chunk in raw.utf8_chunks() {
        letters(chunk.valid(), &mut text);
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

fn letters(valid: &str, text: &mut String) {
    let mut rest = valid;
    while let Some(letter) = rest.chars().next() {
        if let Some(behind) = escape(rest).or_else(|| level(rest)).or_else(|| tag(rest)) {
            rest = behind;
            continue;
        }
        if let Some((plain, behind)) = entity(rest) {
            text.push_str(plain);
            rest = behind;
            continue;
        }
        rest = rest.get(letter.len_utf8()..).unwrap_or_default();
        match letter {
            ' '..='~' => text.push(letter),
            '\t' => text.push(' '),
            _ => match plain(letter) {
                Some(plain) => text.push_str(plain),
                None => {
                    let mut bytes = [0; 4];
                    let _ = write!(text, "{}", Printable(letter.encode_utf8(&mut bytes).as_bytes()));
                }
            },
        }
    }
}

/// What typography made of plain letters.
fn plain(letter: char) -> Option<&'static str> {
    Some(match letter {
        '\u{201c}'..='\u{201f}' | '\u{2033}' | '\u{ab}' | '\u{bb}' => "\"",
        '\u{2018}'..='\u{201b}' | '\u{2032}' | '\u{b4}' => "'",
        '\u{2010}'..='\u{2015}' | '\u{2212}' => "-",
        '\u{2026}' => "...",
        '\u{a0}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{3000}' => " ",
        '\u{200b}'..='\u{200f}' | '\u{feff}' | '\u{ad}' | '\u{2028}' | '\u{2029}' | '\u{2060}' => "",
        '\u{d7}' => "x",
        '\u{ff1a}' => ":",
        _ => return None,
    })
}

/// What follows an escape sequence: `ESC [ ... m`, `ESC ] ... BEL`, or such as a logger spelled it.
fn escape(text: &str) -> Option<&str> {
    let (spelled, rest) = match text.as_bytes() {
        [ESCAPE, ..] => (false, text.get(1..)?),
        [b'^', b'[', b'[', ..] => (true, text.get(2..)?),
        [b'#', b'0', b'3', b'3', b'[', ..] => (true, text.get(4..)?),
        _ => return None,
    };
    if let Some(parameters) = rest.strip_prefix('[') {
        let end = parameters.find(|letter: char| matches!(letter, '@'..='~')).filter(|&end| end < 40);
        return match end {
            Some(end) => parameters.get(end.saturating_add(1)..),
            None => (!spelled).then_some(parameters),
        };
    }
    if let Some(title) = rest.strip_prefix(']') {
        // A title that does not end is cut off with the line.
        let bell = title.split_once('\u{7}').map(|(_, behind)| behind);
        return bell.or_else(|| title.split_once("\u{1b}\\").map(|(_, behind)| behind)).or(Some(""));
    }
    let mut letters = rest.chars();
    letters.next();
    Some(letters.as_str())
}

/// The byte 1 and a level: `KERN_SOH` of `printk`.
fn level(text: &str) -> Option<&str> {
    let rest = text.strip_prefix('\u{1}')?;
    rest.strip_prefix(|letter: char| matches!(letter, '0'..='7' | 'c' | 'd'))
}

/// What follows a tag of HTML that page sources have around logs. `<IRQ>`, `<4>` and `<0f>` are none.
fn tag(text: &str) -> Option<&str> {
    let (inner, rest) = text.strip_prefix('<')?.split_once('>')?;
    let inner = inner.strip_prefix('/').unwrap_or(inner);
    let name = inner.split([' ', '/']).next()?;
    let known = TAGS.iter().any(|tag| tag.eq_ignore_ascii_case(name));
    let attributes = inner.get(name.len()..)?;
    (known && (attributes.is_empty() || attributes == "/" || attributes == " /" || attributes.contains('=')))
        .then_some(rest)
}

const TAGS: [&str; 21] = [
    "br",
    "p",
    "pre",
    "code",
    "span",
    "div",
    "tt",
    "b",
    "i",
    "em",
    "strong",
    "font",
    "a",
    "li",
    "ul",
    "td",
    "tr",
    "table",
    "blockquote",
    "samp",
    "kbd",
];

fn entity(text: &str) -> Option<(&'static str, &str)> {
    let inner = text.strip_prefix('&')?;
    ENTITIES.iter().find_map(|(name, plain)| Some((*plain, inner.strip_prefix(name)?)))
}

const ENTITIES: [(&str, &str); 14] = [
    ("lt;", "<"),
    ("gt;", ">"),
    ("amp;", "&"),
    ("quot;", "\""),
    ("apos;", "'"),
    ("#39;", "'"),
    ("#34;", "\""),
    ("#x27;", "'"),
    ("#8211;", "-"),
    ("#8212;", "-"),
    ("#8220;", "\""),
    ("#8221;", "\""),
    ("#8217;", "'"),
    ("nbsp;", " "),
];
