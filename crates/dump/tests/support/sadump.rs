//! sadump, the dumper in the firmware of Fujitsu's machines: one partition, a set of disks, or a copy on a medium.

use std::collections::BTreeMap;

use super::{Layout, PAGE};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Single,
    /// A set of so many disks.
    Disks(usize),
    Media,
}

pub struct Sadump {
    pub kind: Kind,
    pub block: usize,
    pub version: u64,
    /// Pages that are RAM beside those that are there.
    pub left_out: Vec<u64>,
    pub pages: BTreeMap<u64, Vec<u8>>,
}

impl Sadump {
    pub fn of_pages(kind: Kind, pages: impl IntoIterator<Item = (u64, Vec<u8>)>) -> Self {
        Self { kind, block: PAGE, version: 1, left_out: Vec::new(), pages: pages.into_iter().collect() }
    }

    /// The files, in the order of the disks.
    pub fn build(&self) -> Vec<Vec<u8>> {
        let block = self.block;
        let mut head = Layout::default();
        let mut at = match self.kind {
            Kind::Single => block,
            Kind::Disks(_) => 2 * block,
            Kind::Media => PAGE + block,
        };
        if self.kind == Kind::Media {
            head.put(0, &[7; 16]).put(32, &time()).int(48, 1, 1).int(49, 1, 1);
        }
        if let Kind::Disks(count) = self.kind {
            // The set's header: blocks that it takes, disks, bytes of all; then each of them.
            head.int(block, 4, 1).int(block + 4, 4, count as u64).int(block + 8, 8, 1 << 40);
            for disk in 0..count {
                let volume = block + 16 + 32 * disk;
                head.put(volume, &[0x20 + disk as u8; 16]).int(volume + 16, 8, 1 << 30);
            }
        }
        let last = self.pages.keys().chain(&self.left_out).max().map_or(0, |pfn| pfn + 1);
        let map_blocks = (last as usize).div_ceil(8).div_ceil(block);
        head.put(at, b"sadump\0\0").int(at + 8, 4, self.version).put(at + 16, &time());
        head.int(at + 40, 4, block as u64).int(at + 48, 4, 1);
        head.int(at + 52, 4, map_blocks as u64).int(at + 56, 4, map_blocks as u64);
        head.int(at + 60, 4, if self.version == 0 { last } else { 0 }).int(at + 80, 4, 1);
        if self.version > 0 {
            head.int(at + 88, 8, last).int(at + 96, 8, last);
        }
        self.processor(&mut head, at + block);
        // The header and the machine's own.
        at += 2 * block;
        let mut maps = [vec![0; map_blocks * block], vec![0; map_blocks * block]];
        let mut set = |map: usize, pfn: u64| maps[map][pfn as usize / 8] |= 0x80 >> (pfn % 8);
        self.pages.keys().chain(&self.left_out).for_each(|pfn| set(0, *pfn));
        self.pages.keys().for_each(|pfn| set(1, *pfn));
        for map in &maps {
            head.put(at, map);
            at += map.len();
        }
        let mut files = vec![head.bytes];
        if let Kind::Disks(count) = self.kind {
            files.resize(count, vec![0; block]);
        }
        let per_disk = self.pages.len().div_ceil(files.len());
        for (number, page) in self.pages.values().enumerate() {
            let disk = &mut files[number / per_disk];
            disk.extend(page);
            disk.resize(disk.len().next_multiple_of(block), 0);
        }
        for (number, file) in files.iter_mut().enumerate() {
            let order = if let Kind::Disks(_) = self.kind { number as u64 + 1 } else { 0 };
            let part_at = if self.kind == Kind::Media { PAGE } else { 0 };
            let used = file.len() as u64;
            let mut part = Layout { bytes: std::mem::take(file), big: false };
            self.part(&mut part, part_at, number, order, used);
            *file = part.bytes;
        }
        files
    }

    /// One processor: bytes of a state, what its APIC is, and its state as system management mode saves it.
    fn processor(&self, file: &mut Layout, at: usize) {
        let state = at + 4 + 16;
        file.int(at, 4, 1024);
        // Places from the end of the state: cr0, cr3, rip, rsp, rax, r15, cr4.
        let places = [
            (8, 0x8005_0033),
            (0x10, 0x1234_5000),
            (0x28, 0x1111),
            (0x84, 0x2222),
            (0xa4, 0x3333),
            (0xe4, 0x4444),
            (0x1c0, 0x6f0),
        ];
        for (back, value) in places {
            file.int(state + 1024 - back, 8, value);
        }
    }

    /// What each partition begins with.
    fn part(&self, file: &mut Layout, at: usize, number: usize, order: u64, used: u64) {
        file.put(at, b"sadump\0\0").int(at + 8, 4, 1).int(at + 12, 4, 60);
        file.put(at + 88, &[7; 16]).put(at + 104, &[if order == 0 { 0 } else { 9 }; 16]);
        file.put(at + 120, &[0x20 + number as u8; 16]).put(at + 136, &time());
        file.int(at + 152, 4, order).int(at + 160, 8, used);
        let mut magic = 0x1234_5678_u32;
        for word in (168..self.block).step_by(4) {
            file.int(at + word, 4, magic.into());
            magic = magic.wrapping_add(7).wrapping_mul(11);
        }
    }
}

/// An `EFI_TIME`: 21 November 2026, 12:48:28, in UTC.
fn time() -> [u8; 16] {
    [0xea, 0x07, 11, 21, 12, 48, 28, 0, 0, 0, 0, 0, 0, 0, 0, 0]
}
