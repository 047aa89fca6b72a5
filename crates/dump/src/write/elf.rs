//! Writes ELF cores of 64-bit little-endian machines: notes, and a segment for each range of pages with the pages behind it
//! that are left out.
//!
//! The header has makedumpfile's flag for an incomplete dump until all else is written, but in a stream.

use std::ops::Range;

use super::pack::{Entry, Packed, each_packed};
use super::plan::Turn;
use super::{Compression, Control, PAGE, Plan, Sink, WriteError, Written};
use crate::elf::EF_INCOMPLETE;
use crate::notes::Notes;

const EM_X86_64: u16 = 62;
const HEADER_BYTES: u64 = 64;
const SEGMENT_BYTES: u64 = 56;
const SECTION_BYTES: u64 = 64;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
/// `e_phnum` when the real number is in `sh_info` of section 0.
const PN_XNUM: u64 = 0xffff;
/// Segment headers are written when they fill so many bytes.
const HEADERS_BYTES: usize = 64 << 10;

/// Writes the pages of a plan. Virtual addresses are left 0. What is left out reads as a part of a segment that is not in
/// the file: of such, nobody can tell whether it was zeros.
///
/// # Errors
/// When the output fails or `control` is cancelled. What was written until then opens, and says that it is incomplete.
pub fn write_elf(
    plan: &Plan<'_>,
    notes: &Notes,
    out: &mut dyn Sink,
    control: &Control<'_>,
) -> Result<Written, WriteError> {
    let (notes, _) = notes.encode();
    let mut count = 1_u64;
    for number in 0..plan.gib_count() {
        control.cancel.check()?;
        count = count.saturating_add(segments_of(plan, number).len() as u64);
    }
    let layout = Layout::new(count, notes.len() as u64);
    let replaces = out.replaces();
    out.write_at(0, &layout.elf_header(if replaces { EF_INCOMPLETE } else { 0 }))?;
    write_segments(plan, &layout, notes.len() as u64, out, control)?;
    out.write_at(layout.notes, &notes)?;
    if let Some(at) = layout.section {
        out.write_at(at, &layout.section_zero())?;
    }
    let mut written = Written { bytes: layout.pages, ..Written::default() };
    let everything = 0..plan.frames();
    let mut done = 0;
    each_packed(plan, (&everything, Turn::All), &mut done, Compression::None, control, |packed| {
        let pages = plain(&packed, &mut written);
        out.write_at(written.bytes, &pages)?;
        written.bytes = written.bytes.saturating_add(pages.len() as u64);
        Ok(())
    })?;
    if replaces {
        out.write_at(0, &layout.elf_header(0))?;
    }
    out.finish()?;
    Ok(written)
}

/// Pages as they were, zeros for those that could not be read.
fn plain(packed: &Packed, written: &mut Written) -> Vec<u8> {
    let mut pages = vec![0; packed.entries.len().saturating_mul(PAGE)];
    let mut stored = packed.bytes.chunks_exact(PAGE);
    for (into, (_, entry)) in pages.chunks_exact_mut(PAGE).zip(&packed.entries) {
        match entry {
            Entry::Stored { .. } => {
                if let Some(page) = stored.next() {
                    into.copy_from_slice(page);
                }
                written.pages = written.pages.saturating_add(1);
            }
            Entry::Zero => {
                written.pages = written.pages.saturating_add(1);
                written.zero = written.zero.saturating_add(1);
            }
            Entry::Unreadable => written.unreadable = written.unreadable.saturating_add(1),
        }
    }
    pages
}

/// A segment: the frames it describes, of which the first `held` are in the file.
struct Segment {
    frames: Range<u64>,
    held: u64,
}

/// The segments of a GiB.
fn segments_of(plan: &Plan<'_>, number: u64) -> Vec<Segment> {
    let (ram, chosen) = (plan.ram(number), plan.chosen(number));
    let mut segments = Vec::new();
    let mut kept = chosen.runs().peekable();
    for run in ram.runs() {
        let mut start = run.start;
        while start < run.end {
            // RAM that begins with what is left out has a segment without bytes.
            let held = match kept.next_if(|kept| kept.start == start) {
                Some(kept) => kept.end.saturating_sub(start),
                None => 0,
            };
            let end = kept.peek().map_or(run.end, |next| next.start.min(run.end));
            segments.push(Segment { frames: start..end, held });
            start = end;
        }
    }
    segments
}

fn write_segments(
    plan: &Plan<'_>,
    layout: &Layout,
    note_bytes: u64,
    out: &mut dyn Sink,
    control: &Control<'_>,
) -> Result<(), WriteError> {
    let bytes = |pages: u64| pages.saturating_mul(PAGE as u64);
    let (mut at, mut page) = (HEADER_BYTES, layout.pages);
    let mut headers = segment(PT_NOTE, layout.notes, 0, note_bytes, note_bytes);
    for number in 0..plan.gib_count() {
        control.cancel.check()?;
        for Segment { frames, held } in segments_of(plan, number) {
            let length = bytes(frames.end.saturating_sub(frames.start));
            headers.extend_from_slice(&segment(PT_LOAD, page, bytes(frames.start), bytes(held), length));
            page = page.saturating_add(bytes(held));
            if headers.len() >= HEADERS_BYTES {
                out.write_at(at, &headers)?;
                at = at.saturating_add(headers.len() as u64);
                headers.clear();
            }
        }
    }
    out.write_at(at, &headers)?;
    Ok(())
}

/// Offsets in the file.
struct Layout {
    segments: u64,
    notes: u64,
    /// Of section 0, which tells how many segments there are when the header cannot.
    section: Option<u64>,
    pages: u64,
}

impl Layout {
    fn new(segments: u64, note_bytes: u64) -> Self {
        let notes = HEADER_BYTES.saturating_add(SEGMENT_BYTES.saturating_mul(segments));
        let end = notes.saturating_add(note_bytes).next_multiple_of(8);
        let section = (segments >= PN_XNUM).then_some(end);
        let end = if section.is_some() { end.saturating_add(SECTION_BYTES) } else { end };
        Self { segments, notes, section, pages: end.next_multiple_of(PAGE as u64) }
    }

    fn elf_header(&self, flags: u32) -> Vec<u8> {
        let mut header = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        let half = |value: u64| u16::try_from(value).unwrap_or(u16::MAX).to_le_bytes();
        header.extend_from_slice(&half(4)); // ET_CORE
        header.extend_from_slice(&EM_X86_64.to_le_bytes());
        header.extend_from_slice(&1_u32.to_le_bytes());
        for word in [0, HEADER_BYTES, self.section.unwrap_or(0)] {
            header.extend_from_slice(&word.to_le_bytes()); // entry, program headers, section headers
        }
        header.extend_from_slice(&flags.to_le_bytes());
        let sections = u64::from(self.section.is_some());
        let section_bytes = if self.section.is_some() { SECTION_BYTES } else { 0 };
        for value in [HEADER_BYTES, SEGMENT_BYTES, self.segments.min(PN_XNUM), section_bytes, sections, 0] {
            header.extend_from_slice(&half(value));
        }
        header
    }

    /// `sh_info`, the 12th 32-bit word of an otherwise empty section, has the number of segments.
    fn section_zero(&self) -> Vec<u8> {
        let mut section = vec![0; 44];
        section.extend_from_slice(&u32::try_from(self.segments).unwrap_or(u32::MAX).to_le_bytes());
        section.resize(usize::try_from(SECTION_BYTES).unwrap_or(64), 0);
        section
    }
}

fn segment(kind: u32, offset: u64, phys: u64, held: u64, bytes: u64) -> Vec<u8> {
    let mut header = kind.to_le_bytes().to_vec();
    header.extend_from_slice(&7_u32.to_le_bytes());
    for word in [offset, 0, phys, held, bytes, 0] {
        header.extend_from_slice(&word.to_le_bytes());
    }
    header
}
