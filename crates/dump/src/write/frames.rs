//! A set of page frames within one GiB.

use std::collections::BTreeMap;
use std::ops::Range;

use kdive_base::Pfn;

/// Some of the frames of one GiB of physical memory.
///
/// It is as large as the largest page (`PUD_SIZE` on x86-64) and aligned to that: no block of the page allocator and no
/// compound page lies in two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameSet {
    first: u64,
    words: Box<[u64]>,
}

const WORDS: usize = 4096;
const BITS: u64 = 64;

impl FrameSet {
    /// How many frames a set is about.
    pub const FRAMES: u64 = WORDS as u64 * BITS;
    /// Bytes that it takes.
    pub(super) const BYTES: usize = WORDS * 8;

    /// None of the frames of the GiB with this number.
    #[must_use]
    pub fn empty(number: u64) -> Self {
        Self { first: number.saturating_mul(Self::FRAMES), words: vec![0; WORDS].into_boxed_slice() }
    }

    /// All frames that may be in it.
    #[must_use]
    pub fn range(&self) -> Range<Pfn> {
        Pfn(self.first)..Pfn(self.first.saturating_add(Self::FRAMES))
    }

    /// Adds frames. Those of other GiBs are ignored.
    pub fn insert(&mut self, frames: Range<u64>) {
        self.change(frames, |word, mask| *word |= mask);
    }

    /// Takes frames out. Those of other GiBs are ignored.
    pub fn remove(&mut self, frames: Range<u64>) {
        self.change(frames, |word, mask| *word &= !mask);
    }

    /// Keeps those frames only that are in `other`, a set about the same GiB.
    pub fn intersect(&mut self, other: &Self) {
        self.words.iter_mut().zip(&other.words).for_each(|(word, other)| *word &= other);
    }

    /// Adds the frames of `other`, a set about the same GiB.
    pub fn unite(&mut self, other: &Self) {
        self.words.iter_mut().zip(&other.words).for_each(|(word, other)| *word |= other);
    }

    /// Takes the frames of `other` out, a set about the same GiB.
    pub fn subtract(&mut self, other: &Self) {
        self.words.iter_mut().zip(&other.words).for_each(|(word, other)| *word &= !other);
    }

    /// The number of the GiB.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.first.checked_div(Self::FRAMES).unwrap_or(0)
    }

    fn change(&mut self, frames: Range<u64>, change: impl Fn(&mut u64, u64)) {
        let Range { start: Pfn(first), end: Pfn(last) } = self.range();
        let (start, end) = (frames.start.max(first), frames.end.min(last));
        if start >= end {
            return;
        }
        let (start, end) = (start.saturating_sub(first), end.saturating_sub(first));
        let words = usize::try_from(start / BITS).unwrap_or(WORDS)
            ..usize::try_from(end.div_ceil(BITS)).unwrap_or(WORDS);
        let mut at = start.saturating_sub(start % BITS);
        for word in self.words.get_mut(words).unwrap_or_default() {
            let low = u64::MAX.wrapping_shl(start.saturating_sub(at) as u32);
            let above = at.saturating_add(BITS).saturating_sub(end) as u32;
            change(word, low & u64::MAX.wrapping_shr(above));
            at = at.saturating_add(BITS);
        }
    }

    /// Whether a frame is in it.
    #[must_use]
    pub fn contains(&self, pfn: Pfn) -> bool {
        let Some(bit) = pfn.0.checked_sub(self.first) else { return false };
        let word = usize::try_from(bit / BITS).ok().and_then(|word| self.words.get(word));
        word.is_some_and(|word| word.wrapping_shr((bit % BITS) as u32) & 1 == 1)
    }

    /// How many frames are in it.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.words.iter().fold(0, |sum, word| sum.saturating_add(word.count_ones().into()))
    }

    /// Whether no frame is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|&word| word == 0)
    }

    /// Its frames as ranges that do not touch, in order.
    pub fn runs(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        let mut next = 0;
        std::iter::from_fn(move || {
            let start = self.find(next, true)?;
            let end = self.find(start, false).unwrap_or(Self::FRAMES);
            next = end;
            Some(self.first.saturating_add(start)..self.first.saturating_add(end))
        })
    }

    /// The first bit at or after `from` that is as asked.
    fn find(&self, from: u64, set: bool) -> Option<u64> {
        let first = usize::try_from(from / BITS).ok()?;
        let mut skipped = from % BITS;
        for (index, word) in self.words.iter().enumerate().skip(first) {
            let word = if set { *word } else { !*word };
            let word = word & u64::MAX.wrapping_shl(skipped as u32);
            skipped = 0;
            if word != 0 {
                return Some(
                    (index as u64).saturating_mul(BITS).saturating_add(word.trailing_zeros().into()),
                );
            }
        }
        None
    }

    /// As the bitmaps of kdump-compressed files have it: the first frame in the lowest bit of the first byte.
    pub(super) fn bytes(&self) -> Vec<u8> {
        self.words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }
}

/// Some frames of any GiBs: 32 KiB for each GiB that has one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frames(BTreeMap<u64, FrameSet>);

/// A page table can name any frame: what lies beyond 16 TiB is no memory, and takes none.
const MOST_GIBS: u64 = 1 << 14;

impl Frames {
    /// Adds frames; those beyond 16 TiB are ignored.
    pub fn insert(&mut self, frames: Range<u64>) {
        let end = frames.end.min(MOST_GIBS.saturating_mul(FrameSet::FRAMES));
        if frames.start >= end {
            return;
        }
        let number = |pfn: u64| pfn.checked_div(FrameSet::FRAMES).unwrap_or(0);
        for number in number(frames.start)..=number(end.saturating_sub(1)) {
            self.0.entry(number).or_insert_with(|| FrameSet::empty(number)).insert(frames.clone());
        }
    }

    /// Takes out those of `other`.
    pub fn subtract(&mut self, other: &Self) {
        for (number, frames) in &mut self.0 {
            if let Some(other) = other.0.get(number) {
                frames.subtract(other);
            }
        }
    }

    /// Those of a GiB, if there are any.
    #[must_use]
    pub fn of_gib(&self, number: u64) -> Option<&FrameSet> {
        self.0.get(&number)
    }

    /// How many frames are in it.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.values().fold(0, |sum, frames| sum.saturating_add(frames.count()))
    }

    /// Whether no frame is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.values().all(FrameSet::is_empty)
    }

    /// Its frames as ranges, in order. Ranges end at each GiB.
    pub fn runs(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.0.values().flat_map(FrameSet::runs)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_set(
            changes in prop::collection::vec((any::<bool>(), 0_u64..800, 0_u64..300), 0..12), number in 0_u64..3,
        ) {
            let base = number * FrameSet::FRAMES;
            let (mut set, mut model) = (FrameSet::empty(number), std::collections::BTreeSet::new());
            for (insert, start, length) in changes {
                let frames = base + start..base + start + length;
                if insert {
                    set.insert(frames.clone());
                    model.extend(frames);
                } else {
                    set.remove(frames.clone());
                    model.retain(|pfn| !frames.contains(pfn));
                }
            }
            prop_assert_eq!(set.count(), model.len() as u64);
            prop_assert_eq!(set.is_empty(), model.is_empty());
            prop_assert_eq!(set.runs().flatten().collect::<Vec<_>>(), model.iter().copied().collect::<Vec<_>>());
            prop_assert!((base..base + 1200).all(|pfn| set.contains(Pfn(pfn)) == model.contains(&pfn)));
            let runs: Vec<_> = set.runs().collect();
            prop_assert!(runs.windows(2).all(|pair| pair[0].end < pair[1].start), "runs that touch");
        }
    }

    #[test]
    fn frames_of_any_gib_are_held_and_those_of_no_machine_are_not() {
        let end = FrameSet::FRAMES;
        let mut frames = Frames::default();
        frames.insert(end - 2..end + 3);
        frames.insert(u64::MAX - 5..u64::MAX);
        frames.insert(7..7);
        assert_eq!(frames.runs().collect::<Vec<_>>(), [end - 2..end, end..end + 3]);
        let mut other = Frames::default();
        other.insert(end..end + 1);
        frames.subtract(&other);
        assert_eq!((frames.count(), frames.is_empty()), (4, false));
        assert!(frames.of_gib(1).is_some() && frames.of_gib(2).is_none());
        let mut first = FrameSet::empty(0);
        first.unite(frames.of_gib(0).unwrap());
        assert_eq!((first.count(), first.number()), (2, 0));
    }

    #[test]
    fn frames_of_other_gibs_are_ignored() {
        let mut set = FrameSet::empty(1);
        set.insert(0..u64::MAX);
        assert_eq!(set.count(), FrameSet::FRAMES);
        set.remove(FrameSet::FRAMES + 1..FrameSet::FRAMES * 5);
        assert_eq!(set.runs().flatten().collect::<Vec<_>>(), [FrameSet::FRAMES]);
        assert!(!set.contains(Pfn(0)) && !set.contains(Pfn(u64::MAX)));
        assert_eq!(set.bytes().len(), FrameSet::BYTES);
        assert_eq!(set.bytes()[0], 1);
    }
}
