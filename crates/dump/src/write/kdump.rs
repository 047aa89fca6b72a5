//! Writes kdump-compressed files, version 6, of 64-bit little-endian machines (the reader, `kdump.rs`, has the layout).
//!
//! Headers and bitmaps come first, with the header's flag for an incomplete dump, and room for all descriptors; then pages
//! and their descriptors together; the header without the flag comes last. A page whose descriptor was not written has
//! offset 0, which readers know for a page that is lost. A stream, where nothing is written twice, has the final header from
//! the start. Descriptors have the order of the frames, and pages any order: those of a plan's tiers lie before the others,
//! so that a file that was cut has them.

use std::ops::Range;

use super::pack::each_packed;
use super::pages::PageWriter;
use super::plan::Turn;
use super::{Compression, Control, FrameSet, PAGE, Plan, Sink, WriteError, Written};
use crate::facts::UtsName;
use crate::kdump::header::{INCOMPLETE, SIGNATURE};
use crate::notes::Notes;

const BLOCK: u64 = PAGE as u64;
const SUB_HEADER_BYTES: u64 = 104;
pub(super) const DESCRIPTOR_BYTES: u64 = 24;

/// What to write.
#[derive(Clone, Debug)]
pub struct KdumpOptions {
    /// Compression of pages.
    pub compression: Compression,
    /// The filter level to note in the header.
    pub dump_level: u32,
    /// `utsname` for the header.
    pub uts: UtsName,
    /// Seconds since 1970 for the header.
    pub timestamp: u64,
    /// Physical address that the kernel's text mapping is shifted by.
    pub phys_base: u64,
    /// Processors, for the header.
    pub cpus: u32,
    /// The dump is known to lack pages that it should have: the header goes on saying so.
    pub incomplete: bool,
    /// Write only these pages, as one part of a split set. The ranges of the parts must not overlap.
    pub part: Option<Range<u64>>,
}

impl Default for KdumpOptions {
    fn default() -> Self {
        Self {
            compression: Compression::Zlib(1),
            dump_level: 0,
            uts: UtsName::default(),
            timestamp: 0,
            phys_base: 0,
            cpus: 0,
            incomplete: false,
            part: None,
        }
    }
}

/// Writes the pages of a plan.
///
/// # Errors
/// When the output fails or `control` is cancelled. What was written until then opens, and says that it is incomplete.
pub fn write_kdump(
    plan: &Plan<'_>,
    notes: &Notes,
    options: &KdumpOptions,
    out: &mut dyn Sink,
    control: &Control<'_>,
) -> Result<Written, WriteError> {
    let part = options.part.clone().unwrap_or(0..plan.frames());
    let (note_bytes, vmcoreinfo) = notes.encode();
    let eraseinfo = notes.eraseinfo.as_deref().unwrap_or_default();
    let layout = Layout::new(plan.frames(), note_bytes.len() as u64, eraseinfo.len() as u64);
    let header = |incomplete| main_header(options, &layout, plan.frames(), incomplete);
    let replaces = out.replaces();
    out.write_at(0, &padded(header(replaces || options.incomplete)))?;
    let sub_header = sub_header(options, &layout, plan.frames(), vmcoreinfo);
    out.write_at(BLOCK, &padded([&sub_header, &note_bytes, eraseinfo].concat()))?;
    write_bitmaps(plan, &layout, out, control)?;
    let descriptors = plan.count(&part).saturating_mul(DESCRIPTOR_BYTES);
    out.reserve(layout.descriptors, descriptors)?;
    let pages_at = layout.descriptors.saturating_add(descriptors);
    let mut writer = PageWriter::new(plan, &layout, options.compression.flag(), pages_at, &mut *out);
    let (compression, mut done) = (options.compression, 0);
    for tier in 0..plan.tiers() {
        let mut places = plan.places(part.clone());
        let turn = (&part, Turn::Tier(tier));
        each_packed(plan, turn, &mut done, compression, control, |packed| {
            writer.write_early(&packed, &mut places)
        })?;
    }
    writer.begin_rest();
    let turn = (&part, Turn::Rest);
    each_packed(plan, turn, &mut done, compression, control, |packed| writer.write(&packed))?;
    let written = writer.finish()?;
    if replaces {
        out.write_at(0, &padded(header(options.incomplete)))?;
    }
    out.finish()?;
    Ok(written)
}

/// Offsets in the file.
pub(super) struct Layout {
    note_bytes: u64,
    erase_bytes: u64,
    sub_blocks: u64,
    bitmap_bytes: u64,
    bitmaps: u64,
    pub(super) descriptors: u64,
}

impl Layout {
    fn new(frames: u64, note_bytes: u64, erase_bytes: u64) -> Self {
        let text = note_bytes.saturating_add(erase_bytes);
        let sub_blocks = SUB_HEADER_BYTES.saturating_add(text).div_ceil(BLOCK);
        let bitmap_bytes = frames.div_ceil(8).next_multiple_of(BLOCK);
        let bitmaps = sub_blocks.saturating_add(1).saturating_mul(BLOCK);
        let descriptors = bitmaps.saturating_add(bitmap_bytes.saturating_mul(2));
        Self { note_bytes, erase_bytes, sub_blocks, bitmap_bytes, bitmaps, descriptors }
    }

    /// Where the bits of a GiB are in the first bitmap, and how many bytes of them there are.
    fn bits_of(&self, number: u64) -> (u64, usize) {
        let at = number.saturating_mul(FrameSet::BYTES as u64);
        let bytes = self.bitmap_bytes.saturating_sub(at).min(FrameSet::BYTES as u64);
        (self.bitmaps.saturating_add(at), usize::try_from(bytes).unwrap_or(0))
    }

    pub(super) fn write_bits(
        &self,
        map: Map,
        number: u64,
        frames: &FrameSet,
        out: &mut dyn Sink,
    ) -> Result<(), WriteError> {
        let (at, bytes) = self.bits_of(number);
        let at = match map {
            Map::Ram => at,
            Map::Dumped => at.saturating_add(self.bitmap_bytes),
        };
        out.write_at(at, frames.bytes().get(..bytes).unwrap_or_default())?;
        Ok(())
    }
}

/// One of the two bitmaps.
#[derive(Clone, Copy)]
pub(super) enum Map {
    Ram,
    Dumped,
}

fn write_bitmaps(
    plan: &Plan<'_>,
    layout: &Layout,
    out: &mut dyn Sink,
    control: &Control<'_>,
) -> Result<(), WriteError> {
    for number in 0..plan.gib_count() {
        control.cancel.check()?;
        layout.write_bits(Map::Ram, number, &plan.ram(number), out)?;
        layout.write_bits(Map::Dumped, number, &plan.chosen(number), out)?;
    }
    Ok(())
}

fn main_header(options: &KdumpOptions, layout: &Layout, frames: u64, incomplete: bool) -> Vec<u8> {
    let number = |value: u64| u32::try_from(value).unwrap_or(u32::MAX).to_le_bytes();
    let mut header = SIGNATURE.to_vec();
    header.extend_from_slice(&number(6));
    let uts = &options.uts;
    for text in [&uts.sysname, &uts.nodename, &uts.release, &uts.version, &uts.machine, &uts.domainname] {
        let mut field = [0; 65];
        field.iter_mut().zip(text.bytes().take(64)).for_each(|(to, from)| *to = from);
        header.extend_from_slice(&field);
    }
    header.resize(header.len().next_multiple_of(8), 0);
    header.extend_from_slice(&options.timestamp.to_le_bytes());
    header.extend_from_slice(&[0; 8]); // microseconds
    let status = options.compression.flag() | if incomplete { INCOMPLETE } else { 0 };
    let bitmap_blocks = layout.bitmap_bytes.saturating_mul(2).checked_div(BLOCK).unwrap_or(0);
    for value in [u64::from(status), BLOCK, layout.sub_blocks, bitmap_blocks, frames] {
        header.extend_from_slice(&number(value));
    }
    header.extend_from_slice(&[0; 16]); // counts of blocks, current_cpu
    header.extend_from_slice(&options.cpus.to_le_bytes());
    header
}

fn sub_header(
    options: &KdumpOptions,
    layout: &Layout,
    frames: u64,
    vmcoreinfo: Option<Range<usize>>,
) -> Vec<u8> {
    let notes_at = BLOCK.saturating_add(SUB_HEADER_BYTES);
    let erase_at = notes_at.saturating_add(layout.note_bytes);
    let (vmcoreinfo_at, vmcoreinfo_bytes) =
        vmcoreinfo.map_or((0, 0), |range| (notes_at.saturating_add(range.start as u64), range.len() as u64));
    let stretch = |at: u64, bytes: u64| if bytes == 0 { [0, 0] } else { [at, bytes] };
    let [note_at, note_bytes] = stretch(notes_at, layout.note_bytes);
    let [erase_at, erase_bytes] = stretch(erase_at, layout.erase_bytes);
    let part = options.part.clone().unwrap_or(0..0);
    let mut header = options.phys_base.to_le_bytes().to_vec();
    header.extend_from_slice(&options.dump_level.to_le_bytes());
    header.extend_from_slice(&u32::from(options.part.is_some()).to_le_bytes());
    let words = [
        part.start,
        part.end,
        vmcoreinfo_at,
        vmcoreinfo_bytes,
        note_at,
        note_bytes,
        erase_at,
        erase_bytes,
        part.start,
        part.end,
        frames,
    ];
    words.iter().for_each(|word| header.extend_from_slice(&word.to_le_bytes()));
    header
}

/// Whole blocks.
fn padded(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(bytes.len().next_multiple_of(PAGE), 0);
    bytes
}
