//! All page structures: read in large pieces, for what has to look at every frame.

use std::ops::Range;
use std::sync::Arc;

use kdive_base::{Missing, PAGE_SIZE, Pfn, VirtAddr};
use kdive_target::{Field, Kernel, Lacks};

use super::{MemoryMap, Pages};
use crate::sparse;

/// The page structures of all frames that have one.
#[derive(Clone, Debug)]
pub struct PageArray {
    map: MemoryMap,
    ranges: Vec<Range<Pfn>>,
}

/// A piece of the array, as far as the dump has it.
#[derive(Debug, Default)]
pub struct Chunk {
    runs: Vec<(Pfn, Vec<u8>)>,
    map: Option<MemoryMap>,
    /// Frames whose page structures are not in the dump, and why: the first of each run of them.
    pub missing: Vec<(Range<Pfn>, Missing)>,
}

/// One page structure of a chunk.
#[derive(Clone, Copy, Debug)]
pub struct RawPage<'a> {
    /// The frame.
    pub pfn: Pfn,
    /// Address of the structure.
    pub at: VirtAddr,
    /// Its bytes.
    pub bytes: &'a [u8],
}

impl PageArray {
    /// Frames that one thread looks at at a time: 2 MiB of page structures, and a multiple of every pageblock.
    pub const PIECE: u64 = 1 << 15;

    /// The array of this kernel.
    ///
    /// # Errors
    /// The kernel does not say where its page structures are, or for which frames.
    pub fn find(kernel: &Kernel) -> Field<Arc<Self>> {
        let found = kernel.once(|kernel| {
            let map = Pages::find(kernel).map.clone()?;
            Ok::<_, Lacks>(Arc::new(Self { map, ranges: sparse::mapped_frames(kernel)? }))
        });
        found.clone()
    }

    /// The frames that have a structure.
    #[must_use]
    pub fn ranges(&self) -> &[Range<Pfn>] {
        &self.ranges
    }

    /// The frames in pieces of at most `frames`.
    pub fn pieces(&self, frames: u64) -> impl Iterator<Item = Range<Pfn>> {
        let frames = frames.max(1);
        self.ranges.iter().flat_map(move |range| {
            let count = range.end.0.saturating_sub(range.start.0).div_ceil(frames);
            (0..count).map(move |index| {
                let start = range.start.0.saturating_add(index.saturating_mul(frames));
                Pfn(start)..Pfn(start.saturating_add(frames).min(range.end.0))
            })
        })
    }

    /// Reads the structures of some frames with as few reads as can be.
    #[must_use]
    pub fn read(&self, kernel: &Kernel, frames: &Range<Pfn>) -> Chunk {
        let mut chunk = Chunk { map: Some(self.map), ..Chunk::default() };
        let size = self.map.page_bytes;
        let mut next = frames.start.0;
        while next < frames.end.0 {
            let at = self.map.page_of(Pfn(next));
            let mut bytes = vec![0; usize::try_from((frames.end.0 - next).saturating_mul(size)).unwrap_or(0)];
            let (count, missing) = kernel.memory().read(at, &mut bytes);
            let whole = count as u64 / size;
            bytes.truncate((whole * size) as usize);
            if whole > 0 {
                chunk.runs.push((Pfn(next), bytes));
            }
            let Some(missing) = missing else { break };
            // What follows the page that is missing may be there.
            let first = next.saturating_add(whole);
            let behind = at.add(count as u64).page_start().add(PAGE_SIZE);
            let skipped = behind.since(self.map.start).div_ceil(size).max(first.saturating_add(1));
            next = skipped.min(frames.end.0);
            match chunk.missing.last_mut() {
                Some((last, why)) if last.end.0 == first && why.why == missing.why => last.end = Pfn(next),
                _ => chunk.missing.push((Pfn(first)..Pfn(next), missing)),
            }
        }
        chunk
    }
}

impl Chunk {
    /// The structures that are there, as they lie in memory: the first frame of each run, and the bytes of the run.
    pub fn runs(&self) -> impl Iterator<Item = (Pfn, &[u8])> {
        self.runs.iter().map(|(first, bytes)| (*first, &**bytes))
    }

    /// The structures that are there, in the order of their frames.
    pub fn pages(&self) -> impl Iterator<Item = RawPage<'_>> {
        let map = self.map.unwrap_or(MemoryMap { start: VirtAddr(0), page_bytes: 1 });
        let size = map.page_bytes as usize;
        self.runs.iter().flat_map(move |(first, bytes)| {
            bytes.chunks_exact(size).zip(first.0..).map(move |(bytes, pfn)| RawPage {
                pfn: Pfn(pfn),
                at: map.page_of(Pfn(pfn)),
                bytes,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pieces_hold_every_frame_once(
            starts in prop::collection::btree_set(0_u64..1000, 0..6), length in 1_u64..100, frames in 0_u64..70,
        ) {
            let ranges = starts.iter().map(|start| Pfn(start * 100)..Pfn(start * 100 + length)).collect();
            let map = MemoryMap { start: VirtAddr(1 << 63), page_bytes: 64 };
            let array = PageArray { map, ranges };
            let pieces: Vec<_> = array.pieces(frames).collect();
            prop_assert!(pieces.iter().all(|piece| piece.start < piece.end));
            prop_assert!(pieces.iter().all(|piece| piece.end.0 - piece.start.0 <= frames.max(1)));
            let held: Vec<u64> = pieces.iter().flat_map(|piece| piece.start.0..piece.end.0).collect();
            let all: Vec<u64> = array.ranges().iter().flat_map(|range| range.start.0..range.end.0).collect();
            prop_assert_eq!(held, all);
        }
    }
}
