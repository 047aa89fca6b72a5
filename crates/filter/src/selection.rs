//! Which frames a dump of a level keeps.

use std::sync::Arc;

use kdive_base::{PAGE_SIZE, PhysAddr};
use kdive_dump::PhysicalMemory;
use kdive_dump::write::{FrameSet, Keep};

use crate::{Classes, DumpLevel};

/// Keeps the pages of a dump that a level does not leave out.
#[derive(Clone)]
pub struct Selection {
    level: DumpLevel,
    classes: Option<Arc<Classes>>,
    /// Where pages are looked at, for a format that would store those of zeros.
    zeros: Option<Arc<dyn PhysicalMemory>>,
}

/// Pages that are read together to look for zeros.
const PAGES: u64 = 64;

impl Selection {
    /// Every page.
    #[must_use]
    pub fn everything() -> Self {
        Self { level: DumpLevel::default(), classes: None, zeros: None }
    }

    /// What a level leaves of a kernel's pages. A level that asks nothing of the kernel needs no classes.
    #[must_use]
    pub fn of_level(level: DumpLevel, classes: Option<Arc<Classes>>) -> Self {
        Self { level, classes: classes.filter(|_| level.asks_use()), zeros: None }
    }

    /// Leaves pages of zeros out as well, if the level does: they have to be read for it. A kdump-compressed file has one
    /// page of zeros for all, and tells them from what was left out.
    #[must_use]
    pub fn without_zeros(mut self, memory: Arc<dyn PhysicalMemory>) -> Self {
        self.zeros = self.level.drops_zeros().then_some(memory);
        self
    }

    /// The level.
    #[must_use]
    pub fn level(&self) -> DumpLevel {
        self.level
    }
}

impl Keep for Selection {
    fn narrow(&self, frames: &mut FrameSet) {
        if let Some(classes) = &self.classes {
            classes.each(&frames.range(), |run, class| {
                if self.level.drops(class) {
                    frames.remove(run);
                }
            });
        }
        if let Some(memory) = &self.zeros {
            for pages in zero_pages(&**memory, frames) {
                frames.remove(pages..pages + 1);
            }
        }
    }
}

/// The frames of a set that hold nothing but zeros.
pub(crate) fn zero_pages(memory: &dyn PhysicalMemory, frames: &FrameSet) -> Vec<u64> {
    let mut buffer = vec![0; (PAGES * PAGE_SIZE) as usize];
    let mut found = Vec::new();
    for run in frames.runs() {
        let mut pfn = run.start;
        while pfn < run.end {
            let pages = (run.end - pfn).min(PAGES);
            let into = buffer.get_mut(..(pages * PAGE_SIZE) as usize).unwrap_or_default();
            let (read, _) = memory.read(PhysAddr(pfn * PAGE_SIZE), into);
            let whole = into.get(..read).unwrap_or_default().chunks_exact(PAGE_SIZE as usize);
            let next = pfn + (whole.len() as u64).max(1);
            found.extend((pfn..).zip(whole).filter(|(_, page)| is_zero(page)).map(|(pfn, _)| pfn));
            pfn = next;
        }
    }
    found
}

fn is_zero(page: &[u8]) -> bool {
    page.chunks(64).all(|line| line.iter().fold(0, |all, byte| all | byte) == 0)
}
