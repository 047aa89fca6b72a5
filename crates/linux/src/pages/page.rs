//! What a `struct page` says (include/linux/mm_types.h, include/linux/page-flags.h).

use kdive_base::VirtAddr;
use kdive_debuginfo::{Tag, Type};
use kdive_target::{Field, Kernel, Lacks, Load};

/// The part of `struct page` that kdive understands. Most of it is a union: which fields mean something depends on what
/// the page is used for.
#[derive(Clone, Debug, Load)]
#[load(type = "page")]
pub struct Page {
    /// Address of the `struct page`.
    #[load(address)]
    pub at: VirtAddr,
    /// `PG_*` flags, and the page's zone, node and section in the upper bits.
    // A plain integer, since 6.18 in a structure of its own (`memdesc_flags_t`).
    #[load(any("flags.f", "flags"))]
    pub flags: Field<u64>,
    /// In a tail page (bit 0 is set), where the head is: see [`Page::head`].
    #[load(any("compound_head", "compound_info"))]
    pub compound: Field<u64>,
    /// What the page is used for, where it is not mapped by processes (`PGTY_*`).
    #[load(any("page_type", "_mapcount.counter"))]
    pub page_type: Field<u32>,
    /// How many page tables map it, less one.
    #[load(any("_mapcount.counter"))]
    pub mapcount: Field<i32>,
    /// References to it.
    #[load(any("_refcount.counter", "_count.counter"))]
    pub refcount: Field<i32>,
    /// `struct address_space`, or with bit 0 set `struct anon_vma`.
    pub mapping: Field<VirtAddr>,
    /// Its place in the file or in the mapping, in pages.
    #[load(any("index", "__folio_index"))]
    pub index: Field<u64>,
    /// Data of whoever uses the page; in a free page its order.
    pub private: Field<u64>,
}

impl Page {
    /// The place of [`Page::compound`] among the fields, for [`Loader::member`](kdive_target::Loader::member).
    pub(crate) const COMPOUND: usize = 1;

    /// Whether it is a page of a compound page other than the first. Its own fields then say nothing of its use.
    ///
    /// # Errors
    /// The structure cannot be read.
    pub fn is_tail(&self) -> Field<bool> {
        Ok(self.compound.clone()? & TAIL != 0)
    }

    /// Address of the first `struct page` of the compound page that it belongs to: its own, unless it is a tail page.
    ///
    /// # Errors
    /// The structure cannot be read, or its link to the head is damaged.
    pub fn head(&self) -> Field<VirtAddr> {
        let info = self.compound.clone()?;
        head_of(self.at, info)
            .ok_or_else(|| Lacks::implausible(format_args!("the page structure {:#} has no head", self.at)))
    }
}

/// Bit 0 of `compound_head` or `compound_info`: a tail page.
const TAIL: u64 = 1;
/// No compound page has more frames than this (1 GiB pages have 2^18): bounds what a mask can clear.
const MOST_TAIL_BYTES: u64 = 1 << 32;

/// The head of a compound page, from what its page structure at `page` holds.
///
/// The link is the head's address, or since 7.1 (with `CONFIG_HUGETLB_PAGE_OPTIMIZE_VMEMMAP`) a mask to put over the
/// tail's own address. Nothing in the types says which, but the values do: a head lies before its tail, and a mask,
/// with its upper half all ones, is greater than any address of the memory map.
fn head_of(page: VirtAddr, info: u64) -> Option<VirtAddr> {
    let link = info & !TAIL;
    if info & TAIL == 0 {
        return Some(page);
    }
    if link < page.0 {
        return Some(VirtAddr(link));
    }
    let is_mask = !link < MOST_TAIL_BYTES && (!link).wrapping_add(1).is_power_of_two();
    is_mask.then_some(VirtAddr(page.0 & link))
}

/// The name of a page's type: `enum pagetype` (6.12), which is the upper byte; before, types were bits that are cleared,
/// and VMCOREINFO has those that filters need.
pub(super) fn type_name(kernel: &Kernel, page: &Page) -> Option<String> {
    // All ones: a page without a type that nothing maps.
    let value = page.page_type.clone().ok().filter(|&value| value != u32::MAX)?;
    let types = kernel.types().ok()?;
    if let Ok(id) = types.find(Tag::Enum, "pagetype") {
        let Some(Type::Enum(of)) = types.stripped(id).as_deref().cloned() else { return None };
        return Some(of.name_of((value >> 24).into())?.strip_prefix("PGTY_")?.to_owned());
    }
    let told = |name| kernel.vmcoreinfo().number(name).map(|number| number as u32);
    let kinds = [
        ("PAGE_BUDDY_MAPCOUNT_VALUE", "buddy"),
        ("PAGE_OFFLINE_MAPCOUNT_VALUE", "offline"),
        ("PAGE_SLAB_MAPCOUNT_VALUE", "slab"),
    ];
    kinds.into_iter().find(|(name, _)| told(name) == Some(value)).map(|(_, kind)| kind.to_owned())
}

/// How a kernel marks pages of one use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TypeMark {
    /// A bit of the flags (slabs, before 6.10).
    Flag(u32),
    /// A page type: these bits of it have this value.
    Type { mask: u32, value: u32 },
}

impl TypeMark {
    /// Of the slab allocator.
    pub(super) fn slab(kernel: &Kernel) -> Field<Self> {
        if let Some(mark) = Self::of_type(kernel, "PGTY_slab", "PAGE_SLAB_MAPCOUNT_VALUE") {
            return Ok(mark);
        }
        let told = kernel.vmcoreinfo().number("PG_slab").map(i128::from);
        let bit = kernel.enumerator("PG_slab").ok().or(told);
        bit.and_then(|bit| u32::try_from(bit).ok()).filter(|&bit| bit < u64::BITS).map(Self::Flag).ok_or_else(
            || Lacks::unavailable("neither types nor VMCOREINFO tell how this kernel marks slab pages"),
        )
    }

    /// Of free blocks.
    pub(super) fn buddy(kernel: &Kernel) -> Field<Self> {
        Self::of_type(kernel, "PGTY_buddy", "PAGE_BUDDY_MAPCOUNT_VALUE").ok_or_else(|| {
            Lacks::unavailable("neither types nor VMCOREINFO tell how this kernel marks free pages")
        })
    }

    /// Of page tables. Before 6.12 the mark is a bit that is cleared, of which nothing tells: it was 0x400 (4.18), and is
    /// 0x200 since pages keep their cgroup in `memcg_data` (5.11).
    pub(super) fn table(kernel: &Kernel) -> Field<Self> {
        /// `PAGE_TYPE_BASE`: what all types have in common.
        const BASE: u32 = 0xf000_0000;
        if let Some(mark) = Self::of_type(kernel, "PGTY_table", "") {
            return Ok(mark);
        }
        kernel.member("page", &["page_type"])?;
        let bit = if kernel.member("page", &["memcg_data"]).is_ok() { 0x200 } else { 0x400 };
        Ok(Self::Type { mask: BASE | bit, value: BASE })
    }

    /// The type is the upper byte since 6.12. Before, types were bits that are cleared, and macros: VMCOREINFO has the
    /// whole value.
    pub(super) fn of_type(kernel: &Kernel, enumerator: &str, number: &str) -> Option<Self> {
        if let Ok(kind) = kernel.enumerator(enumerator).map(u8::try_from)
            && let Ok(kind) = kind
        {
            return Some(Self::Type { mask: 0xff << 24, value: u32::from(kind) << 24 });
        }
        let value = kernel.vmcoreinfo().number(number)?;
        Some(Self::Type { mask: u32::MAX, value: value as u32 })
    }

    pub(super) fn is_on(self, page: &Page) -> Field<bool> {
        Ok(match self {
            Self::Flag(_) => self.matches(page.flags.clone()?, 0),
            Self::Type { .. } => self.matches(0, page.page_type.clone()?),
        })
    }

    /// [`TypeMark::is_on`] of a page whose flags and type were read already.
    pub(super) fn matches(self, flags: u64, page_type: u32) -> bool {
        match self {
            Self::Flag(bit) => flags.wrapping_shr(bit) & 1 == 1,
            Self::Type { mask, value } => page_type & mask == value,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VMEMMAP: u64 = 0xffd4_0000_0000_0000;

    #[test]
    fn a_head_is_its_own() {
        assert_eq!(head_of(VirtAddr(VMEMMAP), 0), Some(VirtAddr(VMEMMAP)));
        assert_eq!(head_of(VirtAddr(VMEMMAP), 0xdead_beef_0000), Some(VirtAddr(VMEMMAP)));
    }

    #[test]
    fn a_damaged_link_is_no_head() {
        // Behind the tail; a mask with a hole.
        assert_eq!(head_of(VirtAddr(VMEMMAP), VMEMMAP + 0x41), None);
        assert_eq!(head_of(VirtAddr(VMEMMAP), !0x100 | TAIL), None);
    }

    proptest! {
        #[test]
        fn both_kinds_of_links_lead_to_the_head(block in 0_u64..(1 << 20), order in 1_u32..19, tail: u64) {
            let bytes = 64_u64 << order;
            let head = VirtAddr(VMEMMAP + block * bytes);
            let tail = head.add(64 * (1 + tail % ((1 << order) - 1)));
            prop_assert_eq!(head_of(tail, head.0 | TAIL), Some(head));
            prop_assert_eq!(head_of(tail, !(bytes - 1) | TAIL), Some(head));
        }
    }
}
