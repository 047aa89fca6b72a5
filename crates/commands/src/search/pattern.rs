//! What is looked for, and where it is in a piece of memory.

use memchr::memmem::Finder;

/// Something found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hit {
    /// Its address.
    pub(crate) at: u64,
    /// The number found; 0 for a text.
    pub(crate) value: u64,
    /// Which of the values or texts it is.
    pub(crate) which: usize,
}

/// What is looked for.
pub(crate) enum Pattern {
    /// Numbers of `size` bytes, aligned to their size.
    Numbers {
        /// 2, 4 or 8.
        size: usize,
        values: Vec<u64>,
        /// Bits that do not matter.
        ignored: u64,
    },
    /// Texts, anywhere.
    Texts(Vec<Finder<'static>>),
    /// Numbers of 8 bytes, aligned, from one to another: pointers into an object.
    Within { first: u64, last: u64 },
}

impl Pattern {
    pub(super) fn texts(texts: &[String]) -> Self {
        Self::Texts(texts.iter().map(|text| Finder::new(text.as_bytes()).into_owned()).collect())
    }

    /// Bytes behind a piece of memory that a match which begins in it can reach.
    pub(super) fn ahead(&self) -> usize {
        match self {
            Self::Numbers { .. } | Self::Within { .. } => 0,
            Self::Texts(texts) => {
                texts.iter().map(|text| text.needle().len()).max().unwrap_or(0).saturating_sub(1)
            }
        }
    }

    /// What addresses of matches are multiples of.
    pub(super) fn alignment(&self) -> u64 {
        match self {
            Self::Numbers { size, .. } => *size as u64,
            Self::Texts(_) => 1,
            Self::Within { .. } => 8,
        }
    }

    /// Adds what begins in the first `limit` bytes of `bytes`, in the order of addresses; `at` is the address of the
    /// first byte.
    pub(super) fn find(&self, bytes: &[u8], limit: usize, at: u64, hits: &mut Vec<Hit>) {
        match self {
            Self::Numbers { size, values, ignored } => {
                let bytes = bytes.get(..limit).unwrap_or(bytes);
                match size {
                    2 => numbers::<2, u16>(bytes, at, values, *ignored, hits),
                    4 => numbers::<4, u32>(bytes, at, values, *ignored, hits),
                    _ => numbers::<8, u64>(bytes, at, values, *ignored, hits),
                }
            }
            Self::Within { first, last } => {
                within(bytes.get(..limit).unwrap_or(bytes), at, *first, *last, hits);
            }
            Self::Texts(texts) => {
                let before = hits.len();
                for (which, text) in texts.iter().enumerate() {
                    find_text(text, bytes, limit, at, which, hits);
                }
                if texts.len() > 1 {
                    hits.get_mut(before..).unwrap_or_default().sort_by_key(|hit| (hit.at, hit.which));
                }
            }
        }
    }
}

/// All occurrences, those that overlap too: what is found does not depend on where pieces begin.
fn find_text(text: &Finder<'_>, bytes: &[u8], limit: usize, at: u64, which: usize, hits: &mut Vec<Hit>) {
    let mut from = 0_usize;
    while let Some(found) = bytes.get(from..).and_then(|rest| text.find(rest)) {
        let start = from.saturating_add(found);
        if start >= limit {
            return;
        }
        hits.push(Hit { at: at.wrapping_add(start as u64), value: 0, which });
        from = start.saturating_add(1);
    }
}

/// An unsigned integer in memory.
trait Word<const N: usize>: Copy + PartialEq + Into<u64> {
    fn of(bytes: [u8; N]) -> Self;
    fn cut(value: u64) -> Self;
    fn and(self, other: Self) -> Self;
}

macro_rules! word {
    ($word:ty, $bytes:literal) => {
        impl Word<$bytes> for $word {
            fn of(bytes: [u8; $bytes]) -> Self {
                Self::from_le_bytes(bytes)
            }
            fn cut(value: u64) -> Self {
                value as Self
            }
            fn and(self, other: Self) -> Self {
                self & other
            }
        }
    };
}
word!(u16, 2);
word!(u32, 4);
word!(u64, 8);

/// Numbers that are compared before one is looked at: the inner loop has no branch, so that it becomes vector code.
const BLOCK: usize = 64;

fn numbers<const N: usize, W: Word<N>>(
    bytes: &[u8],
    at: u64,
    values: &[u64],
    ignored: u64,
    hits: &mut Vec<Hit>,
) {
    let keep = W::cut(!ignored);
    let wanted: Vec<W> = values.iter().map(|&value| W::cut(value).and(keep)).collect();
    let (words, _) = bytes.as_chunks::<N>();
    for (index, block) in words.chunks(BLOCK).enumerate() {
        let any = wanted.iter().any(|&wanted| holds(block, wanted, keep));
        if any {
            let at = at.wrapping_add((index * BLOCK * N) as u64);
            look_at(block, at, &wanted, keep, hits);
        }
    }
}

fn holds<const N: usize, W: Word<N>>(block: &[[u8; N]], wanted: W, keep: W) -> bool {
    block.iter().fold(false, |found, &word| found | (W::of(word).and(keep) == wanted))
}

fn look_at<const N: usize, W: Word<N>>(
    block: &[[u8; N]],
    at: u64,
    wanted: &[W],
    keep: W,
    hits: &mut Vec<Hit>,
) {
    for (index, &word) in block.iter().enumerate() {
        let word = W::of(word);
        let kept = word.and(keep);
        for (which, _) in wanted.iter().enumerate().filter(|(_, wanted)| **wanted == kept) {
            hits.push(Hit { at: at.wrapping_add((index * N) as u64), value: word.into(), which });
        }
    }
}

fn within(bytes: &[u8], at: u64, first: u64, last: u64, hits: &mut Vec<Hit>) {
    let room = last.saturating_sub(first);
    let is_inside = |word: &[u8; 8]| u64::from_le_bytes(*word).wrapping_sub(first) <= room;
    let (words, _) = bytes.as_chunks::<8>();
    for (index, block) in words.chunks(BLOCK).enumerate() {
        // As for single numbers: without a branch.
        if !block.iter().fold(false, |found, word| found | is_inside(word)) {
            continue;
        }
        let at = at.wrapping_add((index * BLOCK * 8) as u64);
        for (index, word) in block.iter().enumerate().filter(|(_, word)| is_inside(word)) {
            let value = u64::from_le_bytes(*word);
            hits.push(Hit { at: at.wrapping_add((index * 8) as u64), value, which: 0 });
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn naive(pattern: &Pattern, bytes: &[u8], limit: usize, at: u64) -> Vec<Hit> {
        let mut hits = Vec::new();
        for start in 0..limit.min(bytes.len()) {
            match pattern {
                Pattern::Numbers { size, values, ignored } => {
                    if start % size != 0 || start + size > limit.min(bytes.len()) {
                        continue;
                    }
                    let mut wide = [0; 8];
                    wide[..*size].copy_from_slice(&bytes[start..start + size]);
                    let value = u64::from_le_bytes(wide);
                    let mask = !ignored & (u64::MAX >> (64 - 8 * size));
                    let same = |(_, wanted): &(usize, &u64)| (value ^ **wanted) & mask == 0;
                    let found = values.iter().enumerate().filter(same);
                    hits.extend(found.map(|(which, _)| Hit { at: at + start as u64, value, which }));
                }
                Pattern::Within { first, last } => {
                    if start % 8 != 0 || start + 8 > limit.min(bytes.len()) {
                        continue;
                    }
                    let value = u64::from_le_bytes(bytes[start..start + 8].try_into().unwrap());
                    if (*first..=*last).contains(&value) {
                        hits.push(Hit { at: at + start as u64, value, which: 0 });
                    }
                }
                Pattern::Texts(texts) => {
                    let same = |(_, text): &(usize, &Finder<'_>)| bytes[start..].starts_with(text.needle());
                    let found = texts.iter().enumerate().filter(same);
                    hits.extend(found.map(|(which, _)| Hit { at: at + start as u64, value: 0, which }));
                }
            }
        }
        hits
    }

    proptest! {
        #[test]
        fn numbers_are_found_as_one_by_one(
            bytes in proptest::collection::vec(0_u8..3, 0..3000),
            size in prop_oneof![Just(2_usize), Just(4), Just(8)],
            values in proptest::collection::vec(0_u64..0x0202_0203, 1..4),
            ignored: u16,
            limit in 0_usize..3000,
        ) {
            let pattern = Pattern::Numbers { size, values, ignored: ignored.into() };
            let limit = limit / size * size;
            let mut hits = Vec::new();
            pattern.find(&bytes, limit, 0x1000, &mut hits);
            prop_assert_eq!(hits, naive(&pattern, &bytes, limit, 0x1000));
        }

        #[test]
        fn numbers_in_a_range_are_found_as_one_by_one(
            words in proptest::collection::vec(0_u64..40, 0..400),
            first in 0_u64..40,
            room in 0_u64..10,
            limit in 0_usize..400,
        ) {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            let pattern = Pattern::Within { first, last: first + room };
            let mut hits = Vec::new();
            pattern.find(&bytes, limit * 8, 0x1000, &mut hits);
            prop_assert_eq!(hits, naive(&pattern, &bytes, limit * 8, 0x1000));
        }

        #[test]
        fn texts_are_found_as_one_by_one(
            bytes in proptest::collection::vec(b'a'..b'c', 0..500),
            texts in proptest::collection::vec("[ab]{1,4}", 1..4),
            limit in 0_usize..600,
        ) {
            let pattern = Pattern::texts(&texts);
            let mut hits = Vec::new();
            pattern.find(&bytes, limit, 0x1000, &mut hits);
            prop_assert_eq!(hits, naive(&pattern, &bytes, limit, 0x1000));
        }
    }
}
