//! Where x86-64 kernels put their mappings when nothing moves them (Documentation/arch/x86/x86_64/mm.rst).

use kdive_base::VirtAddr;

use crate::paging::PageTables;

/// The places of a kernel without KASLR of memory, and how far the direct map can reach.
#[derive(Debug)]
pub struct FixedLayout {
    /// `PAGE_OFFSET`, the start of the direct map: since 4.20, and before.
    pub page_offset: [VirtAddr; 2],
    /// `VMEMMAP_START`, the page structure of frame 0.
    pub vmemmap: VirtAddr,
    /// Bytes that the direct map has room for.
    pub direct_bytes: u64,
}

/// With four levels of page tables.
pub static FOUR_LEVEL: FixedLayout = FixedLayout {
    page_offset: [VirtAddr(0xffff_8880_0000_0000), VirtAddr(0xffff_8800_0000_0000)],
    vmemmap: VirtAddr(0xffff_ea00_0000_0000),
    direct_bytes: 64 << 40,
};

/// With five levels of page tables.
pub static FIVE_LEVEL: FixedLayout = FixedLayout {
    page_offset: [VirtAddr(0xff11_0000_0000_0000), VirtAddr(0xff10_0000_0000_0000)],
    vmemmap: VirtAddr(0xffd4_0000_0000_0000),
    direct_bytes: 32 << 50,
};

/// The places under a page-table format.
#[must_use]
pub fn of(format: &PageTables) -> &'static FixedLayout {
    if format.address_bits > 48 { &FIVE_LEVEL } else { &FOUR_LEVEL }
}
