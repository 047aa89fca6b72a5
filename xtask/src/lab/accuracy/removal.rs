//! Dumps with less in them than there was: pages left out, bytes overwritten, the file cut. Nothing is written: the dump is
//! opened with a memory that lacks it.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use kdive_base::{Endian, Missing, PAGE_SIZE, Pfn, PhysAddr, VirtAddr, Why};
use kdive_dump::{Hints, Input, InputFile, Opened, PhysicalMemory, Run, RunState};
use kdive_filter::Classes;
use kdive_linux::pages::{Page, PageArray, Pages};
use kdive_target::{Kernel, OpenOptions};

/// What is taken out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Removal {
    /// Free pages, cache and memory of processes: `-d 31`.
    Filtered,
    /// The log's text and descriptors, zeroed.
    Log,
    /// The kernel's own types, overwritten.
    Types,
    /// Both.
    LogAndTypes,
    /// All slab pages left out.
    Slabs,
    /// The file ends in the middle.
    Cut,
}

impl Removal {
    pub(super) const ALL: [Self; 6] =
        [Self::Filtered, Self::Log, Self::Types, Self::LogAndTypes, Self::Slabs, Self::Cut];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Filtered => "`-d 31`",
            Self::Log => "log wiped",
            Self::Types => "BTF overwritten",
            Self::LogAndTypes => "log and BTF",
            Self::Slabs => "no slab pages",
            Self::Cut => "file cut in half",
        }
    }

    /// The dump without it.
    pub(super) fn open(self, path: &Path, whole: &Arc<Kernel>, opened: &Opened) -> Result<Arc<Kernel>> {
        let mut less = Less::of(opened.memory.clone());
        match self {
            Self::Filtered => less.drop_classes(whole)?,
            Self::Log => less.wipe_log(whole)?,
            Self::Types => less.spoil_types(whole)?,
            Self::LogAndTypes => {
                less.wipe_log(whole)?;
                less.spoil_types(whole)?;
            }
            Self::Slabs => less.drop_slabs(whole)?,
            Self::Cut => return cut(path),
        }
        let opened = Opened { memory: Arc::new(less), ..opened.clone() };
        Ok(Kernel::open(opened, OpenOptions::default(), Arc::new(()))?)
    }
}

fn cut(path: &Path) -> Result<Arc<Kernel>> {
    let mut bytes = std::fs::read(path)?;
    bytes.truncate(bytes.len() / 2);
    let file = InputFile::new("cut", Arc::new(bytes));
    let opened = kdive_dump::open(Input { files: vec![file] }, &Hints::default())?;
    Ok(Kernel::open(opened, OpenOptions::default(), Arc::new(()))?)
}

/// Memory that lacks some pages, and some bytes of which are others.
struct Less {
    memory: Arc<dyn PhysicalMemory>,
    /// A bit for each frame that is left out.
    dropped: Vec<u64>,
    /// Physical ranges, and what each byte of them is multiplied with: 0 wipes.
    changed: Vec<(Range<u64>, u8)>,
}

impl Less {
    fn of(memory: Arc<dyn PhysicalMemory>) -> Self {
        let mut end = PhysAddr(0);
        while let Some(run) = memory.next_run(end) {
            end = run.start.add(run.bytes);
        }
        let words = (end.pfn().0 / 64 + 1) as usize;
        Self { memory, dropped: vec![0; words], changed: Vec::new() }
    }

    fn drop_frame(&mut self, pfn: u64) {
        if let Some(word) = self.dropped.get_mut((pfn / 64) as usize) {
            *word |= 1 << (pfn % 64);
        }
    }

    fn is_dropped(&self, pfn: u64) -> bool {
        self.dropped.get((pfn / 64) as usize).is_some_and(|word| word >> (pfn % 64) & 1 == 1)
    }

    fn drop_classes(&mut self, kernel: &Arc<Kernel>) -> Result<()> {
        let classes = Classes::find(kernel).map_err(|lacks| anyhow::anyhow!("{lacks}"))?;
        let end = (self.dropped.len() as u64 * 64).next_multiple_of(1 << 18);
        let mut found = Vec::new();
        classes.each(&(Pfn(0)..Pfn(end)), |frames, _| found.push(frames));
        found.into_iter().flatten().for_each(|pfn| self.drop_frame(pfn));
        Ok(())
    }

    fn drop_slabs(&mut self, kernel: &Kernel) -> Result<()> {
        let array = PageArray::find(kernel).map_err(|lacks| anyhow::anyhow!("{lacks}"))?;
        let (pages, loader) = (Pages::find(kernel), kernel.loader::<Page>());
        let is_slab = |page: &Page| pages.is_slab(page) == Ok(true);
        for piece in array.pieces(1 << 12) {
            for raw in array.read(kernel, &piece).pages() {
                let page = loader.load_read(raw.at, raw.bytes);
                let head = if page.is_tail() == Ok(true) { page.head().ok() } else { None };
                let of_slab = head.map_or_else(|| is_slab(&page), |head| is_slab(&kernel.load::<Page>(head)));
                if of_slab {
                    self.drop_frame(raw.pfn.0);
                }
            }
        }
        Ok(())
    }

    /// The text, the descriptors and what they say of each line: where the variables point, and where the kernel's own
    /// buffers lie.
    fn wipe_log(&mut self, kernel: &Kernel) -> Result<()> {
        let word = |name: &str, bytes: usize| -> Result<u64> {
            let mut read = [0; 8];
            let part = read.get_mut(..bytes).context("too long")?;
            let (count, _) = kernel.memory().read(address(kernel, name)?, part);
            anyhow::ensure!(count == bytes, "{name} cannot be read");
            Ok(Endian::Little.u64(&read, 0).unwrap_or(0))
        };
        self.change(kernel, VirtAddr(word("log_buf", 8)?), word("log_buf_len", 4)? & 0xffff_ffff, 0);
        for name in ["__log_buf", "_printk_rb_static_descs", "_printk_rb_static_infos"] {
            let at = address(kernel, name)?;
            let symbols = kernel.symbols().map_err(|lacks| anyhow::anyhow!("{lacks}"))?;
            let (_, next) = symbols.neighbours(at);
            let next = next.with_context(|| format!("nothing is behind {name}"))?;
            self.change(kernel, at, next.address.since(at), 0);
        }
        Ok(())
    }

    fn spoil_types(&mut self, kernel: &Kernel) -> Result<()> {
        let (start, stop) = (address(kernel, "__start_BTF")?, address(kernel, "__stop_BTF")?);
        self.change(kernel, start, stop.since(start), 167);
        Ok(())
    }

    fn change(&mut self, kernel: &Kernel, at: VirtAddr, bytes: u64, factor: u8) {
        let mut done = 0;
        while done < bytes {
            let here = at.add(done);
            let length = (PAGE_SIZE - here.0 % PAGE_SIZE).min(bytes - done);
            if let Ok(found) = kernel.space().translate(here) {
                self.changed.push((found.phys.0..found.phys.0 + length, factor));
            }
            done += length;
        }
    }

    fn dropped_from(&self, pfn: u64) -> (bool, u64) {
        let state = self.is_dropped(pfn);
        let end = self.dropped.len() as u64 * 64;
        let next = (pfn + 1..end).find(|pfn| self.is_dropped(*pfn) != state);
        (state, next.unwrap_or(u64::MAX / PAGE_SIZE))
    }
}

fn address(kernel: &Kernel, name: &str) -> Result<VirtAddr> {
    let symbols = kernel.symbols().map_err(|lacks| anyhow::anyhow!("{lacks}"))?;
    let found = symbols.by_name(name);
    Ok(found.first().with_context(|| format!("no symbol {name}"))?.address)
}

impl PhysicalMemory for Less {
    fn read(&self, at: PhysAddr, into: &mut [u8]) -> (usize, Option<Missing>) {
        let end = at.0.saturating_add(into.len() as u64);
        let gap = (at.pfn().0..end.div_ceil(PAGE_SIZE)).find(|pfn| self.is_dropped(*pfn));
        let stop = gap.map_or(end, |pfn| (pfn * PAGE_SIZE).max(at.0));
        let part = into.get_mut(..(stop - at.0) as usize).unwrap_or_default();
        let (count, missing) = self.memory.read(at, part);
        for (range, factor) in &self.changed {
            let from = range.start.max(at.0);
            let to = range.end.min(at.0 + count as u64);
            for byte in (from..to).filter_map(|byte| usize::try_from(byte - at.0).ok()) {
                if let Some(byte) = part.get_mut(byte) {
                    *byte = byte.wrapping_mul(*factor).wrapping_add(*factor);
                }
            }
        }
        let dropped = || gap.map(|_| Missing::new(PhysAddr(stop), Why::Excluded));
        (count, missing.or_else(dropped))
    }

    fn next_run(&self, from: PhysAddr) -> Option<Run> {
        let run = self.memory.next_run(from)?;
        if run.state != RunState::Present {
            return Some(run);
        }
        let (dropped, next) = self.dropped_from(run.start.pfn().0);
        let end = (run.start.0.saturating_add(run.bytes)).min(next.saturating_mul(PAGE_SIZE));
        let state = if dropped { RunState::Missing(Why::Excluded) } else { run.state };
        Some(Run { bytes: end - run.start.0, state, ..run })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three pages of ones.
    struct Ones;

    impl PhysicalMemory for Ones {
        fn read(&self, _: PhysAddr, into: &mut [u8]) -> (usize, Option<Missing>) {
            into.fill(1);
            (into.len(), None)
        }

        fn next_run(&self, from: PhysAddr) -> Option<Run> {
            let bytes = (3 * PAGE_SIZE).checked_sub(from.0).filter(|bytes| *bytes > 0)?;
            Some(Run { start: from, bytes, state: RunState::Present })
        }
    }

    #[test]
    fn a_page_that_was_dropped_is_missing_and_bytes_that_were_wiped_are_zero() {
        let mut less = Less::of(Arc::new(Ones));
        less.drop_frame(1);
        less.changed.push((16..20, 0));
        let mut bytes = vec![9; 2 * PAGE_SIZE as usize];
        let (count, missing) = less.read(PhysAddr(8), &mut bytes);
        assert_eq!(count as u64, PAGE_SIZE - 8);
        assert_eq!(missing, Some(Missing::new(PhysAddr(PAGE_SIZE), Why::Excluded)));
        assert_eq!(bytes.get(7..13), Some(&[1, 0, 0, 0, 0, 1][..]));
        let mut runs = Vec::new();
        let mut at = PhysAddr(0);
        while let Some(run) = less.next_run(at) {
            runs.push((run.bytes, run.state == RunState::Present));
            at = run.start.add(run.bytes);
        }
        assert_eq!(runs, [(PAGE_SIZE, true), (PAGE_SIZE, false), (PAGE_SIZE, true)]);
    }
}
