//! `struct disk_dump_header` and `struct kdump_sub_header`, as makedumpfile's IMPLEMENTATION file documents them: in the
//! byte order, word size and alignment of the dumped machine.

use kdive_base::{ByteReader, Endian};

use crate::codec::Codec;
use crate::facts::UtsName;

pub(crate) const SIGNATURE: &[u8; 8] = b"KDUMP   ";
/// Of Red Hat's diskdump, the kernel patches that came before kdump. The main header is the same, but for the flags of
/// `status`; the sub header holds the registers of one processor; and there is one bitmap instead of two where no page of
/// RAM was left out.
pub(crate) const OLD_SIGNATURE: &[u8; 8] = b"DISKDUMP";

/// Bytes of the fixed part of the main header, the longer of the two forms.
pub(crate) const HEADER_BYTES: u64 = 464;

/// Flags of `status`, and of page descriptors.
pub(crate) const ZLIB: u32 = 1;
pub(crate) const LZO: u32 = 2;
pub(crate) const SNAPPY: u32 = 4;
pub(crate) const INCOMPLETE: u32 = 8;
pub(crate) const EXCLUDED_VMEMMAP: u32 = 0x10;
pub(crate) const ZSTD: u32 = 0x20;

/// Flags of the `status` of a `DISKDUMP`.
const OLD_INCOMPLETE: u32 = 1;
const OLD_ZLIB: u32 = 8;

/// The codec that the flags of a page descriptor name.
pub(crate) fn codec(flags: u32) -> Option<Codec> {
    match flags & (ZLIB | LZO | SNAPPY | ZSTD) {
        0 => Some(Codec::Raw),
        ZLIB => Some(Codec::Zlib),
        LZO => Some(Codec::Lzo),
        SNAPPY => Some(Codec::Snappy),
        ZSTD => Some(Codec::Zstd),
        _ => None,
    }
}

/// The main header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) endian: Endian,
    pub(crate) is_64: bool,
    /// `DISKDUMP`, whose flags and sub header are others.
    pub(crate) old: bool,
    pub(crate) version: u32,
    pub(crate) uts: UtsName,
    pub(crate) timestamp: u64,
    pub(crate) status: u32,
    pub(crate) block_size: u32,
    pub(crate) sub_blocks: u32,
    pub(crate) bitmap_blocks: u32,
    pub(crate) max_mapnr: u32,
    pub(crate) nr_cpus: u32,
}

impl Header {
    /// Reads the header in whichever byte order and word size makes sense of it.
    pub(crate) fn parse(head: &[u8]) -> Result<Self, String> {
        let mut complaint = None;
        for (endian, is_64) in
            [(Endian::Little, true), (Endian::Little, false), (Endian::Big, true), (Endian::Big, false)]
        {
            match Self::parse_as(head, endian, is_64).ok_or("the header is cut short")?.checked() {
                Ok(header) => return Ok(header),
                Err(why) => complaint = complaint.or(Some(why)),
            }
        }
        Err(complaint.unwrap_or_default())
    }

    fn parse_as(head: &[u8], endian: Endian, is_64: bool) -> Option<Self> {
        let mut reader = ByteReader::new(head, endian);
        let old = reader.take(8)? == OLD_SIGNATURE;
        let version = reader.u32()?;
        let uts = UtsName::read(&mut reader)?;
        reader.align(if is_64 { 8 } else { 4 })?;
        let timestamp = if is_64 { reader.u64()? } else { u64::from(reader.u32()?) };
        reader.skip(if is_64 { 8 } else { 4 })?; // microseconds
        let (status, block_size, sub_blocks, bitmap_blocks) =
            (reader.u32()?, reader.u32()?, reader.u32()?, reader.u32()?);
        let max_mapnr = reader.u32()?;
        reader.skip(16)?; // total_ram_blocks, device_blocks, written_blocks, current_cpu
        let nr_cpus = reader.u32()?;
        Some(Self {
            endian,
            is_64,
            old,
            version,
            uts,
            timestamp,
            status,
            block_size,
            sub_blocks,
            bitmap_blocks,
            max_mapnr,
            nr_cpus,
        })
    }

    /// Whether this reading of the header can be right.
    fn checked(self) -> Result<Self, String> {
        // Versions up to 6 exist. A newer one may have a longer sub header, which can be read as version 6.
        if self.version > 64 {
            return Err(format!("the header's version makes no sense ({:#x})", self.version));
        }
        if !self.block_size.is_power_of_two() || !(1 << 10..=1 << 20).contains(&self.block_size) {
            return Err(format!("the header's block size makes no sense ({:#x})", self.block_size));
        }
        if self.sub_blocks == 0 || self.bitmap_blocks < if self.old { 1 } else { 2 } {
            let (sub, bitmap) = (self.sub_blocks, self.bitmap_blocks);
            return Err(format!(
                "the header's sizes make no sense (sub header {sub} blocks, bitmaps {bitmap} blocks)"
            ));
        }
        // In version 6 the 32-bit number may have been cut; a machine with so many pages has big bitmaps in any case.
        if (self.version < 6 || self.old) && u64::from(self.max_mapnr) > self.bitmap_bits() {
            return Err(format!("the header's bitmaps are too small for {} pages", self.max_mapnr));
        }
        Ok(self)
    }

    fn blocks(&self, count: u64) -> u64 {
        count.saturating_mul(u64::from(self.block_size))
    }

    /// Whether one bitmap says both what is RAM and what is in the dump: there is no room for two.
    pub(crate) fn has_one_bitmap(&self) -> bool {
        let half = self.blocks(u64::from(self.bitmap_blocks) / 2).saturating_mul(8);
        self.old && half < u64::from(self.max_mapnr)
    }

    /// Bytes of one bitmap.
    pub(crate) fn bitmap_bytes(&self) -> u64 {
        let blocks = u64::from(self.bitmap_blocks);
        self.blocks(if self.has_one_bitmap() { blocks } else { blocks / 2 })
    }

    /// Pages that one bitmap can describe.
    pub(crate) fn bitmap_bits(&self) -> u64 {
        self.bitmap_bytes().saturating_mul(8)
    }

    /// Offset of the first bitmap: which pages are RAM.
    pub(crate) fn ram_bitmap_at(&self) -> u64 {
        self.blocks(u64::from(self.sub_blocks).saturating_add(1))
    }

    /// Offset of the second bitmap: which pages are in the dump.
    pub(crate) fn dumped_bitmap_at(&self) -> u64 {
        let ram = if self.has_one_bitmap() { 0 } else { self.bitmap_bytes() };
        self.ram_bitmap_at().saturating_add(ram)
    }

    /// Offset of the page descriptors.
    pub(crate) fn descriptors_at(&self) -> u64 {
        self.ram_bitmap_at().saturating_add(self.blocks(u64::from(self.bitmap_blocks)))
    }

    /// The codecs that `status` announces.
    pub(crate) fn compression(&self) -> Vec<&'static str> {
        if self.old {
            let codec = if self.status & OLD_ZLIB != 0 { Codec::Zlib } else { Codec::Raw };
            return vec![codec.name()];
        }
        let flags = [ZLIB, LZO, SNAPPY, ZSTD].into_iter().filter(|flag| self.status & flag != 0);
        let names: Vec<_> = flags.filter_map(codec).map(Codec::name).collect();
        if names.is_empty() { vec![Codec::Raw.name()] } else { names }
    }

    pub(crate) fn has(&self, flag: u32) -> bool {
        match flag {
            INCOMPLETE if self.old => self.status & OLD_INCOMPLETE != 0,
            _ => !self.old && self.status & flag != 0,
        }
    }
}

/// A stretch of the file: offset and bytes.
pub(crate) type Stretch = (u64, u64);

/// The sub header: what each version added, where the version has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SubHeader {
    /// Version 1.
    pub(crate) dump_level: Option<u32>,
    /// Version 2: this is one file of several; the pages that it holds.
    pub(crate) split: Option<std::ops::Range<u64>>,
    /// Version 3.
    pub(crate) vmcoreinfo: Option<Stretch>,
    /// Version 4.
    pub(crate) notes: Option<Stretch>,
    /// Version 5.
    pub(crate) eraseinfo: Option<Stretch>,
    /// Version 6.
    pub(crate) max_mapnr: Option<u64>,
}

impl SubHeader {
    /// Bytes that the longest form takes.
    pub(crate) const BYTES: u64 = 104;

    /// Reads what the header's version says is there, as far as the bytes go.
    pub(crate) fn parse(bytes: &[u8], header: &Header) -> Self {
        let mut sub = Self::default();
        if !header.old {
            let mut reader =
                Aligned { reader: ByteReader::new(bytes, header.endian), is_64: header.is_64, align: 4 };
            if header.is_64 || pads_like_arm(&header.uts) {
                reader.align = 8;
            }
            // Whatever was read before the bytes end stays.
            let _ = sub.fill(&mut reader, header.version);
        }
        sub
    }

    fn fill(&mut self, reader: &mut Aligned<'_>, version: u32) -> Option<()> {
        reader.word()?; // phys_base: QEMU writes garbage, and VMCOREINFO says it as well.
        self.dump_level = Some(reader.reader.u32()?).filter(|_| version >= 1);
        let split = reader.reader.u32()? != 0 && version >= 2;
        let (start, end) = (reader.word()?, reader.word()?);
        self.split = split.then_some(start..end);
        let wanted = |stretch: Stretch, since| (version >= since && stretch.1 > 0).then_some(stretch);
        self.vmcoreinfo = wanted(reader.stretch()?, 3);
        self.notes = wanted(reader.stretch()?, 4);
        self.eraseinfo = wanted(reader.stretch()?, 5);
        if version >= 6 {
            let (start, end) = (reader.offset()?, reader.offset()?);
            self.split = split.then_some(start..end);
            self.max_mapnr = Some(reader.offset()?).filter(|&pages| pages > 0);
        }
        Some(())
    }
}

/// 32-bit ABIs that align 64-bit integers to 8 bytes, unlike i386. QEMU, which leaves `sysname` empty, never pads.
fn pads_like_arm(uts: &UtsName) -> bool {
    ["arm", "mips", "ppc"].iter().any(|machine| uts.machine.starts_with(machine)) && !uts.sysname.is_empty()
}

/// Reads C types of the dumped machine.
struct Aligned<'a> {
    reader: ByteReader<'a>,
    is_64: bool,
    /// Alignment of 64-bit integers.
    align: usize,
}

impl Aligned<'_> {
    /// `unsigned long`
    fn word(&mut self) -> Option<u64> {
        if self.is_64 { self.offset() } else { self.reader.u32().map(u64::from) }
    }

    /// `off_t`, `unsigned long long`
    fn offset(&mut self) -> Option<u64> {
        self.reader.align(self.align)?;
        self.reader.u64()
    }

    /// `off_t` and `unsigned long`
    fn stretch(&mut self) -> Option<Stretch> {
        Some((self.offset()?, self.word()?))
    }
}
