//! A bounded cache of translations, shared by threads.

use std::sync::Mutex;

use kdive_base::{PAGE_SHIFT, PAGE_SIZE, PhysAddr, VirtAddr};

use crate::translate::Translation;

const SHARDS: usize = 16;
const SLOTS: usize = 256;
/// Pages of this size and above go into the second array, where one slot covers this much.
const HUGE_SHIFT: u32 = 21;

#[derive(Clone, Copy)]
struct Slot {
    /// Page number of the cached page plus one, so that zero means empty.
    tag: u64,
    phys: u64,
}

type Shard = Mutex<Box<[Slot]>>;

/// Two direct-mapped arrays, as a processor has them: one for base pages, one for huge pages.
pub(crate) struct Tlb {
    base: Vec<Shard>,
    huge: Vec<Shard>,
}

impl Tlb {
    pub(crate) fn new() -> Self {
        let array = || {
            (0..SHARDS)
                .map(|_| Mutex::new(vec![Slot { tag: 0, phys: 0 }; SLOTS].into_boxed_slice()))
                .collect()
        };
        Self { base: array(), huge: array() }
    }

    pub(crate) fn get(&self, address: VirtAddr) -> Option<Translation> {
        lookup(&self.huge, address.0, HUGE_SHIFT).or_else(|| lookup(&self.base, address.0, PAGE_SHIFT))
    }

    pub(crate) fn put(&self, address: VirtAddr, found: Translation) {
        let (array, shift) = if found.page_bytes >= 1 << HUGE_SHIFT {
            (&self.huge, HUGE_SHIFT)
        } else {
            (&self.base, PAGE_SHIFT)
        };
        let inside = address.0 & (1_u64 << shift).wrapping_sub(1);
        let page = address.0 >> shift;
        let Some(shard) = array.get(page as usize % SHARDS) else { return };
        let Ok(mut slots) = shard.lock() else { return };
        if let Some(slot) = slots.get_mut(page as usize / SHARDS % SLOTS) {
            *slot = Slot { tag: page.wrapping_add(1), phys: found.phys.0.wrapping_sub(inside) };
        }
    }
}

fn lookup(array: &[Shard], address: u64, shift: u32) -> Option<Translation> {
    let page = address >> shift;
    let slots = array.get(page as usize % SHARDS)?.lock().ok()?;
    let slot = slots.get(page as usize / SHARDS % SLOTS)?;
    let page_bytes = if shift == HUGE_SHIFT { 1 << HUGE_SHIFT } else { PAGE_SIZE };
    (slot.tag == page.wrapping_add(1)).then(|| Translation {
        phys: PhysAddr(slot.phys.wrapping_add(address & (page_bytes - 1))),
        page_bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn huge_and_base_pages_are_found_again() {
        let tlb = Tlb::new();
        let base = VirtAddr(0xffff_c900_0000_1234);
        tlb.put(base, Translation { phys: PhysAddr(0x5234), page_bytes: PAGE_SIZE });
        assert_eq!(tlb.get(VirtAddr(0xffff_c900_0000_1ff8)).unwrap().phys, PhysAddr(0x5ff8));
        assert_eq!(tlb.get(VirtAddr(0xffff_c900_0000_2000)), None);

        let huge = VirtAddr(0xffff_8880_4000_0010);
        tlb.put(huge, Translation { phys: PhysAddr(0x4000_0010), page_bytes: 1 << 30 });
        assert_eq!(tlb.get(VirtAddr(0xffff_8880_401f_ff00)).unwrap().phys, PhysAddr(0x401f_ff00));
        assert_eq!(tlb.get(VirtAddr(0xffff_8880_4020_0000)), None, "a slot covers 2 MiB of a larger page");
    }
}
