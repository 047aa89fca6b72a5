//! Stand-alone dumps of s390: what `zipl -d` writes to a disk or tape, of a system that is down.
//!
//! Layout, big-endian: u64 magic, u32 version, u32 bytes of the header, u32 level, u32 bytes of a page, u64 bytes of memory,
//! u64 its first address, u64 its end, and what the machine is; behind the header all of memory; then `DUMP_END` and a time.

use std::sync::Arc;

use kdive_base::{ByteReader, Endian};

use crate::extents::Extents;
use crate::facts::Facts;
use crate::flat::{FlatMemory, backed};
use crate::formats::{Format, Head, Source, single};
use crate::notes::Notes;
use crate::open::Opened;
use crate::window::read_up_to;
use crate::{Hints, OpenError};

pub(crate) const FORMAT: Format = Format { name: "s390 stand-alone dump", recognises, open };

const MAGIC: u64 = 0xa819_0173_618f_23fd;
/// Bytes up to and with the flag of dumps over several volumes.
const READ: u64 = 96;
const ARCHITECTURE: usize = 72;
const VOLUME: usize = 76;
const IS_ONE_OF_SEVERAL: usize = 92;
const END: &[u8] = b"DUMP_END";

fn recognises(head: &Head<'_>) -> bool {
    Endian::Big.u64(head.bytes, 0) == Some(MAGIC)
}

/// What the header says.
struct Header {
    version: u32,
    bytes: u64,
    page_bytes: u64,
    memory: u64,
    start: u64,
}

impl Header {
    fn parse(head: &[u8]) -> Option<Self> {
        let mut reader = ByteReader::new(head, Endian::Big);
        reader.skip(8)?;
        let (version, bytes, _level, page_bytes) =
            (reader.u32()?, reader.u32()?, reader.u32()?, reader.u32()?);
        let (memory, start) = (reader.u64()?, reader.u64()?);
        Some(Self { version, bytes: bytes.into(), page_bytes: page_bytes.into(), memory, start })
    }
}

fn open(sources: &[Source], hints: &Hints) -> Result<Opened, OpenError> {
    let source = single(sources, FORMAT.name)?;
    let (head, has) = (source.head()?, source.data.len());
    let truncated =
        |needs| OpenError::Truncated { name: source.name.clone(), format: FORMAT.name, needs, has };
    let header = Header::parse(&head).filter(|_| head.len() as u64 >= READ).ok_or_else(|| truncated(READ))?;
    let end = header.bytes.saturating_add(header.memory);
    if header.bytes < READ || header.memory == 0 || header.start.checked_add(header.memory).is_none() {
        return Err(OpenError::damaged(&source.name, FORMAT.name, "the header's sizes make no sense"));
    }
    if has <= header.bytes {
        return Err(truncated(header.bytes));
    }
    let is_31_bit = Endian::Big.u32(&head, ARCHITECTURE) == Some(1);
    let mut facts = Facts {
        format: FORMAT.name,
        version: Some(header.version),
        wrappers: source.wrappers.clone(),
        word_bits: Some(if is_31_bit { 32 } else { 64 }),
        big_endian: true,
        machine: Some(if is_31_bit { "s390" } else { "s390x" }.to_owned()),
        page_size: Some(header.page_bytes).filter(|bytes| bytes.is_power_of_two()),
        ..Facts::default()
    };
    let mark = read_up_to(&*source.data, end, END.len() as u64)
        .map_err(|error| OpenError::Io { name: source.name.clone(), source: error })?;
    if mark != END {
        facts.incomplete = true;
        facts.warnings.push(format!("no end mark at {end:#x}: the dump did not finish, or was cut"));
    }
    if head.get(IS_ONE_OF_SEVERAL).is_some_and(|flag| *flag != 0) {
        let volume = Endian::Big.u32(&head, VOLUME).unwrap_or(0);
        facts.warnings.push(format!("this is volume {volume} of several, which are not put together"));
    }
    let extents = backed(header.start, header.memory, (0, has), header.bytes, header.memory);
    let memory = FlatMemory::new(vec![Arc::clone(&source.data)], Extents::overlay(extents.into()), hints);
    Ok(Opened::new(Arc::new(memory), facts, Notes::default()))
}
