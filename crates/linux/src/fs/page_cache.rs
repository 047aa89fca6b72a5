//! Pages of files in memory (`struct address_space`, include/linux/fs.h; mm/filemap.c).

use std::iter::Peekable;

use kdive_base::VirtAddr;
use kdive_target::walk::{Broken, XArray, XArrayLayout, XEntry, xarray};
use kdive_target::{Field, Kernel, Load, MemberAddress};

use crate::pages::Pages;

/// The part of `struct address_space` that kdive understands.
#[derive(Clone, Debug, Load)]
#[load(type = "address_space")]
pub struct AddressSpace {
    /// Its address.
    #[load(address)]
    pub at: VirtAddr,
    /// The inode that owns it.
    pub host: Field<VirtAddr>,
    /// Pages in memory.
    #[load(any("nrpages"))]
    pub pages: Field<u64>,
    /// The tree of them (`struct xarray`; a `struct radix_tree_root` before 4.20).
    #[load(any("i_pages", "page_tree"))]
    pub tree: Field<MemberAddress>,
}

/// A page of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CachedPage {
    /// Its place in the file, in pages.
    pub index: u64,
    /// Its `struct page`.
    pub page: VirtAddr,
}

/// The pages of a file in memory, by ascending index. What a missing node of the tree holds is lost, and told.
pub struct PageCache<'k> {
    entries: Peekable<XArray<'k>>,
    large: Large<'k>,
    /// Whether an entry stands for a whole folio: then there are fewer entries than pages.
    whole: bool,
    /// The entry before.
    last: Option<u64>,
    /// The rest of a folio that is being told.
    folio: Option<Run>,
}

/// Pages that follow one another.
struct Run {
    next: CachedPage,
    left: u64,
}

/// Entries that are no pointers: shadows of pages that were evicted, or pages in swap (`xa_is_value`; radix trees
/// marked them by bit 1).
const NO_POINTER: u64 = 3;

impl<'k> PageCache<'k> {
    /// The pages of an address space.
    ///
    /// # Errors
    /// Its tree cannot be found.
    pub fn of(kernel: &'k Kernel, space: &AddressSpace) -> Field<Self> {
        let MemberAddress(tree) = space.tree.clone()?;
        let layout = XArrayLayout::find(kernel)?;
        let head = layout.head(kernel.memory(), tree)?;
        let entries = || xarray(kernel.memory(), layout, head);
        let pointers = entries().filter(|entry| entry.as_ref().is_ok_and(is_page)).count() as u64;
        let whole = space.pages.as_ref().is_ok_and(|pages| pointers < *pages);
        let entries = entries().peekable();
        Ok(Self { entries, large: Large::find(kernel), whole, last: None, folio: None })
    }

    /// The pages that an entry stands for.
    fn run(&mut self, entry: XEntry) -> Run {
        let count = self.large.pages(VirtAddr(entry.entry)).max(1);
        let next = match self.entries.peek() {
            Some(Ok(next)) => Some(*next),
            _ => None,
        };
        let last = self.last.replace(entry.entry);
        // A tree may have an entry for each page of a folio, which all point to its head (before 5.17), or one for each
        // huge page, numbered in huge pages (hugetlbfs before 6.7).
        let shared = [last, next.map(|next| next.entry)].contains(&Some(entry.entry));
        let inside = if self.whole || shared { entry.index & count.saturating_sub(1) } else { 0 };
        let room = next.map_or(u64::MAX, |next| next.index.saturating_sub(entry.index));
        let left = if self.whole { count.saturating_sub(inside).min(room).max(1) } else { 1 };
        let page = VirtAddr(entry.entry).add(inside.wrapping_mul(self.large.page_bytes));
        Run { next: CachedPage { index: entry.index, page }, left }
    }
}

/// Whether an entry points to a page.
fn is_page(entry: &XEntry) -> bool {
    entry.entry & NO_POINTER == 0
}

impl Iterator for PageCache<'_> {
    type Item = Result<CachedPage, Broken>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(Run { next, left }) = self.folio.take() {
                let page_bytes = self.large.page_bytes;
                if let Some(left) = left.checked_sub(1).filter(|left| *left > 0) {
                    let index = next.index.saturating_add(1);
                    let next = CachedPage { index, page: next.page.add(page_bytes) };
                    self.folio = Some(Run { next, left });
                }
                return Some(Ok(next));
            }
            match self.entries.next()? {
                Ok(entry) if !is_page(&entry) => {}
                Ok(entry) => self.folio = Some(self.run(entry)),
                Err(broken) => return Some(Err(broken)),
            }
        }
    }
}

/// How many pages a folio has.
struct Large<'k> {
    kernel: &'k Kernel,
    page_bytes: u64,
    /// `PG_head`: set in the first page of a folio of several.
    head: Option<u64>,
    count: Option<Count>,
}

#[derive(Clone, Copy)]
enum Count {
    /// Their number, this far from the head.
    Pages(u64),
    /// Its logarithm, in a byte this far from the head.
    Order(u64),
}

/// 1 GiB: no folio is larger.
const MOST_PAGES: u64 = 1 << 18;

impl<'k> Large<'k> {
    fn find(kernel: &'k Kernel) -> Self {
        let map = Pages::find(kernel).map.clone();
        let page_bytes = map.map_or(64, |map| map.page_bytes);
        let bit = kernel.enumerator("PG_head").ok().and_then(|bit| u32::try_from(bit).ok());
        let pages = kernel.member("folio", &["_nr_pages", "_folio_nr_pages"]);
        let order = || kernel.member("page", &["compound_order"]);
        let count = match pages {
            Ok(member) => Some(Count::Pages(member.offset)),
            // In the second page structure.
            Err(_) => order().ok().map(|member| Count::Order(page_bytes.wrapping_add(member.offset))),
        };
        Self { kernel, page_bytes, head: bit.and_then(|bit| 1_u64.checked_shl(bit)), count }
    }

    fn pages(&self, head: VirtAddr) -> u64 {
        let memory = self.kernel.memory();
        let flags = memory.u64(head).unwrap_or(0);
        if self.head.is_none_or(|bit| flags & bit == 0) {
            return 1;
        }
        let count = match self.count {
            Some(Count::Pages(offset)) => memory.u32(head.add(offset)).ok().map(u64::from),
            Some(Count::Order(offset)) => {
                memory.u8(head.add(offset)).ok().and_then(|order| 1_u64.checked_shl(order.into()))
            }
            None => None,
        };
        count.filter(|count| count.is_power_of_two() && *count <= MOST_PAGES).unwrap_or(1)
    }
}
