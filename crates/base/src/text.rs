//! Bytes of a dump on their way to people: never raw.

use std::fmt;

/// Shows bytes as text: UTF-8 as it is, control characters and what is not UTF-8 as `\xNN`, so that nothing in a dump
/// can drive a terminal. Line feed and tab are escaped too: a caller that wants lines splits before.
#[derive(Clone, Copy, Debug)]
pub struct Printable<'a>(pub &'a [u8]);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                if is_unsafe(character) {
                    let mut raw = [0; 4];
                    for byte in character.encode_utf8(&mut raw).bytes() {
                        write!(f, "\\x{byte:02x}")?;
                    }
                } else {
                    f.write_char(character)?;
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

/// Control characters, and the marks that reorder text on a terminal.
fn is_unsafe(character: char) -> bool {
    character.is_control() || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// [`Printable`] as a string.
#[must_use]
pub fn printable(bytes: &[u8]) -> String {
    Printable(bytes).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_drives_the_terminal() {
        assert_eq!(printable("grün \u{1b}[31m".as_bytes()), "grün \\x1b[31m");
        assert_eq!(printable(b"a\xffb\n"), "a\\xffb\\x0a");
        assert_eq!(printable("\u{202e}x".as_bytes()), "\\xe2\\x80\\xaex");
    }
}
