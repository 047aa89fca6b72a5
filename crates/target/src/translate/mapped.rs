//! What a range of virtual addresses maps, by one walk over its page tables.

use kdive_arch::paging::Entry;
use kdive_base::{Missing, PhysAddr, VirtAddr, Why};
use rustc_hash::FxHashMap;

use super::PageTable;

/// Virtual addresses that map as many contiguous bytes of physical memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// First virtual address.
    pub virt: VirtAddr,
    /// Its physical address.
    pub phys: PhysAddr,
    /// Length in bytes; never 0.
    pub bytes: u64,
}

impl Mapped {
    /// The part from `skip` bytes on, `bytes` long at most.
    #[must_use]
    pub fn part(&self, skip: u64, bytes: u64) -> Self {
        let bytes = bytes.min(self.bytes.saturating_sub(skip));
        Self { virt: self.virt.add(skip), phys: self.phys.add(skip), bytes }
    }

    /// Whether `next` continues it, in virtual and in physical memory.
    fn goes_on_in(&self, next: &Self) -> bool {
        self.virt.0.checked_add(self.bytes) == Some(next.virt.0)
            && self.phys.0.checked_add(self.bytes) == Some(next.phys.0)
    }
}

/// How often one page is read as a table of one level. Kernels share tables (KASAN's shadow of nothing is one table,
/// mapped all over); damaged tables can contain themselves, and without a bound a walk over them would not end.
const MOST_VISITS: u8 = 8;
const ENTRIES: usize = 512;

/// The runs that a range of addresses maps, ascending; see [`PageTable::mapped`].
pub struct MappedRuns<'a> {
    table: &'a PageTable,
    first: u64,
    last: u64,
    /// The tables on the way down, the root first.
    open: Vec<OpenTable>,
    visits: FxHashMap<(u64, usize), u8>,
    /// The run that may still grow.
    run: Option<Mapped>,
    /// What comes after `run`.
    missing: Option<Missing>,
}

/// A table that is being walked.
struct OpenTable {
    entries: Box<[u64; ENTRIES]>,
    /// The next entry.
    next: usize,
    /// One more than the last entry to look at.
    end: usize,
    /// Virtual address of the first entry.
    base: u64,
}

impl PageTable {
    /// What `first..=last` maps: runs in ascending order that do not touch, huge pages whole, and each table that the
    /// dump lacks as an error, after which it goes on.
    ///
    /// Every table is read once for each place that it is mapped at, and a few times at most: the walk is linear in the
    /// size of the tables whatever they hold.
    #[must_use]
    pub fn mapped(&self, first: VirtAddr, last: VirtAddr) -> MappedRuns<'_> {
        let mut runs = MappedRuns {
            table: self,
            first: first.0,
            last: last.0,
            open: Vec::new(),
            visits: FxHashMap::default(),
            run: None,
            missing: None,
        };
        if first <= last {
            runs.enter(self.root(), 0);
        }
        runs
    }
}

impl MappedRuns<'_> {
    /// Opens a table whose first entry stands for `base`.
    fn enter(&mut self, at: PhysAddr, base: u64) {
        let depth = self.open.len();
        let Some(level) = self.table.format().levels.get(depth) else { return };
        let visits = self.visits.entry((at.0, depth)).or_default();
        if *visits >= MOST_VISITS {
            return;
        }
        *visits = visits.saturating_add(1);
        let mut raw = [0; ENTRIES * 8];
        let (count, missing) = self.table.memory.read(at, &mut raw);
        if let Some(missing) = missing {
            self.missing = Some(Missing::new(VirtAddr(base), missing.why));
        } else if count < raw.len() {
            self.missing = Some(Missing::new(VirtAddr(base), Why::NeverPresent));
        }
        let mut entries = Box::new([0; ENTRIES]);
        for (entry, word) in entries.iter_mut().zip(raw.get(..count).unwrap_or_default().as_chunks::<8>().0) {
            *entry = u64::from_le_bytes(*word);
        }
        let index = |address: u64| level.index(address) as usize;
        // The root's entries ascend from 0 over the hole to the upper half, as the addresses do.
        let (base_last, root) =
            (base.wrapping_add(level.covers().wrapping_mul(ENTRIES as u64) - 1), depth == 0);
        let next = if root || self.first > base { index(self.first) } else { 0 };
        let end = if root || self.last < base_last { index(self.last) + 1 } else { ENTRIES };
        self.open.push(OpenTable { entries, next, end: end.min(ENTRIES), base });
    }

    /// Looks at the next entry of the deepest open table. `None` when all tables are done.
    fn step(&mut self) -> Option<Option<Mapped>> {
        let format = self.table.format();
        let depth = self.open.len().checked_sub(1)?;
        let level = format.levels.get(depth)?;
        let open = self.open.last_mut()?;
        let entry = open.entries.get(open.next).copied().filter(|_| open.next < open.end);
        let Some(entry) = entry else {
            self.open.pop();
            return Some(None);
        };
        let virt = format.canonical(open.base.wrapping_add(level.covers().wrapping_mul(open.next as u64)));
        open.next += 1;
        match (format.decode)(entry & !self.table.encryption_mask, level) {
            Entry::NotPresent => Some(None),
            Entry::Table(next) => {
                self.enter(next, virt);
                Some(None)
            }
            Entry::Page(phys) => {
                Some(self.clip(Mapped { virt: VirtAddr(virt), phys, bytes: level.covers() }))
            }
        }
    }

    /// The part of a page that lies in the range.
    fn clip(&self, page: Mapped) -> Option<Mapped> {
        let page_last = page.virt.0.checked_add(page.bytes - 1)?;
        let skip = self.first.saturating_sub(page.virt.0);
        let end = self.last.min(page_last);
        let bytes = end.checked_sub(page.virt.0)?.checked_add(1)?.checked_sub(skip)?;
        (bytes > 0).then(|| page.part(skip, bytes))
    }
}

impl Iterator for MappedRuns<'_> {
    type Item = Result<Mapped, Missing>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.missing.is_some() {
                return match self.run.take() {
                    Some(run) => Some(Ok(run)),
                    None => self.missing.take().map(Err),
                };
            }
            let Some(page) = self.step() else { return self.run.take().map(Ok) };
            let Some(page) = page else { continue };
            match &mut self.run {
                Some(run) if run.goes_on_in(&page) => run.bytes = run.bytes.saturating_add(page.bytes),
                run => {
                    if let Some(done) = run.replace(page) {
                        return Some(Ok(done));
                    }
                }
            }
        }
    }
}
