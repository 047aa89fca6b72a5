//! LiME: ranges of physical memory one after the other, each behind a header of 32 bytes; and what its header and AVML's
//! have in common.
//!
//! Header (LiME's `lime_mem_range_header`), little-endian: u32 magic, u32 version, u64 first address, u64 last address
//! (inclusive), 8 reserved bytes.

use std::sync::Arc;

use kdive_base::{ByteReader, Endian, ReadAt, Why};

use crate::extents::{Extent, Extents};
use crate::facts::Facts;
use crate::flat::{Backing, FlatMemory, backed};
use crate::formats::{Format, Head, Source, single};
use crate::notes::Notes;
use crate::open::Opened;
use crate::window::Window;
use crate::{Hints, OpenError};

pub(crate) const FORMAT: Format = Format { name: "LiME", recognises, open };

const MAGIC: u32 = 0x4c69_4d45;
const VERSION: u32 = 1;
pub(crate) const HEADER_BYTES: usize = 32;

/// The header of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RangeHeader {
    pub(crate) magic: u32,
    pub(crate) version: u32,
    /// First physical address.
    pub(crate) start: u64,
    /// Length of the range in memory, in bytes.
    pub(crate) bytes: u64,
}

impl RangeHeader {
    /// `None` if the bytes are too few or the range is backwards.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut reader = ByteReader::new(bytes, Endian::Little);
        let (magic, version, start, last) = (reader.u32()?, reader.u32()?, reader.u64()?, reader.u64()?);
        let bytes = last.checked_sub(start)?.checked_add(1)?;
        start.checked_add(bytes)?;
        Some(Self { magic, version, start, bytes })
    }
}

fn recognises(head: &Head<'_>) -> bool {
    RangeHeader::parse(head.bytes).is_some_and(|header| (header.magic, header.version) == (MAGIC, VERSION))
}

fn open(sources: &[Source], hints: &Hints) -> Result<Opened, OpenError> {
    let source = single(sources, FORMAT.name)?;
    let (ranges, warning) = ranges(&*source.data)
        .map_err(|error| OpenError::Io { name: source.name.clone(), source: error.into() })?;
    let extents = Extents::overlay(ranges);
    check_not_empty(source, FORMAT.name, &extents)?;
    let facts = Facts {
        format: FORMAT.name,
        version: Some(VERSION),
        wrappers: source.wrappers.clone(),
        warnings: warning.into_iter().collect(),
        ..Facts::default()
    };
    let memory = FlatMemory::new(vec![Arc::clone(&source.data)], extents, hints);
    Ok(Opened::new(Arc::new(memory), facts, Notes::default()))
}

/// A file that ends in its first header has no memory at all.
pub(crate) fn check_not_empty<T: Copy>(
    source: &Source,
    format: &'static str,
    extents: &Extents<T>,
) -> Result<(), OpenError> {
    if extents.end() > 0 {
        return Ok(());
    }
    let (needs, has) = (HEADER_BYTES as u64, source.data.len());
    Err(OpenError::Truncated { name: source.name.clone(), format, needs, has })
}

/// The ranges, and what is wrong with the last.
fn ranges(file: &dyn ReadAt) -> Result<(Vec<Extent<Backing>>, Option<String>), std::io::ErrorKind> {
    let mut window = Window::new(file, 0);
    let mut extents = Vec::new();
    let mut at = 0_u64;
    let file_len = file.len();
    while at < file_len {
        let header = match window.get(at, HEADER_BYTES) {
            Ok(bytes) => RangeHeader::parse(bytes),
            Err(Why::Io(kind)) => return Err(kind),
            Err(_) => None,
        };
        let Some(header) = header.filter(|header| header.magic == MAGIC) else {
            return Ok((extents, Some(format!("no range header at {at:#x}: what follows is lost"))));
        };
        let payload = at.saturating_add(HEADER_BYTES as u64);
        extents.extend(backed(header.start, header.bytes, (0, file_len), payload, header.bytes));
        at = payload.saturating_add(header.bytes);
    }
    let cut = (at > file_len)
        .then(|| format!("truncated: the file ends at {file_len} bytes, its last range at {at}"));
    Ok((extents, cut))
}
