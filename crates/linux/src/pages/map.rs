//! The two linear mappings: RAM at `PAGE_OFFSET`, page structures at `vmemmap`
//! (Documentation/arch/x86/x86_64/mm.rst, include/asm-generic/memory_model.h).

use kdive_arch::x86_64::layout::{self, FixedLayout};
use kdive_base::{PAGE_SHIFT, Pfn, PhysAddr, VirtAddr};
use kdive_target::{Field, Kernel, Lacks};

/// The range of kernel addresses that maps all RAM in the order of physical addresses, from physical address 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectMap {
    /// The virtual address of physical address 0 (`PAGE_OFFSET`).
    pub start: VirtAddr,
    /// The first virtual address behind RAM.
    pub end: VirtAddr,
}

/// The array of page structures, one for each frame, from frame 0 (`vmemmap`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryMap {
    /// The virtual address of frame 0's `struct page`, whether or not that is mapped.
    pub start: VirtAddr,
    /// Size of `struct page`, in bytes; never 0.
    pub page_bytes: u64,
}

/// Where this kernel has the mappings if nothing moved them.
fn fixed_layout(kernel: &Kernel) -> &'static FixedLayout {
    kernel.space().page_table().map_or(&layout::FOUR_LEVEL, |table| layout::of(table.format()))
}

/// Upper half of the address space: what a mapping's base must be.
fn is_kernel_half(address: VirtAddr) -> bool {
    address.0 >> 63 == 1
}

/// The value of a pointer-sized variable.
fn variable(kernel: &Kernel, name: &str) -> Field<u64> {
    Ok(kernel.memory().u64(kernel.symbol(name)?)?)
}

/// A variable that holds the base of a mapping.
fn base(kernel: &Kernel, name: &str) -> Field<VirtAddr> {
    let value = VirtAddr(variable(kernel, name)?);
    let wrong = || Lacks::implausible(format_args!("{name} holds {value:#}, which is no kernel address"));
    if is_kernel_half(value) { Ok(value) } else { Err(wrong()) }
}

/// A physical address that is RAM in any case: the kernel's own text.
fn known_ram(kernel: &Kernel) -> Option<PhysAddr> {
    Some(kernel.space().translate(kernel.symbol("_stext").ok()?).ok()?.phys)
}

impl DirectMap {
    /// Where this kernel's page tables have it: `page_offset_base` says (4.8), else one of the two fixed places that
    /// the tables do map to RAM's start.
    pub(super) fn find(kernel: &Kernel) -> Field<Self> {
        let fixed = fixed_layout(kernel);
        let proven = |start: &VirtAddr| {
            let maps = |ram: PhysAddr| Some(kernel.space().translate(start.add(ram.0)).ok()?.phys == ram);
            known_ram(kernel).and_then(maps).unwrap_or(false)
        };
        let start = base(kernel, "page_offset_base")
            .or_else(|lacks| fixed.page_offset.iter().copied().find(proven).ok_or(lacks))?;
        // RAM ends at max_pfn. Without it, addresses behind RAM only cost a look at a page structure that is not there.
        let ram = variable(kernel, "max_pfn").ok().and_then(|pfn| pfn.checked_shl(PAGE_SHIFT));
        let bytes =
            ram.filter(|bytes| (1..=fixed.direct_bytes).contains(bytes)).unwrap_or(fixed.direct_bytes);
        Ok(Self { start, end: VirtAddr(start.0.saturating_add(bytes)) })
    }

    /// The physical address that an address of the direct map stands for; `None` for addresses outside of it.
    #[must_use]
    pub fn phys_of(&self, address: VirtAddr) -> Option<PhysAddr> {
        (self.start <= address && address < self.end).then(|| PhysAddr(address.since(self.start)))
    }

    /// The address at which the direct map has a physical address; `None` behind the end of RAM.
    #[must_use]
    pub fn address_of(&self, phys: PhysAddr) -> Option<VirtAddr> {
        (phys.0 < self.end.since(self.start)).then(|| self.start.add(phys.0))
    }
}

impl MemoryMap {
    /// Where this kernel has it: `vmemmap_base` (4.8) or VMCOREINFO says, else the fixed place, if that is mapped.
    pub(super) fn find(kernel: &Kernel) -> Field<Self> {
        let page_bytes = kernel
            .size_of("page")
            .or_else(|lacks| kernel.vmcoreinfo().size("page").ok_or(lacks))
            .and_then(|bytes| {
                if bytes == 0 { Err(Lacks::implausible("struct page has no size")) } else { Ok(bytes) }
            })?;
        let at = |start: VirtAddr| Self { start, page_bytes };
        let told = || kernel.vmcoreinfo().symbol("vmemmap").filter(|&start| is_kernel_half(start));
        let fixed = || {
            let map = at(fixed_layout(kernel).vmemmap);
            kernel.space().translate(map.page_of(known_ram(kernel)?.pfn())).ok().map(|_| map)
        };
        base(kernel, "vmemmap_base")
            .or_else(|lacks| told().ok_or(lacks))
            .map(at)
            .or_else(|lacks| fixed().ok_or(lacks))
    }

    /// Address of a frame's `struct page`.
    #[must_use]
    pub fn page_of(&self, pfn: Pfn) -> VirtAddr {
        self.start.add(pfn.0.wrapping_mul(self.page_bytes))
    }

    /// The frame whose `struct page` starts at an address; `None` where none can start.
    #[must_use]
    pub fn pfn_of(&self, page: VirtAddr) -> Option<Pfn> {
        let distance = page.0.checked_sub(self.start.0)?;
        (distance % self.page_bytes == 0).then(|| Pfn(distance / self.page_bytes))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_direct_map_is_linear_and_ends(base in (1_u64 << 63).., bytes in 1_u64..(1 << 50), at: u64) {
            let map = DirectMap { start: VirtAddr(base), end: VirtAddr(base.saturating_add(bytes)) };
            match map.phys_of(VirtAddr(at)) {
                Some(phys) => {
                    prop_assert!(phys.0 < bytes);
                    prop_assert_eq!(map.address_of(phys), Some(VirtAddr(at)));
                }
                None => prop_assert!(at < base || at - base >= bytes || map.end.0 == u64::MAX),
            }
        }

        #[test]
        fn frames_and_their_structures_are_one_to_one(pfn in 0_u64..(1 << 40), bytes in 1_u64..128, skew: u64) {
            let map = MemoryMap { start: layout::FIVE_LEVEL.vmemmap, page_bytes: bytes };
            let page = map.page_of(Pfn(pfn));
            prop_assert_eq!(map.pfn_of(page), Some(Pfn(pfn)));
            let inside = page.add(skew % bytes);
            prop_assert_eq!(map.pfn_of(inside).is_some(), inside == page);
        }
    }

    #[test]
    fn addresses_before_the_memory_map_are_no_page() {
        let map = MemoryMap { start: layout::FOUR_LEVEL.vmemmap, page_bytes: 64 };
        assert_eq!(map.pfn_of(layout::FOUR_LEVEL.vmemmap.sub(64)), None);
        assert_eq!(map.pfn_of(VirtAddr(0)), None);
    }
}
