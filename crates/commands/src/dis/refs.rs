//! Data that instructions refer to: strings, mostly the formats of messages.

use kdive_arch::x86_64::disassemble::Instruction;
use kdive_base::VirtAddr;
use kdive_target::Kernel;

use super::row::Reference;
use crate::settings::Radix;
use crate::sym;

/// Longer strings are cut.
const LONGEST: usize = 160;
/// Shorter ones are found in numbers too.
const SHORTEST: usize = 3;

/// What an instruction refers to, as far as it can be told.
pub(super) fn of(kernel: &Kernel, found: &Instruction) -> Vec<Reference> {
    let of_rip = found.rip_relative.and_then(|at| {
        // What lies there has its name in the text already.
        let string = string_at(kernel, at)?;
        Some(Reference { address: at, string: Some(string), symbol: None })
    });
    let of_constants = found.constants.iter().filter_map(|&at| {
        let string = string_at(kernel, at);
        let symbol = sym::name(kernel, at, Radix::Decimal);
        (string.is_some() || symbol.is_some()).then_some(Reference { address: at, string, symbol })
    });
    of_rip.into_iter().chain(of_constants).collect()
}

/// The text at an address of the kernel that is not code.
fn string_at(kernel: &Kernel, at: VirtAddr) -> Option<String> {
    let place = kernel.place(at)?;
    if place.symbol.kind.is_code() {
        return None;
    }
    let mut bytes = [0; LONGEST];
    let (count, _) = kernel.memory().read(at, &mut bytes);
    text_of(bytes.get(..count)?)
}

/// The text before the NUL, escaped as C would; `None` when it is no text.
fn text_of(bytes: &[u8]) -> Option<String> {
    /// `KERN_SOH`: the level of a message follows.
    const LEVEL: u8 = 1;
    let end = bytes.iter().position(|&byte| byte == 0);
    let text = bytes.get(..end.unwrap_or(bytes.len()))?;
    let shown = text.strip_prefix(&[LEVEL]).unwrap_or(text);
    let is_text = |&byte: &u8| matches!(byte, b' '..=b'~' | b'\n' | b'\t');
    if shown.len() < SHORTEST || !shown.iter().all(is_text) {
        return None;
    }
    let mut escaped: String =
        text.iter().copied().flat_map(std::ascii::escape_default).map(char::from).collect();
    if end.is_none() {
        escaped.push_str("...");
    }
    Some(escaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_told_from_numbers() {
        assert_eq!(text_of(b"\x013list_del: %px\n\0rest"), Some("\\x013list_del: %px\\n".into()));
        assert_eq!(text_of(b"ab\0"), None);
        assert_eq!(text_of(b"\x01\x02\x03\x04\0"), None);
        assert_eq!(text_of(&[b'a'; 4]), Some("aaaa...".into()));
        assert_eq!(text_of(b""), None);
    }
}
