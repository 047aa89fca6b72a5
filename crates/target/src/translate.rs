//! The one page-table walker, driven by the formats of `kdive-arch`.

use std::sync::Arc;

use kdive_arch::paging::{Entry, Level, PageTables};
use kdive_base::{Endian, Missing, PhysAddr, VirtAddr, Why};
use kdive_dump::PhysicalMemory;

mod mapped;

pub use mapped::{Mapped, MappedRuns};

/// Where a virtual address lies in physical memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation {
    /// The byte itself.
    pub phys: PhysAddr,
    /// Size of the page that maps it, in bytes.
    pub page_bytes: u64,
}

impl Translation {
    /// Bytes from the translated one to the end of its page.
    #[must_use]
    pub fn bytes_left(&self) -> u64 {
        self.page_bytes.saturating_sub(self.phys.0 & self.page_bytes.wrapping_sub(1))
    }
}

/// One step of a walk, for commands that print it.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// The level walked.
    pub level: &'static Level,
    /// Physical address of the entry.
    pub entry_at: PhysAddr,
    /// Its raw value.
    pub entry: u64,
}

/// Page tables of one address space.
#[derive(Clone)]
pub struct PageTable {
    memory: Arc<dyn PhysicalMemory>,
    format: &'static PageTables,
    root: PhysAddr,
    /// Bits that memory encryption sets in entries (`sme_me_mask`): not part of an address.
    encryption_mask: u64,
}

impl PageTable {
    /// The tables below `root` (physical address of the top-level table).
    #[must_use]
    pub fn new(
        memory: Arc<dyn PhysicalMemory>,
        format: &'static PageTables,
        root: PhysAddr,
        encryption_mask: u64,
    ) -> Self {
        Self { memory, format, root, encryption_mask }
    }

    /// The same format and mask over another root.
    #[must_use]
    pub fn with_root(&self, root: PhysAddr) -> Self {
        Self { root, ..self.clone() }
    }

    /// The format walked.
    #[must_use]
    pub fn format(&self) -> &'static PageTables {
        self.format
    }

    /// Physical address of the top-level table.
    #[must_use]
    pub fn root(&self) -> PhysAddr {
        self.root
    }

    /// Translates `address`, or says what stopped the walk: an entry that maps nothing, or a table that the dump lacks.
    pub fn translate(&self, address: VirtAddr) -> Result<Translation, Missing> {
        self.walk(address, &mut |_| {})
    }

    /// [`PageTable::translate`], showing each entry on the way.
    pub fn walk(&self, address: VirtAddr, visit: &mut dyn FnMut(Step)) -> Result<Translation, Missing> {
        if !self.format.is_canonical(address.0) {
            return Err(Missing::new(address, Why::NotCanonical));
        }
        let mut table = self.root;
        let mut levels_left = self.format.levels.len() as u8;
        for level in self.format.levels {
            let entry_at = table.add(level.index(address.0).wrapping_mul(8));
            let entry = self.entry(entry_at)?;
            visit(Step { level, entry_at, entry });
            match (self.format.decode)(entry & !self.encryption_mask, level) {
                Entry::Table(next) => table = next,
                Entry::Page(start) => {
                    let page_bytes = level.covers();
                    let inside = address.0 & page_bytes.wrapping_sub(1);
                    return Ok(Translation { phys: start.add(inside), page_bytes });
                }
                Entry::NotPresent => {
                    return Err(Missing::new(address, self.why_not_present(entry, level, levels_left)));
                }
            }
            levels_left = levels_left.saturating_sub(1);
        }
        Err(Missing::new(address, Why::NotMapped { level: 1 }))
    }

    fn why_not_present(&self, entry: u64, level: &Level, level_number: u8) -> Why {
        match kdive_arch::x86_64::swap::decode(entry) {
            Some(swap) if level.maps_pages && level_number == 1 => {
                Why::Swapped { area: swap.area, offset: swap.offset }
            }
            _ => Why::NotMapped { level: level_number },
        }
    }

    fn entry(&self, at: PhysAddr) -> Result<u64, Missing> {
        let mut raw = [0; 8];
        match self.memory.read(at, &mut raw) {
            (8, _) => Ok(Endian::Little.u64(&raw, 0).unwrap_or_default()),
            (_, Some(missing)) => Err(missing),
            (_, None) => Err(Missing::new(at, Why::NeverPresent)),
        }
    }
}

#[cfg(test)]
mod tests;
