//! VMware's snapshots, and their images of memory.

use super::{Layout, PAGE};

pub struct Vmware {
    pub magic: u64,
    /// Of each region: its first page in the image, its first page in memory, its pages.
    pub regions: Vec<(u64, u64, u64)>,
    /// The image is in the snapshot itself.
    pub is_inside: bool,
    pub image: Vec<u8>,
    /// rip, rsp and cr3 of each processor.
    pub cpus: Vec<(u64, u64, u64)>,
}

impl Vmware {
    /// A machine whose regions are those of its pages.
    pub fn of_pages(pages: impl IntoIterator<Item = (u64, Vec<u8>)>) -> Self {
        let mut regions: Vec<(u64, u64, u64)> = Vec::new();
        let mut image = Vec::new();
        for (pfn, page) in pages {
            match regions.last_mut() {
                Some((_, first, count)) if *first + *count == pfn => *count += 1,
                _ => regions.push(((image.len() / PAGE) as u64, pfn, 1)),
            }
            image.extend(page);
        }
        Self { magic: 0xbed2_bed2, regions, is_inside: false, image, cpus: vec![(0x11, 0x22, 0x3000)] }
    }

    /// The snapshot; if the image is not inside, it is another file.
    pub fn build(&self) -> Vec<u8> {
        let groups = ["Checkpoint", "cpu", "memory"];
        let mut file = Layout::default();
        file.int(0, 4, self.magic).int(4, 4, 8).int(8, 4, groups.len() as u64);
        let mut at = 12 + 80 * groups.len();
        for (number, name) in groups.iter().enumerate() {
            let here = 12 + 80 * number;
            let tags = self.group(name, at);
            file.put(here, name.as_bytes()).int(here + 64, 8, at as u64).int(here + 72, 8, tags.len() as u64);
            file.put(at, &tags);
            at += tags.len();
        }
        file.bytes
    }

    fn group(&self, name: &str, at: usize) -> Vec<u8> {
        let mut tags = Vec::new();
        let mut tag = |name: &str, indices: &[u64], width: usize, value: u64| {
            tags.extend([(indices.len() << 6 | width) as u8, name.len() as u8]);
            tags.extend(name.as_bytes());
            indices.iter().for_each(|index| tags.extend((*index as u32).to_le_bytes()));
            tags.extend(&value.to_le_bytes()[..width]);
        };
        match name {
            "cpu" => {
                tag("cpu:numVCPUs", &[], 4, self.cpus.len() as u64);
                for (cpu, (rip, rsp, cr3)) in (0..).zip(&self.cpus) {
                    tag("rip", &[cpu], 8, *rip);
                    tag("rsp", &[cpu], 8, *rsp);
                    for (number, value) in (0..).zip([0x8005_0033, 0, 0, *cr3, 0x6f0]) {
                        tag("CR64", &[cpu, number], 8, value);
                    }
                }
            }
            "memory" => {
                tag("regionsCount", &[], 4, self.regions.len() as u64);
                for (number, (page, pfn, pages)) in (0..).zip(&self.regions) {
                    tag("regionPageNum", &[number], 4, *page);
                    tag("regionPPN", &[number], 4, *pfn);
                    tag("regionSize", &[number], 4, *pages);
                }
                tag("align_mask", &[], 4, 0xffff);
                if self.is_inside {
                    self.block(&mut tags, at);
                }
            }
            _ => tag("numFrames", &[], 4, 1),
        }
        tags.extend([0, 0]);
        tags
    }

    /// The image, its first byte at a multiple of 64 KiB of the file.
    fn block(&self, tags: &mut Vec<u8>, at: usize) {
        tags.extend([0x7f & 0x3f | 2 << 6, 6]);
        tags.extend(b"Memory\0\0\0\0\0\0\0\0");
        let bytes = self.image.len() as u64;
        let width = if self.magic & 0xf == 0 { 4 } else { 8 };
        tags.extend(&bytes.to_le_bytes()[..width]);
        tags.extend(&bytes.to_le_bytes()[..width]);
        let data = at + tags.len() + 2;
        let padding = data.next_multiple_of(0x1_0000) - data;
        tags.extend((padding as u16).to_le_bytes());
        tags.resize(tags.len() + padding, 0);
        tags.extend(&self.image);
    }
}
