//! `rd`: dumped words, and the text that stands where words belong.

use crate::case::StrayText;
use crate::text::scan::hex;

/// Letters in a row that are text and no accident.
const SHORTEST: usize = 12;
/// Letters of one text that are kept.
const LONGEST: usize = 400;
/// Texts that are kept.
const MOST: usize = 64;

/// A run of dumped words.
#[derive(Debug, Default)]
pub(super) struct Words {
    start: u64,
    next: u64,
    bytes: Vec<u8>,
    pub(super) found: Vec<StrayText>,
}

impl Words {
    /// Takes a line. Whether it was one of a dump: `08175860: 44445320 362e3120 302e322e 3220312d SDD 1.6.2.01 2`.
    pub(super) fn line(&mut self, text: &str) -> bool {
        let Some((address, digits, rest)) = hex(text) else { return false };
        let Some(rest) = rest.strip_prefix(':').filter(|_| digits >= 6) else { return false };
        let mut bytes = Vec::new();
        for token in rest.split_whitespace() {
            match hex(token) {
                Some((word, 8, "")) => bytes.extend(u32::try_from(word).unwrap_or_default().to_le_bytes()),
                Some((word, 16, "")) => bytes.extend(word.to_le_bytes()),
                _ => break,
            }
            // Four words of 32 bits or two of 64 are a line; what follows is their text.
            if bytes.len() >= 16 {
                break;
            }
        }
        if bytes.is_empty() {
            return false;
        }
        if address != self.next || self.bytes.len() > 1 << 16 {
            self.end();
            self.start = address;
        }
        self.next = address.saturating_add(bytes.len() as u64);
        self.bytes.extend(bytes);
        true
    }

    /// Looks for text in what was dumped.
    pub(super) fn end(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        if is_image(self.start) {
            return;
        }
        let mut at = 0_usize;
        for run in bytes.split(|&byte| !is_letter(byte)) {
            let letters = run.iter().filter(|byte| byte.is_ascii_alphanumeric()).count();
            if run.len() >= SHORTEST && letters * 2 >= run.len() && self.found.len() < MOST {
                let text: String = run.iter().take(LONGEST).map(|&byte| char::from(byte)).collect();
                let place = format!("memory at {:#x}", self.start.saturating_add(at as u64));
                self.found.push(StrayText { place, text: text.trim().to_owned() });
            }
            at = at.saturating_add(run.len()).saturating_add(1);
        }
        self.next = 0;
    }
}

fn is_letter(byte: u8) -> bool {
    matches!(byte, b' '..=b'~')
}

/// The kernel's own image and modules on x86-64: text in there belongs there.
fn is_image(address: u64) -> bool {
    address >= 0xffff_ffff_8000_0000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_among_words_is_found() {
        let mut words = Words::default();
        assert!(words.line("08175860: 44445320 362e3120 302e322e 3220312d SDD 1.6.2.01 2"));
        assert!(words.line("08175870: 322e342e 37342d31 634c452e 6f747375 .4.21-47.ELcusto"));
        words.end();
        assert_eq!(words.found.len(), 1);
        assert_eq!(words.found[0].text, "SDD 1.6.2.0-1 2.4.21-47.ELcusto");
        assert_eq!(words.found[0].place, "memory at 0x8175860");
    }

    #[test]
    fn pointers_and_the_kernels_own_strings_are_no_stray_text() {
        let mut words = Words::default();
        assert!(words.line("ffff883e962d3d58: 00007f24b8400000 ffff883ffc9a8c80"));
        assert!(words.line("ffffffff802bbb37: 5f7473696c3e333c 72726f63206c6564 <3>list_del corr"));
        words.end();
        assert!(words.found.is_empty(), "{:?}", words.found);
        for text in ["c03c7e60 x", "12: 13", "ffffffff80153f6f", "CODE: 12345678"] {
            assert!(!words.line(text), "{text}");
        }
    }
}
