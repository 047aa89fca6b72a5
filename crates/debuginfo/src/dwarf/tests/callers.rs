//! Registers of callers, by what the ABI says of a function's first instruction and of frame pointers.
#![cfg(target_arch = "x86_64")]

use kdive_base::{Missing, VirtualMemory, Why};

use super::*;
use crate::dwarf::FrameState;

const RBX: u16 = 3;
const RBP: u16 = 6;
const RSP: u16 = 7;
const SP: u64 = 0x7fff_0000_0800;

/// A stack on which each word holds its address, turned around.
struct Stack;

impl VirtualMemory for Stack {
    fn read(&self, at: VirtAddr, into: &mut [u8]) -> (usize, Option<Missing>) {
        if at.0 >> 16 != SP >> 16 || into.len() != 8 {
            return (0, Some(Missing::new(at, Why::NeverPresent)));
        }
        into.copy_from_slice(&(!at.0).to_le_bytes());
        (8, None)
    }
}

impl FrameState for Stack {
    fn register(&self, number: u16) -> Option<u64> {
        [(RSP, SP), (RBP, SP + 0x100), (RBX, 77)]
            .into_iter()
            .find(|&(known, _)| known == number)
            .map(|(_, value)| value)
    }

    fn cfa(&self) -> Option<VirtAddr> {
        None
    }

    fn memory(&self) -> &dyn VirtualMemory {
        self
    }
}

fn fixture(flags: &[&str]) -> Fixture {
    // Without tables for exceptions, as kernels are built, the description is for debuggers only.
    let common = ["-g", "-O0", "-fno-asynchronous-unwind-tables", "-fno-exceptions"];
    Fixture::new(&[&common, flags].concat())
}

#[test]
fn at_its_entry_a_function_has_pushed_nothing() {
    let fixture = fixture(&[]);
    let caller = fixture.dwarf().caller(fixture.symbol("outermost"), &Stack, &[RBX]).unwrap();
    assert_eq!(caller.cfa, VirtAddr(SP + 8));
    assert!(caller.registers.contains(&(RBX, 77)), "{caller:?}");
}

#[test]
fn a_saved_frame_pointer_is_read_from_the_stack() {
    let fixture = fixture(&["-fno-omit-frame-pointer"]);
    let caller = fixture.dwarf().caller(fixture.symbol("here"), &Stack, &[RBX, RBP]).unwrap();
    let rbp = SP + 0x100;
    assert_eq!(caller.cfa, VirtAddr(rbp + 16));
    let saved: Vec<_> = caller.registers.iter().filter(|(number, _)| *number == RBP).collect();
    assert_eq!(saved, [&(RBP, !rbp)]);
}

#[test]
fn a_slide_and_code_without_description() {
    let fixture = fixture(&[]);
    let file = DwarfFile::open(fixture.elf(), Placement::Slid(0x1000_0000)).unwrap();
    let entry = fixture.symbol("outermost");
    assert!(file.caller(entry.add(0x1000_0000), &Stack, &[]).is_some());
    assert_eq!(file.caller(entry, &Stack, &[]), None);
    assert_eq!(file.caller(VirtAddr(0), &Stack, &[]), None);
}
