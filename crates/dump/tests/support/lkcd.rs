//! LKCD dumps of every version.

use std::io::Write;

use kdive_base::Endian;

use super::{Layout, PAGE};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    None,
    Rle,
    Gzip,
}

#[derive(Clone)]
pub struct Lkcd {
    pub version: u64,
    pub endian: Endian,
    pub is_64: bool,
    pub packing: Packing,
    /// Pages in the order of the file.
    pub pages: Vec<(u64, Vec<u8>)>,
    pub has_end_mark: bool,
    /// Bytes of the header and what follows it up to the first page, in versions 9 and 10.
    pub buffer: usize,
}

impl Lkcd {
    pub fn of_pages(pages: impl IntoIterator<Item = (u64, Vec<u8>)>) -> Self {
        Self {
            version: 9,
            endian: Endian::Little,
            is_64: true,
            packing: Packing::Gzip,
            pages: pages.into_iter().collect(),
            has_end_mark: true,
            buffer: 0x4_0000,
        }
    }

    /// Offset of the first page's record.
    pub fn pages_at(&self) -> usize {
        if self.version >= 9 { self.buffer } else { 0x1_0000 }
    }

    pub fn build(&self) -> Vec<u8> {
        let mut file = Layout::new(self.endian);
        let last = self.pages.iter().map(|(pfn, _)| pfn + 1).max().unwrap_or(0);
        file.int(0, 8, 0xa819_0173_618f_23ed).int(8, 4, self.version).int(12, 4, 742).int(16, 4, 8);
        file.int(20, 4, PAGE as u64).int(24, 8, last * PAGE as u64).int(40, 8, last * PAGE as u64);
        file.int(if self.version == 1 { 56 } else { 48 }, 4, self.pages.len() as u64);
        file.put(if self.version == 1 { 60 } else { 52 }, b"it died");
        let packing = self.packing as u64;
        // Where the time is, how many bytes it has, and where utsname is.
        let (time, width, uts) = match (self.version, self.is_64) {
            (1, _) => (316, 4, 324),
            (2..=7, false) => (308, 4, 316),
            (2..=7, true) => (312, 8, 328),
            _ => (308, 8, 324),
        };
        file.int(time, width, 1_100_000_000);
        let machine: &[u8] = if self.is_64 { b"x86_64" } else { b"i686" };
        for (number, text) in
            [b"Linux".as_slice(), b"host", b"2.6.5-7.97-smp", b"#1 SMP", machine].iter().enumerate()
        {
            file.put(uts + 65 * number, text);
        }
        match (self.version, self.is_64) {
            (1..=4, _) => {}
            (5..=7, false) => drop(file.int(712, 4, packing)),
            (5..=7, true) => drop(file.int(728, 4, packing)),
            _ => drop(file.int(722, 4, packing)),
        }
        if self.version >= 9 {
            file.int(734, 8, self.pages_at() as u64);
        }
        // What the machine's own header begins with.
        file.int(742, 8, 0xdead_dead);
        file.put(self.pages_at(), &[]);
        let mut bytes = file.bytes;
        bytes.resize(self.pages_at(), 0);
        for (pfn, page) in &self.pages {
            let (flags, packed) = self.pack(page);
            self.record(&mut bytes, pfn * PAGE as u64, packed.len(), flags);
            bytes.extend(packed);
        }
        if self.has_end_mark {
            self.record(&mut bytes, 0, 0, 4);
        }
        bytes
    }

    fn record(&self, bytes: &mut Vec<u8>, address: u64, size: usize, flags: u64) {
        let mut record = Layout::new(self.endian);
        record.int(0, 8, address).int(8, 4, size as u64).int(12, 4, flags);
        bytes.extend(record.bytes);
    }

    fn pack(&self, page: &[u8]) -> (u64, Vec<u8>) {
        let packed = match self.packing {
            Packing::None => page.to_vec(),
            Packing::Rle => rle(page),
            Packing::Gzip => {
                let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(page).unwrap();
                encoder.finish().unwrap()
            }
        };
        if packed.len() < page.len() { (2, packed) } else { (1, page.to_vec()) }
    }
}

/// Runs of four bytes and more, and of zeros, become 0, count, byte; a zero alone becomes two.
fn rle(page: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    let mut rest = page;
    while let [byte, ..] = rest {
        let run = rest.iter().take(255).take_while(|next| *next == byte).count();
        let taken = match (byte, run) {
            (0, 1) => {
                packed.extend([0, 0]);
                1
            }
            (0, _) | (_, 4..) => {
                packed.extend([0, run as u8, *byte]);
                run
            }
            _ => {
                packed.push(*byte);
                1
            }
        };
        rest = &rest[taken..];
    }
    packed
}
