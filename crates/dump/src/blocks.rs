//! Small reads of files through a cache of blocks: a system call costs ten times as much as a copy.

use std::sync::Arc;

use kdive_base::{ReadAt, Why};

use crate::cache::Cache;
use crate::window::read_up_to;

/// Bytes of a block.
const BLOCK: u64 = 4096;
/// A list of a million objects leads to and fro over 61 MiB of slab: each block is wanted 64 times, in no order. A cache
/// that is smaller than what a walk touches misses nearly always, and a miss costs as much as twenty hits.
const BLOCKS_KEPT: usize = (64 << 20) / BLOCK as usize;

/// Files, and the blocks of them that small reads have touched.
pub(crate) struct Blocks {
    files: Vec<Arc<dyn ReadAt>>,
    cache: Cache<Box<[u8]>>,
}

impl Blocks {
    pub(crate) fn new(files: Vec<Arc<dyn ReadAt>>) -> Self {
        Self { files, cache: Cache::new(BLOCKS_KEPT) }
    }

    /// Fills the first bytes of `into`, at least one, with what the file of this index has at an offset.
    pub(crate) fn read(&self, index: usize, offset: u64, into: &mut [u8]) -> Result<usize, Why> {
        let file = self.files.get(index).ok_or(Why::InMissingFile)?;
        let some = |count: usize| if count == 0 { Err(Why::BeyondFileEnd) } else { Ok(count) };
        let (block, within) = (offset / BLOCK, offset % BLOCK);
        if within.saturating_add(into.len() as u64) > BLOCK || into.len() as u64 == BLOCK {
            return some(file.read_full_at(offset, into).map_err(|error| Why::Io(error.kind()))?);
        }
        let mut copy = |bytes: &[u8]| {
            let held = bytes.get(usize::try_from(within).unwrap_or(usize::MAX)..).unwrap_or_default();
            let count = held.len().min(into.len());
            if let (Some(to), Some(from)) = (into.get_mut(..count), held.get(..count)) {
                to.copy_from_slice(from);
            }
            count
        };
        // Offsets in files are below 2^63, blocks below 2^51.
        let key = block | (index as u64).wrapping_shl(52);
        if let Some(count) = self.cache.get(key, |block| copy(block)) {
            return some(count);
        }
        let bytes =
            read_up_to(&**file, block.saturating_mul(BLOCK), BLOCK).map_err(|error| Why::Io(error.kind()))?;
        let bytes = bytes.into_boxed_slice();
        let count = copy(&bytes);
        self.cache.insert(key, bytes);
        some(count)
    }
}
