//! Where a log may begin: tests that are cheap enough for every word of a file.
//!
//! Each test looks at a few words that lie at fixed distances, so that the compiler makes vector code of it. What passes
//! is looked at again by [`super::items`].

/// Words that are tested together.
const GROUP: usize = 64;
/// Words behind a group that tests look at.
const LOOK: usize = 32;

/// What may begin at a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seed {
    /// A `printk_info`, by the index of its layout in [`super::items::INFO_LAYOUTS`].
    Info(usize),
    /// A `prb_desc`.
    Desc,
    /// A block of the text ring.
    Block,
    /// A `printk_log`.
    Header,
}

/// Sizes of `printk_info`, in words.
const INFO_WORDS: [usize; 2] = [88 / 4, 112 / 4];

type Words = [u32; GROUP + LOOK];

/// Calls `hit` for each multiple of four below `end` where something may begin. Tests look up to
/// 400 bytes further; behind the end of `bytes` they see zeros.
pub(super) fn find(bytes: &[u8], end: usize, mut hit: impl FnMut(Seed, usize)) {
    const STEP: usize = GROUP * 4;
    let mut words: Words = [0; GROUP + LOOK];
    for from in (0..end).step_by(STEP) {
        let piece = bytes.get(from..).unwrap_or_default();
        // Time and number of a first record may be zero: what is behind the group counts.
        if piece.first_chunk::<{ STEP + 32 }>().is_some_and(|group| *group == [0; STEP + 32]) {
            continue;
        }
        words.fill(0);
        for (word, raw) in words.iter_mut().zip(piece.as_chunks::<4>().0) {
            *word = u32::from_le_bytes(*raw);
        }
        let mut each = |seed: Seed, positions: u64| {
            let mut left = positions;
            while left != 0 {
                let at = from.saturating_add((left.trailing_zeros() as usize).saturating_mul(4));
                if at < end {
                    hit(seed, at);
                }
                left &= left.wrapping_sub(1);
            }
        };
        for (layout, stride) in INFO_WORDS.into_iter().enumerate() {
            each(Seed::Info(layout), infos(&words, stride));
        }
        each(Seed::Desc, descs(&words));
        each(Seed::Block, blocks(&words));
        each(Seed::Header, headers(&words));
    }
}

/// The group as it looks `by` words further on.
fn at(words: &Words, by: usize) -> &[u32; GROUP] {
    const NONE: &[u32; GROUP] = &[0; GROUP];
    words.get(by..).and_then(|words| words.first_chunk()).unwrap_or(NONE)
}

/// A bit for each position that passed. Mostly none does, which a vector tells faster than bits.
fn positions(passed: impl Iterator<Item = bool> + Clone) -> u64 {
    if !passed.clone().fold(false, |any, passed| any | passed) {
        return 0;
    }
    passed.enumerate().fold(0, |bits, (index, passed)| bits | u64::from(passed) << (index & 63))
}

/// Sequence numbers of neighbours follow one another (`u64 seq; u64 ts_nsec; u16 text_len; ...`).
fn infos(words: &Words, stride: usize) -> u64 {
    let sequences = at(words, 0).iter().zip(at(words, stride));
    let upper = at(words, 1).iter().zip(at(words, stride.saturating_add(1)));
    let rest = at(words, 3).iter().zip(at(words, 4));
    positions(sequences.zip(upper).zip(rest).map(|(((seq, next), (high, next_high)), (time, lengths))| {
        (*next == seq.wrapping_add(1))
            & ((high | next_high) == 0)
            & (*time < 1 << 26)
            & ((lengths & 0xffff) <= super::items::MAX_TEXT as u32)
    }))
}

/// Upper half of a descriptor's id. Ids begin `2^count_bits + 1` below 2^32 (below 2^62 since 6.18 or so) and count on.
fn is_upper_id(word: u32) -> bool {
    (word.wrapping_add(1) & 0x3fff_ffff) <= 4
}

/// Descriptors that are or were in use, with ids that follow one another.
fn descs(words: &Words) -> u64 {
    let ids = at(words, 0).iter().zip(at(words, 6));
    let upper = at(words, 1).iter().zip(at(words, 7));
    positions(ids.zip(upper).map(|((id, next), (high, next_high))| {
        (*next == id.wrapping_add(1))
            & ((high ^ next_high) << 2 == 0)
            & (high >> 30 != 0)
            & (next_high >> 30 != 0)
            & is_upper_id(*high)
    }))
}

/// An id, then eight printable characters.
fn blocks(words: &Words) -> u64 {
    let ids = at(words, 0).iter().zip(at(words, 1));
    let text = at(words, 2).iter().zip(at(words, 3));
    positions(ids.zip(text).map(|((id, high), (first, second))| {
        (*id != 0) & (high >> 30 == 0) & is_upper_id(*high) & printable(*first) & printable(*second)
    }))
}

/// Whether all four bytes are ASCII and no control characters.
fn printable(word: u32) -> bool {
    ((word | word.wrapping_sub(0x2020_2020)) & 0x8080_8080) == 0
}

/// Lengths that add up (`u64 ts_nsec; u16 len; u16 text_len; u16 dict_len; u8 facility; ...`).
fn headers(words: &Words) -> u64 {
    let time = at(words, 1).iter();
    let lengths = at(words, 2).iter().zip(at(words, 3));
    positions(time.zip(lengths).map(|(time, (lengths, more))| {
        let (whole, text, dictionary) = (lengths & 0xffff, lengths >> 16, more & 0xffff);
        let slack = whole.wrapping_sub(16).wrapping_sub(text).wrapping_sub(dictionary);
        (slack < 16)
            & (whole & 3 == 0)
            & (*time < 1 << 26)
            & (text != 0)
            & (text <= super::items::MAX_TEXT as u32)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(bytes: &[u8]) -> Vec<(Seed, usize)> {
        let mut found = Vec::new();
        find(bytes, bytes.len(), |seed, at| found.push((seed, at)));
        found
    }

    #[test]
    fn each_structure_is_noticed_at_any_word() {
        for at in [0, 4, 256, 508, 1000] {
            let mut bytes = vec![0; 2048];
            for index in 0..2_u64 {
                let place = at + 88 * index as usize;
                bytes[place..place + 8].copy_from_slice(&(7 + index).to_le_bytes());
                bytes[place + 16] = 5;
            }
            assert!(found(&bytes).contains(&(Seed::Info(0), at)));
            let mut bytes = vec![0; 2048];
            for index in 0..2_u64 {
                let place = at + 24 * index as usize;
                bytes[place..place + 8].copy_from_slice(&((1 << 63) | (0xffff_f000 + index)).to_le_bytes());
            }
            assert!(found(&bytes).contains(&(Seed::Desc, at)));
            let mut bytes = vec![0; 2048];
            bytes[at..at + 8].copy_from_slice(&0x3fff_ffff_ffff_f000_u64.to_le_bytes());
            bytes[at + 8..at + 16].copy_from_slice(b"Linux ve");
            assert!(found(&bytes).contains(&(Seed::Block, at)));
            let mut bytes = vec![0; 2048];
            bytes[at + 8..at + 14].copy_from_slice(&[36, 0, 10, 0, 8, 0]);
            assert!(found(&bytes).contains(&(Seed::Header, at)));
        }
        assert!(found(&[0; 4096]).is_empty());
    }
}
