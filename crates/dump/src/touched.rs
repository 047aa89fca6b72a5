//! Memory that notes which of its pages are read.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use kdive_base::{Missing, PAGE_SIZE, PhysAddr, VirtAddr};

use crate::memory::{PhysicalMemory, Run, Segment};
use crate::write::{FrameSet, Frames};

/// Notes the pages of `memory` that are read by their physical addresses, until it is told to stop: what a question is
/// answered from. It takes 32 KiB for each GiB of which a page was read.
pub struct Touched {
    memory: Arc<dyn PhysicalMemory>,
    stopped: AtomicBool,
    gibs: RwLock<BTreeMap<u64, Arc<[AtomicU64]>>>,
}

const BITS: u64 = 64;

impl Touched {
    /// Watches `memory` from now on.
    #[must_use]
    pub fn new(memory: Arc<dyn PhysicalMemory>) -> Self {
        Self { memory, stopped: AtomicBool::new(false), gibs: RwLock::default() }
    }

    /// Notes no more.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// The pages that were read.
    #[must_use]
    pub fn frames(&self) -> Frames {
        let mut frames = Frames::default();
        let gibs = self.gibs.read().unwrap_or_else(PoisonError::into_inner);
        for (number, words) in &*gibs {
            let first = number.saturating_mul(FrameSet::FRAMES);
            for (word, index) in words.iter().zip(0_u64..) {
                let word = word.load(Ordering::Relaxed);
                for bit in (0..BITS).filter(|bit| word.wrapping_shr(*bit as u32) & 1 == 1) {
                    let pfn = first.saturating_add(index.saturating_mul(BITS)).saturating_add(bit);
                    frames.insert(pfn..pfn.saturating_add(1));
                }
            }
        }
        frames
    }

    fn note(&self, pfn: u64) {
        let number = pfn.checked_div(FrameSet::FRAMES).unwrap_or(0);
        let bit = pfn.checked_rem(FrameSet::FRAMES).unwrap_or(0);
        let known = self.gibs.read().unwrap_or_else(PoisonError::into_inner).get(&number).cloned();
        let words = known.unwrap_or_else(|| {
            let mut gibs = self.gibs.write().unwrap_or_else(PoisonError::into_inner);
            let empty = || (0..FrameSet::FRAMES.div_ceil(BITS)).map(|_| AtomicU64::new(0)).collect();
            gibs.entry(number).or_insert_with(empty).clone()
        });
        let word = usize::try_from(bit.checked_div(BITS).unwrap_or(0)).ok().and_then(|word| words.get(word));
        if let Some(word) = word {
            word.fetch_or(1_u64.wrapping_shl((bit % BITS) as u32), Ordering::Relaxed);
        }
    }
}

impl PhysicalMemory for Touched {
    fn read(&self, at: PhysAddr, into: &mut [u8]) -> (usize, Option<Missing>) {
        let (count, missing) = self.memory.read(at, into);
        if !self.stopped.load(Ordering::Relaxed) {
            let end = at.0.saturating_add(count as u64).div_ceil(PAGE_SIZE);
            (at.pfn().0..end).for_each(|pfn| self.note(pfn));
        }
        (count, missing)
    }

    fn next_run(&self, from: PhysAddr) -> Option<Run> {
        self.memory.next_run(from)
    }

    fn virtual_segments(&self) -> &[Segment] {
        self.memory.virtual_segments()
    }

    fn read_virtual(&self, at: VirtAddr, into: &mut [u8]) -> (usize, Option<Missing>) {
        self.memory.read_virtual(at, into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Hints, Input, InputFile, open};

    #[test]
    fn pages_are_noted_until_it_is_told_to_stop() {
        let page = PAGE_SIZE;
        let file = InputFile::raw("zeros", Arc::new(vec![0_u8; 9 * page as usize]), PhysAddr(page * 70));
        let opened = open(Input::from(file), &Hints::default()).unwrap();
        let touched = Touched::new(opened.memory);
        touched.read(PhysAddr(page * 71 + 4000), &mut [0; 200]);
        touched.read(PhysAddr(page * 75), &mut [0; 10]);
        // Only what came: the file ends with page 78.
        touched.read(PhysAddr(page * 78), &mut [0; 3 * 4096]);
        touched.read(PhysAddr(page * 90), &mut [0; 10]);
        touched.stop();
        touched.read(PhysAddr(page * 73), &mut [0; 10]);
        assert_eq!(touched.frames().runs().collect::<Vec<_>>(), [71..73, 75..76, 78..79]);
        assert!(touched.next_run(PhysAddr(0)).is_some());
    }
}
