//! gdb's format letters: `p/x`.

use std::fmt::{self, Write};

use kdive_debuginfo::types::Encoding;

use super::float;
use super::node::Integer;
use super::string::character;

/// How numbers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `x`: hexadecimal.
    Hexadecimal,
    /// `z`: hexadecimal, with all digits of the size.
    Padded,
    /// `d`: signed decimal.
    Signed,
    /// `u`: unsigned decimal.
    Unsigned,
    /// `o`: octal.
    Octal,
    /// `t`: binary.
    Binary,
    /// `c`: a character.
    Character,
    /// `a`: an address, and the symbol that it lies in.
    Address,
    /// `f`: the bits as a number with a fraction, where there is one of the size.
    Float,
    /// `s`: as usual; character arrays as text.
    Text,
}

impl Format {
    /// The format that a letter names.
    #[must_use]
    pub fn of(letter: &str) -> Option<Self> {
        Some(match letter {
            "x" => Self::Hexadecimal,
            "z" => Self::Padded,
            "d" | "i" => Self::Signed,
            "u" => Self::Unsigned,
            "o" => Self::Octal,
            "t" => Self::Binary,
            "c" => Self::Character,
            "a" => Self::Address,
            "f" => Self::Float,
            "s" => Self::Text,
            _ => return None,
        })
    }

    /// Writes a number. [`Format::Address`] is the caller's, who knows the symbols; without one it is hexadecimal.
    pub(super) fn write(self, integer: &Integer, out: &mut dyn Write) -> fmt::Result {
        let Integer { raw, bits, .. } = *integer;
        let signed = |encoding| Integer { encoding, ..*integer }.value();
        let octets = bits.div_ceil(8);
        match self {
            Self::Hexadecimal | Self::Address => write!(out, "{raw:#x}"),
            Self::Padded => write!(out, "0x{raw:00$x}", octets.saturating_mul(2) as usize),
            Self::Signed | Self::Text => write!(out, "{}", signed(Encoding::Signed)),
            Self::Unsigned => write!(out, "{raw}"),
            Self::Octal if raw == 0 => out.write_char('0'),
            Self::Octal => write!(out, "0{raw:o}"),
            Self::Binary => write!(out, "{raw:b}"),
            Self::Character => {
                let byte = raw as u8;
                let value =
                    if integer.encoding == Encoding::Signed { i16::from(byte as i8) } else { byte.into() };
                write!(out, "{value} '")?;
                character(byte, b'\'', out)?;
                out.write_char('\'')
            }
            Self::Float => match float::text(raw, octets.into()) {
                Some(text) => out.write_str(&text),
                None => write!(out, "{}", integer.value()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(letter: &str, value: i32) -> String {
        let integer =
            Integer { raw: u128::from(value as u32), bits: 32, encoding: Encoding::Signed, character: false };
        let mut out = String::new();
        Format::of(letter).unwrap().write(&integer, &mut out).unwrap();
        out
    }

    #[test]
    fn letters_are_those_of_gdb() {
        assert_eq!(shown("x", -1), "0xffffffff");
        assert_eq!(shown("z", 5), "0x00000005");
        assert_eq!(shown("d", -1), "-1");
        assert_eq!(shown("u", -1), "4294967295");
        assert_eq!(shown("o", 8), "010");
        assert_eq!(shown("o", 0), "0");
        assert_eq!(shown("t", 10), "1010");
        assert_eq!(shown("c", 321), "65 'A'");
        assert_eq!(shown("f", 1), "1.40129846e-45");
        assert_eq!(Format::of("q"), None);
    }
}
