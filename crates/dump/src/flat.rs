//! Memory kept uncompressed in files: what ELF, LiME and raw images have in common.

use std::sync::Arc;

use kdive_base::{Missing, PhysAddr, ReadAt, Why};

use crate::Hints;
use crate::blocks::Blocks;
use crate::extents::{Extent, Extents};
use crate::memory::{PhysicalMemory, Run, RunState, read_in_pieces};

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
    files: Blocks,
    extents: Extents<Backing>,
    /// Whether what may be zero or excluded reads as zero.
    zero_excluded: bool,
}

impl FlatMemory {
    /// Memory behind `extents`, whose [`Backing::File`] numbers `files`.
    pub(crate) fn new(files: Vec<Arc<dyn ReadAt>>, extents: Extents<Backing>, hints: &Hints) -> Self {
        Self { files: Blocks::new(files), extents, zero_excluded: hints.zero_excluded }
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
            Backing::File(index) => self.files.read(index, extent.offset_of(at), into),
            Backing::Absent(Why::ZeroOrExcluded | Why::Excluded) if self.zero_excluded => {
                into.fill(0);
                Ok(count)
            }
            Backing::Absent(why) => Err(why),
        }
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
