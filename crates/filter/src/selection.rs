//! Which frames a dump of a level keeps.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use kdive_base::{PAGE_SIZE, PhysAddr};
use kdive_dump::PhysicalMemory;
use kdive_dump::write::{FrameSet, Keep};

use serde::Serialize;

use crate::rules::{Rules, Verdict};
use crate::{Classes, DumpLevel};

/// Keeps the pages of a dump that a level and rules do not leave out.
#[derive(Clone)]
pub struct Selection {
    level: DumpLevel,
    classes: Option<Arc<Classes>>,
    rules: Option<Arc<Rules>>,
    /// What the rules changed, by the first frame asked for: the same question can come twice.
    ruled: Arc<Mutex<BTreeMap<u64, Ruled>>>,
    /// Where pages are looked at, for a format that would store those of zeros.
    zeros: Option<Arc<dyn PhysicalMemory>>,
}

/// Pages that rules decided on against the level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Ruled {
    /// Kept, though the level leaves them out.
    pub kept: u64,
    /// Left out, though the level keeps them.
    pub dropped: u64,
}

/// Pages that are read together to look for zeros.
const PAGES: u64 = 64;

impl Selection {
    /// Every page.
    #[must_use]
    pub fn everything() -> Self {
        Self::of_level(DumpLevel::default(), None)
    }

    /// What a level leaves of a kernel's pages. A level that asks nothing of the kernel needs no classes.
    #[must_use]
    pub fn of_level(level: DumpLevel, classes: Option<Arc<Classes>>) -> Self {
        Self { level, classes, rules: None, ruled: Arc::default(), zeros: None }
    }

    /// Applies rules on top of the level. Those that look at page structures need classes, whatever the level.
    #[must_use]
    pub fn with_rules(mut self, rules: Arc<Rules>) -> Self {
        self.rules = Some(rules);
        self
    }

    /// What the rules changed so far.
    #[must_use]
    pub fn ruled(&self) -> Ruled {
        let all = self.ruled.lock().unwrap_or_else(PoisonError::into_inner);
        all.values().fold(Ruled::default(), |sum, ruled| Ruled {
            kept: sum.kept + ruled.kept,
            dropped: sum.dropped + ruled.dropped,
        })
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

impl Selection {
    fn drop_zeros(&self, frames: &mut FrameSet) {
        if let Some(memory) = &self.zeros {
            for pages in zero_pages(&**memory, frames) {
                frames.remove(pages..pages + 1);
            }
        }
    }

    /// What the level and rules leave of a GiB. What a rule keeps stays, whatever else is said of it.
    fn apply(&self, rules: &Rules, frames: &mut FrameSet) {
        let (number, range) = (frames.number(), frames.range());
        let whole = frames.clone();
        let (mut kept, mut dropped) = (FrameSet::empty(number), FrameSet::empty(number));
        let mut of_processes = rules.dropped_of_tasks().of_gib(number).map(|_| FrameSet::empty(number));
        if let Some(classes) = &self.classes {
            classes.each_page(&range, |run, class, page| {
                match rules.judge(page, class) {
                    Some(Verdict::Keep) => kept.insert(run.clone()),
                    Some(Verdict::Drop) => dropped.insert(run.clone()),
                    None => {}
                }
                if let Some(class) = class {
                    if self.level.drops(class) {
                        frames.remove(run.clone());
                    }
                    if let Some(of_processes) = &mut of_processes {
                        of_processes.insert(run);
                    }
                }
            });
        }
        if let (Some(of_processes), Some(tasks)) =
            (&mut of_processes, rules.dropped_of_tasks().of_gib(number))
        {
            of_processes.intersect(tasks);
            dropped.unite(of_processes);
        }
        if let Some(modules) = rules.dropped_frames().of_gib(number) {
            dropped.unite(modules);
        }
        if let Some(known) = rules.kept_frames().of_gib(number) {
            kept.unite(known);
        }
        self.drop_zeros(frames);
        kept.intersect(&whole);
        dropped.subtract(&kept);
        let by_level = frames.count();
        frames.subtract(&dropped);
        let left = frames.count();
        frames.unite(&kept);
        let ruled = Ruled { dropped: by_level - left, kept: frames.count() - left };
        self.ruled.lock().unwrap_or_else(PoisonError::into_inner).insert(number, ruled);
    }
}

impl Keep for Selection {
    fn narrow(&self, frames: &mut FrameSet) {
        if let Some(rules) = &self.rules {
            return self.apply(rules, frames);
        }
        if let Some(classes) = self.classes.as_ref().filter(|_| self.level.asks_use()) {
            classes.each(&frames.range(), |run, class| {
                if self.level.drops(class) {
                    frames.remove(run);
                }
            });
        }
        self.drop_zeros(frames);
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
