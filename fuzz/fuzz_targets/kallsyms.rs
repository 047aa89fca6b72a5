//! Reads the bytes as kallsyms tables at fuzzed places, and scans them for tables.
#![no_main]

#[path = "../memory.rs"]
mod memory;

use kdive_base::{Endian, VirtAddr};
use kdive_debuginfo::kallsyms::{Expect, KallsymsAt, read, scan};
use libfuzzer_sys::fuzz_target;
use memory::{Memory, START};

fuzz_target!(|input: ([u16; 7], bool, &[u8])| {
    let (places, big, bytes) = input;
    let memory = Memory(bytes, if big { Endian::Big } else { Endian::Little });
    let place = |number: usize| VirtAddr(START + u64::from(places[number]));
    let optional = |number: usize| (places[number] != 0).then(|| place(number));
    let at = KallsymsAt {
        num_syms: place(0),
        names: place(1),
        token_table: place(2),
        token_index: place(3),
        offsets: optional(4),
        relative_base: optional(5),
        addresses: optional(6),
    };
    if let Ok(found) = read(&memory, &at, &Expect::default()) {
        assert!(found.symbols.iter().is_sorted_by_key(|symbol| symbol.address));
        let _ = found.symbols.by_name("_stext").count();
    }
    let image = VirtAddr(START)..VirtAddr(START + bytes.len() as u64 + 4096);
    let _ = scan(&memory, &image, &Expect::default());
});
