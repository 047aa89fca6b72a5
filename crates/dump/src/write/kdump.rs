//! Writes kdump-compressed files, version 6, of 64-bit little-endian machines (the reader, `kdump.rs`, has the layout).

use std::io::{self, Write};
use std::ops::Range;

use flate2::write::ZlibEncoder;
use kdive_base::{Cancel, Pfn, PhysAddr};

use super::{Fate, PAGE, Sink, WriteError, Written, fates};
use crate::facts::UtsName;
use crate::kdump::header::{SIGNATURE, ZLIB, ZSTD};
use crate::memory::PhysicalMemory;
use crate::notes::Notes;

const BLOCK: u64 = PAGE as u64;
const SUB_HEADER_BYTES: u64 = 104;
const DESCRIPTOR_BYTES: u64 = 24;
/// Descriptors are written when they fill so many bytes.
const DESCRIPTORS_BYTES: usize = 96 << 10;
/// 16 TiB: the bitmaps are built in memory.
const MAX_PAGES: u64 = 1 << 32;

/// How pages are compressed. A page that does not get smaller is kept as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// zlib, level 0 to 9.
    Zlib(u32),
    /// zstd, level 1 to 22. Readers before makedumpfile 1.7.0 and crash 8.0 lack it.
    Zstd(i32),
}

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
    /// Write only these pages, as one part of a split set. The ranges of the parts must not overlap.
    pub part: Option<Range<u64>>,
}

impl Default for KdumpOptions {
    fn default() -> Self {
        let (uts, part) = (UtsName::default(), None);
        Self { compression: Compression::Zlib(1), dump_level: 0, uts, timestamp: 0, part }
    }
}

/// Writes the pages of `memory` that `keep` wants.
///
/// # Errors
/// When the output fails, `cancel` is set, or the memory goes beyond 16 TiB.
pub fn write_kdump(
    memory: &dyn PhysicalMemory,
    notes: &Notes,
    options: &KdumpOptions,
    keep: &dyn Fn(Pfn) -> bool,
    out: &mut dyn Sink,
    cancel: &Cancel,
) -> Result<Written, WriteError> {
    let mut maps = Bitmaps::of(memory, keep, cancel)?;
    let (notes, vmcoreinfo) = notes.encode();
    let layout = Layout::new(maps.pages, notes.len() as u64);
    let part = options.part.clone().unwrap_or(0..maps.pages);
    let mut writer = PageWriter::new(options.compression, &layout, maps.count(&part), out);
    let mut unreadable = 0_u64;
    let mut page = vec![0; PAGE];
    for pfn in part.start..part.end.min(maps.pages) {
        if !bit(&maps.dumped, pfn) {
            continue;
        }
        cancel.check()?;
        match memory.read(PhysAddr(pfn.saturating_mul(BLOCK)), &mut page) {
            (PAGE, None) => writer.page(&page)?,
            _ => {
                set_bit(&mut maps.dumped, pfn, false);
                unreadable = unreadable.saturating_add(1);
            }
        }
    }
    let pages = writer.finish()?;
    let header = main_header(options, &layout, maps.pages);
    let sub_header = sub_header(options, maps.pages, notes.len() as u64, vmcoreinfo);
    out.write_at(0, &padded(header))?;
    out.write_at(BLOCK, &[sub_header, notes].concat())?;
    out.write_at(layout.bitmaps, &padded(maps.ram))?;
    out.write_at(layout.bitmaps.saturating_add(layout.bitmap_bytes), &padded(maps.dumped))?;
    out.finish()?;
    Ok(Written { pages, unreadable })
}

/// Offsets in the file.
struct Layout {
    sub_blocks: u64,
    bitmap_bytes: u64,
    bitmaps: u64,
    descriptors: u64,
}

impl Layout {
    fn new(pages: u64, note_bytes: u64) -> Self {
        let sub_blocks = SUB_HEADER_BYTES.saturating_add(note_bytes).div_ceil(BLOCK);
        let bitmap_bytes = pages.div_ceil(8).next_multiple_of(BLOCK);
        let bitmaps = sub_blocks.saturating_add(1).saturating_mul(BLOCK);
        let descriptors = bitmaps.saturating_add(bitmap_bytes.saturating_mul(2));
        Self { sub_blocks, bitmap_bytes, bitmaps, descriptors }
    }
}

/// Which pages are RAM, and which of them are written.
struct Bitmaps {
    pages: u64,
    ram: Vec<u8>,
    dumped: Vec<u8>,
}

impl Bitmaps {
    fn of(
        memory: &dyn PhysicalMemory,
        keep: &dyn Fn(Pfn) -> bool,
        cancel: &Cancel,
    ) -> Result<Self, WriteError> {
        let mut maps = Self { pages: 0, ram: Vec::new(), dumped: Vec::new() };
        for (pages, fate) in fates(memory, keep) {
            cancel.check()?;
            if pages.end > MAX_PAGES {
                return Err(WriteError::TooBig("physical memory goes beyond 16 TiB"));
            }
            maps.pages = pages.end;
            let bytes = usize::try_from(pages.end.div_ceil(8)).unwrap_or(usize::MAX);
            maps.ram.resize(bytes, 0);
            maps.dumped.resize(bytes, 0);
            for pfn in pages.filter(|_| fate != Fate::NoRam) {
                set_bit(&mut maps.ram, pfn, true);
                set_bit(&mut maps.dumped, pfn, fate == Fate::Kept);
            }
        }
        Ok(maps)
    }

    fn count(&self, pfns: &Range<u64>) -> u64 {
        pfns.clone().filter(|&pfn| bit(&self.dumped, pfn)).count() as u64
    }
}

fn bit(map: &[u8], pfn: u64) -> bool {
    let byte = usize::try_from(pfn / 8).ok().and_then(|index| map.get(index));
    byte.is_some_and(|byte| byte >> (pfn % 8) & 1 != 0)
}

fn set_bit(map: &mut [u8], pfn: u64, value: bool) {
    if let Some(byte) = usize::try_from(pfn / 8).ok().and_then(|index| map.get_mut(index)) {
        let mask = 1 << (pfn % 8);
        *byte = if value { *byte | mask } else { *byte & !mask };
    }
}

/// Compresses pages and writes them and their descriptors.
struct PageWriter<'a> {
    compression: Compression,
    out: &'a mut dyn Sink,
    packed: Vec<u8>,
    /// Descriptors not yet written.
    descriptors: Vec<u8>,
    next_descriptor: u64,
    next_page: u64,
    zero_page: Option<u64>,
    pages: u64,
}

impl<'a> PageWriter<'a> {
    fn new(compression: Compression, layout: &Layout, pages: u64, out: &'a mut dyn Sink) -> Self {
        Self {
            compression,
            out,
            packed: Vec::new(),
            descriptors: Vec::new(),
            next_descriptor: layout.descriptors,
            next_page: layout.descriptors.saturating_add(pages.saturating_mul(DESCRIPTOR_BYTES)),
            zero_page: None,
            pages: 0,
        }
    }

    fn page(&mut self, page: &[u8]) -> io::Result<()> {
        self.pages = self.pages.saturating_add(1);
        let zero = page.iter().all(|&byte| byte == 0);
        if let Some(shared) = self.zero_page.filter(|_| zero) {
            return self.descriptor(shared, page.len(), 0);
        }
        let offset = self.next_page;
        let flags = if zero { 0 } else { self.compress(page)? };
        let bytes = if flags == 0 { page } else { &self.packed };
        self.out.write_at(offset, bytes)?;
        let size = bytes.len();
        self.next_page = offset.saturating_add(size as u64);
        if zero {
            self.zero_page = Some(offset);
        }
        self.descriptor(offset, size, flags)
    }

    /// Compresses into `packed` and returns the descriptor's flags: 0 if the page got no smaller.
    fn compress(&mut self, page: &[u8]) -> io::Result<u32> {
        self.packed.clear();
        let flags = match self.compression {
            Compression::None => return Ok(0),
            Compression::Zlib(level) => {
                let mut encoder = ZlibEncoder::new(&mut self.packed, flate2::Compression::new(level.min(9)));
                encoder.write_all(page)?;
                encoder.finish()?;
                ZLIB
            }
            Compression::Zstd(level) => {
                self.packed = zstd::bulk::compress(page, level)?;
                ZSTD
            }
        };
        Ok(if self.packed.len() < page.len() { flags } else { 0 })
    }

    fn descriptor(&mut self, offset: u64, size: usize, flags: u32) -> io::Result<()> {
        self.descriptors.extend_from_slice(&offset.to_le_bytes());
        self.descriptors.extend_from_slice(&u32::try_from(size).unwrap_or(u32::MAX).to_le_bytes());
        self.descriptors.extend_from_slice(&flags.to_le_bytes());
        self.descriptors.extend_from_slice(&[0; 8]);
        if self.descriptors.len() >= DESCRIPTORS_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.write_at(self.next_descriptor, &self.descriptors)?;
        self.next_descriptor = self.next_descriptor.saturating_add(self.descriptors.len() as u64);
        self.descriptors.clear();
        Ok(())
    }

    fn finish(mut self) -> io::Result<u64> {
        self.flush()?;
        Ok(self.pages)
    }
}

fn main_header(options: &KdumpOptions, layout: &Layout, pages: u64) -> Vec<u8> {
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
    let status = match options.compression {
        Compression::None => 0,
        Compression::Zlib(_) => ZLIB,
        Compression::Zstd(_) => ZSTD,
    };
    let bitmap_blocks = layout.bitmap_bytes.saturating_mul(2).checked_div(BLOCK).unwrap_or(0);
    for value in [u64::from(status), BLOCK, layout.sub_blocks, bitmap_blocks, pages] {
        header.extend_from_slice(&number(value));
    }
    header.extend_from_slice(&[0; 20]); // counts of blocks, current_cpu, nr_cpus
    header
}

fn sub_header(
    options: &KdumpOptions,
    pages: u64,
    note_bytes: u64,
    vmcoreinfo: Option<Range<usize>>,
) -> Vec<u8> {
    let notes_at = BLOCK.saturating_add(SUB_HEADER_BYTES);
    let (vmcoreinfo_at, vmcoreinfo_bytes) =
        vmcoreinfo.map_or((0, 0), |range| (notes_at.saturating_add(range.start as u64), range.len() as u64));
    let split = options.part.clone();
    let part = split.clone().unwrap_or(0..0);
    let mut header = vec![0; 8]; // phys_base: VMCOREINFO has it
    header.extend_from_slice(&options.dump_level.to_le_bytes());
    header.extend_from_slice(&u32::from(split.is_some()).to_le_bytes());
    let words = [
        part.start,
        part.end,
        vmcoreinfo_at,
        vmcoreinfo_bytes,
        if note_bytes == 0 { 0 } else { notes_at },
        note_bytes,
        0,
        0,
        part.start,
        part.end,
        pages,
    ];
    words.iter().for_each(|word| header.extend_from_slice(&word.to_le_bytes()));
    header
}

/// Whole blocks.
fn padded(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(bytes.len().next_multiple_of(PAGE), 0);
    bytes
}
