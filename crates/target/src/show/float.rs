//! Numbers with a fraction, as C's `%g` writes them.

use std::fmt::Write as _;

/// The shortest form of `%.{digits}g`.
fn general(value: f64, digits: usize) -> String {
    if value.is_nan() {
        return if value.is_sign_negative() { "-nan" } else { "nan" }.to_owned();
    }
    if value.is_infinite() {
        return if value < 0.0 { "-inf" } else { "inf" }.to_owned();
    }
    let scientific = format!("{value:.*e}", digits.saturating_sub(1));
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trim = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    if exponent < -4 || i64::from(exponent) >= digits as i64 {
        let mut text = trim(mantissa);
        let _ = write!(text, "e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.unsigned_abs());
        return text;
    }
    let after = (digits as i64).saturating_sub(1).saturating_sub(exponent.into());
    trim(&format!("{value:.*}", usize::try_from(after).unwrap_or(0)))
}

/// A float of 4 or 8 bytes, with the digits that tell it from its neighbours.
pub(super) fn text(raw: u128, bytes: u64) -> Option<String> {
    match bytes {
        4 => Some(general(f32::from_bits(raw as u32).into(), 9)),
        8 => Some(general(f64::from_bits(raw as u64), 17)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_gdb() {
        let double = |value: f64| text(value.to_bits().into(), 8).unwrap();
        assert_eq!(double(1.5), "1.5");
        assert_eq!(double(0.0), "0");
        assert_eq!(double(0.1), "0.10000000000000001");
        assert_eq!(double(-9.255_963_134_931_783e61), "-9.2559631349317831e+61");
        assert_eq!(double(1e-5), "1.0000000000000001e-05");
        assert_eq!(double(f64::NEG_INFINITY), "-inf");
        assert_eq!(text(0.1_f32.to_bits().into(), 4).unwrap(), "0.100000001");
        assert_eq!(text(0, 16), None);
    }
}
