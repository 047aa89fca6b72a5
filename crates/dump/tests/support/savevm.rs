//! Streams as QEMU's docs/devel/migration lays them out.

use super::PAGE;

/// What comes in a section of RAM.
pub enum Record {
    /// A page of a block, at its offset.
    Page(&'static str, u64, Vec<u8>),
    /// A page of the same byte.
    Fill(&'static str, u64, u8),
    /// A page packed by zlib.
    Packed(&'static str, u64, Vec<u8>),
    /// What changed in a page, as XBZRLE has it.
    Delta(&'static str, u64, Vec<u8>),
}

impl Record {
    /// Flag, block and offset.
    fn head(&self) -> (u64, &'static str, u64) {
        match self {
            Self::Fill(block, at, _) => (2, block, *at),
            Self::Page(block, at, _) => (8, block, *at),
            Self::Delta(block, at, _) => (0x40, block, *at),
            Self::Packed(block, at, _) => (0x100, block, *at),
        }
    }
}

/// A machine, its blocks of memory, the records of each section of RAM, and its devices with their description.
pub struct Savevm {
    pub machine: &'static str,
    pub blocks: Vec<(&'static str, u64)>,
    pub sections: Vec<Vec<Record>>,
    pub devices: Vec<u8>,
    pub description: String,
    /// What the configuration says the stream was made with. With `mapped-ram` pages lie in places of their own.
    pub capabilities: Vec<&'static str>,
    /// Bytes of the file before the stream, which mapped-ram's offsets count.
    pub before: u64,
}

impl Savevm {
    /// Some pages of RAM, a section for each few of them.
    pub fn of_pages(pages: impl IntoIterator<Item = (u64, Vec<u8>)>) -> Self {
        let records = pages.into_iter().map(|(pfn, bytes)| Record::Page("pc.ram", pfn * PAGE as u64, bytes));
        let mut sections: Vec<Vec<Record>> = vec![Vec::new()];
        for (count, record) in records.enumerate() {
            if count % 3 == 2 {
                sections.push(Vec::new());
            }
            sections.last_mut().unwrap().push(record);
        }
        Self {
            machine: "pc-i440fx-7.2",
            blocks: vec![("pc.ram", 1 << 20), ("pc.bios", 1 << 18)],
            sections,
            devices: Vec::new(),
            description: r#"{"page_size": 4096, "devices": []}"#.to_owned(),
            capabilities: Vec::new(),
            before: 0,
        }
    }

    pub fn build(&self) -> Vec<u8> {
        let mut file = b"QEVM\0\0\0\x03".to_vec();
        file.push(7);
        file.extend((self.machine.len() as u32).to_be_bytes());
        file.extend(self.machine.as_bytes());
        if !self.capabilities.is_empty() {
            let name = "configuration/capabilities";
            file.extend([5, name.len() as u8]);
            file.extend(name.as_bytes());
            file.extend(1_u32.to_be_bytes());
            file.extend((self.capabilities.len() as u32).to_be_bytes());
            for capability in &self.capabilities {
                file.push(capability.len() as u8);
                file.extend(capability.as_bytes());
            }
        }
        let is_mapped = self.capabilities.contains(&"mapped-ram");
        // The start of RAM: its section's number, name, instance and version, then the blocks behind their sizes' sum.
        file.extend([1, 0, 0, 0, 2, 3]);
        file.extend(b"ram\0\0\0\0\0\0\0\x04");
        let total: u64 = self.blocks.iter().map(|(_, bytes)| bytes).sum();
        file.extend((total | 4).to_be_bytes());
        for (name, bytes) in &self.blocks {
            file.push(name.len() as u8);
            file.extend(name.as_bytes());
            file.extend(bytes.to_be_bytes());
            if is_mapped {
                self.map(name, *bytes, &mut file);
            }
        }
        file.extend(0x10_u64.to_be_bytes());
        file.extend([0x7e, 0, 0, 0, 2]);
        let mut last = "";
        for (number, records) in self.sections.iter().enumerate() {
            let is_last = number + 1 == self.sections.len();
            file.extend([if is_last { 3 } else { 2 }, 0, 0, 0, 2]);
            for record in records.iter().filter(|_| !is_mapped) {
                let (kind, block, at) = record.head();
                let same = if block == last { 0x20 } else { 0 };
                file.extend((at | kind | same).to_be_bytes());
                if same == 0 {
                    file.push(block.len() as u8);
                    file.extend(block.as_bytes());
                    last = block;
                }
                match record {
                    Record::Page(_, _, bytes) => file.extend(bytes),
                    Record::Fill(_, _, byte) => file.push(*byte),
                    Record::Packed(_, _, bytes) => {
                        file.extend((bytes.len() as u32).to_be_bytes());
                        file.extend(bytes);
                    }
                    Record::Delta(_, _, bytes) => {
                        file.push(1);
                        file.extend((bytes.len() as u16).to_be_bytes());
                        file.extend(bytes);
                    }
                }
            }
            file.extend(0x10_u64.to_be_bytes());
            file.extend([0x7e, 0, 0, 0, 2]);
        }
        // A device that no reader looks at, then those given.
        file.extend([4, 0, 0, 0, 9, 5]);
        file.extend(b"timer\0\0\0\0\0\0\0\x02\x01\x02\x03\x04");
        file.extend([0x7e, 0, 0, 0, 9]);
        file.extend(&self.devices);
        file.extend([0, 6]);
        file.extend((self.description.len() as u32).to_be_bytes());
        file.extend(self.description.as_bytes());
        file
    }

    /// What mapped-ram has of a block: a header, a bitmap, and the pages at the next 4096 bytes (QEMU takes a mebibyte).
    fn map(&self, name: &str, bytes: u64, file: &mut Vec<u8>) {
        let bitmap_at = file.len() + 28;
        let mut bitmap = vec![0; (bytes / PAGE as u64).div_ceil(64) as usize * 8];
        let pages_at = (bitmap_at + bitmap.len()).next_multiple_of(PAGE);
        let mut pages = vec![0; bytes as usize];
        for record in self.sections.iter().flatten() {
            let (_, block, at) = record.head();
            if let (Record::Page(_, _, page), true) = (record, block == name) {
                let (at, pfn) = (at as usize, at as usize / PAGE);
                pages[at..at + PAGE].copy_from_slice(page);
                bitmap[pfn / 8] |= 1 << (pfn % 8);
            }
        }
        file.extend(1_u32.to_be_bytes());
        for value in [PAGE as u64, bitmap_at as u64 + self.before, pages_at as u64 + self.before] {
            file.extend(value.to_be_bytes());
        }
        file.extend(bitmap);
        file.resize(pages_at, 0);
        file.extend(pages);
    }
}

/// What libvirt puts before the stream.
pub fn libvirt(stream: &[u8], magic: &[u8; 16], packing: u32) -> Vec<u8> {
    let xml = b"<domain type='kvm'><name>guest</name></domain>\0\0\0\0";
    let mut file = magic.to_vec();
    for word in [2, xml.len() as u32, 0, packing] {
        file.extend(word.to_le_bytes());
    }
    file.resize(92, 0);
    file.extend(xml);
    file.extend(stream);
    file
}
