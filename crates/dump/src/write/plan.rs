//! Which pages a dump gets.

use std::ops::Range;
use std::sync::Arc;

use kdive_base::{Pfn, PhysAddr, Why};
use rayon::prelude::*;

use super::{Control, FrameSet, Frames, PAGE, WriteError};
use crate::memory::{PhysicalMemory, RunState};

/// 16 TiB: what damaged headers claim beyond is not believed.
const MAX_FRAMES: u64 = 1 << 32;

/// Says which pages are written.
pub trait Keep: Sync {
    /// Takes out of `frames`, which the source has, those that are to be left out. It can be asked twice, and has to say
    /// the same.
    fn narrow(&self, frames: &mut FrameSet);
}

impl<F: Fn(Pfn) -> bool + Sync> Keep for F {
    fn narrow(&self, frames: &mut FrameSet) {
        let unwanted: Vec<u64> = frames.runs().flatten().filter(|&pfn| !self(Pfn(pfn))).collect();
        unwanted.into_iter().for_each(|pfn| frames.remove(pfn..pfn.saturating_add(1)));
    }
}

/// The pages of `memory` that are written.
pub struct Plan<'a> {
    pub(super) memory: &'a dyn PhysicalMemory,
    keep: &'a dyn Keep,
    /// By number of the GiB.
    gibs: Vec<Chosen>,
    /// One more than the last frame of RAM.
    frames: u64,
    /// Pages that are written before all others, each tier before the next.
    tiers: Vec<Frames>,
}

/// Pages that are written first, at most: the writer has to remember where each of them went.
const MOST_FIRST: u64 = 1 << 17;

/// Which of a plan's pages have their turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// All of them, in order.
    All,
    /// Those of a tier.
    Tier(usize),
    /// Those of no tier.
    Rest,
}

/// What a plan remembers of a GiB.
struct Chosen {
    pages: u64,
    /// `None` where there are none, or where memory did not suffice to keep them.
    frames: Option<Arc<FrameSet>>,
}

impl<'a> Plan<'a> {
    /// Decides which pages of `memory` are written: those that it has and `keep` keeps.
    ///
    /// # Errors
    /// When `control` is cancelled, or the memory goes beyond 16 TiB.
    pub fn new(
        memory: &'a dyn PhysicalMemory,
        keep: &'a dyn Keep,
        control: &Control<'_>,
    ) -> Result<Self, WriteError> {
        let mut plan = Self { memory, keep, gibs: Vec::new(), frames: 0, tiers: Vec::new() };
        plan.frames = plan.end_of_ram(control)?;
        let mut room = control.plan() / FrameSet::BYTES;
        let count = plan.frames.div_ceil(FrameSet::FRAMES);
        // Few at a time: what does not fit is dropped at once.
        let together = (rayon::current_num_threads() as u64).max(1);
        for start in (0..count).step_by(usize::try_from(together).unwrap_or(1)) {
            control.cancel.check()?;
            let numbers: Vec<u64> = (start..start.saturating_add(together).min(count)).collect();
            let chosen: Vec<FrameSet> = numbers.par_iter().map(|&number| plan.choose(number)).collect();
            for frames in chosen {
                let pages = frames.count();
                let kept = pages > 0 && room > 0;
                room = room.saturating_sub(usize::from(kept));
                plan.gibs.push(Chosen { pages, frames: kept.then(|| Arc::new(frames)) });
            }
        }
        Ok(plan)
    }

    /// Has some pages written before all others where the format allows it, so that a file that was cut is of use: those
    /// of the first tier, then those of the next. A tier that is too large is not taken.
    #[must_use]
    pub fn first(mut self, tiers: Vec<Frames>) -> Self {
        let mut room = MOST_FIRST;
        for mut tier in tiers {
            self.tiers.iter().for_each(|earlier| tier.subtract(earlier));
            let count = tier.count();
            if let Some(left) = room.checked_sub(count).filter(|_| count > 0) {
                room = left;
                self.tiers.push(tier);
            }
        }
        self
    }

    /// Pages that are written.
    #[must_use]
    pub fn pages(&self) -> u64 {
        self.gibs.iter().fold(0, |sum, gib| sum.saturating_add(gib.pages))
    }

    /// One more than the last frame of RAM.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Ranges of frames that have as many pages each, as far as that can be.
    #[must_use]
    pub fn split(&self, parts: usize) -> Vec<Range<u64>> {
        let parts = (parts as u64).max(1);
        let each = self.pages().div_ceil(parts).max(1);
        let (mut bounds, mut seen) = (Vec::new(), 0_u64);
        for run in (0..self.gib_count()).flat_map(|number| self.chosen(number).runs().collect::<Vec<_>>()) {
            let pages = run.end.saturating_sub(run.start);
            // A run of many pages can be the end of several parts.
            loop {
                let wanted = each.saturating_mul(bounds.len() as u64).saturating_add(each);
                if bounds.len() as u64 >= parts.saturating_sub(1) || seen.saturating_add(pages) < wanted {
                    break;
                }
                bounds.push(run.start.saturating_add(wanted.saturating_sub(seen)));
            }
            seen = seen.saturating_add(pages);
        }
        let starts = std::iter::once(0).chain(bounds.iter().copied());
        let ends = bounds.iter().copied().chain(std::iter::once(self.frames));
        starts.zip(ends).map(|(start, end)| start..end).filter(|part| !part.is_empty()).collect()
    }

    pub(super) fn gib_count(&self) -> u64 {
        self.gibs.len() as u64
    }

    /// The pages of a GiB that are written: remembered, or decided once more.
    pub(super) fn chosen(&self, number: u64) -> Arc<FrameSet> {
        let gib = usize::try_from(number).ok().and_then(|number| self.gibs.get(number));
        match gib {
            Some(Chosen { frames: Some(frames), .. }) => frames.clone(),
            Some(Chosen { pages: 1.., frames: None }) => Arc::new(self.choose(number)),
            _ => Arc::new(FrameSet::empty(number)),
        }
    }

    /// The pages of a GiB within some frames that have their turn, as ranges.
    pub(super) fn runs(&self, number: u64, within: &Range<u64>, turn: Turn) -> Vec<Range<u64>> {
        let first = number.saturating_mul(FrameSet::FRAMES);
        if within.end <= first || within.start >= first.saturating_add(FrameSet::FRAMES) {
            return Vec::new();
        }
        let mut tiers = self.tiers.iter().filter_map(|tier| tier.of_gib(number)).peekable();
        let frames = match turn {
            Turn::Tier(tier) => {
                let Some(tier) = self.tiers.get(tier).and_then(|tier| tier.of_gib(number)) else {
                    return Vec::new();
                };
                let mut frames = (*self.chosen(number)).clone();
                frames.intersect(tier);
                Arc::new(frames)
            }
            Turn::Rest if tiers.peek().is_some() => {
                let mut frames = (*self.chosen(number)).clone();
                tiers.for_each(|tier| frames.subtract(tier));
                Arc::new(frames)
            }
            Turn::Rest | Turn::All => self.chosen(number),
        };
        let cut = |run: Range<u64>| run.start.max(within.start)..run.end.min(within.end);
        frames.runs().map(cut).filter(|run| !run.is_empty()).collect()
    }

    /// How many tiers of pages come first.
    pub(super) fn tiers(&self) -> usize {
        self.tiers.len()
    }

    /// How many pages some frames have.
    pub(super) fn count(&self, within: &Range<u64>) -> u64 {
        if (within.start, within.end) == (0, self.frames) {
            return self.pages();
        }
        let runs = (0..self.gib_count()).flat_map(|number| self.runs(number, within, Turn::All));
        runs.fold(0, |sum, run| sum.saturating_add(run.end.saturating_sub(run.start)))
    }

    /// Tells of ascending frames how many pages within some frames come before each.
    pub(super) fn places(&self, within: Range<u64>) -> Places<'_> {
        Places { plan: self, within, gib: 0, runs: Vec::new(), passed: 0 }
    }

    /// The pages of a whole GiB, if all of it is within some frames.
    fn pages_of(&self, number: u64, within: &Range<u64>) -> Option<u64> {
        let first = number.saturating_mul(FrameSet::FRAMES);
        let end = first.saturating_add(FrameSet::FRAMES).min(self.frames);
        let gib = usize::try_from(number).ok().and_then(|number| self.gibs.get(number))?;
        (within.start <= first && end <= within.end).then_some(gib.pages)
    }

    fn choose(&self, number: u64) -> FrameSet {
        let mut frames = FrameSet::empty(number);
        self.each_run(number, |run, state| {
            if state == RunState::Present {
                frames.insert(run);
            }
        });
        if !frames.is_empty() {
            self.keep.narrow(&mut frames);
        }
        frames
    }

    /// The frames of a GiB that are RAM.
    pub(super) fn ram(&self, number: u64) -> FrameSet {
        let mut frames = FrameSet::empty(number);
        self.each_run(number, |run, state| {
            if state != RunState::Missing(Why::NeverPresent) {
                frames.insert(run);
            }
        });
        frames
    }

    /// The runs of `memory` in a GiB. A page that is only partly there counts by its first byte.
    fn each_run(&self, number: u64, mut see: impl FnMut(Range<u64>, RunState)) {
        let first = number.saturating_mul(FrameSet::FRAMES);
        let end = first.saturating_add(FrameSet::FRAMES).saturating_mul(PAGE as u64);
        let mut at = first.saturating_mul(PAGE as u64);
        while at < end {
            let Some(run) = self.memory.next_run(PhysAddr(at)) else { return };
            let next = run.start.0.saturating_add(run.bytes);
            see(at.div_ceil(PAGE as u64)..next.div_ceil(PAGE as u64), run.state);
            if next <= at {
                return;
            }
            at = next;
        }
    }

    fn end_of_ram(&self, control: &Control<'_>) -> Result<u64, WriteError> {
        let (mut at, mut frames) = (0_u64, 0);
        while let Some(run) = self.memory.next_run(PhysAddr(at)) {
            control.cancel.check()?;
            let next = run.start.0.saturating_add(run.bytes);
            if run.state != RunState::Missing(Why::NeverPresent) {
                frames = next.div_ceil(PAGE as u64);
            }
            if next <= at {
                break;
            }
            at = next;
        }
        let too_big = WriteError::TooBig("physical memory goes beyond 16 TiB");
        if frames > MAX_FRAMES { Err(too_big) } else { Ok(frames) }
    }
}

/// See [`Plan::places`].
pub(super) struct Places<'a> {
    plan: &'a Plan<'a>,
    within: Range<u64>,
    /// The next GiB.
    gib: u64,
    /// Runs of the one before that were not passed, the next one last.
    runs: Vec<Range<u64>>,
    /// Pages that were passed.
    passed: u64,
}

impl Places<'_> {
    /// How many pages come before a frame, which is one of them and lies behind the one asked for before.
    pub(super) fn of(&mut self, pfn: u64) -> Option<u64> {
        loop {
            match self.runs.last() {
                Some(run) if pfn < run.end => {
                    return pfn.checked_sub(run.start).map(|skipped| self.passed.saturating_add(skipped));
                }
                Some(run) => {
                    self.passed = self.passed.saturating_add(run.end.saturating_sub(run.start));
                    self.runs.pop();
                }
                None if self.gib >= self.plan.gib_count() => return None,
                None => self.next_gib(pfn),
            }
        }
    }

    fn next_gib(&mut self, pfn: u64) {
        let number = self.gib;
        self.gib = number.saturating_add(1);
        let is_before = self.gib.saturating_mul(FrameSet::FRAMES) <= pfn;
        match self.plan.pages_of(number, &self.within).filter(|_| is_before) {
            Some(pages) => self.passed = self.passed.saturating_add(pages),
            None => {
                self.runs = self.plan.runs(number, &self.within, Turn::All);
                self.runs.reverse();
            }
        }
    }
}
