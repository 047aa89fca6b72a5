//! Walks lists and trees in bytes that are taken as a kernel's memory.
#![no_main]

use kdive_base::{Missing, VirtAddr, VirtualMemory, Why};
use kdive_target::walk::{
    Lap, MapleLayout, Order, RbLayout, XArrayLayout, chain, list, list_backwards, maple_events, null_terminated, rbtree,
    xarray,
};
use libfuzzer_sys::fuzz_target;

/// The bytes over and over, so that most pointers lead somewhere; nothing in the lowest page.
struct Wrapped<'b>(&'b [u8]);

impl VirtualMemory for Wrapped<'_> {
    fn read(&self, at: VirtAddr, into: &mut [u8]) -> (usize, Option<Missing>) {
        if at.0 < 4096 || self.0.is_empty() {
            return (0, Some(Missing::new(at, Why::NotMapped { level: 1 })));
        }
        for (index, byte) in into.iter_mut().enumerate() {
            let here = at.0.wrapping_add(index as u64) % self.0.len() as u64;
            *byte = self.0[here as usize];
        }
        (into.len(), None)
    }
}

/// Wrapped memory is endless: only a part of a walk is looked at.
const STEPS: usize = 1 << 12;

fuzz_target!(|input: (u64, u8, &[u8])| {
    let (start, offset, bytes) = input;
    let memory = Wrapped(bytes);
    let at = VirtAddr(start);
    let next = u64::from(offset);
    list(&memory, at).take(STEPS).for_each(drop);
    list_backwards(&memory, at).take(STEPS).for_each(drop);
    let _ = null_terminated(&memory, at, next).take(STEPS).last();
    if let Some(Err(kdive_target::walk::Broken::Cycle(on_it))) =
        chain(&memory, at, next).remembering_one().take(STEPS).last()
    {
        let lap = Lap::find(&memory, at, next, on_it).expect("a list that was walked loops as it did");
        assert!(lap.length <= STEPS && lap.before <= STEPS);
    }
    for order in [Order::Sorted, Order::TopDown] {
        rbtree(&memory, RbLayout::USUAL, at, order).take(STEPS).for_each(drop);
    }
    for entry in xarray(&memory, XArrayLayout::USUAL, start).take(STEPS).flatten() {
        assert!(entry.slots().all(|slot| slot < 64));
    }
    maple_events(&memory, MapleLayout::USUAL, start).take(STEPS).for_each(drop);
});
