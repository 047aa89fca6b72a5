//! Sorted, disjoint ranges that map one address space onto another: physical memory onto a file, or a flattened file onto
//! its records.

use std::collections::BTreeMap;

use kdive_base::{PhysAddr, Why};

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
    /// Where the byte at an address of the extent is kept.
    pub(crate) fn offset_of(&self, at: u64) -> u64 {
        self.offset.saturating_add(at.saturating_sub(self.start))
    }

    /// The part between two addresses.
    fn cut(&self, start: u64, end: u64) -> Self {
        Self { start, end, offset: self.offset_of(start), tag: self.tag }
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

    /// Drops what comes after more than `bytes` of holes, and returns the first extent that it drops.
    pub(crate) fn truncate_after_holes(&mut self, bytes: u64) -> Option<Extent<T>> {
        let mut end = 0_u64;
        let mut holes = 0_u64;
        let kept = self.sorted.iter().take_while(|extent| {
            holes = holes.saturating_add(extent.start.saturating_sub(end));
            end = extent.end;
            holes <= bytes
        });
        let kept = kept.count();
        let dropped = self.sorted.get(kept).copied();
        self.sorted.truncate(kept);
        dropped
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
