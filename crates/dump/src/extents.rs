//! Sorted, disjoint ranges that map one address space onto another: physical memory onto a file, or a flattened file onto
//! its records.

use std::collections::BTreeMap;
use std::sync::Arc;

use kdive_base::{PhysAddr, ReadAt, Why};

use crate::memory::{Run, RunState};

/// A range and where its first byte is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent<T> {
    /// First address.
    pub(crate) start: u64,
    /// One more than the last address.
    pub(crate) end: u64,
    /// Offset of the first byte in what `tag` names.
    pub(crate) offset: u64,
    /// What holds the bytes.
    pub(crate) tag: T,
}

impl<T: Copy> Extent<T> {
    /// The part between two addresses.
    fn cut(&self, start: u64, end: u64) -> Self {
        let moved = start.saturating_sub(self.start);
        Self { start, end, offset: self.offset.saturating_add(moved), tag: self.tag }
    }
}

/// Extents in the order of their addresses; no two overlap.
#[derive(Debug)]
pub(crate) struct Extents<T> {
    sorted: Vec<Extent<T>>,
}

impl<T: Copy> Extents<T> {
    /// Lays extents over one another: where two overlap, the earlier in `strongest_first` wins. O(n log n).
    pub(crate) fn overlay(mut strongest_first: Vec<Extent<T>>) -> Self {
        strongest_first.retain(|extent| extent.start < extent.end);
        let mut ranked: Vec<(usize, Extent<T>)> = strongest_first.into_iter().enumerate().collect();
        ranked.sort_by_key(|(_, extent)| extent.start);
        let mut sorted = Vec::with_capacity(ranked.len());
        let mut rest = ranked.as_mut_slice();
        while let Some((_, first)) = rest.first() {
            let mut end = first.end;
            let overlapping = rest
                .iter()
                .skip(1)
                .take_while(|(_, next)| {
                    let overlaps = next.start < end;
                    end = end.max(if overlaps { next.end } else { end });
                    overlaps
                })
                .count();
            let Some((cluster, after)) = rest.split_at_mut_checked(overlapping.saturating_add(1)) else {
                break;
            };
            match cluster {
                [(_, alone)] => sorted.push(*alone),
                _ => overlay_cluster(cluster, &mut sorted),
            }
            rest = after;
        }
        Self { sorted }
    }

    /// One more than the last address of the last extent.
    pub(crate) fn end(&self) -> u64 {
        self.sorted.last().map_or(0, |last| last.end)
    }

    /// The extent that holds `at`, or else the first one after it.
    pub(crate) fn from(&self, at: u64) -> Result<&Extent<T>, Option<&Extent<T>>> {
        let next = self.sorted.get(self.sorted.partition_point(|extent| extent.end <= at));
        match next {
            Some(extent) if extent.start <= at => Ok(extent),
            later => Err(later),
        }
    }

    /// The run of equal state that begins at `from`; `gap` is the state between extents.
    pub(crate) fn run(&self, from: u64, gap: Why, state: impl Fn(T) -> RunState) -> Option<Run> {
        let step = |at: u64| match self.from(at) {
            Ok(extent) => Some((extent.end, state(extent.tag))),
            Err(Some(next)) => Some((next.start, RunState::Missing(gap))),
            Err(None) => None,
        };
        let (mut end, first) = step(from)?;
        while let Some((further, same)) = step(end)
            && same == first
            && further > end
        {
            end = further;
        }
        Some(Run { start: PhysAddr(from), bytes: end.saturating_sub(from), state: first })
    }
}

/// Overlays extents that touch one another: strongest first, each takes what is not yet covered.
fn overlay_cluster<T: Copy>(cluster: &mut [(usize, Extent<T>)], sorted: &mut Vec<Extent<T>>) {
    cluster.sort_by_key(|(rank, _)| *rank);
    let mut pieces = Vec::new();
    let mut covered: BTreeMap<u64, u64> = BTreeMap::new();
    for (_, extent) in cluster.iter() {
        let (mut from, mut merged_start, mut merged_end) = (extent.start, extent.start, extent.end);
        if let Some((&start, &end)) = covered.range(..=extent.start).next_back()
            && end >= extent.start
        {
            covered.remove(&start);
            (from, merged_start, merged_end) = (end, start, merged_end.max(end));
        }
        // What is covered inside the extent is merged with it, so each covered range is visited once in all.
        while let Some((&start, &end)) = covered.range(extent.start..=extent.end).next() {
            covered.remove(&start);
            if from < start {
                pieces.push(extent.cut(from, start));
            }
            from = from.max(end);
            merged_end = merged_end.max(end);
        }
        if from < extent.end {
            pieces.push(extent.cut(from, extent.end));
        }
        merged_start = merged_start.min(extent.start);
        covered.insert(merged_start, merged_end);
    }
    pieces.sort_by_key(|piece| piece.start);
    sorted.append(&mut pieces);
}

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
    pub(crate) files: Vec<Arc<dyn ReadAt>>,
    pub(crate) extents: Extents<Backing>,
    /// Whether what may be zero or excluded reads as zero.
    pub(crate) zero_excluded: bool,
}

impl FlatMemory {
    /// Fills the first bytes of `into`, at least one, or says why there are none at `at`.
    pub(crate) fn piece(&self, at: u64, into: &mut [u8]) -> Result<usize, Why> {
        self.piece_of(&self.extents, at, into)
    }

    /// The same through another map of the same files.
    pub(crate) fn piece_of(
        &self,
        extents: &Extents<Backing>,
        at: u64,
        into: &mut [u8],
    ) -> Result<usize, Why> {
        let extent = extents.from(at).map_err(|_| Why::NeverPresent)?;
        let left = usize::try_from(extent.end.saturating_sub(at)).unwrap_or(usize::MAX);
        let count = left.min(into.len());
        let into = into.get_mut(..count).unwrap_or_default();
        match extent.tag {
            Backing::File(index) => {
                let file = self.files.get(index).ok_or(Why::InMissingFile)?;
                let offset = extent.offset.saturating_add(at.saturating_sub(extent.start));
                match file.read_full_at(offset, into) {
                    Ok(0) => Err(Why::BeyondFileEnd),
                    Ok(count) => Ok(count),
                    Err(error) => Err(Why::Io(error.kind())),
                }
            }
            Backing::Absent(Why::ZeroOrExcluded | Why::Excluded) if self.zero_excluded => {
                into.fill(0);
                Ok(count)
            }
            Backing::Absent(why) => Err(why),
        }
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
