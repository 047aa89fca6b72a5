//! Page frames: where RAM is mapped, where each frame's `struct page` is, and what that says of the frame.

mod array;
mod census;
mod excludable;
mod flags;
mod map;
mod owner;
mod page;

use std::sync::Arc;

use kdive_base::{PhysAddr, VirtAddr};
use kdive_target::{Field, Kernel, Lacks};

pub use array::{Chunk, PageArray, RawPage};
pub use census::{Census, Counts, Kinds, PageKind, Pageblock};
pub use excludable::{Excludable, ExclusionRules, Judgement};
pub use flags::PageFlags;
pub use map::{DirectMap, MemoryMap};
pub use owner::{Charges, PageOwners};
pub use page::Page;
use page::TypeMark;

/// How this kernel finds the `struct page` of a frame, and tells what the frame is used for.
#[derive(Clone, Debug)]
pub struct Pages {
    /// The mapping of all RAM.
    pub direct: Field<DirectMap>,
    /// The page structures.
    pub map: Field<MemoryMap>,
    /// The names of page flags.
    pub flags: Field<PageFlags>,
    slab: Field<TypeMark>,
    buddy: Field<TypeMark>,
}

impl Pages {
    /// The kernel's view of its page frames: found on first use, then shared.
    #[must_use]
    pub fn find(kernel: &Kernel) -> Arc<Self> {
        let pages = kernel.once(|kernel| {
            Arc::new(Self {
                direct: DirectMap::find(kernel),
                map: MemoryMap::find(kernel),
                flags: PageFlags::find(kernel),
                slab: TypeMark::slab(kernel),
                buddy: TypeMark::buddy(kernel),
            })
        });
        pages.clone()
    }

    /// Address of the `struct page` of the frame behind an address of the direct map.
    ///
    /// # Errors
    /// The address is not in the direct map (of modules, vmalloc and kernel text: translate it and ask
    /// [`Pages::page_of_frame`]), or this kernel does not say where its page structures are.
    pub fn page_of(&self, address: VirtAddr) -> Field<VirtAddr> {
        let direct = self.direct.as_ref().map_err(Lacks::clone)?;
        match direct.phys_of(address) {
            Some(phys) => self.page_of_frame(phys),
            None => Err(Lacks::unavailable(format_args!("{address:#} is not in the direct map"))),
        }
    }

    /// Address of the `struct page` of the frame that holds a physical address. Nothing says that the frame exists:
    /// reading the structure does.
    ///
    /// # Errors
    /// This kernel does not say where its page structures are.
    pub fn page_of_frame(&self, phys: PhysAddr) -> Field<VirtAddr> {
        Ok(self.map.as_ref().map_err(Lacks::clone)?.page_of(phys.pfn()))
    }

    /// The direct map's address of a page's first byte.
    ///
    /// # Errors
    /// No `struct page` starts there, or the kernel does not say where its page structures or its direct map are.
    pub fn address_of(&self, page: VirtAddr) -> Field<VirtAddr> {
        let direct = self.direct.as_ref().map_err(Lacks::clone)?;
        let map = self.map.as_ref().map_err(Lacks::clone)?;
        map.pfn_of(page).and_then(|pfn| direct.address_of(pfn.start())).ok_or_else(|| {
            Lacks::implausible(format_args!("{page:#} is not the address of a page structure"))
        })
    }

    /// What a page is used for, as the kernel names it (`buddy`, `table`, `slab`), where it marks pages so.
    #[must_use]
    pub fn type_of(&self, kernel: &Kernel, page: &Page) -> Option<String> {
        page::type_name(kernel, page)
    }

    /// Whether a page (not a tail page) belongs to the slab allocator.
    ///
    /// # Errors
    /// The page's flags or type cannot be read, or nothing says how this kernel marks slabs.
    pub fn is_slab(&self, page: &Page) -> Field<bool> {
        self.slab.as_ref().map_err(Lacks::clone)?.is_on(page)
    }

    /// Whether a page is the first of a free block of the page allocator.
    ///
    /// # Errors
    /// As [`Pages::is_slab`].
    pub fn is_buddy(&self, page: &Page) -> Field<bool> {
        self.buddy.as_ref().map_err(Lacks::clone)?.is_on(page)
    }
}

/// The node of a page, from its flags: their uppermost bits (include/linux/page-flags-layout.h).
///
/// # Errors
/// Nothing tells how many bits those are.
pub fn node_of(kernel: &Kernel, flags: u64) -> Field<u32> {
    let bits = kernel.once(|kernel| NodeBits(NodeBits::find(kernel))).0.clone()?;
    Ok(upper_bits(flags, bits))
}

fn upper_bits(flags: u64, bits: u32) -> u32 {
    flags.checked_shr(u64::BITS.saturating_sub(bits)).unwrap_or(0) as u32
}

/// `NODES_SHIFT`.
struct NodeBits(Field<u32>);

impl NodeBits {
    fn find(kernel: &Kernel) -> Field<u32> {
        // A kernel without NUMA keeps no node in its flags.
        if kernel.symbol("node_data").is_err() {
            return Ok(0);
        }
        // The size of a set of nodes tells how many there can be, but not below the bits of a word: there 6 is usual.
        let bytes = match kernel.vmcoreinfo().size("nodemask_t") {
            Some(bytes) => bytes,
            None => kernel.size_of("nodemask_t")?,
        };
        Ok(bytes.saturating_mul(8).max(1).ilog2())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_node_is_in_the_uppermost_bits() {
        assert_eq!(upper_bits(0x007f_fffc_0002_0000, 10), 1);
        assert_eq!(upper_bits(0x000f_ffff_c000_2000, 10), 0);
        assert_eq!(upper_bits(u64::MAX, 0), 0);
        assert_eq!(upper_bits(u64::MAX, 6), 63);
    }
}
