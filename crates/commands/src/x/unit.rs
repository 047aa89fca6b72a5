//! One unit of memory as gdb shows it.

use kdive_base::Endian;

use super::format::{Format, Shape};

/// The bytes of a unit as text.
pub(super) fn text(bytes: &[u8], format: Format) -> String {
    let size = usize::from(format.size);
    let value = unsigned(bytes);
    let bits = size.saturating_mul(8);
    match format.shape {
        Shape::Hexadecimal => format!("0x{value:0width$x}", width = size.saturating_mul(2)),
        Shape::Decimal => signed(value, bits).to_string(),
        Shape::Unsigned => value.to_string(),
        Shape::Octal if value == 0 => "0".to_owned(),
        Shape::Octal => format!("0{value:o}"),
        Shape::Binary => format!("{value:0bits$b}"),
        Shape::Character => {
            let byte = value as u8;
            format!("{} '{}'", byte.cast_signed(), escaped(byte, '\''))
        }
        Shape::Float => float(value, size),
        // A null pointer has no digits to lose.
        Shape::Address | Shape::String | Shape::Instruction => format!("{value:#x}"),
    }
}

/// A little-endian number of at most eight bytes.
pub(super) fn unsigned(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    for (to, from) in word.iter_mut().zip(bytes) {
        *to = *from;
    }
    Endian::Little.u64(&word, 0).unwrap_or(0)
}

fn signed(value: u64, bits: usize) -> i64 {
    let unused = u32::try_from(64_usize.saturating_sub(bits)).unwrap_or(0);
    (value << unused).cast_signed() >> unused
}

fn float(value: u64, size: usize) -> String {
    match size {
        4 => plain(f64::from(f32::from_bits(value as u32)), 9),
        _ => plain(f64::from_bits(value), 17),
    }
}

/// C's `%g` with this many digits.
fn plain(value: f64, digits: usize) -> String {
    if value == 0.0 {
        return if value.is_sign_negative() { "-0".to_owned() } else { "0".to_owned() };
    }
    if !value.is_finite() {
        let sign = if value.is_sign_negative() { "-" } else { "" };
        return format!("{sign}{}", if value.is_nan() { "nan" } else { "inf" });
    }
    let scientific = format!("{value:.*e}", digits.saturating_sub(1));
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trimmed = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    let digits = i32::try_from(digits).unwrap_or(i32::MAX);
    if (-4..digits).contains(&exponent) {
        let decimals = digits.saturating_sub(1).saturating_sub(exponent);
        return trimmed(&format!("{value:.*}", usize::try_from(decimals).unwrap_or(0)));
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", trimmed(mantissa), exponent.unsigned_abs())
}

/// A byte of text as C writes it between quotes of this kind.
pub(super) fn escaped(byte: u8, quote: char) -> String {
    match byte {
        7 => "\\a".to_owned(),
        8 => "\\b".to_owned(),
        b'\t' => "\\t".to_owned(),
        b'\n' => "\\n".to_owned(),
        11 => "\\v".to_owned(),
        12 => "\\f".to_owned(),
        b'\r' => "\\r".to_owned(),
        b'\\' => "\\\\".to_owned(),
        byte if char::from(byte) == quote => format!("\\{quote}"),
        b' '..=b'~' => char::from(byte).to_string(),
        byte => format!("\\{byte:03o}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(bytes: &[u8], shape: Shape) -> String {
        text(bytes, Format { count: 1, shape, size: bytes.len() as u8 })
    }

    #[test]
    fn units_are_gdbs() {
        use Shape::{Address, Binary, Character, Decimal, Hexadecimal, Octal, Unsigned};
        let word = [0x66, 0x0f, 0x1f, 0];
        assert_eq!(shown(&word, Hexadecimal), "0x001f0f66");
        assert_eq!(shown(&word[..1], Octal), "0146");
        assert_eq!(shown(&[0; 4], Octal), "0");
        assert_eq!(shown(&word[..1], Binary), "01100110");
        assert_eq!(shown(&[0xff, 0xff], Decimal), "-1");
        assert_eq!(shown(&[0xff, 0xff], Unsigned), "65535");
        assert_eq!(shown(b"L", Character), "76 'L'");
        assert_eq!(shown(&[0], Character), "0 '\\000'");
        assert_eq!(shown(&[15], Character), "15 '\\017'");
        assert_eq!(shown(&[0x8c], Address), "0x8c");
    }

    #[test]
    fn floats_are_gdbs() {
        assert_eq!(shown(&0x4000_u64.to_le_bytes(), Shape::Float), "8.0947715414629834e-320");
        assert_eq!(shown(&0x4000_u32.to_le_bytes(), Shape::Float), "2.2958874e-41");
        assert_eq!(shown(&1.5_f64.to_le_bytes(), Shape::Float), "1.5");
        assert_eq!(shown(&(-100.0_f32).to_le_bytes(), Shape::Float), "-100");
        assert_eq!(shown(b"Linu", Shape::Float), "3.02222248e+32");
        assert_eq!(shown(&[0; 8], Shape::Float), "0");
    }
}
