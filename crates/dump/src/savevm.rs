//! QEMU's migration stream, kept in a file: what `savevm`, `virsh save` and `virsh dump` without `--memory-only` write.
//!
//! Layout (QEMU's docs/devel/migration), all numbers big-endian: "QEVM", u32 3, then sections, each behind a byte that says
//! which: the machine's configuration first, then memory in several parts, then the devices, whose sections have no
//! length. A description of the devices in JSON ends the file.
//!
//! Memory has no index: opening passes over the whole file once, and keeps runs of pages. A page can come packed by zlib,
//! or as what changed in it since it came last (XBZRLE). With mapped-ram (QEMU 9.0) each page has a place of its own in the
//! file, and there is nothing to pass over.

mod delta;
mod devices;
mod ram;
mod stream;

use std::collections::BTreeMap;
use std::sync::Arc;

use kdive_base::{Missing, PhysAddr, ReadAt, Why};

use self::ram::{Delta, PAGE_BYTES, Place, RECORD_BYTES, Scan};
use self::stream::Stop;
use crate::blocks::Blocks;
use crate::cache::{Cache, PAGE_BUDGET};
use crate::codec::Codec;
use crate::extents::{Extent, Extents};
use crate::facts::Facts;
use crate::formats::{Format, Head, Source, single};
use crate::memory::{PhysicalMemory, Run, RunState, read_in_pieces};
use crate::notes::Notes;
use crate::open::Opened;
use crate::window::Window;
use crate::{Hints, OpenError};

pub(crate) const FORMAT: Format = Format { name: "QEMU savevm", recognises, open };

const MAGIC: &[u8; 8] = b"QEVM\0\0\0\x03";
const VERSION: u32 = 3;
const PAGES_KEPT: usize = PAGE_BUDGET / PAGE_BYTES as usize;
/// Packed bytes of a page at most: zlib makes a page that does not pack a little longer.
const MOST_PACKED: u32 = 2 * PAGE_BYTES as u32;

fn recognises(head: &Head<'_>) -> bool {
    head.bytes.starts_with(MAGIC)
}

fn open(sources: &[Source], _hints: &Hints) -> Result<Opened, OpenError> {
    let source = single(sources, FORMAT.name)?;
    let file = &source.data;
    let scan = Scan::of(&**file, MAGIC.len() as u64);
    let (extents, deltas) = (extents(&scan), deltas(&scan));
    let is_complete = scan.stop.is_none();
    let mut facts = Facts {
        format: FORMAT.name,
        version: Some(VERSION),
        wrappers: source.wrappers.clone(),
        big_endian: true,
        machine: scan.machine.clone(),
        page_size: Some(PAGE_BYTES),
        ..Facts::default()
    };
    match scan.stop {
        Some(Stop::Io(kind)) => return Err(OpenError::Io { name: source.name.clone(), source: kind.into() }),
        Some(Stop::Odd { what, .. }) if scan.runs.is_empty() => {
            return Err(OpenError::damaged(&source.name, FORMAT.name, what));
        }
        _ if scan.runs.is_empty() => {
            return Err(OpenError::damaged(&source.name, FORMAT.name, "no page of memory is in it"));
        }
        Some(Stop::Cut) => {
            facts
                .warnings
                .push(format!("truncated: the file ends at {} bytes, inside its memory", file.len()));
        }
        Some(Stop::Odd { at, what }) => {
            facts.warnings.push(format!("{what} at {at:#x}: what follows is lost"));
        }
        None => {}
    }
    let mut notes = Notes::default();
    match scan.devices_at.map(|at| devices::cpus(&**file, at)) {
        Some(Ok(cpus)) => notes.cpus = cpus,
        Some(Err(what)) => facts.warnings.push(format!("no registers: {what}")),
        None => facts.warnings.push("no registers: the devices are not in the file".to_owned()),
    }
    let memory = SavevmMemory {
        files: Blocks::new(vec![Arc::clone(file)]),
        file: Arc::clone(file),
        extents,
        deltas,
        pages: Cache::new(PAGES_KEPT),
        is_complete,
    };
    Ok(Opened::new(Arc::new(memory), facts, notes))
}

/// A place of pages, and the physical address of the first.
#[derive(Clone, Copy, Debug)]
struct Placed {
    first: u64,
    place: Place,
}

/// The runs of pages by physical address. A page that comes twice is the later one; where the stream broke off, what did
/// not come is lost.
fn extents(scan: &Scan) -> Extents<Placed> {
    let parts = layout(scan);
    let lost = parts.iter().filter(|_| scan.stop.is_some()).filter_map(|part| {
        let end = part.physical.checked_add(part.end.checked_sub(part.start)?)?;
        let tag = Placed { first: part.physical, place: Place::Lost };
        Some(Extent { start: part.physical, end, offset: 0, tag })
    });
    let latest_first = scan.runs.iter().rev();
    let extents = latest_first.flat_map(|run| {
        let start = run.first.saturating_mul(PAGE_BYTES);
        let end = start.saturating_add(run.count.saturating_mul(PAGE_BYTES));
        parts.iter().filter(|part| part.block == run.block).filter_map(move |part| {
            let (from, to) = (start.max(part.start), end.min(part.end));
            let physical = |at: u64| part.physical.checked_add(at.checked_sub(part.start)?);
            // Where the run begins may lie in an earlier part: addresses wrap, and come back.
            let first = part.physical.wrapping_add(start.wrapping_sub(part.start));
            let tag = Placed { first, place: run.place };
            (from < to).then_some(())?;
            Some(Extent { start: physical(from)?, end: physical(to)?, offset: 0, tag })
        })
    });
    Extents::overlay(extents.chain(lost).collect())
}

/// The changes by the page's number in memory.
fn deltas(scan: &Scan) -> BTreeMap<u64, Vec<Delta>> {
    if scan.deltas.is_empty() {
        return BTreeMap::new();
    }
    let parts = layout(scan);
    let physical = |block: usize, page: u64| {
        let at = page.checked_mul(PAGE_BYTES)?;
        let holds = |part: &&Part| part.block == block && (part.start..part.end).contains(&at);
        let part = parts.iter().find(holds)?;
        Some(part.physical.checked_add(at.checked_sub(part.start)?)? / PAGE_BYTES)
    };
    let placed = scan
        .deltas
        .iter()
        .filter_map(|((block, page), changes)| Some((physical(*block, *page)?, changes.clone())));
    placed.collect()
}

/// A part of a block of the stream, and where the machine has it.
struct Part {
    block: usize,
    start: u64,
    end: u64,
    physical: u64,
}

const FOUR_GIB: u64 = 1 << 32;

/// Where RAM lies. The PC machines leave a hole for devices below 4 GiB, and go on above it; how big depends on the machine
/// and on how much RAM there is (QEMU's hw/i386/pc_piix.c and pc_q35.c, seen in the guests' own memory maps).
fn layout(scan: &Scan) -> Vec<Part> {
    let is_ram = |name: &str| name == "pc.ram" || name.starts_with("ram-node");
    let mut blocks: Vec<(usize, u64)> = (0..)
        .zip(&scan.blocks)
        .filter(|(_, block)| is_ram(&block.name))
        .map(|(n, block)| (n, block.bytes))
        .collect();
    if blocks.is_empty() {
        // RAM of another name is still the largest block.
        blocks.extend(
            (0..).zip(&scan.blocks).max_by_key(|(_, block)| block.bytes).map(|(n, block)| (n, block.bytes)),
        );
    }
    let total = blocks.iter().fold(0_u64, |sum, (_, bytes)| sum.saturating_add(*bytes));
    let is_q35 = scan.machine.as_ref().is_some_and(|machine| machine.contains("q35"));
    let (most_below, hole) = if is_q35 { (0xb000_0000, 0x8000_0000) } else { (0xe000_0000, 0xc000_0000) };
    let hole = if total >= most_below { hole } else { total };
    let mut parts = Vec::new();
    let mut before = 0_u64;
    for (block, bytes) in blocks {
        let below = hole.saturating_sub(before).min(bytes);
        let above = before.max(hole).saturating_sub(hole).saturating_add(FOUR_GIB);
        parts.push(Part { block, start: 0, end: below, physical: before });
        parts.push(Part { block, start: below, end: bytes, physical: above });
        before = before.saturating_add(bytes);
    }
    parts
}

struct SavevmMemory {
    files: Blocks,
    file: Arc<dyn ReadAt>,
    extents: Extents<Placed>,
    /// What changed in pages since they came, by the number of the page in memory.
    deltas: BTreeMap<u64, Vec<Delta>>,
    /// Pages that had to be unpacked, by their number.
    pages: Cache<Box<[u8]>>,
    /// The stream goes on to its end.
    is_complete: bool,
}

impl SavevmMemory {
    fn piece(&self, at: u64, into: &mut [u8]) -> Result<usize, Why> {
        let extent = self.extents.from(at).map_err(|_| Why::NeverPresent)?;
        let Placed { first, place } = extent.tag;
        let inside = at.wrapping_sub(first);
        let left = match place {
            Place::Fill(_) | Place::Lost if self.deltas.is_empty() => extent.end.saturating_sub(at),
            _ => PAGE_BYTES.saturating_sub(at % PAGE_BYTES),
        };
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(into.len());
        let into = into.get_mut(..count).unwrap_or_default();
        let page = at / PAGE_BYTES;
        let changes = self.deltas.get(&page).filter(|_| place != Place::Lost);
        if changes.is_none() && !matches!(place, Place::Packed { .. }) {
            return self.plain(place, inside, into);
        }
        let from = usize::try_from(at % PAGE_BYTES).unwrap_or(0);
        let mut copy = |bytes: &[u8]| {
            let held = bytes.get(from..).unwrap_or_default();
            into.iter_mut().zip(held).map(|(to, from)| *to = *from).count()
        };
        if let Some(count) = self.pages.get(page, |bytes| copy(bytes)) {
            return Ok(count);
        }
        let mut bytes = vec![0; PAGE_BYTES as usize].into_boxed_slice();
        match place {
            Place::Packed { at, bytes: packed } => self.unpack(at, packed, &mut bytes)?,
            _ => drop(self.plain(place, inside.saturating_sub(at % PAGE_BYTES), &mut bytes)?),
        }
        for change in changes.into_iter().flatten() {
            let mut window = Window::new(&*self.file, 0);
            delta::apply(window.exact(change.at, change.bytes.into())?, &mut bytes)?;
        }
        let count = copy(&bytes);
        self.pages.insert(page, bytes);
        Ok(count)
    }

    fn unpack(&self, at: u64, packed: u32, page: &mut [u8]) -> Result<(), Why> {
        if packed > MOST_PACKED {
            return Err(Why::Corrupt(Codec::Zlib.name()));
        }
        let mut window = Window::new(&*self.file, 0);
        Codec::Zlib.decode(window.exact(at, packed as usize)?, page)
    }

    /// Fills `into`, which does not go over the end of a page, with what is in the file as it is.
    fn plain(&self, place: Place, inside: u64, into: &mut [u8]) -> Result<usize, Why> {
        match place {
            Place::Fill(byte) => {
                into.fill(byte);
                Ok(into.len())
            }
            Place::Stored { at } => {
                let record = (inside / PAGE_BYTES).saturating_mul(RECORD_BYTES);
                self.files.read(0, at.saturating_add(record).saturating_add(inside % PAGE_BYTES), into)
            }
            Place::Mapped { bitmap, pages } => {
                let page = inside / PAGE_BYTES;
                let mut byte = [0];
                self.files.read(0, bitmap.saturating_add(page / 8), &mut byte)?;
                if byte.first().is_some_and(|byte| byte >> (page % 8) & 1 != 0) {
                    return self.files.read(0, pages.saturating_add(inside), into);
                }
                // The bitmap is written last.
                if !self.is_complete {
                    return Err(Why::NotWritten);
                }
                into.fill(0);
                Ok(into.len())
            }
            Place::Packed { .. } => Err(Why::Corrupt(Codec::Zlib.name())),
            Place::Lost => Err(Why::BeyondFileEnd),
        }
    }
}

impl PhysicalMemory for SavevmMemory {
    fn read(&self, at: PhysAddr, into: &mut [u8]) -> (usize, Option<Missing>) {
        let (done, missing) = read_in_pieces(at.0, into, |at, into| self.piece(at, into));
        (done, missing.map(|(at, why)| Missing::new(PhysAddr(at), why)))
    }

    fn next_run(&self, from: PhysAddr) -> Option<Run> {
        self.extents.run(from.0, Why::NeverPresent, |placed| match placed.place {
            Place::Lost => RunState::Missing(Why::BeyondFileEnd),
            _ => RunState::Present,
        })
    }
}
