//! Memory in the stream: blocks of RAM and records of pages.

use std::collections::BTreeMap;

use kdive_base::ReadAt;

use super::stream::{Stop, Stream};

/// Bytes of a page of the PC machines.
pub(super) const PAGE_BYTES: u64 = 4096;
/// Bytes from one page's record to the next, where nothing but pages of one block come.
pub(super) const RECORD_BYTES: u64 = 8 + PAGE_BYTES;

// Bytes before sections.
const END_OF_SECTIONS: u8 = 0;
const START: u8 = 1;
const PART: u8 = 2;
const END: u8 = 3;
const FULL: u8 = 4;
const SUBSECTION: u8 = 5;
const CONFIGURATION: u8 = 7;
const COMMAND: u8 = 8;
const FOOTER: u8 = 0x7e;

// Flags in the low bits of a record's address.
const FILL: u64 = 0x02;
const SIZES: u64 = 0x04;
const PAGE: u64 = 0x08;
const END_OF_PART: u64 = 0x10;
const SAME_BLOCK: u64 = 0x20;
const DELTA: u64 = 0x40;
const HOOK: u64 = 0x80;
const COMPRESSED: u64 = 0x100;
const FLUSH: u64 = 0x200;

/// Runs of pages in all. Half a tebibyte of pages that never come two in a row.
const MOST_RUNS: usize = 1 << 27;
/// A machine has some tens of blocks: RAM, ROMs, video memory.
const MOST_BLOCKS: usize = 1 << 16;

/// A block of memory of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) name: String,
    pub(super) bytes: u64,
}

/// Pages of one block that follow one another there and in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PageRun {
    /// The block's number.
    pub(super) block: usize,
    /// Number of the first page in the block.
    pub(super) first: u64,
    /// How many there are.
    pub(super) count: u64,
    pub(super) place: Place,
}

/// Where pages are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Every byte is this one.
    Fill(u8),
    /// In the file: the first here, each other [`RECORD_BYTES`] after the one before.
    Stored { at: u64 },
    /// In the file, one page packed by zlib.
    Packed { at: u64, bytes: u32 },
    /// In the file, as mapped-ram puts them: a bit for each page of the block, set where the page is not zeros, and the
    /// pages, each in its place.
    Mapped { bitmap: u64, pages: u64 },
    /// Behind the place where the stream broke off.
    Lost,
}

/// What changed in a page since it came last: bytes of a record of XBZRLE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Delta {
    pub(super) at: u64,
    pub(super) bytes: u16,
}

/// What one pass over the stream finds.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// The machine's type, `pc-q35-7.2`.
    pub(super) machine: Option<String>,
    pub(super) blocks: Vec<Block>,
    /// In the order of the stream.
    pub(super) runs: Vec<PageRun>,
    /// Changes of pages, by block and number of the page, in the order of the stream since the page came whole.
    pub(super) deltas: BTreeMap<(usize, u64), Vec<Delta>>,
    /// Memory lies beside the stream, each page in its place.
    is_mapped: bool,
    /// The block of the last page: the next section can go on with it.
    current: Option<usize>,
    /// Where the first device begins.
    pub(super) devices_at: Option<u64>,
    /// Why the pass ended before all of memory came.
    pub(super) stop: Option<Stop>,
}

impl Scan {
    /// Passes over the stream from its first section to its first device.
    pub(super) fn of(file: &dyn ReadAt, at: u64) -> Self {
        let mut scan = Self::default();
        let mut stream = Stream::new(file, at);
        scan.stop = scan.sections(&mut stream).err();
        scan
    }

    fn sections(&mut self, stream: &mut Stream<'_>) -> Result<(), Stop> {
        let mut ram = None;
        loop {
            let at = stream.at;
            match stream.u8()? {
                CONFIGURATION => self.configuration(stream)?,
                START => {
                    let (id, name) = (stream.u32()?, stream.name()?);
                    let _instance_and_version = stream.u64()?;
                    if name != "ram" {
                        return Err(stream.odd(0, format!("memory of {name}, which says no length")));
                    }
                    ram = Some(id);
                    self.pages(stream)?;
                }
                PART | END => {
                    if Some(stream.u32()?) != ram {
                        return Err(stream.odd(5, "a part of something that was not begun"));
                    }
                    self.pages(stream)?;
                }
                FOOTER => {
                    let _section = stream.u32()?;
                }
                COMMAND => {
                    let (_command, length) = (stream.u16()?, stream.u16()?);
                    stream.skip(length.into())?;
                }
                FULL => {
                    self.devices_at = Some(at);
                    return Ok(());
                }
                END_OF_SECTIONS => return Ok(()),
                kind => return Err(stream.odd(1, format!("a section of the unknown kind {kind:#x}"))),
            }
        }
    }

    /// The machine's type, and what of the stream's own settings differs from the usual.
    fn configuration(&mut self, stream: &mut Stream<'_>) -> Result<(), Stop> {
        const LONGEST: u32 = 4096;
        let length = stream.u32()?;
        if length > LONGEST {
            return Err(stream.odd(4, "a machine's type of some kilobytes"));
        }
        self.machine = Some(kdive_base::printable(stream.take(length as usize)?));
        while stream.peek()? == SUBSECTION {
            let _kind = stream.u8()?;
            let name = stream.name()?;
            let _version = stream.u32()?;
            match &*name {
                "configuration/target-page-bits" => {
                    let bits = stream.u32()?;
                    if 1_u64.checked_shl(bits) != Some(PAGE_BYTES) {
                        return Err(stream.odd(4, format!("pages of 2^{bits} bytes")));
                    }
                }
                "configuration/capabilities" => self.capabilities(stream)?,
                _ => return Err(stream.odd(0, format!("a setting of the unknown name {name}"))),
            }
        }
        Ok(())
    }

    /// What the stream was made with, as far as it changes the stream.
    fn capabilities(&mut self, stream: &mut Stream<'_>) -> Result<(), Stop> {
        let mut is_multifd = false;
        for _ in 0..stream.u32()? {
            let capability = stream.name()?;
            self.is_mapped |= capability == "mapped-ram";
            is_multifd |= capability == "multifd";
        }
        if is_multifd && !self.is_mapped {
            return Err(stream.odd(0, "memory went through other channels (multifd), not into this file,"));
        }
        Ok(())
    }

    /// The records of a section of RAM.
    fn pages(&mut self, stream: &mut Stream<'_>) -> Result<(), Stop> {
        loop {
            let word = stream.u64()?;
            let (address, flags) = (word & !(PAGE_BYTES - 1), word & (PAGE_BYTES - 1));
            if flags == SIZES {
                self.sizes(stream, address)?;
                continue;
            }
            if flags == END_OF_PART {
                return Ok(());
            }
            if flags == FLUSH || flags == HOOK {
                continue;
            }
            if flags & SAME_BLOCK == 0 {
                let name = stream.name()?;
                self.current = self.blocks.iter().position(|block| block.name == name);
            }
            let number =
                self.current.ok_or_else(|| stream.odd(0, "a page of a block that was not announced"))?;
            let place = match flags & !SAME_BLOCK {
                FILL => Place::Fill(stream.u8()?),
                PAGE => {
                    let at = stream.at;
                    stream.skip(PAGE_BYTES)?;
                    Place::Stored { at }
                }
                DELTA => {
                    let _encoding = stream.u8()?;
                    let (bytes, at) = (stream.u16()?, stream.at);
                    stream.skip(bytes.into())?;
                    self.deltas.entry((number, address / PAGE_BYTES)).or_default().push(Delta { at, bytes });
                    continue;
                }
                COMPRESSED => {
                    let (bytes, at) = (stream.u32()?, stream.at);
                    stream.skip(bytes.into())?;
                    Place::Packed { at, bytes }
                }
                flags => return Err(stream.odd(8, format!("a record of the unknown kind {flags:#x}"))),
            };
            self.page(number, address / PAGE_BYTES, place, stream)?;
        }
    }

    /// The list of blocks, whose sizes add up to `total`.
    fn sizes(&mut self, stream: &mut Stream<'_>, total: u64) -> Result<(), Stop> {
        let mut known = 0_u64;
        while known < total && self.blocks.len() < MOST_BLOCKS {
            let name = stream.name()?;
            let bytes = stream.u64()?;
            known = known.saturating_add(bytes.max(1));
            self.blocks.push(Block { name, bytes });
            if self.is_mapped {
                self.mapped(bytes, stream)?;
            }
        }
        Ok(())
    }

    /// What mapped-ram has of the last block: version, page size, and offsets in the file of a bitmap and of the pages.
    /// The bitmap follows; behind the pages the stream goes on.
    fn mapped(&mut self, bytes: u64, stream: &mut Stream<'_>) -> Result<(), Stop> {
        let version = stream.u32()?;
        let (page_bytes, bitmap, pages) = (stream.u64()?, stream.u64()?, stream.u64()?);
        if (version, page_bytes) != (1, PAGE_BYTES) {
            let what = format!("mapped-ram of version {version} with pages of {page_bytes:#x} bytes");
            return Err(stream.odd(28, what));
        }
        // Offsets are of the whole file, of which the stream may be a part: libvirt has a header of its own before.
        let before = bitmap.wrapping_sub(stream.at);
        let pages = pages.wrapping_sub(before);
        let pages = Some(pages)
            .filter(|pages| *pages >= stream.at)
            .ok_or_else(|| stream.odd(8, "mapped-ram whose pages come before their bitmap"))?;
        let place = Place::Mapped { bitmap: stream.at, pages };
        let block = self.blocks.len().saturating_sub(1);
        // A size that lies must not stand for pages that no file has.
        let held = bytes.min(stream.file_len().saturating_sub(pages));
        self.runs.push(PageRun { block, first: 0, count: held / PAGE_BYTES, place });
        let end = pages.saturating_add(bytes);
        stream.skip(end.saturating_sub(stream.at))
    }

    fn page(&mut self, block: usize, page: u64, place: Place, stream: &Stream<'_>) -> Result<(), Stop> {
        if !self.deltas.is_empty() {
            self.deltas.remove(&(block, page));
        }
        if let Some(last) = self.runs.last_mut()
            && last.block == block
            && last.first.checked_add(last.count) == Some(page)
            && last.goes_on_with(place)
        {
            last.count = last.count.saturating_add(1);
            return Ok(());
        }
        if self.runs.len() >= MOST_RUNS {
            return Err(stream.odd(0, "more runs of pages than any machine has"));
        }
        self.runs.push(PageRun { block, first: page, count: 1, place });
        Ok(())
    }
}

impl PageRun {
    fn goes_on_with(&self, next: Place) -> bool {
        match (self.place, next) {
            (Place::Stored { at: first }, Place::Stored { at }) => {
                self.count.checked_mul(RECORD_BYTES).and_then(|bytes| first.checked_add(bytes)) == Some(at)
            }
            (Place::Fill(byte), Place::Fill(next)) => byte == next,
            _ => false,
        }
    }
}
