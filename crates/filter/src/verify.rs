//! Reads a dump through and says what of it is damaged.

use std::ops::Range;

use kdive_base::{Cancelled, PAGE_SIZE, PhysAddr};
use kdive_dump::write::{Control, FrameSet};
use kdive_dump::{CheckedBy, FileDamage, Hints, OpenError, Opened, PhysicalMemory, RunState, check_file};
use rayon::prelude::*;
use serde::Serialize;

/// Pages that the dump should have and does not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// First page frame number.
    pub first: u64,
    /// How many pages follow one another.
    pub pages: u64,
    /// Why they cannot be read.
    pub why: String,
}

/// What reading every page found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// Pages that were read and are whole, as far as their compression can tell: a flipped bit shows in zlib's checksum,
    /// and mostly in the others; in pages that are stored as they were nothing shows.
    pub good: u64,
    /// Pages that cannot be read.
    pub bad: u64,
    /// The dump says that its capture could not finish.
    pub incomplete: bool,
    /// What opening it found.
    pub warnings: Vec<String>,
    /// What the bytes of the files were checked by.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub checked_by: Vec<CheckedBy>,
    /// Bytes of the files that are not what was written.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileDamage>,
    /// Why the pages that the damage concerns cannot be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unopened: Option<String>,
    /// What is damaged, by frame.
    pub damage: Vec<Damage>,
}

/// Ranges of damage that are listed; all are counted.
const MOST_RANGES: usize = 10_000;
/// Pages that one thread takes at a time.
const GROUP: u64 = 64;

/// Checks the bytes of a dump's files by what their writer left for it.
///
/// # Errors
/// When it is cancelled; within, when a file cannot be opened.
pub fn verify_files(
    opened: &Opened,
    hints: &Hints,
    control: &Control<'_>,
) -> Result<Result<Verified, OpenError>, Cancelled> {
    let mut found = Verified::default();
    for file in &opened.files {
        match check_file(file, &hints.identities, control.cancel) {
            Ok(checked) => {
                let (by, damage) = checked?;
                found.checked_by.push(by);
                found.files.extend(damage);
            }
            Err(error) => return Ok(Err(error)),
        }
    }
    Ok(Ok(found))
}

/// Reads every page that the dump says it has.
///
/// # Errors
/// When it is cancelled.
pub fn verify(opened: &Opened, control: &Control<'_>) -> Result<Verified, Cancelled> {
    let mut found = Verified {
        incomplete: opened.facts.incomplete,
        warnings: opened.facts.warnings.clone(),
        ..Verified::default()
    };
    let memory = &*opened.memory;
    let mut runs = PresentRuns { memory, at: Some(0) };
    let total = opened.facts.max_mapnr.unwrap_or(0);
    loop {
        control.cancel.check()?;
        // A batch of a GiB: small enough to stop soon.
        let mut batch = Vec::new();
        let mut pages = 0;
        for run in runs.by_ref() {
            pages += run.end - run.start;
            batch.push(run);
            if pages >= FrameSet::FRAMES {
                break;
            }
        }
        let Some(last) = batch.last().map(|run| run.end) else { return Ok(found) };
        let groups: Vec<Range<u64>> = batch.into_iter().flat_map(groups).collect();
        let checked: Vec<Verified> = groups.into_par_iter().map(|group| check(memory, &group)).collect();
        checked.into_iter().for_each(|group| found.merge(group));
        (control.progress)(last, total.max(last));
    }
}

/// The runs of pages that the dump says it has, cut at every GiB.
struct PresentRuns<'a> {
    memory: &'a dyn PhysicalMemory,
    at: Option<u64>,
}

impl Iterator for PresentRuns<'_> {
    type Item = Range<u64>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let at = self.at?;
            let run = self.memory.next_run(PhysAddr(at))?;
            let most = FrameSet::FRAMES * PAGE_SIZE;
            let present = run.state == RunState::Present;
            let bytes = if present { run.bytes.min(most) } else { run.bytes };
            let end = run.start.0.checked_add(bytes);
            self.at = end.filter(|end| *end > at);
            if present {
                let end = end.unwrap_or(u64::MAX);
                return Some(run.start.0.div_ceil(PAGE_SIZE)..end.div_ceil(PAGE_SIZE));
            }
        }
    }
}

fn groups(run: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let count = (run.end - run.start).div_ceil(GROUP);
    (0..count).map(move |group| {
        let start = run.start + group * GROUP;
        start..(start + GROUP).min(run.end)
    })
}

fn check(memory: &dyn PhysicalMemory, group: &Range<u64>) -> Verified {
    let mut found = Verified::default();
    let mut buffer = vec![0; (GROUP * PAGE_SIZE) as usize];
    let mut pfn = group.start;
    while pfn < group.end {
        let into = buffer.get_mut(..((group.end - pfn) * PAGE_SIZE) as usize).unwrap_or_default();
        let (read, missing) = memory.read(PhysAddr(pfn * PAGE_SIZE), into);
        let good = read as u64 / PAGE_SIZE;
        found.good += good;
        pfn += good;
        if pfn < group.end {
            let why = missing.map_or_else(|| "it ends early".to_owned(), |missing| missing.why.to_string());
            found.lose(Damage { first: pfn, pages: 1, why });
            found.bad += 1;
            pfn += 1;
        }
    }
    found
}

impl Verified {
    /// Whether all that should be there is.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.bad == 0 && self.files.is_empty() && !self.incomplete && self.warnings.is_empty()
    }

    /// Adds what reading the pages found.
    pub fn pages(&mut self, pages: Self) {
        let (checked_by, files) = (std::mem::take(&mut self.checked_by), std::mem::take(&mut self.files));
        *self = Self { checked_by, files, ..pages };
    }

    fn merge(&mut self, other: Self) {
        self.good += other.good;
        self.bad += other.bad;
        other.damage.into_iter().for_each(|damage| self.lose(damage));
    }

    fn lose(&mut self, damage: Damage) {
        let follows = |last: &&mut Damage| last.first + last.pages == damage.first && last.why == damage.why;
        if let Some(last) = self.damage.last_mut().filter(follows) {
            last.pages += damage.pages;
        } else if self.damage.len() < MOST_RANGES {
            self.damage.push(damage);
        }
    }
}
