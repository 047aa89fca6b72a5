//! Looks addresses up in bytes that are taken as ORC tables.
#![no_main]

#[path = "../memory.rs"]
mod memory;

use kdive_base::{Endian, VirtAddr};
use kdive_debuginfo::{OrcTable, SymbolKind, SymbolTableBuilder, Types};
use libfuzzer_sys::fuzz_target;
use memory::{Memory, START};

fuzz_target!(|input: ([u16; 4], bool, [u32; 4], &[u8])| {
    let (marks, header, ips, bytes) = input;
    let memory = Memory(bytes, Endian::Little);
    let mut symbols = SymbolTableBuilder::default();
    let names =
        ["__start_orc_unwind_ip", "__stop_orc_unwind_ip", "__start_orc_unwind", "__stop_orc_unwind"];
    for (name, mark) in names.into_iter().zip(marks) {
        symbols.push(name.as_bytes(), VirtAddr(START + u64::from(mark)), 0, SymbolKind::new(b'R'));
    }
    if header {
        symbols.push(b"__start_orc_header", VirtAddr(START), 0, SymbolKind::new(b'R'));
    }
    if let Ok(table) = OrcTable::of_kernel(&memory, &symbols.finish(), &Types::new(8)) {
        for ip in ips {
            let ip = VirtAddr(START).offset(i64::from(ip.cast_signed()));
            let _ = table.find(&memory, ip);
            let _ = table.of_module(VirtAddr(START), ip, ip.0 as u32 & 0xffff).find(&memory, ip);
        }
    }
});
