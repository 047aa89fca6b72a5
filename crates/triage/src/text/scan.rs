//! Small pieces of reading: numbers, words and what stands behind a mark.

/// What stands behind the first `mark`.
pub(super) fn after<'t>(text: &'t str, mark: &str) -> Option<&'t str> {
    text.split_once(mark).map(|(_, rest)| rest)
}

/// What stands between the first `open` and the next `close`.
pub(super) fn between<'t>(text: &'t str, open: &str, close: &str) -> Option<&'t str> {
    after(text, open)?.split_once(close).map(|(inner, _)| inner)
}

/// The first word, and what follows it without the space between.
pub(super) fn word(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    (word, rest.trim_start())
}

/// A hexadecimal number at the start, with or without `0x`: its value, its count of digits, and what follows.
pub(super) fn hex(text: &str) -> Option<(u64, usize, &str)> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let count = digits.bytes().take_while(u8::is_ascii_hexdigit).count();
    let (number, rest) = digits.split_at_checked(count)?;
    // Longer runs of digits are hashes and build-ids.
    let value = u64::from_str_radix(number, 16).ok()?;
    Some((value, count, rest))
}

/// A decimal number at the start, and what follows.
pub(super) fn decimal(text: &str) -> Option<(u64, &str)> {
    let count = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = text.split_at_checked(count)?;
    Some((number.parse().ok()?, rest))
}

/// The decimal number behind a mark and spaces.
pub(super) fn number_after(text: &str, mark: &str) -> Option<u64> {
    decimal(after(text, mark)?.trim_start()).map(|(value, _)| value)
}

/// The hexadecimal number behind a mark and spaces.
pub(super) fn hex_after(text: &str, mark: &str) -> Option<u64> {
    hex(after(text, mark)?.trim_start()).map(|(value, ..)| value)
}

/// Removes quotation marks around a text.
pub(super) fn unquoted(text: &str) -> &str {
    text.trim().trim_matches(|mark| matches!(mark, '"' | '\'' | '`')).trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_end_where_their_digits_end() {
        assert_eq!(hex("0x1f]"), Some((0x1f, 2, "]")));
        assert_eq!(hex("ffffffff81000000>"), Some((0xffff_ffff_8100_0000, 16, ">")));
        assert_eq!(hex("0123456789abcdef0123"), None);
        assert_eq!(hex("x"), None);
        assert_eq!(decimal("12 a"), Some((12, " a")));
        assert_eq!(decimal("99999999999999999999999"), None);
    }
}
