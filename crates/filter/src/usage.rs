//! What a dump of each level would hold: makedumpfile's `--mem-usage`, of any dump.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};

use kdive_base::PAGE_SIZE;
use kdive_dump::PhysicalMemory;
use kdive_dump::write::{Control, FrameSet, Keep, Plan, WriteError};
use kdive_linux::pages::Excludable;
use serde::Serialize;

use crate::Classes;
use crate::selection::zero_pages;

/// Pages of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UsageRow {
    /// What the pages are used for: an [`Excludable`] class, `zero` (kernel pages of zeros), or `kept`.
    pub kind: &'static str,
    /// How many there are.
    pub pages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The bit of the dump level that leaves them out; none for those that every level keeps or leaves out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<u8>,
    /// What they are, in words.
    pub what: &'static str,
}

/// The pages of a dump by what they are used for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// One for each kind, in the order of the levels' bits.
    pub rows: Vec<UsageRow>,
    /// Pages that the dump has.
    pub pages: u64,
    /// Pages that a dump of level 31 made of this one would have.
    pub kept: u64,
    /// Pages whose structures are not in the dump: every level keeps them.
    pub unknown: u64,
}

impl Usage {
    /// Counts the pages of `memory`. With `zeros` the pages that no class leaves out are read, too.
    ///
    /// # Errors
    /// When it is cancelled, or the memory goes beyond what a dump can describe.
    pub fn count(
        memory: &dyn PhysicalMemory,
        classes: &Classes,
        zeros: bool,
        control: &Control<'_>,
    ) -> Result<Self, WriteError> {
        let counter = Counter {
            memory: zeros.then_some(memory),
            classes,
            by_class: Mutex::default(),
            zeros: AtomicU64::new(0),
            all: AtomicU64::new(0),
        };
        let kept = Plan::new(memory, &counter, control)?.pages();
        let by_class = counter.by_class.into_inner().unwrap_or_else(PoisonError::into_inner);
        let row = |kind, pages: u64, level, what| UsageRow {
            kind,
            pages,
            bytes: pages.saturating_mul(PAGE_SIZE),
            level,
            what,
        };
        let of = |class| by_class.get(&class).copied().unwrap_or(0);
        let zero = counter.zeros.into_inner();
        let mut rows = Vec::new();
        if zeros {
            rows.push(row("zero", zero, Some(1), "of the kernel, filled with zeros"));
        }
        rows.push(row("cache", of(Excludable::Cache), Some(2), "page cache, shared memory, swap cache"));
        let private = "page cache with data of the file system";
        rows.push(row("cache-private", of(Excludable::CachePrivate), Some(4), private));
        rows.push(row("user", of(Excludable::User), Some(8), "memory of processes, huge pages"));
        rows.push(row("free", of(Excludable::Free), Some(16), "free"));
        for (kind, class, what) in [
            ("hw-poison", Excludable::HwPoison, "faulty memory"),
            ("offline", Excludable::Offline, "given back to the hypervisor, or offline"),
        ] {
            if of(class) > 0 {
                rows.push(row(kind, of(class), None, what));
            }
        }
        rows.push(row("kept", kept, None, "of the kernel: every level keeps them"));
        Ok(Self { rows, pages: counter.all.into_inner(), kept, unknown: classes.unknown() })
    }
}

/// Counts instead of choosing.
struct Counter<'a> {
    /// Where pages are looked at for zeros.
    memory: Option<&'a dyn PhysicalMemory>,
    classes: &'a Classes,
    by_class: Mutex<BTreeMap<Excludable, u64>>,
    zeros: AtomicU64,
    all: AtomicU64,
}

impl Keep for Counter<'_> {
    fn narrow(&self, frames: &mut FrameSet) {
        self.all.fetch_add(frames.count(), Ordering::Relaxed);
        let mut counts: BTreeMap<Excludable, u64> = BTreeMap::new();
        let mut left = frames.count();
        self.classes.each(&frames.range(), |run, class| {
            frames.remove(run);
            let now = frames.count();
            *counts.entry(class).or_default() += left - now;
            left = now;
        });
        let mut all = self.by_class.lock().unwrap_or_else(PoisonError::into_inner);
        for (class, pages) in counts {
            *all.entry(class).or_default() += pages;
        }
        drop(all);
        if let Some(memory) = self.memory {
            let zeros = zero_pages(memory, frames);
            self.zeros.fetch_add(zeros.len() as u64, Ordering::Relaxed);
            zeros.into_iter().for_each(|pfn| frames.remove(pfn..pfn + 1));
        }
    }
}
