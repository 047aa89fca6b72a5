//! Dumps laid out by hand from the formats' documentation, so that a wrong constant in the crate is caught.
#![allow(dead_code, missing_docs, unreachable_pub, reason = "each test file uses a part of this")]

pub mod every;
pub mod lime;
pub mod lkcd;
pub mod s390;
pub mod sadump;
pub mod savevm;
pub mod vmware;
pub mod xen;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use kdive_base::{Endian, PhysAddr, Why};
use kdive_dump::{Hints, Input, InputFile, OpenError, Opened, PhysicalMemory, open};

pub const PAGE: usize = 4096;

/// Bytes written by offset, growing as needed.
#[derive(Clone, Default)]
pub struct Layout {
    pub bytes: Vec<u8>,
    pub big: bool,
}

impl Layout {
    pub fn new(endian: Endian) -> Self {
        Self { bytes: Vec::new(), big: endian == Endian::Big }
    }

    pub fn put(&mut self, at: usize, bytes: &[u8]) -> &mut Self {
        if self.bytes.len() < at + bytes.len() {
            self.bytes.resize(at + bytes.len(), 0);
        }
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    /// An integer of `width` bytes.
    pub fn int(&mut self, at: usize, width: usize, value: u64) -> &mut Self {
        let bytes = if self.big {
            value.to_be_bytes()[8 - width..].to_vec()
        } else {
            value.to_le_bytes()[..width].to_vec()
        };
        self.put(at, &bytes)
    }
}

/// A page that tells which it is and compresses well.
pub fn page(seed: u64) -> Vec<u8> {
    (0..PAGE as u64)
        .map(|index| if index % 3 == 0 { (seed.wrapping_mul(31) + index / 64) as u8 } else { 7 })
        .collect()
}

pub fn input(files: &[Vec<u8>]) -> Input {
    let files = files.iter().enumerate();
    Input {
        files: files
            .map(|(index, bytes)| InputFile::new(format!("part{index}"), Arc::new(bytes.clone())))
            .collect(),
    }
}

pub fn open_bytes(bytes: &[u8]) -> Result<Opened, OpenError> {
    open(input(&[bytes.to_vec()]), &Hints::default())
}

/// A page, or why it is missing.
pub fn read_page(memory: &dyn PhysicalMemory, pfn: u64) -> Result<Vec<u8>, Why> {
    let mut bytes = vec![0xaa; PAGE];
    match memory.read(PhysAddr(pfn * PAGE as u64), &mut bytes) {
        (PAGE, None) => Ok(bytes),
        (_, Some(missing)) => Err(missing.why),
        (count, None) => panic!("{count} bytes and no reason"),
    }
}

/// Every run from 0 to the end, as (start, end, state).
pub fn runs(memory: &dyn PhysicalMemory) -> Vec<(u64, u64, kdive_dump::RunState)> {
    let mut at = 0;
    let mut runs = Vec::new();
    while let Some(run) = memory.next_run(PhysAddr(at)) {
        assert_eq!(run.start.0, at);
        assert!(run.bytes > 0, "an empty run at {at:#x}");
        runs.push((at, at.saturating_add(run.bytes), run.state));
        at += run.bytes;
    }
    runs
}

/// An ELF note.
pub fn note(endian: Endian, name: &str, kind: u32, desc: &[u8]) -> Vec<u8> {
    let mut note = Layout::new(endian);
    note.int(0, 4, name.len() as u64 + 1).int(4, 4, desc.len() as u64).int(8, 4, kind.into());
    note.put(12, name.as_bytes());
    let desc_at = (12 + name.len() + 1).next_multiple_of(4);
    note.put(desc_at, desc);
    note.bytes.resize((desc_at + desc.len()).next_multiple_of(4), 0);
    note.bytes
}

/// LZO1X of bytes that are all copied literally.
pub fn lzo_literal(bytes: &[u8]) -> Vec<u8> {
    // A first byte of 0 begins a long run of literals: its length is 18, 255 for each further zero, and the last byte.
    let rest = bytes.len() - 18;
    let mut packed = vec![0; 1 + (rest - 1) / 255];
    packed.push(((rest - 1) % 255 + 1) as u8);
    packed.extend_from_slice(bytes);
    packed.extend_from_slice(&[0x11, 0, 0]);
    packed
}

/// A page as a kdump-compressed file keeps it.
#[derive(Clone)]
pub struct Stored {
    pub flags: u32,
    pub bytes: Vec<u8>,
}

impl Stored {
    pub fn raw(bytes: &[u8]) -> Self {
        Self { flags: 0, bytes: bytes.to_vec() }
    }
}

/// A kdump-compressed file.
#[derive(Clone)]
pub struct Kdump {
    pub endian: Endian,
    pub is_64: bool,
    /// 64-bit fields of a 32-bit sub header are aligned to 8 bytes, as on ARM.
    pub padded: bool,
    pub signature: &'static [u8; 8],
    /// One bitmap for both purposes, as diskdump writes it where nothing was left out.
    pub one_bitmap: bool,
    pub version: u32,
    pub sysname: &'static str,
    pub machine: &'static str,
    pub status: u32,
    pub ram: Vec<Range<u64>>,
    pub pages: BTreeMap<u64, Stored>,
    pub max_mapnr: u64,
    pub part: Option<Range<u64>>,
    pub vmcoreinfo: Vec<u8>,
    pub notes: Vec<u8>,
    pub eraseinfo: Vec<u8>,
}

impl Default for Kdump {
    fn default() -> Self {
        Self {
            endian: Endian::Little,
            is_64: true,
            padded: false,
            signature: b"KDUMP   ",
            one_bitmap: false,
            version: 6,
            sysname: "Linux",
            machine: "x86_64",
            status: 1,
            ram: std::iter::once(0..64).collect(),
            pages: BTreeMap::new(),
            max_mapnr: 64,
            part: None,
            vmcoreinfo: b"OSRELEASE=6.12.1-test\nPAGESIZE=4096\n".to_vec(),
            notes: Vec::new(),
            eraseinfo: Vec::new(),
        }
    }
}

impl Kdump {
    pub const SUB_BLOCKS: usize = 2;

    /// Offset of the first bitmap.
    pub fn bitmaps_at(&self) -> usize {
        (1 + Self::SUB_BLOCKS) * PAGE
    }

    pub fn bitmap_bytes(&self) -> usize {
        (self.max_mapnr as usize).div_ceil(8).next_multiple_of(PAGE)
    }

    fn bitmaps(&self) -> usize {
        if self.one_bitmap { 1 } else { 2 }
    }

    pub fn descriptors_at(&self) -> usize {
        self.bitmaps_at() + self.bitmaps() * self.bitmap_bytes()
    }

    pub fn build(&self) -> Vec<u8> {
        let mut file = Layout::new(self.endian);
        file.put(0, self.signature).int(8, 4, self.version.into());
        file.put(12, self.sysname.as_bytes()).put(12 + 65, b"host").put(12 + 2 * 65, b"6.12.1-test");
        file.put(12 + 4 * 65, self.machine.as_bytes());
        // status, block_size, sub_hdr_size, bitmap_blocks, max_mapnr
        let at = if self.is_64 { [408, 424, 428, 432, 436, 440] } else { [404, 412, 416, 420, 424, 428] };
        file.int(at[0], if self.is_64 { 8 } else { 4 }, 1_700_000_000);
        file.int(at[1], 4, self.status.into()).int(at[2], 4, PAGE as u64).int(
            at[3],
            4,
            Self::SUB_BLOCKS as u64,
        );
        file.int(at[4], 4, (self.bitmaps() * self.bitmap_bytes() / PAGE) as u64).int(
            at[5],
            4,
            self.max_mapnr.min(u32::MAX.into()),
        );
        self.sub_header(&mut file);
        self.put_bitmaps(&mut file);
        self.pages(&mut file);
        file.bytes
    }

    fn sub_header(&self, file: &mut Layout) {
        let (info_at, notes_at) = (PAGE + 0x200, PAGE + 0x800);
        let part = self.part.clone().unwrap_or(0..0);
        // phys_base, dump_level, split, start, end, vmcoreinfo, note, eraseinfo (offset and size each), 64-bit start, end, max
        let (word, at): (usize, [usize; 14]) = match (self.is_64, self.padded) {
            (true, _) => (8, [0, 8, 12, 16, 24, 32, 40, 48, 56, 64, 72, 80, 88, 96]),
            (false, false) => (4, [0, 4, 8, 12, 16, 20, 28, 32, 40, 44, 52, 56, 64, 72]),
            (false, true) => (4, [0, 4, 8, 12, 16, 24, 32, 40, 48, 56, 64, 72, 80, 88]),
        };
        let mut put = |index: usize, since: u32, width: usize, value: u64| {
            if self.version >= since {
                file.int(PAGE + at[index], width, value);
            }
        };
        put(0, 0, word, 0xdead_beef);
        put(1, 1, 4, 31);
        put(2, 2, 4, self.part.is_some().into());
        put(3, 2, word, part.start);
        put(4, 2, word, part.end);
        put(5, 3, 8, info_at as u64);
        put(6, 3, word, self.vmcoreinfo.len() as u64);
        put(7, 4, 8, notes_at as u64);
        put(8, 4, word, self.notes.len() as u64);
        let erase_at = PAGE + 0x600;
        put(9, 5, 8, erase_at as u64);
        put(10, 5, word, self.eraseinfo.len() as u64);
        put(11, 6, 8, part.start);
        put(12, 6, 8, part.end);
        put(13, 6, 8, self.max_mapnr);
        file.put(info_at, &self.vmcoreinfo).put(notes_at, &self.notes).put(erase_at, &self.eraseinfo);
    }

    fn put_bitmaps(&self, file: &mut Layout) {
        let (ram_at, dumped_at) = (self.bitmaps_at(), self.descriptors_at() - self.bitmap_bytes());
        let mut maps = [vec![0; self.bitmap_bytes()], vec![0; self.bitmap_bytes()]];
        for pfn in self.ram.iter().cloned().flatten() {
            maps[0][pfn as usize >> 3] |= 1 << (pfn & 7);
        }
        for &pfn in self.pages.keys() {
            maps[1][pfn as usize >> 3] |= 1 << (pfn & 7);
        }
        file.put(ram_at, &maps[0]).put(dumped_at, &maps[1]);
    }

    fn pages(&self, file: &mut Layout) {
        let mine = |pfn: &u64| self.part.as_ref().is_none_or(|part| part.contains(pfn));
        let pages: Vec<&Stored> =
            self.pages.iter().filter(|(pfn, _)| mine(pfn)).map(|(_, page)| page).collect();
        let mut data = self.descriptors_at() + 24 * pages.len();
        file.put(data, &[]);
        for (index, page) in pages.into_iter().enumerate() {
            let at = self.descriptors_at() + 24 * index;
            // An empty page stands for one that was not written.
            let offset = if page.bytes.is_empty() { 0 } else { data };
            file.int(at, 8, offset as u64).int(at + 8, 4, page.bytes.len() as u64).int(
                at + 12,
                4,
                page.flags.into(),
            );
            file.put(data, &page.bytes);
            data += page.bytes.len();
        }
    }
}

/// The flattened format, in records of `sizes` bytes in turn, in the order that `shuffle` makes of them.
pub fn flatten(bytes: &[u8], sizes: &[usize], shuffle: impl Fn(&mut Vec<(usize, Vec<u8>)>)) -> Vec<u8> {
    let mut records = Vec::new();
    let mut at = 0;
    for size in sizes.iter().cycle() {
        if at == bytes.len() {
            break;
        }
        let end = (at + size).min(bytes.len());
        records.push((at, bytes[at..end].to_vec()));
        at = end;
    }
    shuffle(&mut records);
    let mut file = b"makedumpfile\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x01".to_vec();
    file.resize(4096, 0);
    for (at, payload) in records {
        file.extend_from_slice(&(at as i64).to_be_bytes());
        file.extend_from_slice(&(payload.len() as i64).to_be_bytes());
        file.extend_from_slice(&payload);
    }
    file.extend_from_slice(&[0xff; 16]);
    file
}
