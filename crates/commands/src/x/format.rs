//! gdb's formats: `[count][format][size]`.

use crate::args::UsageError;

/// How units are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// `x`, `z`: hexadecimal with all its digits.
    Hexadecimal,
    /// `d`
    Decimal,
    /// `u`
    Unsigned,
    /// `o`
    Octal,
    /// `t`
    Binary,
    /// `a`: addresses with their symbols.
    Address,
    /// `c`: numbers with the characters they are.
    Character,
    /// `f`
    Float,
    /// `s`: text up to a NUL.
    String,
    /// `i`: code.
    Instruction,
}

/// What to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    /// Units; of a negative number those before the address.
    pub(crate) count: i64,
    /// How they are shown.
    pub(crate) shape: Shape,
    /// Bytes of one.
    pub(crate) size: u8,
}

impl Default for Format {
    fn default() -> Self {
        Self { count: 1, shape: Shape::Hexadecimal, size: 4 }
    }
}

/// More units than anyone reads.
const MOST: i64 = 1 << 24;

impl Format {
    /// What is left out of a format is as in `last`, the format before; the count is 1.
    pub(super) fn parse(text: &str, last: Self) -> Result<Self, UsageError> {
        let wrong = |what: &str| UsageError::new("x", format!("/{text}: {what}"));
        let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '-')).unwrap_or(text.len());
        let (count, letters) = text.split_at_checked(digits).unwrap_or((text, ""));
        let count = match count {
            "" => 1,
            count => count.parse().map_err(|_| wrong("the count is no number"))?,
        };
        if !(-MOST..=MOST).contains(&count) {
            return Err(wrong("too many"));
        }
        let (mut shape, mut size) = (None, None);
        for letter in letters.chars() {
            match (shape_of(letter), size_of(letter)) {
                (Some(of), _) => shape = Some(of),
                (_, Some(bytes)) => size = Some(bytes),
                _ => return Err(wrong("formats are x d u o t a c f s i z, sizes b h w g")),
            }
        }
        // After text or code the bare size means numbers again: `x/b` shows a byte.
        let text_or_code = matches!(last.shape, Shape::String | Shape::Instruction);
        let before = if text_or_code { Shape::Hexadecimal } else { last.shape };
        let shape = shape.unwrap_or(if size.is_some() { before } else { last.shape });
        let size = match (shape, size) {
            (Shape::Address, _) => 8,
            (Shape::Character | Shape::String, None) => 1,
            (Shape::Float, None) if last.size != 4 => 8,
            (Shape::Float, Some(size)) if size < 4 => return Err(wrong("no float is that small")),
            (_, size) => size.unwrap_or(last.size),
        };
        Ok(Self { count, shape, size })
    }

    /// Units in a line, as gdb breaks them.
    pub(super) fn per_line(self) -> usize {
        match (self.shape, self.size) {
            (Shape::String | Shape::Instruction, _) => 1,
            (_, 8) => 2,
            (_, 4) => 4,
            _ => 8,
        }
    }
}

fn shape_of(letter: char) -> Option<Shape> {
    Some(match letter {
        'x' | 'z' => Shape::Hexadecimal,
        'd' => Shape::Decimal,
        'u' => Shape::Unsigned,
        'o' => Shape::Octal,
        't' => Shape::Binary,
        'a' => Shape::Address,
        'c' => Shape::Character,
        'f' => Shape::Float,
        's' => Shape::String,
        'i' => Shape::Instruction,
        _ => return None,
    })
}

fn size_of(letter: char) -> Option<u8> {
    Some(match letter {
        'b' => 1,
        'h' => 2,
        'w' => 4,
        'g' => 8,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, last: Format) -> Format {
        Format::parse(text, last).unwrap()
    }

    #[test]
    fn parts_may_stand_in_any_order() {
        let start = Format::default();
        assert_eq!(parse("4x", start), Format { count: 4, shape: Shape::Hexadecimal, size: 4 });
        assert_eq!(parse("2gx", start), Format { count: 2, shape: Shape::Hexadecimal, size: 8 });
        assert_eq!(parse("2xg", start), parse("2gx", start));
        assert_eq!(parse("-2dh", start), Format { count: -2, shape: Shape::Decimal, size: 2 });
        assert_eq!(parse("", start), start);
        for wrong in ["3y", "x-", "9999999999999999999x", "99999999x", "bf"] {
            assert!(Format::parse(wrong, start).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_left_out_is_as_before() {
        let start = Format::default();
        let after = |text| parse(text, start);
        assert_eq!(parse("", after("5dg")), Format { count: 1, shape: Shape::Decimal, size: 8 });
        assert_eq!(parse("b", after("s")), Format { count: 1, shape: Shape::Hexadecimal, size: 1 });
        assert_eq!(after("a").size, 8);
        assert_eq!(after("12c").size, 1);
        assert_eq!(after("f").size, 4);
        assert_eq!(parse("f", after("xg")).size, 8);
    }
}
