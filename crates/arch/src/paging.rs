//! Page-table formats as data: one walker in `target` serves them all.

use kdive_base::PhysAddr;

/// A page-table format: how many levels, and how each splits the address.
#[derive(Debug)]
pub struct PageTables {
    /// The name the field uses (`4-level`).
    pub name: &'static str,
    /// From the root down to the leaf.
    pub levels: &'static [Level],
    /// Bits of a virtual address that are translated; the bits above must repeat the top one (canonical form).
    pub address_bits: u32,
    /// What an entry means. The level is the index into `levels`.
    pub decode: fn(entry: u64, level: &Level) -> Entry,
}

/// One level of a page-table format. Entries are 8 bytes wide, a table fills one page.
#[derive(Debug)]
pub struct Level {
    /// crash's name of the level (`PGD`, `P4D`, `PUD`, `PMD`, `PTE`).
    pub name: &'static str,
    /// Lowest address bit that this level indexes by; an entry that maps a page here maps `1 << shift` bytes.
    pub shift: u32,
    /// How many bits it indexes by.
    pub bits: u32,
    /// Whether an entry of this level can map a page (the leaf level, and the huge-page levels).
    pub maps_pages: bool,
}

/// What a page-table entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Nothing is mapped. The raw value may still be a swap entry.
    NotPresent,
    /// The next level's table.
    Table(PhysAddr),
    /// A page of `1 << shift` bytes starts here.
    Page(PhysAddr),
}

impl Level {
    /// Index of `address` into a table of this level.
    #[must_use]
    pub fn index(&self, address: u64) -> u64 {
        address.wrapping_shr(self.shift) & 1_u64.wrapping_shl(self.bits).wrapping_sub(1)
    }

    /// Bytes that one entry of this level covers.
    #[must_use]
    pub fn covers(&self) -> u64 {
        1_u64.wrapping_shl(self.shift)
    }
}

impl PageTables {
    /// Whether `address` is canonical: its untranslated top bits all equal the top translated one.
    #[must_use]
    pub fn is_canonical(&self, address: u64) -> bool {
        self.canonical(address) == address
    }

    /// The address whose translated bits are those of `address`.
    #[must_use]
    pub fn canonical(&self, address: u64) -> u64 {
        let unused = 64_u32.saturating_sub(self.address_bits);
        (address.wrapping_shl(unused) as i64).wrapping_shr(unused) as u64
    }

    /// The first address of the upper half, which is the kernel's.
    #[must_use]
    pub fn upper_half(&self) -> u64 {
        u64::MAX.wrapping_shl(self.address_bits.saturating_sub(1))
    }
}
