//! Walks ranges of the bytes as page tables, and translates what the walk says is mapped.
#![no_main]

use std::sync::Arc;

use kdive_arch::x86_64::paging::{FIVE_LEVEL, FOUR_LEVEL};
use kdive_base::{PhysAddr, VirtAddr};
use kdive_dump::{Hints, Input, InputFile};
use kdive_target::PageTable;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (bool, u64, u64, &[u8])| {
    let (five, first, last, bytes) = input;
    let file = InputFile::raw("fuzz", Arc::new(bytes.to_vec()), PhysAddr(0));
    let Ok(opened) = kdive_dump::open(Input::from(file), &Hints::default()) else { return };
    let format = if five { &FIVE_LEVEL } else { &FOUR_LEVEL };
    let table = PageTable::new(opened.memory, format, PhysAddr(0), 0);
    for run in table.mapped(VirtAddr(first), VirtAddr(last)).take(10_000).flatten() {
        assert!(first <= run.virt.0 && run.virt.0 + (run.bytes - 1) <= last, "{run:?} leaves the range");
        let found = table.translate(run.virt).expect("what is mapped translates");
        assert_eq!(found.phys, run.phys);
    }
});
