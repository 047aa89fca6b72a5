//! Address spaces: virtual memory read through page tables.

use std::sync::Arc;

use kdive_base::{Address, Missing, PhysAddr, VirtAddr, VirtualMemory, Why};
use kdive_dump::PhysicalMemory;
use rayon::prelude::*;

use crate::tlb::Tlb;
use crate::translate::{Mapped, PageTable, Translation};

/// A range of virtual addresses that the kernel maps linearly: what is left when a dump lacks its page tables.
#[derive(Clone, Copy, Debug)]
pub struct LinearMap {
    /// First virtual address.
    pub start: VirtAddr,
    /// First virtual address after the range.
    pub end: VirtAddr,
    /// Physical address of `start`.
    pub phys: PhysAddr,
}

/// One address space: the kernel's, or a process's.
pub struct AddressSpace {
    memory: Arc<dyn PhysicalMemory>,
    table: Option<PageTable>,
    /// Asked where a table itself is missing from the dump, never before the tables.
    linear: Vec<LinearMap>,
    tlb: Tlb,
}

impl AddressSpace {
    /// The space that `table` describes. Without a table only the linear ranges can be read.
    #[must_use]
    pub fn new(memory: Arc<dyn PhysicalMemory>, table: Option<PageTable>, linear: Vec<LinearMap>) -> Self {
        Self { memory, table, linear, tlb: Tlb::new() }
    }

    /// The page tables, where they were found.
    #[must_use]
    pub fn page_table(&self) -> Option<&PageTable> {
        self.table.as_ref()
    }

    /// Physical place of a virtual address.
    pub fn translate(&self, address: VirtAddr) -> Result<Translation, Missing> {
        if let Some(found) = self.tlb.get(address) {
            return Ok(found);
        }
        let found = self.translate_uncached(address)?;
        self.tlb.put(address, found);
        Ok(found)
    }

    /// What `first..=last` maps, as [`PageTable::mapped`] tells it; without page tables the linear ranges.
    pub fn mapped(
        &self,
        first: VirtAddr,
        last: VirtAddr,
    ) -> Box<dyn Iterator<Item = Result<Mapped, Missing>> + Send + '_> {
        match &self.table {
            Some(table) => Box::new(table.mapped(first, last)),
            None => Box::new(self.linear.iter().filter_map(move |map| {
                let start = map.start.max(first);
                let bytes = map.end.sub(1).min(last).0.checked_sub(start.0)?.checked_add(1)?;
                Some(Ok(Mapped { virt: start, phys: map.phys.add(start.since(map.start)), bytes }))
            })),
        }
    }

    fn translate_uncached(&self, address: VirtAddr) -> Result<Translation, Missing> {
        let walked = match &self.table {
            Some(table) => table.translate(address),
            None => Err(Missing::new(address, Why::NotMapped { level: 0 })),
        };
        match walked {
            Ok(found) => Ok(found),
            // The tables say that nothing is mapped: that is an answer. A missing table is not.
            Err(missing) if self.table.is_some() && matches!(missing.address, Address::Virtual(_)) => {
                Err(missing)
            }
            Err(missing) => self.translate_linear(address).ok_or(missing),
        }
    }

    fn translate_linear(&self, address: VirtAddr) -> Option<Translation> {
        let map = self.linear.iter().find(|map| map.start <= address && address < map.end)?;
        let phys = map.phys.add(address.since(map.start));
        Some(Translation { phys, page_bytes: kdive_base::PAGE_SIZE })
    }
}

/// Reads of at least this many bytes (BTF, symbol names) are shared among threads: decompression is most of their cost.
const PARALLEL_BYTES: usize = 512 << 10;
/// What one thread takes at a time.
const PIECE_BYTES: usize = 128 << 10;

impl AddressSpace {
    fn read_serial(&self, at: VirtAddr, into: &mut [u8]) -> (usize, Option<Missing>) {
        let mut done = 0_usize;
        while let Some(rest) = into.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let here = at.add(done as u64);
            let found = match self.translate(here) {
                Ok(found) => found,
                Err(missing) => return (done, Some(Missing::new(here, missing.why))),
            };
            let wanted = rest.len().min(usize::try_from(found.bytes_left()).unwrap_or(usize::MAX));
            let Some(piece) = rest.get_mut(..wanted) else { break };
            let (count, missing) = self.memory.read(found.phys, piece);
            done = done.saturating_add(count.min(wanted));
            if count < wanted {
                let why = missing.map_or(Why::NeverPresent, |missing| missing.why);
                return (done, Some(Missing::new(at.add(done as u64), why)));
            }
        }
        (done, None)
    }

    fn read_parallel(&self, at: VirtAddr, into: &mut [u8]) -> (usize, Option<Missing>) {
        let pieces: Vec<_> = into
            .par_chunks_mut(PIECE_BYTES)
            .enumerate()
            .map(|(index, piece)| self.read_serial(at.add((index * PIECE_BYTES) as u64), piece))
            .collect();
        let mut done = 0_usize;
        for (count, missing) in pieces {
            done = done.saturating_add(count);
            if missing.is_some() {
                return (done, missing);
            }
        }
        (done, None)
    }
}

impl VirtualMemory for AddressSpace {
    fn read(&self, at: VirtAddr, into: &mut [u8]) -> (usize, Option<Missing>) {
        if into.len() >= PARALLEL_BYTES { self.read_parallel(at, into) } else { self.read_serial(at, into) }
    }
}
