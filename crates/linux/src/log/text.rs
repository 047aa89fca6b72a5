//! Text of the log on its way to people.

use kdive_base::printable;

/// Text that may hold several lines: line feeds and tabs stay, everything else that could drive a terminal is escaped.
#[must_use]
pub fn log_text(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for piece in bytes.split_inclusive(|byte| matches!(byte, b'\n' | b'\t')) {
        let (body, end) = match piece.split_last() {
            Some((b'\n', body)) => (body, "\n"),
            Some((b'\t', body)) => (body, "\t"),
            _ => (piece, ""),
        };
        text.push_str(&printable(body));
        text.push_str(end);
    }
    text
}

/// `KEY=value` pairs, each ended by NUL.
pub(super) fn dictionary(bytes: &[u8]) -> Vec<(String, String)> {
    let pairs = bytes.split(|&byte| byte == 0).filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let mut halves = pair.splitn(2, |&byte| byte == b'=');
            let mut half = || halves.next().map(printable).unwrap_or_default();
            (half(), half())
        })
        .collect()
}

/// `T` and a pid, or `C` and a CPU: how `CONFIG_PRINTK_CALLER` tells who logged (kernel/printk/printk.c).
pub(super) fn caller(id: u32) -> String {
    const FROM_CPU: u32 = 1 << 31;
    if id & FROM_CPU == 0 { format!("T{id}") } else { format!("C{}", id & !FROM_CPU) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_and_tabs_stay_raw() {
        assert_eq!(log_text(b"a\tb\n\x1b[0mc\n"), "a\tb\n\\x1b[0mc\n");
        assert_eq!(
            dictionary(b"SUBSYSTEM=pci\0DEVICE=+pci:0\0"),
            [("SUBSYSTEM".to_owned(), "pci".to_owned()), ("DEVICE".to_owned(), "+pci:0".to_owned())]
        );
        assert_eq!((caller(7), caller(0x8000_0001)), ("T7".to_owned(), "C1".to_owned()));
    }
}
