//! Page tables of x86-64 (Intel SDM volume 3, chapter 4; `arch/x86/include/asm/pgtable_types.h`).

use kdive_base::PhysAddr;

use crate::paging::{Entry, Level, PageTables};

const PRESENT: u64 = 1 << 0;
const PAGE_SIZE_BIT: u64 = 1 << 7;
/// Linux clears `PRESENT` and sets this (the global bit) for pages under `PROT_NONE` and NUMA hinting: the frame is
/// still there. Bit 8 means something else in a swap entry only when no frame bits are set the PROT_NONE way, which the
/// kernel keeps apart by leaving bit 8 clear in swap entries.
const PROTNONE: u64 = 1 << 8;
/// Bits 12 to 51 hold the frame.
const FRAME: u64 = 0x000f_ffff_ffff_f000;

const PTE: Level = Level { name: "PTE", shift: 12, bits: 9, maps_pages: true };
const PMD: Level = Level { name: "PMD", shift: 21, bits: 9, maps_pages: true };
const PUD: Level = Level { name: "PUD", shift: 30, bits: 9, maps_pages: true };
const P4D: Level = Level { name: "P4D", shift: 39, bits: 9, maps_pages: false };
const PGD: Level = Level { name: "PGD", shift: 48, bits: 9, maps_pages: false };
const PGD_OF_FOUR: Level = Level { name: "PGD", shift: 39, bits: 9, maps_pages: false };

/// Four levels, 48-bit addresses.
pub static FOUR_LEVEL: PageTables =
    PageTables { name: "4-level", levels: &[PGD_OF_FOUR, PUD, PMD, PTE], address_bits: 48, decode };

/// Five levels, 57-bit addresses (`CR4.LA57`).
pub static FIVE_LEVEL: PageTables =
    PageTables { name: "5-level", levels: &[PGD, P4D, PUD, PMD, PTE], address_bits: 57, decode };

/// `CR4.LA57`: the processor walks five levels.
pub const CR4_LA57: u64 = 1 << 12;
/// The bits of CR3 that hold the root table's address; the rest are PCID and flags.
pub const CR3_ROOT: u64 = FRAME;
/// First virtual address of the kernel's text mapping (`__START_KERNEL_map`).
pub const START_KERNEL_MAP: u64 = 0xffff_ffff_8000_0000;
/// Room for the kernel's image from there on, behind which modules lie (`KERNEL_IMAGE_SIZE` with KASLR).
pub const KERNEL_IMAGE_SIZE: u64 = 1 << 30;
/// Bit that page-table isolation sets in CR3 to select the user half of the PGD pair (`PTI_PGTABLE_SWITCH_BIT`).
pub const PTI_USER_PGD: u64 = 1 << 12;

/// Names of the bits of an entry that maps a page, as crash prints them (`_PAGE_BIT_*`).
const FLAGS: [(u64, &str); 10] = [
    (PRESENT, "PRESENT"),
    (1 << 1, "RW"),
    (1 << 2, "USER"),
    (1 << 3, "PWT"),
    (1 << 4, "PCD"),
    (1 << 5, "ACCESSED"),
    (1 << 6, "DIRTY"),
    (PAGE_SIZE_BIT, "PSE"),
    (1 << 8, "GLOBAL"),
    (1 << 63, "NX"),
];

/// The names of the bits that are set in an entry that maps a page.
pub fn flag_names(entry: u64) -> impl Iterator<Item = &'static str> {
    FLAGS.into_iter().filter(move |(bit, _)| entry & bit != 0).map(move |(bit, name)| match bit {
        PROTNONE if entry & PRESENT == 0 => "PROTNONE",
        _ => name,
    })
}

/// Whether an entry of a level that maps pages maps one.
#[must_use]
pub fn is_present(entry: u64) -> bool {
    entry & (PRESENT | PROTNONE) != 0
}

/// The frame that an entry which is present holds.
#[must_use]
pub fn frame(entry: u64) -> PhysAddr {
    /// No machine has RAM up there.
    const IMPLAUSIBLE: u64 = 1 << 51;
    // Since 4.18 (L1TF) the kernel inverts the frames of pages that the processor takes for absent.
    let inverted = entry & PRESENT == 0 && entry & IMPLAUSIBLE != 0;
    PhysAddr(if inverted { !entry } else { entry } & FRAME)
}

fn decode(entry: u64, level: &Level) -> Entry {
    let is_leaf = level.shift == PTE.shift;
    if entry & PRESENT == 0 && !(level.maps_pages && is_present(entry)) {
        return Entry::NotPresent;
    }
    if is_leaf {
        return Entry::Page(frame(entry));
    }
    if level.maps_pages && entry & PAGE_SIZE_BIT != 0 {
        // Bit 12 of a huge entry is PAT, and the frame is aligned to the page's size.
        let inside = level.covers().wrapping_sub(1);
        return Entry::Page(PhysAddr(frame(entry).0 & !inside));
    }
    Entry::Table(PhysAddr(entry & FRAME))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_decode_by_level() {
        assert_eq!(decode(0x8000_0000_103d_8163, &PTE), Entry::Page(PhysAddr(0x103d_8000)));
        assert_eq!(decode(0x0ea0_01e3, &PMD), Entry::Page(PhysAddr(0x0ea0_0000)));
        assert_eq!(decode(0x1020_1067, &PGD), Entry::Table(PhysAddr(0x1020_1000)));
        assert_eq!(decode(0x1020_1066, &PGD), Entry::NotPresent);
        assert_eq!(
            decode(0x1020_1100, &PTE),
            Entry::Page(PhysAddr(0x1020_1000)),
            "PROT_NONE keeps its frame"
        );
        assert_eq!(
            decode(!0x1020_1000 & FRAME | 0x100, &PTE),
            Entry::Page(PhysAddr(0x1020_1000)),
            "inverted since L1TF"
        );
    }

    #[test]
    fn bits_have_names() {
        let names = |entry| flag_names(entry).collect::<Vec<_>>().join("|");
        assert_eq!(names(0x8000_0000_1860_01e3), "PRESENT|RW|ACCESSED|DIRTY|PSE|GLOBAL|NX");
        assert_eq!(names(0x102), "RW|PROTNONE");
        assert_eq!(names(0), "");
    }

    #[test]
    fn canonical_addresses() {
        assert!(FOUR_LEVEL.is_canonical(0xffff_8880_0000_0000));
        assert!(!FOUR_LEVEL.is_canonical(0xff11_0000_0000_0000));
        assert!(FIVE_LEVEL.is_canonical(0xff11_0000_0000_0000));
        assert!(!FIVE_LEVEL.is_canonical(0xdead_4ead_0000_1234));
    }
}
