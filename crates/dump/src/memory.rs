//! The trait that every container implements, and what the implementations share.

use std::collections::BTreeMap;

use kdive_base::{Cancel, Cancelled, Missing, PhysAddr, VirtAddr, Why};
use serde::Serialize;

/// Physical memory of the dumped machine. Several threads may read at once.
pub trait PhysicalMemory: Send + Sync {
    /// Reads as far as it can from `at`: how many bytes came, and why it stopped before the end.
    fn read(&self, at: PhysAddr, into: &mut [u8]) -> (usize, Option<Missing>);

    /// The run of equal state that begins at `from`, as the container's index tells it: runs follow one another without
    /// a gap, holes included. `None` after the last byte that the container describes.
    fn next_run(&self, from: PhysAddr) -> Option<Run>;

    /// Segments that carry virtual addresses (`/proc/kcore`, `/proc/vmcore`, QEMU with paging); empty elsewhere.
    fn virtual_segments(&self) -> &[Segment] {
        &[]
    }

    /// Reads by the virtual addresses of [`virtual_segments`](Self::virtual_segments), without page tables: as far as it
    /// can, and why it stopped.
    fn read_virtual(&self, at: VirtAddr, into: &mut [u8]) -> (usize, Option<Missing>) {
        (0, (!into.is_empty()).then(|| Missing::new(at, Why::NeverPresent)))
    }

    /// Counts the bytes of each state. It walks the whole index (the bitmap of a 1 TB dump is 32 MB), not the pages.
    ///
    /// # Errors
    /// When `cancel` is set.
    fn totals(&self, cancel: &Cancel) -> Result<RunTotals, Cancelled> {
        let mut totals = RunTotals::default();
        let mut at = PhysAddr(0);
        while let Some(run) = self.next_run(at) {
            cancel.check()?;
            totals.add(&run);
            match run.start.0.checked_add(run.bytes) {
                Some(next) if next > at.0 => at = PhysAddr(next),
                _ => break,
            }
        }
        Ok(totals)
    }
}

/// A range of physical memory in one state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// First byte.
    pub start: PhysAddr,
    /// Length in bytes, never 0.
    pub bytes: u64,
    /// Whether it can be read.
    pub state: RunState,
}

/// Whether memory is in the dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunState {
    /// The index says that it is there. A page can still turn out to be corrupt, not written or beyond the file's end.
    Present,
    /// It is not there.
    Missing(Why),
}

/// A program header with a virtual address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Segment {
    /// Virtual address of the first byte.
    pub virt: VirtAddr,
    /// Physical address of the first byte, where the segment is physically contiguous.
    pub phys: Option<PhysAddr>,
    /// Length in memory, in bytes.
    pub bytes: u64,
    /// How many of those bytes, from the start, the file holds.
    pub file_bytes: u64,
}

/// Bytes of physical memory by state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RunTotals {
    /// Bytes that can be read.
    pub present: u64,
    /// Bytes that cannot, by the reason's [slug](Why::slug).
    pub missing: BTreeMap<&'static str, u64>,
}

impl RunTotals {
    fn add(&mut self, run: &Run) {
        let count = match run.state {
            RunState::Present => &mut self.present,
            RunState::Missing(why) => self.missing.entry(why.slug()).or_default(),
        };
        *count = count.saturating_add(run.bytes);
    }
}

/// Fills `into` piece by piece. `piece` gets an address and the bytes still wanted there, and says how many of them it
/// filled, at least one, or why it cannot fill the first.
pub(crate) fn read_in_pieces(
    at: u64,
    into: &mut [u8],
    mut piece: impl FnMut(u64, &mut [u8]) -> Result<usize, Why>,
) -> (usize, Option<(u64, Why)>) {
    let mut done = 0_usize;
    while let Some(rest) = into.get_mut(done..).filter(|rest| !rest.is_empty()) {
        let Some(here) = at.checked_add(done as u64) else {
            return (done, Some((u64::MAX, Why::NeverPresent)));
        };
        let wanted = rest.len();
        match piece(here, rest) {
            Ok(0) => return (done, Some((here, Why::Io(std::io::ErrorKind::UnexpectedEof)))),
            Ok(count) => done = done.saturating_add(count.min(wanted)),
            Err(why) => return (done, Some((here, why))),
        }
    }
    (done, None)
}
