//! Bytes of code that differ although nothing may change them.

use std::ops::Range;

use kdive_base::{PAGE_SIZE, VirtAddr};
use kdive_target::{Field, Kernel, Lacks};
use rayon::prelude::*;

use super::Original;
use super::sites::Sites;

/// Bytes that differ, as one piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The first of them.
    pub at: VirtAddr,
    /// What the dump has.
    pub found: Vec<u8>,
    /// What the vmlinux or the module's file has, as many bytes.
    pub original: Vec<u8>,
}

impl Change {
    /// The address behind it.
    #[must_use]
    pub fn end(&self) -> VirtAddr {
        self.at.add(self.found.len() as u64)
    }

    /// Bits that differ.
    #[must_use]
    pub fn bits(&self) -> u32 {
        self.found.iter().zip(&self.original).map(|(now, was)| (now ^ was).count_ones()).sum()
    }
}

/// What came of the comparison of a stretch of code.
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    /// By address.
    pub changes: Vec<Change>,
    /// Bytes that both have.
    pub compared: u64,
    /// Stretches that the dump lacks.
    pub missing: Lost,
}

/// Stretches that the dump lacks, and why.
pub type Lost = Vec<(Range<VirtAddr>, Lacks)>;

/// Bytes that are compared at a time, in parallel.
const PIECE: usize = 1 << 20;
/// Fewer equal bytes between two differences make them one.
const APART: u64 = 4;
/// No kernel has more code.
const MOST_TEXT: u64 = 1 << 28;

/// Compares the kernel's code from `_stext` to `_etext` with the vmlinux's.
///
/// # Errors
/// The kernel does not tell where its code is, or the vmlinux does not have it.
pub fn compare(kernel: &Kernel, original: &Original) -> Field<Comparison> {
    let (start, end) = (kernel.symbol("_stext")?, kernel.symbol("_etext")?);
    let bytes = usize::try_from(end.0.saturating_sub(start.0).min(MOST_TEXT)).unwrap_or(0);
    let was = original
        .bytes(start, bytes)
        .ok_or_else(|| Lacks::implausible("the vmlinux does not have the code of this kernel"))?;
    let (found, missing) = read(kernel, start, bytes);
    Ok(original.tolerance().compare(start, &found, missing, was))
}

/// Code of the dump, zeros where it lacks some, and where that is.
pub(super) fn read(kernel: &Kernel, start: VirtAddr, bytes: usize) -> (Vec<u8>, Lost) {
    let mut found = vec![0; bytes];
    let mut lost = Lost::new();
    let mut from = 0;
    while let Some(rest) = found.get_mut(from..).filter(|rest| !rest.is_empty()) {
        let (count, missing) = kernel.memory().read(start.add(from as u64), rest);
        let Some(missing) = missing else { break };
        let at = start.add(from.saturating_add(count) as u64);
        let next = VirtAddr(at.0 | PAGE_SIZE.saturating_sub(1)).add(1).min(start.add(bytes as u64));
        match lost.last_mut().filter(|(range, _)| range.end == at) {
            Some((range, _)) => range.end = next,
            None => lost.push((at..next, missing.into())),
        }
        from = usize::try_from(next.since(start)).unwrap_or(bytes);
    }
    (found, lost)
}

impl Original {
    /// Where `found` at an address of the dump differs from `was`, what the vmlinux has there: outside of patched places
    /// and of addresses that KASLR moved.
    #[must_use]
    pub fn changes(&self, at: VirtAddr, found: &[u8], was: &[u8]) -> Vec<Change> {
        self.tolerance().changes_in(at, found, was, 0..found.len())
    }

    fn tolerance(&self) -> Tolerance<'_> {
        Tolerance { sites: &self.sites, slide: self.slide }
    }
}

/// What may differ.
#[derive(Clone, Copy)]
pub(super) struct Tolerance<'s> {
    /// Places that are patched, before the code moved.
    pub(super) sites: &'s Sites,
    /// How far KASLR moved the code.
    pub(super) slide: u64,
}

impl Tolerance<'_> {
    /// Compares code that was read with what it was.
    pub(super) fn compare(self, start: VirtAddr, found: &[u8], missing: Lost, was: &[u8]) -> Comparison {
        let is_missing = |at: VirtAddr| missing.iter().any(|(range, _)| range.contains(&at));
        let pieces: Vec<usize> = (0..found.len()).step_by(PIECE).collect();
        let changes = |from: &usize| {
            let piece = *from..from.saturating_add(PIECE).min(found.len());
            let mut changes = self.changes_in(start, found, was, piece);
            changes.retain(|change| !is_missing(change.at));
            changes
        };
        let lost: u64 = missing.iter().map(|(range, _)| range.end.since(range.start)).sum();
        Comparison {
            changes: pieces.par_iter().flat_map_iter(changes).collect(),
            compared: (found.len() as u64).saturating_sub(lost),
            missing,
        }
    }

    /// Where a piece of both differs, which may begin and end within an address.
    fn changes_in(self, at: VirtAddr, found: &[u8], was: &[u8], piece: Range<usize>) -> Vec<Change> {
        let mut changes: Vec<Change> = Vec::new();
        let mut moved = 0..0;
        let both = found.iter().zip(was).enumerate().take(piece.end).skip(piece.start);
        for (index, _) in both.filter(|(_, (now, before))| now != before) {
            let here = at.add(index as u64);
            if moved.contains(&index) || self.sites.contains(here.sub(self.slide).0) {
                continue;
            }
            if let Some(address) = self.moved(found, was, index) {
                moved = address;
                continue;
            }
            let last = changes.last_mut().filter(|last| here.since(last.end()) < APART);
            let from = last.as_ref().map_or(here, |last| last.end());
            let from = usize::try_from(from.since(at)).unwrap_or(index);
            let now = found.get(from..=index).unwrap_or_default();
            let before = was.get(from..=index).unwrap_or_default();
            match last {
                Some(last) => {
                    last.found.extend(now);
                    last.original.extend(before);
                }
                None => changes.push(Change { at: here, found: now.to_vec(), original: before.to_vec() }),
            }
        }
        changes
    }

    /// The number of four or eight bytes around this one that differs by the slide: an address of the kernel, or a
    /// distance to per-CPU data, which KASLR does not move.
    fn moved(self, found: &[u8], was: &[u8], index: usize) -> Option<Range<usize>> {
        if self.slide == 0 {
            return None;
        }
        [4_usize, 8].into_iter().find_map(|size| {
            let first = (index.saturating_add(1)).saturating_sub(size);
            let mask = if size == 4 { u64::from(u32::MAX) } else { u64::MAX };
            let is_moved = |range: &Range<usize>| {
                let both = found.get(range.clone()).zip(was.get(range.clone()));
                both.is_some_and(|(now, was)| {
                    let apart = number(now).wrapping_sub(number(was)) & mask;
                    apart == self.slide & mask || apart == self.slide.wrapping_neg() & mask
                })
            };
            (first..=index).map(|start| start..start.saturating_add(size)).find(is_moved)
        })
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: VirtAddr = VirtAddr(0x1000);

    fn sites(slide: u64, sites: &[(u64, u64)]) -> Sites {
        Sites::new(sites.iter().map(|(at, bytes)| (at - slide, *bytes)).collect(), |_| None)
    }

    fn changed(now: &[u8], was: &[u8], slide: u64, places: &[(u64, u64)]) -> Vec<Change> {
        let tolerance = Tolerance { sites: &sites(slide, places), slide };
        tolerance.changes_in(AT, now, was, 0..now.len())
    }

    #[test]
    fn patched_and_moved_bytes_are_no_change() {
        let was = [0x48, 0xc7, 0xc7, 0x10, 0, 0, 0x82];
        let moved = [0x48, 0xc7, 0xc7, 0x10, 0, 0x20, 0x92];
        assert_eq!(changed(&moved, &was, 0x1020_0000, &[]), []);
        assert_eq!(changed(&moved, &was, 0x800, &[]).len(), 1);
        let other = [0x49, 0xc7, 0xc7, 0x10, 0, 0, 0x82];
        let change = Change { at: AT, found: vec![0x49], original: vec![0x48] };
        assert_eq!(change.bits(), 1);
        assert_eq!(changed(&other, &was, 0, &[(0x1001, 4)]), std::slice::from_ref(&change));
        assert_eq!(changed(&other, &was, 0, &[(0x1000, 1)]), []);
        assert_eq!(changed(&other, &was, 0, &[]), [change]);
    }

    #[test]
    fn distances_to_per_cpu_data_shrink() {
        let was = [0x65, 0x48, 0x03, 0x15, 0, 0, 0x30, 0];
        let now = [0x65, 0x48, 0x03, 0x15, 0, 0, 0x10, 0];
        assert_eq!(changed(&now, &was, 0x20_0000, &[]), []);
        assert_eq!(changed(&now, &was, 0, &[]).len(), 1);
    }

    #[test]
    fn changes_near_each_other_are_one() {
        let was = [0; 16];
        let mut now = was;
        (now[2], now[5], now[10]) = (1, 1, 3);
        let pieces: Vec<(u64, usize, u32)> = changed(&now, &was, 0, &[])
            .iter()
            .map(|change| (change.at.since(AT), change.found.len(), change.bits()))
            .collect();
        assert_eq!(pieces, [(2, 4, 2), (10, 1, 2)]);
    }

    #[test]
    fn an_address_may_lie_across_pieces() {
        let was = [0, 0, 0x10, 0, 0, 0x82, 0, 0];
        let now = [0, 0, 0x10, 0, 0x20, 0x92, 0, 0];
        let tolerance = Tolerance { sites: &Sites::default(), slide: 0x1020_0000 };
        for cut in 0..=8 {
            let found = [0..cut, cut..8].map(|piece| tolerance.changes_in(AT, &now, &was, piece));
            assert_eq!(found, [vec![], vec![]], "cut at {cut}");
        }
    }
}
