//! Free pages: the lists of the page allocator (mm/page_alloc.c), each block of them checked.

use kdive_base::{Pfn, VirtAddr};
use kdive_target::{Field, Kernel, Lacks, Load, Loader, MemberAddress, walk};

use crate::mmzone::Zone;
use crate::pages::{MemoryMap, Page, Pages};

/// One list: the free blocks of one size and one use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FreeArea {
    /// Pages of a block, as log2.
    pub order: u32,
    /// `enum migratetype`.
    pub migrate_type: u32,
    /// The head of the list.
    pub head: VirtAddr,
}

/// A block of a list, or what is wrong there.
pub type Block = Field<VirtAddr>;

/// Lists and blocks of zones.
pub struct FreeAreas<'k> {
    kernel: &'k Kernel,
    pages: std::sync::Arc<Pages>,
    map: MemoryMap,
    page: Loader<'k, Page>,
    /// Offset of the link in a page structure.
    link: u64,
    /// Bytes of a `struct free_area`, and lists in it.
    area_bytes: u64,
    lists: u64,
    orders: u64,
}

#[derive(Clone, Debug, Load)]
#[load(type = "free_area")]
struct AreaFields {
    nr_free: Field<u64>,
}

/// Bytes of a `struct list_head`.
const HEAD_BYTES: u64 = 16;
/// `MAX_ORDER` is 11 usually and 64 would be all of memory; `MIGRATE_TYPES` is 6 at most.
const MOST: u64 = 64;

impl<'k> FreeAreas<'k> {
    /// For the zones of this kernel.
    ///
    /// # Errors
    /// The layout of its lists or of its page structures is lacking.
    pub fn find(kernel: &'k Kernel) -> Field<Self> {
        let pages = Pages::find(kernel);
        let map = pages.map.clone()?;
        let area_bytes = kernel.size_of("free_area")?.max(1);
        let lists = kernel.member("free_area", &["free_list"])?.bytes / HEAD_BYTES;
        let orders = kernel.member("zone", &["free_area"])?.bytes / area_bytes;
        Ok(Self {
            kernel,
            pages,
            map,
            page: kernel.loader(),
            link: kernel.member("page", &["buddy_list", "lru"])?.offset,
            area_bytes,
            lists: lists.min(MOST),
            orders: orders.min(MOST),
        })
    }

    /// The lists of a zone, by size and use.
    ///
    /// # Errors
    /// The zone cannot be read.
    pub fn of_zone(&self, zone: &Zone) -> Field<Vec<FreeArea>> {
        let MemberAddress(first) = zone.free_area.clone()?;
        let lists = (0..self.orders).flat_map(|order| (0..self.lists).map(move |list| (order, list)));
        Ok(lists
            .map(|(order, list)| FreeArea {
                order: order as u32,
                migrate_type: list as u32,
                head: first.add(order * self.area_bytes + list * HEAD_BYTES),
            })
            .collect())
    }

    /// What the kernel counts on the lists of one size.
    ///
    /// # Errors
    /// The zone cannot be read.
    pub fn counted(&self, zone: &Zone, order: u32) -> Field<u64> {
        let MemberAddress(first) = zone.free_area.clone()?;
        self.kernel.load::<AreaFields>(first.add(u64::from(order) * self.area_bytes)).nr_free
    }

    /// The blocks of a list: the page structure of the first page of each. A block that is not one (another use, another
    /// size, outside of the zone) is told as such, and the list goes on behind it.
    pub fn blocks(&self, zone: &Zone, area: FreeArea) -> impl Iterator<Item = Block> {
        let frames = zone
            .start_pfn
            .clone()
            .and_then(|start| Ok(Pfn(start)..Pfn(start.saturating_add(zone.spanned_pages.clone()?))));
        walk::list(self.kernel.memory(), area.head).map(move |item| {
            let at = item?.sub(self.link);
            let pfn = self.map.pfn_of(at);
            let outside = |pfn: &Pfn| frames.as_ref().is_ok_and(|frames| !frames.contains(pfn));
            let what = match pfn {
                None => Some("is no page structure"),
                Some(pfn) if outside(&pfn) => Some("is of another zone"),
                Some(_) => {
                    let page = self.page.load(at);
                    wrong_with(self.pages.is_buddy(&page)?, page.private?, area.order)
                }
            };
            if let Some(what) = what {
                return Err(Lacks::implausible(format_args!("the page {at} on a free list {what}")));
            }
            Ok(at)
        })
    }

    /// The free block that holds a frame: the page structure of its first page, and its order. `None` where the frame is
    /// in none.
    ///
    /// # Errors
    /// Page structures cannot be read.
    pub fn block_of(&self, pfn: Pfn) -> Field<Option<(VirtAddr, u32)>> {
        for order in 0..self.orders as u32 {
            let first = Pfn(pfn.0 >> order << order);
            let page = self.page.load(self.map.page_of(first));
            if !self.pages.is_buddy(&page)? {
                continue;
            }
            let pages = 1_u64.checked_shl(page.private.clone()? as u32).unwrap_or(0);
            if pfn.0.wrapping_sub(first.0) < pages {
                return Ok(Some((page.at, page.private? as u32)));
            }
        }
        Ok(None)
    }

    /// The list that a block is on, told by where its links end.
    ///
    /// # Errors
    /// The links are damaged.
    pub fn list_of(&self, zone: &Zone, block: VirtAddr) -> Field<FreeArea> {
        let areas = self.of_zone(zone)?;
        for item in walk::list(self.kernel.memory(), block.add(self.link)) {
            let at = item?;
            if let Some(area) = areas.iter().find(|area| area.head == at) {
                return Ok(*area);
            }
        }
        Err(Lacks::implausible("a free block that is on no list of its zone"))
    }
}

/// What is wrong with the first page of a block on a list of blocks of this order; a free page keeps its order in `private`.
fn wrong_with(is_free: bool, private: u64, order: u32) -> Option<&'static str> {
    match (is_free, private == u64::from(order)) {
        (false, _) => Some("is not free"),
        (true, false) => Some("begins a block of another size"),
        (true, true) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_free_and_as_large_as_those_of_its_list() {
        assert_eq!(wrong_with(true, 3, 3), None);
        assert_eq!(wrong_with(true, 2, 3), Some("begins a block of another size"));
        assert_eq!(wrong_with(true, 3 | 1 << 32, 3), Some("begins a block of another size"));
        assert_eq!(wrong_with(false, 3, 3), Some("is not free"));
    }
}
