//! LKCD (Linux Kernel Crash Dump), versions 1 to 10: pages one after the other, each behind a record of its own.
//!
//! Layout (LKCD's `dump_header_t` and `dump_page_t`, packed, in the byte order of the machine): u64 magic, u32 version, u32
//! bytes of the header, u32 level, u32 bytes of a page, u64 bytes of memory, two addresses, then what differs from version
//! to version: a panic's text, the time, `utsname`, how pages are packed. Pages begin at 64 KiB, or where versions 9 and 10
//! say. A page is u64 physical address, u32 bytes, u32 flags (1 raw, 2 packed, 4 end of the dump), then the bytes.
//!
//! There is no index: opening passes once over the records. Pages that follow one another there and in memory are kept
//! together, [`GROUP`] at a time; the records inside a group are walked again when one of its pages is wanted.

mod header;
mod rle;

use std::sync::Arc;

use kdive_base::{ByteReader, Endian, Missing, PhysAddr, ReadAt, Why};

use self::header::{Header, Packing};
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

pub(crate) const FORMAT: Format = Format { name: "LKCD", recognises, open };

// Flags of a page's record.
const RAW: u32 = 1;
const PACKED: u32 = 2;
const END: u32 = 4;
const RECORD_BYTES: u64 = 16;
/// Pages that are found together. Many make a small index, few a short walk to the one that is wanted.
const GROUP: u64 = 32;
/// The records of so many groups are kept: 32 MiB of memory each 256.
const GROUPS_KEPT: usize = 4096;
/// Bytes that the pass over the records reads at once.
const AHEAD: usize = 256 << 10;

fn recognises(head: &Head<'_>) -> bool {
    Header::endian(head.bytes).is_some()
}

fn open(sources: &[Source], _hints: &Hints) -> Result<Opened, OpenError> {
    let source = single(sources, FORMAT.name)?;
    let file = &source.data;
    let head = source.head()?;
    let header = Header::parse(&head).ok_or_else(|| OpenError::Truncated {
        name: source.name.clone(),
        format: FORMAT.name,
        needs: header::MOST_BYTES,
        has: file.len(),
    })?;
    header.check().map_err(|what| OpenError::damaged(&source.name, FORMAT.name, what))?;
    let mut index = Index { page_bytes: header.page_bytes, ..Index::default() };
    let ending = index.walk(&**file, header.pages_at, header.endian);
    let mut facts = describe(&header, source);
    match ending {
        Ending::Complete => {}
        Ending::Io(kind) => return Err(OpenError::Io { name: source.name.clone(), source: kind.into() }),
        Ending::Cut => facts
            .warnings
            .push(format!("truncated: the file ends at {} bytes, without its end mark", file.len())),
        Ending::Damaged(at) => {
            facts.warnings.push(format!("no record of a page at {at:#x}: what follows is lost"));
        }
    }
    if index.groups.is_empty() {
        return Err(OpenError::Truncated {
            name: source.name.clone(),
            format: FORMAT.name,
            needs: header.pages_at.saturating_add(RECORD_BYTES),
            has: file.len(),
        });
    }
    let page_bytes = usize::try_from(header.page_bytes).unwrap_or(usize::MAX);
    let memory = LkcdMemory {
        // The first record of a page counts, should it come twice.
        groups: Extents::overlay(index.groups),
        lost_after_end: ending != Ending::Complete,
        pages: Cache::new(PAGE_BUDGET.checked_div(page_bytes).unwrap_or(1)),
        records: Cache::new(GROUPS_KEPT),
        file: Arc::clone(file),
        header,
        page_bytes,
    };
    Ok(Opened::new(Arc::new(memory), facts, Notes::default()))
}

fn describe(header: &Header, source: &Source) -> Facts {
    let uts = header.uts.clone();
    Facts {
        format: FORMAT.name,
        version: Some(header.version),
        wrappers: source.wrappers.clone(),
        word_bits: header.word_bits,
        big_endian: header.endian == Endian::Big,
        machine: uts.as_ref().map(|uts| uts.machine.clone()).filter(|machine| !machine.is_empty()),
        compression: header.packing.map(|packing| vec![packing.name()]).unwrap_or_default(),
        uts,
        timestamp: header.timestamp,
        page_size: Some(header.page_bytes),
        ..Facts::default()
    }
}

/// A page's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Record {
    address: u64,
    bytes: u32,
    flags: u32,
}

impl Record {
    fn parse(bytes: &[u8], endian: Endian) -> Option<Self> {
        let mut reader = ByteReader::new(bytes, endian);
        Some(Self { address: reader.u64()?, bytes: reader.u32()?, flags: reader.u32()? })
    }

    /// Whether it can be the record of a page.
    fn is_page(&self, page_bytes: u64) -> bool {
        // A page that packing made longer is kept raw.
        let is_size = self.bytes > 0 && u64::from(self.bytes) <= page_bytes;
        let is_aligned = self.address & page_bytes.saturating_sub(1) == 0;
        let is_address = self.address.checked_add(page_bytes).is_some();
        is_size && is_aligned && is_address && matches!(self.flags & (RAW | PACKED), RAW | PACKED)
    }
}

/// How the records end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Complete,
    Cut,
    Damaged(u64),
    Io(std::io::ErrorKind),
}

/// Pages that follow one another in memory and in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Group {
    /// Physical address of the first.
    first: u64,
    /// Offset of its record.
    at: u64,
}

/// What one pass over the file finds.
#[derive(Default)]
struct Index {
    page_bytes: u64,
    /// In the order of the file.
    groups: Vec<Extent<Group>>,
}

impl Index {
    fn walk(&mut self, file: &dyn ReadAt, from: u64, endian: Endian) -> Ending {
        let mut window = Window::new(file, AHEAD);
        let mut at = from;
        loop {
            let record = match window.get(at, RECORD_BYTES as usize) {
                Ok(bytes) => Record::parse(bytes, endian),
                Err(Why::Io(kind)) => return Ending::Io(kind),
                Err(_) => None,
            };
            let Some(record) = record else { return Ending::Cut };
            if record.flags & END != 0 {
                return Ending::Complete;
            }
            if !record.is_page(self.page_bytes) {
                return Ending::Damaged(at);
            }
            self.page(record.address, at);
            at = at.saturating_add(RECORD_BYTES).saturating_add(record.bytes.into());
        }
    }

    fn page(&mut self, address: u64, at: u64) {
        let end = address.saturating_add(self.page_bytes);
        let most = self.page_bytes.saturating_mul(GROUP);
        match self.groups.last_mut() {
            Some(last) if last.end == address && end.saturating_sub(last.start) <= most => last.end = end,
            _ => {
                let tag = Group { first: address, at };
                self.groups.push(Extent { start: address, end, offset: 0, tag });
            }
        }
    }
}

/// Where a page's bytes are.
#[derive(Clone, Copy, Debug)]
struct Place {
    at: u64,
    bytes: u32,
    is_packed: bool,
}

struct LkcdMemory {
    file: Arc<dyn ReadAt>,
    header: Header,
    page_bytes: usize,
    groups: Extents<Group>,
    /// The records broke off: a page that is not there may have been in what is lost.
    lost_after_end: bool,
    /// Pages by their number.
    pages: Cache<Box<[u8]>>,
    /// The places of a group's pages by the offset of its first record.
    records: Cache<Box<[Place]>>,
}

impl LkcdMemory {
    fn gap(&self) -> Why {
        if self.lost_after_end { Why::BeyondFileEnd } else { Why::NeverPresent }
    }

    fn piece(&self, at: u64, into: &mut [u8]) -> Result<usize, Why> {
        let group = self.groups.from(at).map_err(|_| self.gap())?.tag;
        let page_bytes = self.page_bytes as u64;
        let page = at.checked_div(page_bytes).unwrap_or(0);
        let inside = usize::try_from(at.checked_rem(page_bytes).unwrap_or(0)).unwrap_or(0);
        let mut copy = |bytes: &[u8]| {
            let held = bytes.get(inside..).unwrap_or_default();
            into.iter_mut().zip(held).map(|(to, from)| *to = *from).count()
        };
        if let Some(count) = self.pages.get(page, |bytes| copy(bytes)) {
            return Ok(count);
        }
        let number = at.saturating_sub(group.first).checked_div(page_bytes).unwrap_or(0);
        let bytes = self.decode(self.place(group, number)?)?;
        let count = copy(&bytes);
        self.pages.insert(page, bytes);
        Ok(count)
    }

    /// The place of the page of this number in a group.
    fn place(&self, group: Group, number: u64) -> Result<Place, Why> {
        let number = usize::try_from(number).unwrap_or(usize::MAX);
        if let Some(place) = self.records.get(group.at, |places| places.get(number).copied()) {
            return place.ok_or(Why::Corrupt("page record"));
        }
        let mut window = Window::new(&*self.file, AHEAD);
        let mut places = Vec::new();
        let mut at = group.at;
        for page in 0..GROUP {
            let bytes = match window.exact(at, RECORD_BYTES as usize) {
                Ok(bytes) => bytes,
                Err(Why::BeyondFileEnd) => break,
                Err(why) => return Err(why),
            };
            let expected = page.saturating_mul(self.page_bytes as u64).saturating_add(group.first);
            let record = Record::parse(bytes, self.header.endian)
                .filter(|record| record.address == expected && record.is_page(self.page_bytes as u64));
            let Some(record) = record else { break };
            at = at.saturating_add(RECORD_BYTES);
            places.push(Place { at, bytes: record.bytes, is_packed: record.flags & PACKED != 0 });
            at = at.saturating_add(record.bytes.into());
        }
        let place = places.get(number).copied();
        self.records.insert(group.at, places.into());
        place.ok_or(Why::Corrupt("page record"))
    }

    fn decode(&self, place: Place) -> Result<Box<[u8]>, Why> {
        let mut window = Window::new(&*self.file, 0);
        let packed = window.exact(place.at, place.bytes as usize)?;
        let mut page = vec![0; self.page_bytes].into_boxed_slice();
        if !place.is_packed {
            Codec::Raw.decode(packed, &mut page)?;
            return Ok(page);
        }
        match self.header.packing {
            Some(Packing::Gzip) => Codec::Zlib.decode(packed, &mut page)?,
            Some(Packing::Rle) => rle::decode(packed, &mut page)?,
            // Headers before version 5 do not say; a stream of zlib's has a check at its end, and is told by it.
            Some(Packing::None) | None => {
                Codec::Zlib.decode(packed, &mut page).or_else(|_| rle::decode(packed, &mut page))?;
            }
        }
        Ok(page)
    }
}

impl PhysicalMemory for LkcdMemory {
    fn read(&self, at: PhysAddr, into: &mut [u8]) -> (usize, Option<Missing>) {
        let (done, missing) = read_in_pieces(at.0, into, |at, into| self.piece(at, into));
        (done, missing.map(|(at, why)| Missing::new(PhysAddr(at), why)))
    }

    fn next_run(&self, from: PhysAddr) -> Option<Run> {
        self.groups.run(from.0, self.gap(), |_| RunState::Present)
    }
}
