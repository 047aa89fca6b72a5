//! Which pages a dump can do without: the classes of makedumpfile's dump levels (makedumpfile(8), `-d`), told by page
//! structures as the kernel's own types and VMCOREINFO describe them.

use std::sync::Arc;

use kdive_base::Endian;
use kdive_target::{Field, Kernel, Lacks};
use serde::Serialize;

use super::page::TypeMark;
use super::{MemoryMap, Pages};

/// Why a dump can do without a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Excludable {
    /// In a free block of the page allocator, or memory that a virtual machine has not accepted yet.
    Free,
    /// The page cache, where its file system keeps nothing beside it; swap cache and shared memory too.
    Cache,
    /// The page cache, where its file system keeps data of its own with the page (buffer heads, for one).
    CachePrivate,
    /// Memory of processes: anonymous pages, and huge pages of a pool.
    User,
    /// The hardware found its memory faulty: reading it can bring the capture kernel down.
    HwPoison,
    /// Given back to the hypervisor by a balloon, or taken offline.
    Offline,
}

impl Excludable {
    /// All classes.
    pub const ALL: [Self; 6] =
        [Self::Free, Self::Cache, Self::CachePrivate, Self::User, Self::HwPoison, Self::Offline];
}

/// What a page structure says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// Why the page can be left out, if it can.
    pub class: Option<Excludable>,
    /// For how many frames that holds, the page's own included: a free block and a compound page share one fate,
    /// whatever the structures of their later pages say. Never 0.
    pub frames: u64,
}

impl Judgement {
    const KEPT: Self = Self { class: None, frames: 1 };
}

/// Where a number lies among the bytes of page structures.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) at: usize,
    pub(super) width: usize,
}

impl Place {
    pub(super) fn of(self, bytes: &[u8]) -> Option<u64> {
        Endian::Little.unsigned(bytes, self.at, self.width)
    }
}

/// How this kernel tells the classes apart. It looks at some hundred million structures in a large machine, so it is
/// bound to offsets once and reads no more than the structure at hand and the one behind it.
#[derive(Clone, Debug)]
pub struct ExclusionRules {
    /// Bytes of a `struct page`.
    page_bytes: usize,
    flags: Place,
    compound: Option<Place>,
    page_type: Option<Place>,
    mapping: Place,
    private: Place,
    /// The order of a compound page, in the structure of its second page.
    order: Option<Place>,
    /// How huge pages of a pool are marked.
    hugetlb: Option<HugeMark>,
    buddy: TypeMark,
    unaccepted: Option<TypeMark>,
    slab: TypeMark,
    offline: Option<TypeMark>,
    bits: FlagBits,
    /// Orders of free blocks: `NR_PAGE_ORDERS`, once `MAX_ORDER`.
    orders: u64,
}

/// Flags, each as a mask; 0 where the kernel has none of the name.
#[derive(Clone, Copy, Debug, Default)]
struct FlagBits {
    head: u64,
    lru: u64,
    private: u64,
    swap_cache: u64,
    swap_backed: u64,
    hw_poison: u64,
}

/// How a kernel marks huge pages of a pool.
#[derive(Clone, Copy, Debug)]
enum HugeMark {
    /// By a page type (6.9).
    Type(TypeMark),
    /// By a bit in the flags of the second page (6.6).
    SecondFlag(Place, u64),
    /// By the number of the destructor, in the second page (4.4).
    Destructor(Place, u64),
}

/// Of `page.mapping`: an anonymous page (`PAGE_MAPPING_ANON`, `FOLIO_MAPPING_ANON`).
const MAPPING_ANON: u64 = 1;
/// Bit 0 of `page.compound_head`: a tail page.
const TAIL: u64 = 1;
/// The largest page of any kind has 1 GiB: no judgement holds for more frames.
const MOST_FRAMES_LOG2: u64 = 18;

impl ExclusionRules {
    /// The rules of this kernel.
    ///
    /// # Errors
    /// Neither types nor VMCOREINFO tell where the flags of a page are, or how free pages and slabs are marked.
    pub fn find(kernel: &Kernel) -> Field<Self> {
        let pages = Pages::find(kernel);
        let MemoryMap { page_bytes, .. } = pages.map.clone()?;
        let page_bytes = usize::try_from(page_bytes).map_err(|_| Lacks::Types)?;
        let of_page = |names: &[&str], width| place(kernel, "page", names, width);
        Ok(Self {
            page_bytes,
            flags: of_page(&["flags.f", "flags"], 8)?,
            compound: of_page(&["compound_head", "compound_info"], 8).ok(),
            page_type: of_page(&["page_type", "_mapcount.counter"], 4).ok(),
            mapping: of_page(&["mapping"], 8)?,
            private: of_page(&["private"], 8)?,
            order: order(kernel, page_bytes),
            hugetlb: HugeMark::find(kernel, page_bytes),
            buddy: pages.buddy.clone()?,
            unaccepted: TypeMark::of_type(kernel, "PGTY_unaccepted", "PAGE_UNACCEPTED_MAPCOUNT_VALUE"),
            slab: pages.slab.clone()?,
            offline: TypeMark::of_type(kernel, "PGTY_offline", "PAGE_OFFLINE_MAPCOUNT_VALUE"),
            bits: FlagBits::find(kernel),
            orders: orders(kernel),
        })
    }

    /// The rules of this kernel, found once.
    ///
    /// # Errors
    /// As [`ExclusionRules::find`].
    pub fn of(kernel: &Kernel) -> Field<Arc<Self>> {
        kernel.once(|kernel| Self::find(kernel).map(Arc::new)).clone()
    }

    /// Judges a page by its structure, with which `bytes` begin, and by those that follow in `bytes`: the second page of a
    /// compound page tells how long that is.
    #[must_use]
    pub fn judge(&self, bytes: &[u8]) -> Judgement {
        let Some(flags) = self.flags.of(bytes) else { return Judgement::KEPT };
        // A tail page shares the fate of its head, which came before.
        if self.compound.and_then(|place| place.of(bytes)).is_some_and(|link| link & TAIL != 0) {
            return Judgement::KEPT;
        }
        let kind = self.page_type.and_then(|place| place.of(bytes)).unwrap_or(u64::MAX) as u32;
        let slab = self.slab.matches(flags, kind);
        if self.buddy.matches(flags, kind) && !slab {
            let order = self.private.of(bytes).filter(|order| *order < self.orders);
            return Judgement { class: Some(Excludable::Free), frames: frames(order) };
        }
        if self.unaccepted.is_some_and(|mark| mark.matches(flags, kind)) {
            return Judgement { class: Some(Excludable::Free), frames: frames(self.orders.checked_sub(1)) };
        }
        let second = (flags & self.bits.head != 0).then_some(bytes);
        let order = second.and_then(|bytes| self.order?.of(bytes)).map(|order| order & 0xff);
        let class = self.class(bytes, flags, kind, slab);
        Judgement { class, frames: frames(order) }
    }

    fn class(&self, bytes: &[u8], flags: u64, kind: u32, slab: bool) -> Option<Excludable> {
        let has = |bits: u64| bits != 0 && flags & bits == bits;
        if has(self.bits.hw_poison) {
            return Some(Excludable::HwPoison);
        }
        if self.offline.is_some_and(|mark| mark.matches(flags, kind)) {
            return Some(Excludable::Offline);
        }
        let anonymous = !slab && self.mapping.of(bytes)? & MAPPING_ANON != 0;
        if anonymous {
            return Some(Excludable::User);
        }
        // The bit of the swap cache has other uses in pages that no swap area backs.
        let in_swap_cache = has(self.bits.swap_cache) && has(self.bits.swap_cache | self.bits.swap_backed);
        if has(self.bits.lru) || in_swap_cache {
            let private = has(self.bits.private);
            return Some(if private { Excludable::CachePrivate } else { Excludable::Cache });
        }
        let huge = self.hugetlb.is_some_and(|mark| mark.is_on(bytes, flags, kind, self.bits.head));
        huge.then_some(Excludable::User)
    }

    /// Bytes of a page structure.
    #[must_use]
    pub fn page_bytes(&self) -> usize {
        self.page_bytes
    }
}

/// The frames of a block of an order.
fn frames(order: Option<u64>) -> u64 {
    order.filter(|order| *order <= MOST_FRAMES_LOG2).map_or(1, |order| 1 << order)
}

/// A member by the types, or by VMCOREINFO, which names the outermost member only.
pub(super) fn place(kernel: &Kernel, record: &str, members: &[&str], width: usize) -> Field<Place> {
    let told = |member: &&str| {
        let outer = member.split('.').next().unwrap_or(member);
        kernel.vmcoreinfo().offset(&format!("{record}.{outer}"))
    };
    let offset = kernel
        .member(record, members)
        .map(|member| member.offset)
        .or_else(|lacks| members.iter().find_map(told).ok_or(lacks))?;
    let at =
        usize::try_from(offset).map_err(|_| Lacks::implausible(format_args!("{record} is too large")))?;
    Ok(Place { at, width })
}

/// The order of a compound page: a member of its second page (`page.compound_order`, to 6.2), of its folio (6.3), or the
/// low byte of the second page's flags (6.6).
fn order(kernel: &Kernel, page_bytes: usize) -> Option<Place> {
    let in_second = |place: Place| Place { at: place.at.saturating_add(page_bytes), ..place };
    place(kernel, "page", &["compound_order"], 1)
        .map(in_second)
        .or_else(|_| place(kernel, "folio", &["_folio_order", "_flags_1"], 1))
        // Nothing names it where only VMCOREINFO is at hand, and 6.6 or later wrote that.
        .or_else(|_| place(kernel, "page", &["flags.f", "flags"], 1).map(in_second))
        .ok()
}

/// The orders that free blocks can have.
fn orders(kernel: &Kernel) -> u64 {
    /// Of x86, where nothing says.
    const USUAL: u64 = 11;
    let counted =
        || Some(kernel.member("zone", &["free_area"]).ok()?.bytes / kernel.size_of("free_area").ok()?.max(1));
    let told = kernel.vmcoreinfo().length("zone.free_area").or_else(counted);
    told.filter(|orders| (1..=MOST_FRAMES_LOG2 + 1).contains(orders)).unwrap_or(USUAL)
}

impl HugeMark {
    fn find(kernel: &Kernel, page_bytes: usize) -> Option<Self> {
        if let Some(mark) = TypeMark::of_type(kernel, "PGTY_hugetlb", "PAGE_HUGETLB_MAPCOUNT_VALUE") {
            return Some(Self::Type(mark));
        }
        let second_flags = || {
            let place = place(kernel, "page", &["flags.f", "flags"], 8).ok()?;
            Some(Place { at: place.at.saturating_add(page_bytes), ..place })
        };
        if let bit @ 1.. = flag(kernel, "PG_hugetlb") {
            return Some(Self::SecondFlag(second_flags()?, bit));
        }
        let number =
            kernel.enumerator("HUGETLB_PAGE_DTOR").ok().and_then(|number| u64::try_from(number).ok());
        let told = || u64::try_from(kernel.vmcoreinfo().number("HUGETLB_PAGE_DTOR")?).ok();
        let number = number.or_else(told)?;
        let place = place(kernel, "page", &["compound_dtor"], 1)
            .map(|place| Place { at: place.at.saturating_add(page_bytes), ..place })
            .or_else(|_| place(kernel, "folio", &["_folio_dtor"], 1))
            .ok()?;
        Some(Self::Destructor(place, number))
    }

    fn is_on(self, bytes: &[u8], flags: u64, kind: u32, head: u64) -> bool {
        let compound = flags & head != 0;
        match self {
            Self::Type(mark) => mark.matches(flags, kind),
            Self::SecondFlag(place, bit) => compound && place.of(bytes).is_some_and(|flags| flags & bit != 0),
            Self::Destructor(place, number) => compound && place.of(bytes) == Some(number),
        }
    }
}

impl FlagBits {
    fn find(kernel: &Kernel) -> Self {
        let told = kernel.vmcoreinfo().number("PG_head_mask").map_or(0, |mask| mask as u64);
        let head = flag(kernel, "PG_head");
        Self {
            head: if head == 0 { told } else { head },
            lru: flag(kernel, "PG_lru"),
            private: flag(kernel, "PG_private"),
            swap_cache: flag(kernel, "PG_swapcache"),
            swap_backed: flag(kernel, "PG_swapbacked"),
            hw_poison: flag(kernel, "PG_hwpoison"),
        }
    }
}

/// The mask of a page flag, 0 if this kernel has none of the name.
fn flag(kernel: &Kernel, name: &str) -> u64 {
    let told = || kernel.vmcoreinfo().number(name).map(i128::from);
    let bit = kernel.enumerator(name).ok().or_else(told).and_then(|bit| u32::try_from(bit).ok());
    bit.and_then(|bit| 1_u64.checked_shl(bit)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: usize = 64;
    const HEAD: u64 = 1 << 6;
    const LRU: u64 = 1 << 5;
    const PRIVATE: u64 = 1 << 14;
    const SWAP_CACHE: u64 = 1 << 10;
    const SWAP_BACKED: u64 = 1 << 17;
    const POISON: u64 = 1 << 21;
    const BUDDY: u32 = 0xf0 << 24;
    const HUGETLB: u32 = 0xf4 << 24;
    const SLAB: u32 = 0xf5 << 24;
    const OFFLINE: u32 = 0xf1 << 24;

    fn rules() -> ExclusionRules {
        let mark = |value| TypeMark::Type { mask: 0xff << 24, value };
        ExclusionRules {
            page_bytes: PAGE,
            flags: Place { at: 0, width: 8 },
            compound: Some(Place { at: 8, width: 8 }),
            page_type: Some(Place { at: 48, width: 4 }),
            mapping: Place { at: 24, width: 8 },
            private: Place { at: 40, width: 8 },
            order: Some(Place { at: PAGE, width: 1 }),
            hugetlb: Some(HugeMark::Type(mark(HUGETLB))),
            buddy: mark(BUDDY),
            unaccepted: None,
            slab: mark(SLAB),
            offline: Some(mark(OFFLINE)),
            bits: FlagBits {
                head: HEAD,
                lru: LRU,
                private: PRIVATE,
                swap_cache: SWAP_CACHE,
                swap_backed: SWAP_BACKED,
                hw_poison: POISON,
            },
            orders: 11,
        }
    }

    /// A page structure, and behind it that of a second page whose flags hold an order.
    fn page(flags: u64, link: u64, mapping: u64, private: u64, kind: u32, order: u8) -> Vec<u8> {
        let mut bytes = vec![0; 2 * PAGE];
        bytes[..8].copy_from_slice(&flags.to_le_bytes());
        bytes[8..16].copy_from_slice(&link.to_le_bytes());
        bytes[24..32].copy_from_slice(&mapping.to_le_bytes());
        bytes[40..48].copy_from_slice(&private.to_le_bytes());
        bytes[48..52].copy_from_slice(&kind.to_le_bytes());
        bytes[PAGE] = order;
        bytes
    }

    fn judged(bytes: &[u8]) -> (Option<Excludable>, u64) {
        let Judgement { class, frames } = rules().judge(bytes);
        (class, frames)
    }

    const NONE: u32 = u32::MAX;

    #[test]
    fn free_blocks_go_whole() {
        assert_eq!(judged(&page(0, 0, 0, 10, BUDDY, 0)), (Some(Excludable::Free), 1 << 10));
        // An order that no block has is not believed.
        assert_eq!(judged(&page(0, 0, 0, 11, BUDDY, 0)), (Some(Excludable::Free), 1));
        assert_eq!(judged(&page(0, 0, 0, u64::MAX, BUDDY, 0)), (Some(Excludable::Free), 1));
    }

    #[test]
    fn the_cache_is_told_from_memory_of_processes() {
        const FILE: u64 = 0xffff_8880_0000_1000;
        assert_eq!(judged(&page(LRU, 0, FILE, 0, NONE, 0)).0, Some(Excludable::Cache));
        assert_eq!(judged(&page(LRU | PRIVATE, 0, FILE, 0, NONE, 0)).0, Some(Excludable::CachePrivate));
        assert_eq!(judged(&page(LRU, 0, FILE | 1, 0, NONE, 0)).0, Some(Excludable::User));
        assert_eq!(judged(&page(0, 0, FILE | 1, 0, NONE, 0)).0, Some(Excludable::User));
        // The swap cache is a cache only with both bits.
        assert_eq!(judged(&page(SWAP_CACHE | SWAP_BACKED, 0, 0, 0, NONE, 0)).0, Some(Excludable::Cache));
        assert_eq!(judged(&page(SWAP_CACHE, 0, 0, 0, NONE, 0)).0, None);
        assert_eq!(judged(&page(0, 0, FILE, 0, NONE, 0)).0, None);
    }

    #[test]
    fn a_slab_is_kept_whatever_its_mapping_holds() {
        assert_eq!(judged(&page(0, 0, 1, 0, SLAB, 0)).0, None);
        assert_eq!(judged(&page(HEAD, 0, 1, 0, SLAB | 7, 3)), (None, 8));
    }

    #[test]
    fn compound_pages_go_whole_and_tails_are_not_asked() {
        assert_eq!(judged(&page(HEAD | LRU, 0, 0, 0, NONE, 9)), (Some(Excludable::Cache), 512));
        assert_eq!(judged(&page(HEAD, 0, 0, 0, HUGETLB, 18)), (Some(Excludable::User), 1 << 18));
        assert_eq!(judged(&page(HEAD, 0, 0, 0, HUGETLB, 19)), (Some(Excludable::User), 1));
        assert_eq!(judged(&page(LRU, 0xffff_ea00_0000_0001, 1, 0, NONE, 9)), (None, 1));
        // Without a second structure nothing tells its length.
        assert_eq!(judged(&page(HEAD | LRU, 0, 0, 0, NONE, 9)[..PAGE]), (Some(Excludable::Cache), 1));
    }

    #[test]
    fn memory_that_must_not_be_read_is_named() {
        assert_eq!(judged(&page(LRU | POISON, 0, 0, 0, NONE, 0)).0, Some(Excludable::HwPoison));
        assert_eq!(judged(&page(0, 0, 0, 0, OFFLINE, 0)).0, Some(Excludable::Offline));
    }

    #[test]
    fn a_structure_that_is_cut_is_kept() {
        let whole = page(LRU, 0, 1, 0, BUDDY, 0);
        for length in 0..PAGE {
            let Judgement { frames, .. } = rules().judge(&whole[..length]);
            assert!(frames >= 1);
        }
        assert_eq!(judged(&[]), (None, 1));
    }
}
