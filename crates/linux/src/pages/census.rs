//! What every page frame is used for: one walk over all page structures, counted by pageblock, then shared.

use std::sync::Arc;

use kdive_base::{Pfn, VirtAddr};
use kdive_target::{Field, Kernel, Lacks, Load, MemberAddress, walk};
use rayon::prelude::*;
use rustc_hash::FxHashSet;
use serde::Serialize;

use crate::mmzone;

use super::page::TypeMark;
use super::{Page, PageArray, Pages};

/// What a page is used for, as its page structure says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PageKind {
    /// In a free block of the page allocator.
    Free,
    /// Free, and kept by a processor for its next allocations.
    FreeOnCpu,
    /// Memory of processes: heaps, stacks, private copies.
    Anonymous,
    /// The page cache of a file or a block device.
    File,
    /// tmpfs, shared memory, memfd.
    Shmem,
    /// A huge page of a pool.
    HugePage,
    /// zsmalloc and other memory of drivers that can be moved.
    MovableDriver,
    /// A slab.
    Slab,
    /// A page table.
    PageTable,
    /// Of the kernel, without a mark: vmalloc, kernel stacks, per-CPU memory, buffers of drivers.
    Kernel,
    /// Offline: a balloon's, or hot-removed.
    Offline,
    /// Never given to the page allocator.
    Reserved,
}

impl PageKind {
    /// All kinds.
    pub const ALL: [Self; 12] = [
        Self::Free,
        Self::FreeOnCpu,
        Self::Anonymous,
        Self::File,
        Self::Shmem,
        Self::HugePage,
        Self::MovableDriver,
        Self::Slab,
        Self::PageTable,
        Self::Kernel,
        Self::Offline,
        Self::Reserved,
    ];

    /// Its place in [`Counts`].
    const fn index(self) -> usize {
        self as usize
    }

    /// Whether compaction cannot move such a page away.
    #[must_use]
    pub const fn is_unmovable(self) -> bool {
        matches!(self, Self::Slab | Self::PageTable | Self::Kernel | Self::Offline | Self::Reserved)
    }
}

/// Pages by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts([u64; PageKind::ALL.len()]);

impl Counts {
    /// The pages of a kind.
    #[must_use]
    pub fn of(&self, kind: PageKind) -> u64 {
        self.0.get(kind.index()).copied().unwrap_or(0)
    }

    fn add(&mut self, kind: PageKind, pages: u64) {
        if let Some(count) = self.0.get_mut(kind.index()) {
            *count = count.saturating_add(pages);
        }
    }

    /// Adds another count.
    pub fn merge(&mut self, other: &Self) {
        for kind in PageKind::ALL {
            self.add(kind, other.of(kind));
        }
    }

    /// All pages counted.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }
}

/// A pageblock: the unit in which the page allocator groups pages by mobility.
#[derive(Clone, Debug)]
pub struct Pageblock {
    /// Its first frame.
    pub start: Pfn,
    /// What its pages are used for.
    pub counts: Counts,
    /// The first page of it that cannot be moved.
    pub first_unmovable: Option<(Pfn, PageKind)>,
}

/// Every page.
#[derive(Debug, Default)]
pub struct Census {
    /// By frame.
    pub blocks: Vec<Pageblock>,
    /// Pages of a pageblock, as log2.
    pub block_order: u32,
    /// Frames whose page structures could not be read, and why the first could not.
    pub incomplete: Option<(u64, Lacks)>,
}

impl Census {
    /// The census of this kernel: taken on the first call, then shared.
    ///
    /// # Errors
    /// The kernel does not say where its page structures are, or how it marks free pages and slabs.
    pub fn find(kernel: &Kernel) -> Field<Arc<Self>> {
        kernel.once(|kernel| Self::take(kernel).map(Arc::new)).clone()
    }

    /// All pages by kind.
    #[must_use]
    pub fn total(&self) -> Counts {
        let mut total = Counts::default();
        self.blocks.iter().for_each(|block| total.merge(&block.counts));
        total
    }

    fn take(kernel: &Kernel) -> Field<Self> {
        let array = PageArray::find(kernel)?;
        let kinds = Kinds::find(kernel)?;
        let loader = kernel.loader::<Page>();
        let block_order = block_order(kernel)?;
        let pieces: Vec<_> = array.pieces(PageArray::PIECE).collect();
        let found: Vec<_> = pieces
            .par_iter()
            .map(|frames| {
                let chunk = array.read(kernel, frames);
                let mut blocks = Blocks { order: block_order, list: Vec::new() };
                let mut run: Option<(PageKind, u64)> = None;
                for raw in chunk.pages() {
                    // The rest of a free block, whose page structures say nothing.
                    if let Some((kind, left)) = run.take() {
                        blocks.add(raw.pfn, kind);
                        run = left.checked_sub(1).filter(|left| *left > 0).map(|left| (kind, left));
                        continue;
                    }
                    let page = loader.load_read(raw.at, raw.bytes);
                    let (kind, more) = kinds.of(kernel, &page);
                    blocks.add(raw.pfn, kind);
                    run = (more > 0).then_some((kind, more));
                }
                let missing: u64 =
                    chunk.missing.iter().map(|(frames, _)| frames.end.0.saturating_sub(frames.start.0)).sum();
                let why = chunk.missing.into_iter().next().map(|(_, why)| Lacks::from(why));
                (blocks.list, why.map(|why| (missing, why)))
            })
            .collect();
        let mut census = Self { block_order, ..Self::default() };
        for (blocks, missing) in found {
            census.blocks.extend(blocks);
            census.incomplete = match (census.incomplete.take(), missing) {
                (Some((count, why)), Some((more, _))) => Some((count.saturating_add(more), why)),
                (one, other) => one.or(other),
            };
        }
        Ok(census)
    }
}

/// Pageblocks as they are counted, by ascending frame.
struct Blocks {
    order: u32,
    list: Vec<Pageblock>,
}

impl Blocks {
    fn add(&mut self, pfn: Pfn, kind: PageKind) {
        let start = Pfn(pfn.0 >> self.order << self.order);
        if self.list.last().is_none_or(|block| block.start != start) {
            self.list.push(Pageblock { start, counts: Counts::default(), first_unmovable: None });
        }
        let Some(block) = self.list.last_mut() else { return };
        block.counts.add(kind, 1);
        if kind.is_unmovable() && block.first_unmovable.is_none() {
            block.first_unmovable = Some((pfn, kind));
        }
    }
}

/// `pageblock_order` (include/linux/pageblock-flags.h): that of a huge page, where there are any; else the largest block.
fn block_order(kernel: &Kernel) -> Field<u32> {
    /// `HUGETLB_PAGE_ORDER` on x86.
    const HUGE: u32 = 9;
    let orders = kernel.member("zone", &["free_area"])?.bytes / kernel.size_of("free_area")?.max(1);
    let largest = u32::try_from(orders).unwrap_or(11).clamp(1, 16).saturating_sub(1);
    Ok(if kernel.symbol("hstates").is_ok() { largest.min(HUGE) } else { largest })
}

/// Tells what a page is used for.
pub struct Kinds {
    pages: Arc<Pages>,
    table: Field<TypeMark>,
    hugetlb: Option<TypeMark>,
    zsmalloc: Option<TypeMark>,
    offline: Option<TypeMark>,
    reserved: u64,
    swap_backed: u64,
    lru: u64,
    /// Free pages that processors keep.
    on_cpus: FxHashSet<VirtAddr>,
}

/// The lower bits of `page.mapping` (`PAGE_MAPPING_*`, include/linux/page-flags.h; `FOLIO_MAPPING_*` since 6.17).
const MAPPING_ANON: u64 = 1;
const MAPPING_MOVABLE: u64 = 2;

impl Kinds {
    /// How this kernel marks pages.
    ///
    /// # Errors
    /// Neither types nor VMCOREINFO tell how it marks free pages and slabs.
    pub fn find(kernel: &Kernel) -> Field<Self> {
        let pages = Pages::find(kernel);
        pages.buddy.clone()?;
        pages.slab.clone()?;
        let flag = |name: &str| {
            let bit = kernel.enumerator(name).ok().and_then(|bit| u32::try_from(bit).ok());
            bit.and_then(|bit| 1_u64.checked_shl(bit)).unwrap_or(0)
        };
        Ok(Self {
            table: TypeMark::table(kernel),
            hugetlb: TypeMark::of_type(kernel, "PGTY_hugetlb", "PAGE_HUGETLB_MAPCOUNT_VALUE"),
            zsmalloc: TypeMark::of_type(kernel, "PGTY_zsmalloc", ""),
            offline: TypeMark::of_type(kernel, "PGTY_offline", "PAGE_OFFLINE_MAPCOUNT_VALUE"),
            reserved: flag("PG_reserved"),
            swap_backed: flag("PG_swapbacked"),
            lru: flag("PG_lru"),
            // Without them those pages count as the kernel's.
            on_cpus: pages_on_cpus(kernel).unwrap_or_default(),
            pages,
        })
    }

    /// The kind of a page, and how many pages behind it belong to it whatever their own structures say. A tail page has
    /// its head's kind.
    pub fn of(&self, kernel: &Kernel, page: &Page) -> (PageKind, u64) {
        if page.is_tail() == Ok(true) {
            let head = page.head().ok().filter(|head| *head != page.at);
            let head: Option<Page> = head.map(|head: VirtAddr| kernel.load(head));
            return (head.map_or(PageKind::Kernel, |head| self.of_head(&head)), 0);
        }
        if self.pages.is_buddy(page) == Ok(true) {
            let order = page.private.clone().ok().and_then(|order| u32::try_from(order).ok());
            let pages =
                order.and_then(|order| 1_u64.checked_shl(order)).filter(|pages| *pages <= PageArray::PIECE);
            return (PageKind::Free, pages.unwrap_or(1).saturating_sub(1));
        }
        (self.of_head(page), 0)
    }

    fn of_head(&self, page: &Page) -> PageKind {
        let flags = page.flags.clone().unwrap_or(0);
        let marked = |mark: &Option<TypeMark>| mark.is_some_and(|mark| mark.is_on(page) == Ok(true));
        if flags & self.reserved != 0 {
            return PageKind::Reserved;
        }
        if self.pages.is_slab(page) == Ok(true) {
            return PageKind::Slab;
        }
        if self.table.as_ref().is_ok_and(|mark| mark.is_on(page) == Ok(true)) {
            return PageKind::PageTable;
        }
        if marked(&self.offline) {
            return PageKind::Offline;
        }
        if marked(&self.hugetlb) {
            return PageKind::HugePage;
        }
        if marked(&self.zsmalloc) {
            return PageKind::MovableDriver;
        }
        // Without a reference it is a processor's, or one of the later pages of a larger allocation.
        if page.refcount.clone().is_ok_and(|count| count == 0) {
            return if self.on_cpus.contains(&page.at) { PageKind::FreeOnCpu } else { PageKind::Kernel };
        }
        let mapping = page.mapping.clone().unwrap_or(VirtAddr(0)).0;
        match mapping {
            _ if mapping & MAPPING_ANON != 0 => PageKind::Anonymous,
            // Driver memory that can be moved: before 6.17, and a pointer all the same.
            _ if mapping & MAPPING_MOVABLE != 0 && mapping >> 63 == 1 => PageKind::MovableDriver,
            _ if mapping >> 63 == 1 && flags & self.swap_backed != 0 => PageKind::Shmem,
            _ if mapping >> 63 == 1 => PageKind::File,
            // Cut off from its file, but still on a list of users' pages.
            _ if flags & self.lru != 0 => PageKind::File,
            _ => PageKind::Kernel,
        }
    }
}

#[derive(Clone, Debug, Load)]
#[load(type = "per_cpu_pages")]
struct PerCpuPages {
    lists: Field<MemberAddress>,
}

/// The pages on the lists that each processor keeps for a zone (`struct per_cpu_pages`).
fn pages_on_cpus(kernel: &Kernel) -> Field<FxHashSet<VirtAddr>> {
    /// Lists: 3 before 5.14, 14 since.
    const MOST_LISTS: u64 = 64;
    /// A damaged list must not fill memory.
    const MOST_PAGES: usize = 1 << 20;
    let loader = kernel.loader::<PerCpuPages>();
    let map = Pages::find(kernel).map.clone()?;
    let link = kernel.member("page", &["pcp_list", "lru"])?.offset;
    let lists = (kernel.member("per_cpu_pages", &["lists"])?.bytes / 16).min(MOST_LISTS);
    let uses = u64::try_from(kernel.enumerator("MIGRATE_PCPTYPES")?).unwrap_or(0).max(1);
    let huge = block_order(kernel)?;
    let mut found = FxHashSet::default();
    for of in mmzone::per_cpu_pages(kernel)? {
        let MemberAddress(first) = loader.load(of).lists?;
        for list in 0..lists {
            let order = order_of_list(list, uses, huge);
            for item in walk::list(kernel.memory(), first.add(list.wrapping_mul(16))) {
                let Ok(page) = item else { break };
                let page = page.sub(link);
                if found.len() < MOST_PAGES {
                    found.extend((0..1_u64 << order).map(|at| page.add(at.wrapping_mul(map.page_bytes))));
                }
            }
        }
    }
    Ok(found)
}

/// Lists of one order follow each other, one for each use, up to `PAGE_ALLOC_COSTLY_ORDER`; the last are of huge pages
/// (`order_to_pindex`, mm/page_alloc.c, 5.14).
const fn order_of_list(list: u64, uses: u64, huge: u32) -> u32 {
    const COSTLY: u64 = 3;
    let order = list / uses;
    if order <= COSTLY { order as u32 } else { huge }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_count_their_pages_and_know_the_first_that_stays() {
        let mut blocks = Blocks { order: 2, list: Vec::new() };
        let kinds = [PageKind::Free, PageKind::File, PageKind::Slab, PageKind::Kernel, PageKind::Anonymous];
        for (pfn, kind) in (8..).zip(kinds) {
            blocks.add(Pfn(pfn), kind);
        }
        let [first, second] = blocks.list.as_slice() else { panic!("two blocks") };
        assert_eq!((first.start, first.first_unmovable), (Pfn(8), Some((Pfn(10), PageKind::Slab))));
        assert_eq!((first.counts.of(PageKind::Slab), first.counts.total()), (1, 4));
        assert_eq!((second.start, second.first_unmovable), (Pfn(12), None));
    }

    #[test]
    fn every_kind_has_a_place_of_its_own() {
        let mut counts = Counts::default();
        PageKind::ALL.iter().for_each(|kind| counts.add(*kind, kind.index() as u64 + 1));
        assert!(PageKind::ALL.iter().all(|kind| counts.of(*kind) == kind.index() as u64 + 1));
    }
}
