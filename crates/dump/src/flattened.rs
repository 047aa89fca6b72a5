//! makedumpfile's flattened format (`-F`, and QEMU's kdump formats): a dump written to a pipe, as records that say where
//! in the real file their bytes go. It is read in place.
//!
//! Layout: "makedumpfile" padded to 16 bytes, then the 64-bit big-endian numbers 1 (type) and 1 (version), zeros up to
//! 4096. Records: offset and size as signed 64-bit big-endian numbers, then the bytes. The last record is -1, -1. A later
//! record may overwrite an earlier one: headers are written again at the end.

use std::io;
use std::sync::Arc;

use kdive_base::{Endian, ReadAt, Why};

use crate::OpenError;
use crate::extents::{Extent, Extents};
use crate::formats::{Head, Peeled, Source, Told, Wrapper};
use crate::seal::{Record, Seal};
use crate::window::Window;

pub(crate) const WRAPPER: Wrapper = Wrapper { name: "flattened", recognises, peel };

const SIGNATURE: &[u8; 16] = b"makedumpfile\0\0\0\0";
const TYPE_FLAT: u64 = 1;
const RECORDS_AT: u64 = 4096;
const RECORD_HEADER: u64 = 16;
/// Writers leave next to no holes. A few bytes must not stand for a bitmap of petabytes, which would be walked; so many
/// bytes of bitmap stand for 32 TiB of memory.
const MAX_HOLES: u64 = 1 << 30;

fn recognises(head: &Head<'_>) -> bool {
    head.bytes.starts_with(SIGNATURE) && Endian::Big.u64(head.bytes, 16) == Some(TYPE_FLAT)
        || lost_its_header(head)
}

/// Whether the first record is the header of a dump, whatever stands in the 4096 bytes before it.
fn lost_its_header(head: &Head<'_>) -> bool {
    let record = head.bytes.get(RECORDS_AT as usize..).unwrap_or_default();
    let payload = record.get(RECORD_HEADER as usize..).unwrap_or_default();
    let is_dump = [&b"KDUMP   "[..], b"DISKDUMP", b"\x7fELF"].iter().any(|magic| payload.starts_with(magic));
    let size = Endian::Big.u64(record, 8);
    is_dump && Endian::Big.u64(record, 0) == Some(0) && size.is_some_and(|size| (52..1 << 20).contains(&size))
}

fn peel(source: &Source) -> Result<Peeled, OpenError> {
    let (file, ending) = Flattened::index(Arc::clone(&source.data))
        .map_err(|error| OpenError::Io { name: source.name.clone(), source: error })?;
    if file.len() == 0 {
        return Err(match ending {
            Ending::Damaged { .. } => {
                OpenError::damaged(&source.name, WRAPPER.name, "the first record makes no sense")
            }
            _ => OpenError::Truncated {
                name: source.name.clone(),
                format: WRAPPER.name,
                needs: RECORDS_AT.saturating_add(RECORD_HEADER),
                has: source.data.len(),
            },
        });
    }
    let warning = match ending {
        Ending::Complete => None,
        Ending::Cut => Some(format!(
            "truncated: the flattened file ends at {} bytes without an end mark",
            source.data.len()
        )),
        Ending::Damaged { at } => {
            Some(format!("the flattened file is damaged at {at:#x}: what follows is lost"))
        }
    };
    Ok(Peeled { data: Arc::new(file), warning, told: Told::default() })
}

/// How the list of records ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// With its end mark.
    Complete,
    /// The file ends before.
    Cut,
    /// With a record that makes no sense.
    Damaged { at: u64 },
}

/// The file inside, read through the records of the outer one.
struct Flattened {
    outer: Arc<dyn ReadAt>,
    records: Extents<()>,
    /// Bytes in no record are zeros in a complete file; in one that was cut their record may be lost.
    holes_are_zero: bool,
}

impl Flattened {
    /// By the list of records that `kdive dump` leaves at the end.
    fn sealed(outer: &Arc<dyn ReadAt>) -> Option<Self> {
        let seal = Seal::find(&**outer).ok()??;
        let listed = seal.records(&**outer).ok()??;
        let extent = |record: &Record| {
            let end = record.offset.checked_add(record.bytes)?;
            Some(Extent { start: record.offset, end, offset: record.at, tag: () })
        };
        let records: Option<Vec<_>> = listed.iter().rev().map(extent).collect();
        let mut records = Extents::overlay(records?);
        let whole = records.truncate_after_holes(outer.len().saturating_add(MAX_HOLES)).is_none();
        whole.then(|| Self { records, outer: Arc::clone(outer), holes_are_zero: true })
    }

    /// One pass over the headers of the records.
    fn index(outer: Arc<dyn ReadAt>) -> io::Result<(Self, Ending)> {
        if let Some(sealed) = Self::sealed(&outer) {
            return Ok((sealed, Ending::Complete));
        }
        let outer_len = outer.len();
        let mut records: Vec<Extent<()>> = Vec::new();
        let mut headers = Headers::new(&*outer);
        let mut at = RECORDS_AT;
        let ending = loop {
            let (offset, size) = match headers.read(at) {
                Ok(Some(header)) => header,
                Ok(None) => break Ending::Cut,
                Err(Why::Io(kind)) => return Err(kind.into()),
                Err(_) => break Ending::Damaged { at },
            };
            if (offset, size) == (-1, -1) {
                break Ending::Complete;
            }
            let (Ok(start), Ok(size)) = (u64::try_from(offset), u64::try_from(size)) else {
                break Ending::Damaged { at };
            };
            let payload = at.saturating_add(RECORD_HEADER);
            let held = size.min(outer_len.saturating_sub(payload));
            let Some(end) = start.checked_add(held) else { break Ending::Damaged { at } };
            records.push(Extent { start, end, offset: payload, tag: () });
            if held < size {
                break Ending::Cut;
            }
            at = payload.saturating_add(size);
        };
        // Last write wins.
        records.reverse();
        let mut records = Extents::overlay(records);
        let holes = outer_len.saturating_add(MAX_HOLES);
        let ending = match records.truncate_after_holes(holes) {
            Some(lost) => Ending::Damaged { at: lost.offset.saturating_sub(RECORD_HEADER) },
            None => ending,
        };
        Ok((Self { records, outer, holes_are_zero: ending == Ending::Complete }, ending))
    }
}

/// Reads record headers: alone where records are big, many at once where they are small.
struct Headers<'a> {
    alone: Window<'a>,
    together: Window<'a>,
    last: u64,
}

impl<'a> Headers<'a> {
    /// Records nearer to one another than this are read together.
    const NEAR: u64 = 2 << 10;

    fn new(file: &'a dyn ReadAt) -> Self {
        Self {
            alone: Window::new(file, RECORD_HEADER as usize),
            together: Window::new(file, 128 << 10),
            last: 0,
        }
    }

    fn read(&mut self, at: u64) -> Result<Option<(i64, i64)>, Why> {
        let near = at.saturating_sub(self.last) < Self::NEAR;
        self.last = at;
        let window = if near { &mut self.together } else { &mut self.alone };
        let raw = window.get(at, RECORD_HEADER as usize)?;
        Ok(Endian::Big.i64(raw, 0).zip(Endian::Big.i64(raw, 8)))
    }
}

impl ReadAt for Flattened {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let cut = |end: u64, into_len: usize| {
            usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX).min(into_len)
        };
        match self.records.from(offset) {
            Ok(record) => {
                let count = cut(record.end, into.len());
                let into = into.get_mut(..count).unwrap_or_default();
                self.outer.read_at(record.offset_of(offset), into)
            }
            Err(Some(next)) if self.holes_are_zero => {
                let count = cut(next.start, into.len());
                into.get_mut(..count).unwrap_or_default().fill(0);
                Ok(count)
            }
            Err(_) => Ok(0),
        }
    }

    fn len(&self) -> u64 {
        self.records.end()
    }
}
