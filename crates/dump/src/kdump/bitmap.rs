//! A bitmap over page frames, read block by block, with O(1) rank.
//!
//! A page's descriptor is found by its rank: the number of set bits before its own. Blocks of the bitmap are read when they
//! are asked for and kept in a bounded cache. The ranks at the start of blocks are counted from the start as far as they
//! are needed: 8 bytes for each 512 MiB of memory.

use std::sync::{Arc, Mutex, PoisonError};

use kdive_base::{ReadAt, Why};

use crate::cache::Cache;
use crate::memory::RunState;
use crate::window::Window;

const BLOCK_BYTES: usize = 16 << 10;
const BLOCK_BITS: u64 = BLOCK_BYTES as u64 * 8;
/// Set bits are counted up to each line; the rest is counted when asked for.
const LINE_BYTES: usize = 64;
/// 8 MiB, which describe 256 GiB.
const BLOCKS_KEPT: usize = 512;

/// One of the two bitmaps.
pub(crate) struct Bitmap {
    file: Arc<dyn ReadAt>,
    offset: u64,
    bits: u64,
    blocks: Cache<Block>,
    /// Set bits before each block.
    ranks: Mutex<Vec<u64>>,
}

/// A few bits.
#[derive(Clone, Copy)]
pub(crate) struct Bits {
    /// The first in the lowest place. Above the last there are zeros.
    pub(crate) word: u64,
    /// How many there are in `word`.
    pub(crate) count: u64,
    /// The first bit, and all others of its block, are the same: how many bits from the first on.
    pub(crate) alike: Option<u64>,
}

/// The state of a page by the bitmaps of RAM and of what is in the dump, and how many pages from it on have it at least.
pub(crate) fn page_state(ram: &Bitmap, dumped: &Bitmap, pfn: u64) -> (u64, RunState) {
    let (ram, dumped) = match (ram.bits_from(pfn), dumped.bits_from(pfn)) {
        (Ok(ram), Ok(dumped)) => (ram, dumped),
        (Err(why), _) | (_, Err(why)) => return (Bitmap::read_together(pfn), RunState::Missing(why)),
    };
    let (state, differ) = match (dumped.word & 1, ram.word & 1) {
        (1, _) => (RunState::Present, !dumped.word),
        (_, 1) => (RunState::Missing(Why::Excluded), dumped.word | !ram.word),
        _ => (RunState::Missing(Why::NeverPresent), dumped.word | ram.word),
    };
    let pages = match ram.alike.zip(dumped.alike) {
        Some((ram, dumped)) => ram.min(dumped),
        None => u64::from(differ.trailing_zeros()).min(dumped.count),
    };
    (pages, state)
}

struct Block {
    /// As in the file, fewer where the file ends.
    bytes: Box<[u8]>,
    /// All bits are clear, or all are set.
    is_uniform: bool,
    /// Set bits before each line.
    lines: Box<[u32]>,
}

impl Bitmap {
    /// The bitmap of `bits` bits at `offset`.
    pub(crate) fn new(file: Arc<dyn ReadAt>, offset: u64, bits: u64) -> Self {
        Self { file, offset, bits, blocks: Cache::new(BLOCKS_KEPT), ranks: Mutex::new(vec![0]) }
    }

    /// Whether a bit is set, and how many bits before it are.
    pub(crate) fn bit_and_rank(&self, index: u64) -> Result<(bool, u64), Why> {
        if index >= self.bits {
            return Err(Why::NeverPresent);
        }
        let (set, within) =
            self.in_block(index, |block, bit| block.bit_and_rank(bit))?.ok_or(Why::BeyondFileEnd)?;
        Ok((set, self.rank_of_block(index / BLOCK_BITS)?.saturating_add(within)))
    }

    /// The bits from `index` on.
    pub(crate) fn bits_from(&self, index: u64) -> Result<Bits, Why> {
        if index >= self.bits {
            return Err(Why::NeverPresent);
        }
        self.in_block(index, Block::bits_from)?.ok_or(Why::BeyondFileEnd)
    }

    /// Bits from `index` on that are read together: where one cannot be read, neither can those.
    pub(crate) fn read_together(index: u64) -> u64 {
        BLOCK_BITS.saturating_sub(index % BLOCK_BITS)
    }

    /// Set bits in all.
    pub(crate) fn count(&self) -> Result<u64, Why> {
        match self.bits.checked_sub(1) {
            Some(last) => self.bit_and_rank(last).map(|(set, rank)| rank.saturating_add(u64::from(set))),
            None => Ok(0),
        }
    }

    fn in_block<R>(&self, index: u64, read: impl Fn(&Block, usize) -> R) -> Result<R, Why> {
        let number = index / BLOCK_BITS;
        let bit = usize::try_from(index % BLOCK_BITS).unwrap_or(0);
        if let Some(result) = self.blocks.get(number, |block| read(block, bit)) {
            return Ok(result);
        }
        let bytes =
            usize::try_from(self.bits.div_ceil(8).saturating_sub(number.saturating_mul(BLOCK_BYTES as u64)));
        let at = self.offset.saturating_add(number.saturating_mul(BLOCK_BYTES as u64));
        let mut window = Window::new(&*self.file, 0);
        let block = Block::new(window.get(at, bytes.unwrap_or(BLOCK_BYTES).min(BLOCK_BYTES))?);
        let result = read(&block, bit);
        self.blocks.insert(number, block);
        Ok(result)
    }

    /// Set bits before a block. Counts on from the last block that was asked for.
    fn rank_of_block(&self, number: u64) -> Result<u64, Why> {
        let wanted = usize::try_from(number).map_err(|_| Why::NeverPresent)?;
        let mut ranks = self.ranks.lock().unwrap_or_else(PoisonError::into_inner);
        let ahead =
            wanted.saturating_sub(ranks.len()).saturating_add(1).saturating_mul(BLOCK_BYTES).min(1 << 20);
        let mut window = Window::new(&*self.file, ahead);
        while ranks.len() <= wanted {
            let last = ranks.last().copied().unwrap_or(0);
            let done = (ranks.len() as u64).saturating_sub(1).saturating_mul(BLOCK_BYTES as u64);
            let bytes = window.exact(self.offset.saturating_add(done), BLOCK_BYTES)?;
            ranks.push(last.saturating_add(count_ones(bytes)));
        }
        ranks.get(wanted).copied().ok_or(Why::NeverPresent)
    }
}

impl Block {
    fn new(bytes: &[u8]) -> Self {
        let mut before = 0_u64;
        let lines = bytes.chunks(LINE_BYTES).map(|line| {
            let here = before;
            before = before.saturating_add(count_ones(line));
            u32::try_from(here).unwrap_or(u32::MAX)
        });
        let lines = lines.collect();
        let is_uniform = before == 0 || before == (bytes.len() as u64).saturating_mul(8);
        Self { lines, is_uniform, bytes: bytes.into() }
    }

    /// `None` where the file ends before.
    fn bit_and_rank(&self, bit: usize) -> Option<(bool, u64)> {
        let byte = bit / 8;
        let line = byte / LINE_BYTES;
        let value = *self.bytes.get(byte)?;
        let before_in_byte = value & !(0xff_u8 << (bit % 8));
        let rank = u64::from(*self.lines.get(line)?)
            .saturating_add(count_ones(self.bytes.get(line.saturating_mul(LINE_BYTES)..byte)?))
            .saturating_add(u64::from(before_in_byte.count_ones()));
        Some((value >> (bit % 8) & 1 != 0, rank))
    }

    /// `None` where the file ends before.
    fn bits_from(&self, bit: usize) -> Option<Bits> {
        let rest = self.bytes.get((bit / 64).checked_mul(8)?..).filter(|rest| !rest.is_empty())?;
        let mut word = [0; 8];
        word.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        let skipped = u32::try_from(bit % 64).ok()?;
        let left = (self.bytes.len() as u64).saturating_mul(8).saturating_sub(bit as u64);
        Some(Bits {
            word: u64::from_le_bytes(word).unbounded_shr(skipped),
            count: 64_u64.saturating_sub(skipped.into()),
            alike: self.is_uniform.then_some(left).filter(|&left| left > 0),
        })
    }
}

fn count_ones(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let in_words = words.iter().map(|word| u64::from(u64::from_le_bytes(*word).count_ones()));
    in_words.chain(rest.iter().map(|byte| u64::from(byte.count_ones()))).fold(0, u64::saturating_add)
}
