//! ORC tables built by hand.

use kdive_base::Why;
use proptest::prelude::*;

use super::*;
use crate::symbols::{SymbolKind, SymbolTableBuilder};

const START: u64 = 0xffff_ffff_8300_0000;

struct Memory(Vec<u8>);

impl VirtualMemory for Memory {
    fn read(&self, at: VirtAddr, into: &mut [u8]) -> (usize, Option<Missing>) {
        let rest = at.0.checked_sub(START).and_then(|at| self.0.get(at as usize..)).unwrap_or_default();
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        (count, (count < into.len()).then(|| Missing::new(at, Why::Excluded)))
    }
}

/// sp_offset, bp_offset, sp_reg, bp_reg, and the bits behind them.
fn raw(sp_offset: i16, bp_offset: i16, sp_reg: u64, bp_reg: u64, kind: u64) -> u64 {
    u64::from(sp_offset as u16) | u64::from(bp_offset as u16) << 16 | sp_reg << 32 | bp_reg << 36 | kind << 40
}

/// Tables of these entries at code addresses 16 bytes apart from `text`, with marks, behind a header with this hash.
fn tables(text: u64, entries: &[u64], hash: Option<[u8; 4]>) -> (Memory, SymbolTable) {
    let mut bytes = hash.map_or(vec![0; 4], |hash| hash.to_vec());
    bytes.resize(20, 0x11);
    let mut symbols = SymbolTableBuilder::default();
    let mut mark = |name: &str, at: usize| {
        symbols.push(name.as_bytes(), VirtAddr(START + at as u64), 0, SymbolKind::new(b'R'));
    };
    if hash.is_some() {
        mark("__start_orc_header", 0);
    }
    mark("__start_orc_unwind_ip", bytes.len());
    for index in 0..entries.len() as u64 {
        let place = START + bytes.len() as u64;
        bytes.extend(((text + index * 16).wrapping_sub(place) as u32).to_le_bytes());
    }
    mark("__stop_orc_unwind_ip", bytes.len());
    mark("__start_orc_unwind", bytes.len());
    entries.iter().for_each(|entry| bytes.extend(&entry.to_le_bytes()[..6]));
    mark("__stop_orc_unwind", bytes.len());
    (Memory(bytes), symbols.finish())
}

const CALL: OrcEntry = OrcEntry {
    sp: OrcRegister::Sp,
    sp_offset: 8,
    bp: OrcRegister::Undefined,
    bp_offset: 0,
    kind: OrcKind::Call,
    signal: false,
};

#[test]
fn every_version_is_told_by_its_hash_or_by_its_entries() {
    let (sp_old, sp_new) = (5, 3);
    // Calls, a frame with saved registers, the end of the stack, and what is unknown.
    let v1 = [raw(8, 0, sp_old, 0, 0), raw(16, -16, sp_old, 1, 1), raw(0, 0, 0, 0, 4), raw(0, 0, 0, 0, 0)];
    let v2 = [raw(8, 0, sp_old, 0, 0), raw(16, -16, sp_old, 1, 5), raw(0, 0, 0, 0, 8), raw(0, 0, 0, 0, 0)];
    let v3 = [raw(8, 0, sp_old, 0, 2), raw(16, -16, sp_old, 1, 11), raw(0, 0, 0, 0, 1), raw(0, 0, 0, 0, 0)];
    let v4 = [raw(8, 0, sp_new, 0, 2), raw(16, -16, sp_new, 8, 11), raw(0, 0, 0, 0, 1), raw(0, 0, 0, 0, 0)];
    let versions = [
        (v1, OrcLayout::V1, None),
        (v2, OrcLayout::V2, Some([0xdb, 0x84, 0xae, 0xd4])),
        (v3, OrcLayout::V3, Some([0xfe, 0x5d, 0x32, 0xbf])),
        (v4, OrcLayout::V4, Some([0x13, 0x7c, 0x36, 0xad])),
    ];
    for (kinds, layout, hash) in versions {
        for hash in [hash, None, Some([0; 4])] {
            let mut entries = vec![kinds[0]; 9];
            entries.extend(kinds);
            let (memory, symbols) = tables(0xffff_ffff_8100_0000, &entries, hash);
            let table = OrcTable::of_kernel(&memory, &symbols, &Types::new(8)).unwrap();
            assert_eq!(*table.layout(), layout);
            let at = |index: u64| {
                table.find(&memory, VirtAddr(0xffff_ffff_8100_0003 + index * 16)).unwrap().unwrap()
            };
            assert_eq!(at(0), CALL);
            let regs = at(10);
            assert_eq!((regs.kind, regs.bp, regs.bp_offset), (OrcKind::Regs, OrcRegister::PrevSp, -16));
            assert_eq!(regs.signal, layout != OrcLayout::V1);
            assert_eq!((at(11).kind, at(12).kind), (OrcKind::EndOfStack, OrcKind::Undefined));
        }
    }
}

#[test]
fn addresses_before_the_table_have_no_entry() {
    let (memory, symbols) = tables(0xffff_ffff_8100_0000, &[raw(8, 0, 5, 0, 2); 5000], None);
    let table = OrcTable::of_kernel(&memory, &symbols, &Types::new(8)).unwrap();
    assert_eq!(table.find(&memory, VirtAddr(0xffff_ffff_80ff_ffff)), Ok(None));
    assert_eq!(table.find(&memory, VirtAddr(0xffff_ffff_8200_0000)), Ok(Some(CALL)));
    let empty = table.of_module(VirtAddr(START), VirtAddr(START), 0);
    assert_eq!(empty.find(&memory, VirtAddr(START)), Ok(None));
    let elsewhere = table.of_module(VirtAddr(0x1000), VirtAddr(0x1000), 3);
    assert!(elsewhere.find(&memory, VirtAddr(START)).is_err());
}

#[test]
fn tables_that_make_no_sense_are_refused() {
    let (memory, symbols) = tables(0, &[raw(8, 0, 15, 0, 15); 9], None);
    assert_eq!(OrcTable::of_kernel(&memory, &symbols, &Types::new(8)).err(), Some(OrcError::Layout));
    let none = SymbolTableBuilder::default().finish();
    let error = OrcTable::of_kernel(&memory, &none, &Types::new(8)).unwrap_err();
    assert_eq!(error, OrcError::NoSymbol("__start_orc_unwind_ip"));
    let (_, symbols) = tables(0, &[CALL.sp_offset as u64; 9], None);
    assert!(matches!(
        OrcTable::of_kernel(&Memory(vec![]), &symbols, &Types::new(8)),
        Err(OrcError::Missing(_))
    ));
}

proptest! {
    #[test]
    fn the_search_agrees_with_a_walk(count in 1_usize..4000, ip in 0_u64..80_000) {
        let entries: Vec<_> = (0..count).map(|index| raw(index as i16, 0, 5, 0, 2)).collect();
        let (memory, symbols) = tables(START - 0x10_0000, &entries, None);
        let table = OrcTable::of_kernel(&memory, &symbols, &Types::new(8)).unwrap();
        let found = table.find(&memory, VirtAddr(START - 0x10_0000 - 100 + ip)).unwrap();
        let wanted = ip.checked_sub(100).map(|ip| (ip / 16).min(count as u64 - 1) as i16);
        prop_assert_eq!(found.map(|entry| entry.sp_offset), wanted);
    }

    #[test]
    fn any_bits_decode(raw: u64) {
        for layout in [OrcLayout::V1, OrcLayout::V2, OrcLayout::V3, OrcLayout::V4] {
            let entry = layout.decode(raw);
            prop_assert_eq!(entry.sp_offset, raw as i16);
        }
    }
}
