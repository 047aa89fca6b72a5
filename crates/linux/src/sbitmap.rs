//! Scalable bitmaps, from which the block layer takes its tags (`include/linux/sbitmap.h`, `lib/sbitmap.c`).

use kdive_base::VirtAddr;
use kdive_target::{Bytes, Field, Kernel, Lacks, Load, MemberAddress};
use serde::Serialize;

/// `SBQ_WAIT_QUEUES`
const WAIT_QUEUES: u64 = 8;
/// Words of the largest bitmap: tags of one queue are 10,240 at most (`BLK_MQ_MAX_DEPTH`), other users have thousands.
const MOST_WORDS: u32 = 1 << 16;

/// A bitmap with waiters for a free bit.
#[derive(Clone, Debug)]
pub struct SbitmapQueue {
    /// Bits.
    pub depth: Field<u32>,
    /// Bits in a word, as a power of two.
    pub shift: Field<u32>,
    /// Words.
    pub map_nr: Field<u32>,
    /// Where each processor begins its search.
    pub alloc_hint: Field<Vec<u32>>,
    /// Bits that are freed before waiters are woken.
    pub wake_batch: Field<u32>,
    /// The wait queue that is woken next.
    pub wake_index: Field<u32>,
    /// Wait queues in use.
    pub ws_active: Field<u32>,
    /// The wait queues.
    pub waits: Field<Vec<Wait>>,
    /// Whether bits are taken in turn.
    pub round_robin: Field<bool>,
    /// The smallest depth that somebody restricts itself to.
    pub min_shallow_depth: Field<u32>,
    /// The words.
    pub words: Field<Vec<Word>>,
}

/// A wait queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Wait {
    /// Bits to be freed before it is woken; 6.0 has no such counter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait_cnt: Option<i32>,
    /// Whether somebody waits.
    pub active: bool,
}

/// A word of the bitmap.
#[derive(Clone, Debug)]
pub struct Word {
    /// The number of its first bit.
    pub first: u32,
    /// How many of its bits are in use.
    pub bits: u32,
    /// The bits taken, of which some are cleared by now.
    pub set: Field<u64>,
    /// The bits that were freed, and not yet given back to the word.
    pub cleared: Field<u64>,
}

impl Word {
    fn mask(&self) -> u64 {
        u64::MAX.checked_shr(64_u32.saturating_sub(self.bits)).unwrap_or(0)
    }

    /// The bits that are taken indeed.
    pub fn busy(&self) -> Field<u64> {
        Ok(self.set.clone()? & !self.cleared.clone()? & self.mask())
    }

    /// Their numbers.
    pub fn numbers(&self) -> Field<impl Iterator<Item = u32> + use<>> {
        let (busy, first) = (self.busy()?, self.first);
        Ok((0..u64::BITS).filter(move |bit| busy >> bit & 1 != 0).map(move |bit| first.saturating_add(bit)))
    }
}

#[derive(Load)]
#[load(type = "sbitmap_queue")]
struct Fields {
    #[load(any("sb.depth"))]
    depth: Field<u32>,
    #[load(any("sb.shift"))]
    shift: Field<u32>,
    #[load(any("sb.map_nr"))]
    map_nr: Field<u32>,
    #[load(any("sb.map"))]
    map: Field<VirtAddr>,
    #[load(any("sb.alloc_hint", "alloc_hint"))]
    alloc_hint: Field<VirtAddr>,
    #[load(any("sb.round_robin", "round_robin"))]
    round_robin: Field<bool>,
    wake_batch: Field<u32>,
    #[load(any("wake_index.counter"))]
    wake_index: Field<u32>,
    #[load(any("ws_active.counter"))]
    ws_active: Field<u32>,
    ws: Field<VirtAddr>,
    min_shallow_depth: Field<u32>,
}

#[derive(Load)]
#[load(type = "sbq_wait_state")]
struct WaitState {
    #[load(any("wait_cnt.counter"))]
    wait_cnt: Field<i32>,
    #[load(any("wait.head", "wait.task_list"))]
    waiters: Field<MemberAddress>,
    #[load(any("wait.head", "wait.task_list"))]
    links: Field<Bytes>,
}

#[derive(Load)]
#[load(type = "sbitmap_word")]
struct WordFields {
    word: Field<u64>,
    cleared: Field<u64>,
}

impl SbitmapQueue {
    /// The `struct sbitmap_queue` at an address.
    #[must_use]
    pub fn load(kernel: &Kernel, at: VirtAddr) -> Self {
        let fields: Fields = kernel.load(at);
        Self {
            alloc_hint: hints(kernel, &fields),
            waits: waits(kernel, &fields),
            words: words(kernel, &fields),
            depth: fields.depth,
            shift: fields.shift,
            map_nr: fields.map_nr,
            wake_batch: fields.wake_batch,
            wake_index: fields.wake_index,
            ws_active: fields.ws_active,
            round_robin: fields.round_robin,
            min_shallow_depth: fields.min_shallow_depth,
        }
    }
}

fn hints(kernel: &Kernel, fields: &Fields) -> Field<Vec<u32>> {
    let variable = fields.alloc_hint.clone()?;
    if variable.is_null() {
        return Ok(Vec::new());
    }
    let cpus = kernel.cpus()?;
    let one = |cpu| Ok(kernel.memory().u32(cpus.per_cpu(variable, cpu)?)?);
    cpus.possible.iter().map(one).collect()
}

fn waits(kernel: &Kernel, fields: &Fields) -> Field<Vec<Wait>> {
    let loader = kernel.loader::<WaitState>();
    let (first, size) = (fields.ws.clone()?, loader.size()?);
    let one = |number: u64| {
        let state = loader.load(first.add(size.saturating_mul(number)));
        let (at, links) = (state.waiters?.0, state.links?.0);
        let next = kernel.memory().endian().u64(&links, 0);
        Ok(Wait { wait_cnt: state.wait_cnt.ok(), active: next != Some(at.0) })
    };
    (0..WAIT_QUEUES).map(one).collect()
}

fn words(kernel: &Kernel, fields: &Fields) -> Field<Vec<Word>> {
    let loader = kernel.loader::<WordFields>();
    let (map, size) = (fields.map.clone()?, loader.size()?);
    let (depth, shift, count) = (fields.depth.clone()?, fields.shift.clone()?, fields.map_nr.clone()?);
    if count > MOST_WORDS || shift > u64::BITS.trailing_zeros() {
        let what = format_args!("a bitmap of {count} words of 2^{shift} bits");
        return Err(Lacks::implausible(what));
    }
    let one = |number: u32| {
        let fields = loader.load(map.add(size.saturating_mul(number.into())));
        let first = number.saturating_mul(1 << shift);
        let bits = depth.saturating_sub(first).min(1 << shift);
        Word { first, bits, set: fields.word, cleared: fields.cleared }
    };
    Ok((0..count).map(one).collect())
}

/// The bitmap's bytes as the kernel shows them: bits in use, word by word, without the gaps between words.
#[must_use]
pub fn packed(words: &[(u64, u32)]) -> Vec<u8> {
    let bits =
        words.iter().flat_map(|&(word, bits)| (0..bits.min(u64::BITS)).map(move |bit| word >> bit & 1));
    let mut bytes = Vec::new();
    let mut filled = 0_u32;
    for bit in bits {
        if filled == 0 {
            bytes.push(0);
        }
        if let Some(last) = bytes.last_mut() {
            *last |= (bit as u8) << filled;
        }
        filled = filled.saturating_add(1) % u8::BITS;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(first: u32, bits: u32, set: u64, cleared: u64) -> Word {
        Word { first, bits, set: Ok(set), cleared: Ok(cleared) }
    }

    #[test]
    fn freed_bits_are_not_busy() {
        let word = word(96, 32, 0b1_1111, 0b1_0000);
        assert_eq!(word.numbers().unwrap().collect::<Vec<_>>(), [96, 97, 98, 99]);
    }

    #[test]
    fn bits_behind_the_depth_do_not_count() {
        assert_eq!(word(0, 3, 0xff, 0).busy(), Ok(7));
        assert_eq!(word(0, 64, u64::MAX, 0).busy(), Ok(u64::MAX));
        assert_eq!(word(0, 0, u64::MAX, 0).busy(), Ok(0));
    }

    #[test]
    fn words_are_packed_without_gaps() {
        assert_eq!(packed(&[(0x3, 4), (0x1, 4), (0x81, 8)]), [0x13, 0x81]);
        // 136 bits in words of 32: crash's example, bits 76 and 77.
        let words = [(0, 32), (0, 32), (0x3000, 32), (0, 32), (0, 8)];
        let bytes = packed(&words);
        assert_eq!((bytes.len(), bytes[9]), (17, 0x30));
    }
}
