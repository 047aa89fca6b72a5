//! Disassembles arbitrary bytes in both syntaxes: every instruction advances, and none panics.
#![no_main]

use kdive_arch::x86_64::disassemble::{Disassembler, LONGEST, Syntax};
use kdive_base::VirtAddr;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u64, bool, &[u8])| {
    let (at, intel, bytes) = input;
    let at = VirtAddr(at);
    let syntax = if intel { Syntax::Intel } else { Syntax::Att };
    let name = |at: VirtAddr| (at.0 % 2 == 0).then(|| "even".to_owned());
    let mut done = 0_u64;
    for found in Disassembler::new(syntax).all(bytes, at) {
        assert!(!found.bytes.is_empty() && found.bytes.len() <= LONGEST);
        assert_eq!(found.address, at.add(done));
        assert!(!found.text(&name).is_empty());
        done += found.bytes.len() as u64;
    }
    assert!(done <= bytes.len() as u64);
});
