//! Memory kept uncompressed in files: what ELF, LiME and raw images have in common.

use std::sync::Arc;

use kdive_base::{Missing, PhysAddr, ReadAt, Why};

use crate::Hints;
use crate::cache::Cache;
use crate::extents::{Extent, Extents};
use crate::memory::{PhysicalMemory, Run, RunState, read_in_pieces};
use crate::window::read_up_to;

/// Where the bytes of an extent of memory are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backing {
    /// In the file of this index, uncompressed.
    File(usize),
    /// Nowhere.
    Absent(Why),
}

impl Backing {
    /// The state that [`crate::PhysicalMemory::next_run`] reports.
    pub(crate) fn state(self) -> RunState {
        match self {
            Self::File(_) => RunState::Present,
            Self::Absent(why) => RunState::Missing(why),
        }
    }
}

/// Memory kept uncompressed in files: ELF, LiME, raw.
pub(crate) struct FlatMemory {
    files: Vec<Arc<dyn ReadAt>>,
    extents: Extents<Backing>,
    /// Blocks of the files that small reads have touched: a system call costs ten times as much as a copy.
    blocks: Cache<Box<[u8]>>,
    /// Whether what may be zero or excluded reads as zero.
    zero_excluded: bool,
}

/// Bytes of a block of [`FlatMemory`]'s cache.
const BLOCK: u64 = 4096;
/// A list of a million objects leads to and fro over 61 MiB of slab: each block is wanted 64 times, in no order. A cache
/// that is smaller than what a walk touches misses nearly always, and a miss costs as much as twenty hits.
const BLOCKS_KEPT: usize = (64 << 20) / BLOCK as usize;

impl FlatMemory {
    /// Memory behind `extents`, whose [`Backing::File`] numbers `files`.
    pub(crate) fn new(files: Vec<Arc<dyn ReadAt>>, extents: Extents<Backing>, hints: &Hints) -> Self {
        Self { files, extents, blocks: Cache::new(BLOCKS_KEPT), zero_excluded: hints.zero_excluded }
    }

    /// Fills the first bytes of `into`, at least one, or says why there are none at `at`; through another map of the same
    /// files if one is given.
    pub(crate) fn piece(
        &self,
        map: Option<&Extents<Backing>>,
        at: u64,
        into: &mut [u8],
    ) -> Result<usize, Why> {
        let extent = map.unwrap_or(&self.extents).from(at).map_err(|_| Why::NeverPresent)?;
        let left = usize::try_from(extent.end.saturating_sub(at)).unwrap_or(usize::MAX);
        let count = left.min(into.len());
        let into = into.get_mut(..count).unwrap_or_default();
        match extent.tag {
            Backing::File(index) => self.copy_out(index, extent.offset_of(at), into),
            Backing::Absent(Why::ZeroOrExcluded | Why::Excluded) if self.zero_excluded => {
                into.fill(0);
                Ok(count)
            }
            Backing::Absent(why) => Err(why),
        }
    }

    fn copy_out(&self, index: usize, offset: u64, into: &mut [u8]) -> Result<usize, Why> {
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
        if let Some(count) = self.blocks.get(key, |block| copy(block)) {
            return some(count);
        }
        let bytes =
            read_up_to(&**file, block.saturating_mul(BLOCK), BLOCK).map_err(|error| Why::Io(error.kind()))?;
        let bytes = bytes.into_boxed_slice();
        let count = copy(&bytes);
        self.blocks.insert(key, bytes);
        some(count)
    }
}

impl PhysicalMemory for FlatMemory {
    fn read(&self, at: PhysAddr, into: &mut [u8]) -> (usize, Option<Missing>) {
        let (done, missing) = read_in_pieces(at.0, into, |at, into| self.piece(None, at, into));
        (done, missing.map(|(at, why)| Missing::new(PhysAddr(at), why)))
    }

    fn next_run(&self, from: PhysAddr) -> Option<Run> {
        self.extents.run(from.0, Why::NeverPresent, Backing::state)
    }
}

/// The extents of `start..start + memory_bytes`, of which the file holds the first `file_bytes` at `offset` of the file
/// with this index, cut where the file ends.
pub(crate) fn backed(
    start: u64,
    memory_bytes: u64,
    (index, file_len): (usize, u64),
    offset: u64,
    file_bytes: u64,
) -> [Extent<Backing>; 3] {
    let end = start.saturating_add(memory_bytes);
    let kept_end = start.saturating_add(file_bytes).min(end);
    let in_file_end = start.saturating_add(file_len.saturating_sub(offset)).min(kept_end);
    [
        Extent { start, end: in_file_end, offset, tag: Backing::File(index) },
        Extent { start: in_file_end, end: kept_end, offset: 0, tag: Backing::Absent(Why::BeyondFileEnd) },
        Extent { start: kept_end, end, offset: 0, tag: Backing::Absent(Why::ZeroOrExcluded) },
    ]
}
