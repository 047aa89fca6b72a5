//! `Code:` lines: bytes around the instruction that failed.

use kdive_evidence::CodeBytes;

/// Bytes that a line of code may have: the kernel prints 64 at most, old patches a little more.
const MOST_BYTES: usize = 256;

/// The bytes behind `Code:`. Without a mark they begin at the instruction, as 2.4 and 2.6 on x86-64 print them.
pub(super) fn bytes(text: &str) -> Option<CodeBytes> {
    let mut code = CodeBytes::default();
    more(text, &mut code).then_some(code)
}

/// Takes a further line of the same code. Whether it was one: nothing but bytes.
pub(super) fn more(text: &str, code: &mut CodeBytes) -> bool {
    let before = code.bytes.len();
    for token in text.split_whitespace() {
        let plain = token.trim_matches(|letter| matches!(letter, '<' | '>' | '(' | ')'));
        let Some(byte) = byte(plain) else {
            code.bytes.truncate(before);
            return false;
        };
        if plain.len() != token.len() {
            code.at = code.bytes.len();
        }
        if code.bytes.len() < MOST_BYTES {
            code.bytes.push(byte);
        }
    }
    code.bytes.len() > before
}

fn byte(text: &str) -> Option<u8> {
    (text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .then(|| u8::from_str_radix(text, 16).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_says_where_the_instruction_is() {
        assert_eq!(
            bytes(" 53 04 8b 03 <89> 50 04"),
            Some(CodeBytes { bytes: vec![0x53, 4, 0x8b, 3, 0x89, 0x50, 4], at: 4 })
        );
        assert_eq!(bytes("0f 0b 68"), Some(CodeBytes { bytes: vec![0x0f, 0x0b, 0x68], at: 0 }));
    }

    #[test]
    fn a_wrapped_line_goes_on() {
        let mut code = bytes("53 04").unwrap();
        assert!(more("8b <03> 1f", &mut code));
        assert_eq!((code.bytes.len(), code.at), (5, 3));
        assert!(!more("RIP here", &mut code));
        assert_eq!(code.bytes.len(), 5);
    }

    #[test]
    fn words_are_no_bytes() {
        for text in ["Bad RIP value.", "Unable to access opcode bytes at 0x12.", "f9400000 (b9000001)", ""] {
            assert_eq!(bytes(text), None, "{text}");
        }
    }
}
