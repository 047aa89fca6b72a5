//! Sections of physical memory, each with its page structures or without (`struct mem_section`, mm/sparse.c).

use std::ops::Range;

use kdive_base::{Endian, Missing, PAGE_SIZE, Pfn, VirtAddr, Why};
use kdive_target::{Field, Kernel, Lacks};

use crate::pages::Pages;

/// A section that the kernel has an entry for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Its number: its place in physical memory, in units of a section.
    pub number: u64,
    /// Its `struct mem_section`.
    pub at: VirtAddr,
    /// Where its page structures would begin if they began at frame 0, and flags in the low bits.
    pub coded: u64,
}

/// `SECTION_MARKED_PRESENT`.
pub const PRESENT: u64 = 1 << 0;
/// `SECTION_HAS_MEM_MAP`.
pub const HAS_MEM_MAP: u64 = 1 << 1;
/// `SECTION_IS_ONLINE` (4.14).
pub const ONLINE: u64 = 1 << 2;
/// `SECTION_IS_EARLY` (5.3).
pub const EARLY: u64 = 1 << 3;
/// `SECTION_TAINT_ZONE_DEVICE` (5.17).
pub const ZONE_DEVICE: u64 = 1 << 4;

impl Section {
    /// The coded address without the flags.
    #[must_use]
    pub fn coded_mem_map(&self) -> VirtAddr {
        /// `SECTION_MAP_LAST_BIT` is 5 or 6 today: structures of pages are aligned to more.
        const FLAGS: u64 = (1 << 5) - 1;
        VirtAddr(self.coded & !FLAGS)
    }
}

/// All sections with an entry.
#[derive(Clone, Debug)]
pub struct Sections {
    /// By number.
    pub list: Vec<Section>,
    /// Frames of a section.
    pub pages: u64,
    /// Why sections may be lacking.
    pub incomplete: Option<Lacks>,
}

/// `SECTION_SIZE_BITS` of x86-64, where VMCOREINFO does not tell it: 128 MiB.
const SECTION_SIZE_BITS: u32 = 27;
/// 2^52 bytes of physical memory in sections of 128 MiB.
const MOST_SECTIONS: u64 = 1 << 25;

impl Sections {
    /// The kernel's sections.
    ///
    /// # Errors
    /// The kernel was built without sections (`CONFIG_FLATMEM`), or its table is not in the dump.
    pub fn find(kernel: &Kernel) -> Field<Self> {
        let symbol = kernel.symbol("mem_section")?;
        let (bytes, coded) =
            (kernel.size_of("mem_section")?.max(1), kernel.offset_of("mem_section", "section_mem_map")?);
        let told = kernel.vmcoreinfo().number("SECTION_SIZE_BITS").and_then(|bits| u32::try_from(bits).ok());
        let bits = told.filter(|bits| (20..48).contains(bits)).unwrap_or(SECTION_SIZE_BITS);
        let mut found = Self { list: Vec::new(), pages: (1_u64 << bits) / PAGE_SIZE, incomplete: None };
        let per_root = (PAGE_SIZE / bytes).max(1);
        let roots = roots(kernel, symbol)?;
        let last = last_section(kernel, found.pages)?;
        for root in 0..=last / per_root {
            match read_root(kernel, roots.add(root * 8), (PAGE_SIZE / bytes * bytes) as usize) {
                Ok(None) => {}
                Ok(Some((at, entries))) => {
                    for (index, entry) in entries.chunks_exact(bytes as usize).enumerate() {
                        let value = Endian::Little.u64(entry, coded as usize).unwrap_or(0);
                        let (number, at) = (root * per_root + index as u64, at.add(index as u64 * bytes));
                        if value != 0 {
                            found.list.push(Section { number, at, coded: value });
                        }
                    }
                }
                Err(lacks) => found.incomplete = Some(lacks),
            }
        }
        Ok(found)
    }

    /// The frames that have page structures, as ranges that do not touch; `exist` says whether those of a section do, from
    /// its first frame on: damaged entries must not make terabytes of memory.
    fn mapped(&self, exist: impl Fn(Pfn) -> bool) -> Vec<Range<Pfn>> {
        let mut ranges: Vec<Range<Pfn>> = Vec::new();
        let with_map = self.list.iter().filter(|section| section.coded & HAS_MEM_MAP != 0);
        for section in with_map.filter(|of| exist(Pfn(of.number.saturating_mul(self.pages)))) {
            let start = section.number.saturating_mul(self.pages);
            let end = Pfn(start.saturating_add(self.pages));
            match ranges.last_mut() {
                Some(last) if last.end.0 == start => last.end = end,
                _ => ranges.push(Pfn(start)..end),
            }
        }
        ranges
    }
}

/// The table of roots: since 4.15 a pointer to it, before that the table itself.
fn roots(kernel: &Kernel, symbol: VirtAddr) -> Field<VirtAddr> {
    let first = kernel.memory().pointer(symbol)?;
    // The first section, with its flags, or the first root, which is aligned.
    let word = kernel.memory().u64(first)?;
    Ok(if word & PRESENT != 0 { symbol } else { first })
}

/// The entries of a root; `None` for one without sections.
fn read_root(kernel: &Kernel, at: VirtAddr, bytes: usize) -> Field<Option<(VirtAddr, Vec<u8>)>> {
    let root = kernel.memory().pointer(at)?;
    if root.is_null() {
        return Ok(None);
    }
    Ok(Some((root, kernel.memory().bytes(root, bytes)?)))
}

/// The highest section (`__highest_present_section_nr`, 4.13), else that of the last frame.
fn last_section(kernel: &Kernel, pages: u64) -> Field<u64> {
    let memory = kernel.memory();
    let last = match kernel.symbol("__highest_present_section_nr") {
        Ok(at) => memory.u64(at)?,
        Err(_) => memory.u64(kernel.symbol("max_pfn")?)? / pages.max(1),
    };
    if last > MOST_SECTIONS {
        return Err(Lacks::implausible(format_args!("{last} sections of memory")));
    }
    Ok(last)
}

/// The frames that have page structures: what the sections say, and without them all frames up to the last.
///
/// # Errors
/// Neither is known.
pub fn mapped_frames(kernel: &Kernel) -> Field<Vec<Range<Pfn>>> {
    match Sections::find(kernel) {
        Ok(sections) if !sections.list.is_empty() => {
            let map = Pages::find(kernel).map.clone()?;
            // A page structure may be excluded from the dump, but it is mapped.
            Ok(sections.mapped(|first| match kernel.space().translate(map.page_of(first)) {
                Err(Missing { why: Why::NotMapped { level: 1.. }, .. }) => false,
                Ok(_) | Err(_) => true,
            }))
        }
        found => {
            let direct = Pages::find(kernel).direct.clone();
            match direct {
                Ok(direct) => Ok(vec![Pfn(0)..Pfn(direct.end.since(direct.start) / PAGE_SIZE)]),
                Err(lacks) => Err(found.err().unwrap_or(lacks)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_with_page_structures_are_one_range() {
        let section = |number, coded| Section { number, at: VirtAddr(0), coded };
        let sections = Sections {
            list: vec![section(0, 3), section(1, 7), section(2, PRESENT), section(4, 3), section(9, 3)],
            pages: 0x8000,
            incomplete: None,
        };
        assert_eq!(
            sections.mapped(|first| first.0 < 0x40000),
            [Pfn(0)..Pfn(0x10000), Pfn(0x20000)..Pfn(0x28000)]
        );
    }
}
