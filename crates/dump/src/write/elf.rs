//! Writes ELF cores of 64-bit little-endian machines: notes and a segment for each range of pages.

use std::ops::Range;

use kdive_base::{Cancel, Pfn, PhysAddr};

use super::{Fate, PAGE, Sink, WriteError, Written, fates};
use crate::memory::PhysicalMemory;
use crate::notes::Notes;

const EM_X86_64: u16 = 62;
const HEADER_BYTES: u64 = 64;
const SEGMENT_BYTES: u64 = 56;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
/// The next number, `PN_XNUM`, says that the real one is elsewhere.
const MAX_SEGMENTS: usize = 0xfffe;

/// Writes the pages of `memory` that `keep` wants. Virtual addresses are left 0.
///
/// # Errors
/// When the output fails, `cancel` is set, or the pages make more than 65,533 ranges.
pub fn write_elf(
    memory: &dyn PhysicalMemory,
    notes: &Notes,
    keep: &dyn Fn(Pfn) -> bool,
    out: &mut dyn Sink,
    cancel: &Cancel,
) -> Result<Written, WriteError> {
    let kept = fates(memory, keep).filter(|(_, fate)| *fate == Fate::Kept).map(|(pages, _)| pages);
    let ranges: Vec<Range<u64>> = kept.take(MAX_SEGMENTS).collect();
    if ranges.len() == MAX_SEGMENTS {
        return Err(WriteError::TooBig("the pages make more ranges than an ELF header can count"));
    }
    let (notes, _) = notes.encode();
    let segments = ranges.len().saturating_add(1);
    let notes_at = HEADER_BYTES.saturating_add(SEGMENT_BYTES.saturating_mul(segments as u64));
    let mut head = elf_header(segments);
    head.extend_from_slice(&segment(PT_NOTE, notes_at, 0, notes.len() as u64));
    let mut at = notes_at.saturating_add(notes.len() as u64).next_multiple_of(PAGE as u64);
    let mut written = Written::default();
    for range in ranges {
        let bytes = |pages: u64| pages.saturating_mul(PAGE as u64);
        let size = bytes(range.end.saturating_sub(range.start));
        head.extend_from_slice(&segment(PT_LOAD, at, bytes(range.start), size));
        for pfn in range {
            cancel.check()?;
            let mut page = [0; PAGE];
            match memory.read(PhysAddr(bytes(pfn)), &mut page) {
                (PAGE, None) => written.pages = written.pages.saturating_add(1),
                _ => written.unreadable = written.unreadable.saturating_add(1),
            }
            out.write_at(at, &page)?;
            at = at.saturating_add(PAGE as u64);
        }
    }
    head.extend_from_slice(&notes);
    out.write_at(0, &head)?;
    out.finish()?;
    Ok(written)
}

fn elf_header(segments: usize) -> Vec<u8> {
    let mut header = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let half = |value: u64| u16::try_from(value).unwrap_or(u16::MAX).to_le_bytes();
    header.extend_from_slice(&half(4)); // ET_CORE
    header.extend_from_slice(&EM_X86_64.to_le_bytes());
    header.extend_from_slice(&1_u32.to_le_bytes());
    for word in [0, HEADER_BYTES, 0] {
        header.extend_from_slice(&word.to_le_bytes()); // entry, program headers, section headers
    }
    header.extend_from_slice(&0_u32.to_le_bytes());
    for value in [HEADER_BYTES, SEGMENT_BYTES, segments as u64, 0, 0, 0] {
        header.extend_from_slice(&half(value));
    }
    header
}

fn segment(kind: u32, offset: u64, phys: u64, bytes: u64) -> Vec<u8> {
    let mut header = kind.to_le_bytes().to_vec();
    header.extend_from_slice(&7_u32.to_le_bytes());
    for word in [offset, 0, phys, bytes, bytes, 0] {
        header.extend_from_slice(&word.to_le_bytes());
    }
    header
}
