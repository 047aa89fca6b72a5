//! What was overwritten on purpose: where it was, so that reading says so.
//!
//! A note of our own has it (owner `KDIVE`, type 1), little-endian: version 1 (32-bit), the number of kinds (32-bit), and for
//! each kind the length of its name (32-bit), the name, the number of ranges (64-bit), and for each range its first
//! physical address and its bytes (64-bit). ERASEINFO has the same in words, for readers of makedumpfile's.

use std::fmt::Write as _;
use std::sync::Arc;

use kdive_base::{ByteReader, Endian, Missing, PhysAddr, VirtAddr, Why};
use serde::Serialize;

use crate::memory::{PhysicalMemory, Run, Segment};
use crate::notes::{Notes, RawNote};

const OWNER: &[u8] = b"KDIVE";
const NT_REDACTED: u32 = 1;
const VERSION: u32 = 1;
/// What stands in place of what was there: makedumpfile writes the same.
const FILLER: u8 = b'X';
/// Kinds of data that a note has.
const MAX_KINDS: u32 = 64;
/// Ranges of one dump: 8 MiB of notes are read back.
const MAX_RANGES: usize = 400_000;

/// Bytes of physical memory that were overwritten.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redacted {
    /// By kind.
    pub kinds: Vec<RedactedKind>,
}

/// Bytes of one kind that were overwritten.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RedactedKind {
    /// What it was: `keys`, `args`, `net`, or a pattern.
    pub name: String,
    /// First address and one more than the last, sorted, without overlap.
    pub ranges: Vec<(u64, u64)>,
}

/// How much of a kind was overwritten.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RedactedFacts {
    /// What it was: `keys`, `args`, `net`, or a pattern.
    pub kind: String,
    /// Stretches of memory.
    pub ranges: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// There is more to overwrite than a note can list.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("there are {0} places to redact, more than a dump can list ({MAX_RANGES}): use a narrower pattern")]
pub struct TooMany(usize);

impl RedactedKind {
    /// Ranges in any order.
    pub fn new(name: impl Into<String>, ranges: impl IntoIterator<Item = (u64, u64)>) -> Self {
        Self { name: name.into(), ranges: merged(ranges.into_iter().collect()) }
    }

    /// How many bytes it has.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.ranges.iter().fold(0, |sum, (start, end)| sum.saturating_add(end.saturating_sub(*start)))
    }
}

/// Sorted, without overlap.
fn merged(mut ranges: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    ranges.retain(|(start, end)| start < end);
    ranges.sort_unstable();
    let mut merged: Vec<(u64, u64)> = Vec::with_capacity(ranges.len());
    for (start, end) in ranges {
        match merged.last_mut() {
            Some((_, last)) if start <= *last => *last = end.max(*last),
            _ => merged.push((start, end)),
        }
    }
    merged
}

impl Redacted {
    /// What the notes of a dump say. A note that makes no sense is as if it were not there.
    #[must_use]
    pub fn of(notes: &Notes) -> Self {
        let ours = notes.raw.iter().filter(|note| note.name == OWNER && note.kind == NT_REDACTED);
        Self { kinds: ours.filter_map(|note| decode(&note.descriptor)).flatten().collect() }
    }

    /// Whether nothing was overwritten.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kinds.iter().all(|kind| kind.ranges.is_empty())
    }

    /// How much, by kind.
    #[must_use]
    pub fn facts(&self) -> Vec<RedactedFacts> {
        let of = |kind: &RedactedKind| RedactedFacts {
            kind: kind.name.clone(),
            ranges: kind.ranges.len() as u64,
            bytes: kind.bytes(),
        };
        self.kinds.iter().map(of).collect()
    }

    /// Adds itself to the notes of a dump: a note of our own, and lines of ERASEINFO.
    ///
    /// # Errors
    /// When there are too many ranges.
    pub fn add_to(&self, notes: &mut Notes) -> Result<(), TooMany> {
        let count = self.kinds.iter().fold(0_usize, |sum, kind| sum.saturating_add(kind.ranges.len()));
        if count > MAX_RANGES {
            return Err(TooMany(count));
        }
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&u32::try_from(self.kinds.len()).unwrap_or(u32::MAX).to_le_bytes());
        let mut text = String::from_utf8_lossy(notes.eraseinfo.as_deref().unwrap_or_default()).into_owned();
        for kind in &self.kinds {
            bytes.extend_from_slice(&u32::try_from(kind.name.len()).unwrap_or(u32::MAX).to_le_bytes());
            bytes.extend_from_slice(kind.name.as_bytes());
            bytes.extend_from_slice(&(kind.ranges.len() as u64).to_le_bytes());
            for (start, end) in &kind.ranges {
                bytes.extend_from_slice(&start.to_le_bytes());
                bytes.extend_from_slice(&end.saturating_sub(*start).to_le_bytes());
            }
            // Writing to a string does not fail.
            let _ = writeln!(text, "erase {} {} {}", kind.name, kind.ranges.len(), kind.bytes());
        }
        notes.raw.push(RawNote { name: OWNER.to_vec(), kind: NT_REDACTED, descriptor: bytes });
        notes.eraseinfo = Some(text.into_bytes());
        Ok(())
    }
}

fn decode(bytes: &[u8]) -> Option<Vec<RedactedKind>> {
    let mut reader = ByteReader::new(bytes, Endian::Little);
    if reader.u32()? != VERSION {
        return None;
    }
    let count = reader.u32()?.min(MAX_KINDS);
    let mut kinds = Vec::new();
    for _ in 0..count {
        let length = usize::try_from(reader.u32()?).ok()?;
        let name = String::from_utf8_lossy(reader.take(length)?).into_owned();
        let ranges = usize::try_from(reader.u64()?).ok()?.min(bytes.len() / 16);
        let mut found = Vec::with_capacity(ranges);
        for _ in 0..ranges {
            let start = reader.u64()?;
            found.push((start, start.saturating_add(reader.u64()?)));
        }
        kinds.push(RedactedKind::new(name, found));
    }
    Some(kinds)
}

/// Memory of which some is not to be seen.
pub struct Veiled {
    memory: Arc<dyn PhysicalMemory>,
    ranges: Vec<(u64, u64)>,
    how: How,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    /// Reading stops there.
    Missing,
    /// It reads as `X`.
    Filled,
}

impl Veiled {
    /// Memory in which what was redacted is missing.
    pub(crate) fn missing(memory: Arc<dyn PhysicalMemory>, redacted: &Redacted) -> Self {
        Self::new(memory, redacted, How::Missing)
    }

    /// Memory in which what is to be redacted is overwritten: to be written to a new dump.
    pub fn filled(memory: Arc<dyn PhysicalMemory>, redacted: &Redacted) -> Self {
        Self::new(memory, redacted, How::Filled)
    }

    fn new(memory: Arc<dyn PhysicalMemory>, redacted: &Redacted, how: How) -> Self {
        let ranges = redacted.kinds.iter().flat_map(|kind| kind.ranges.iter().copied());
        Self { memory, ranges: merged(ranges.collect()), how }
    }

    /// The ranges that lie between two addresses, cut to them.
    fn within(&self, start: u64, end: u64) -> impl Iterator<Item = (u64, u64)> {
        let first = self.ranges.partition_point(|(_, last)| *last <= start);
        let rest = self.ranges.get(first..).unwrap_or_default();
        rest.iter()
            .take_while(move |(from, _)| *from < end)
            .map(move |(from, to)| (start.max(*from), end.min(*to)))
    }
}

impl PhysicalMemory for Veiled {
    fn read(&self, at: PhysAddr, into: &mut [u8]) -> (usize, Option<Missing>) {
        let end = at.0.saturating_add(into.len() as u64);
        let offset = |address: u64| usize::try_from(address.saturating_sub(at.0)).unwrap_or(usize::MAX);
        if self.how == How::Missing {
            let Some((start, _)) = self.within(at.0, end).next() else { return self.memory.read(at, into) };
            let (count, missing) = self.memory.read(at, into.get_mut(..offset(start)).unwrap_or_default());
            return (count, missing.or_else(|| Some(Missing::new(PhysAddr(start), Why::Redacted))));
        }
        let (count, missing) = self.memory.read(at, into);
        for (start, end) in self.within(at.0, at.0.saturating_add(count as u64)) {
            into.get_mut(offset(start)..offset(end)).unwrap_or_default().fill(FILLER);
        }
        (count, missing)
    }

    fn next_run(&self, from: PhysAddr) -> Option<Run> {
        self.memory.next_run(from)
    }

    fn virtual_segments(&self) -> &[Segment] {
        self.memory.virtual_segments()
    }

    fn read_virtual(&self, at: VirtAddr, into: &mut [u8]) -> (usize, Option<Missing>) {
        let holds =
            |segment: &&Segment| at >= segment.virt && at.0.wrapping_sub(segment.virt.0) < segment.bytes;
        let place = self.memory.virtual_segments().iter().find(holds).and_then(|segment| {
            let inside = at.0.checked_sub(segment.virt.0)?;
            let left = usize::try_from(segment.bytes.checked_sub(inside)?).ok()?;
            Some((PhysAddr(segment.phys?.0.checked_add(inside)?), left))
        });
        match place {
            // Physically contiguous, so that what is redacted is known by its place.
            Some((phys, left))
                if self.within(phys.0, phys.0.saturating_add(into.len() as u64)).next().is_some() =>
            {
                let wanted = into.len().min(left);
                self.read(phys, into.get_mut(..wanted).unwrap_or_default())
            }
            _ => self.memory.read_virtual(at, into),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::memory::RunState;

    /// Every byte is the low byte of its address.
    struct Bytes;

    impl PhysicalMemory for Bytes {
        fn read(&self, at: PhysAddr, into: &mut [u8]) -> (usize, Option<Missing>) {
            (at.0..).zip(into.iter_mut()).for_each(|(address, byte)| *byte = address as u8);
            (into.len(), None)
        }

        fn next_run(&self, from: PhysAddr) -> Option<Run> {
            Some(Run { start: from, bytes: 4096, state: RunState::Present })
        }
    }

    proptest! {
        #[test]
        fn nothing_of_a_range_is_read_and_all_around_it_is(
            ranges in prop::collection::vec((0_u64..2000, 0_u64..60), 0..12),
            at in 0_u64..2000,
            count in 0_usize..300,
        ) {
            let ranges: Vec<(u64, u64)> = ranges.into_iter().map(|(start, bytes)| (start, start + bytes)).collect();
            let hidden = |address: u64| ranges.iter().any(|(start, end)| (*start..*end).contains(&address));
            let redacted = Redacted { kinds: vec![RedactedKind::new("keys", ranges.clone())] };
            let mut into = vec![0; count];
            let filled = Veiled::filled(Arc::new(Bytes), &redacted);
            prop_assert_eq!(filled.read(PhysAddr(at), &mut into).0, count);
            for (address, byte) in (at..).zip(&into) {
                prop_assert_eq!(*byte, if hidden(address) { b'X' } else { address as u8 });
            }
            let missing = Veiled::missing(Arc::new(Bytes), &redacted);
            let (read, why) = missing.read(PhysAddr(at), &mut into);
            let first = (at..at + count as u64).find(|address| hidden(*address));
            prop_assert_eq!(read as u64, first.map_or(count as u64, |first| first - at));
            prop_assert_eq!(why, first.map(|first| Missing::new(PhysAddr(first), Why::Redacted)));

            let mut notes = Notes::default();
            redacted.add_to(&mut notes).unwrap();
            prop_assert_eq!(Redacted::of(&notes), redacted);
        }
    }

    #[test]
    fn a_note_that_makes_no_sense_redacts_nothing() {
        let mut notes = Notes::default();
        Redacted { kinds: vec![RedactedKind::new("net", [(4096, 8192)])] }.add_to(&mut notes).unwrap();
        for cut in 0..notes.raw[0].descriptor.len() {
            let mut cut_notes = notes.clone();
            cut_notes.raw[0].descriptor.truncate(cut);
            assert!(Redacted::of(&cut_notes).is_empty());
        }
    }
}
