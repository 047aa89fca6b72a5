//! Titles: one line in the style that kernel people search for, as syzkaller names its bugs.

use crate::blame;

/// `TITLE in f`, or the title alone.
#[must_use]
pub fn in_function(title: &str, function: Option<&str>) -> String {
    match function {
        Some(function) => format!("{title} in {}", blame::plain(function)),
        None => title.to_owned(),
    }
}

/// A message without what differs from crash to crash: addresses, and numbers that are no part of a name.
#[must_use]
pub fn general(message: &str) -> String {
    let message = message.trim().trim_end_matches(['!', '.']);
    let words = message.split_whitespace().map(|word| {
        let bare = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        let digits = bare.strip_prefix("0x").unwrap_or(bare);
        let address = digits.len() >= 8 && digits.chars().all(|c| c.is_ascii_hexdigit());
        if address || bare.starts_with("0x") { word.replace(bare, "ADDR") } else { word.to_owned() }
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_hold_no_addresses_and_no_suffixes() {
        assert_eq!(in_function("BUG: soft lockup", Some("spin.isra.0")), "BUG: soft lockup in spin");
        assert_eq!(in_function("BUG: Bad page state", None), "BUG: Bad page state");
        assert_eq!(general("lost ffff888012345678 of 3 at 0x1f!"), "lost ADDR of 3 at ADDR");
    }
}
