//! Takes the bytes as the debug sections of an object file, and asks for everything that they tell. The first bytes say
//! where one section ends and the next begins.
#![no_main]

use kdive_base::{Missing, VirtAddr, VirtualMemory};
use kdive_debuginfo::dwarf::{DwarfFile, DwarfTypes, FrameState, Names, Placement};
use kdive_debuginfo::{ElfFile, Tag, Types};
use libfuzzer_sys::fuzz_target;

const SECTIONS: [&str; 10] = [
    ".debug_info",
    ".debug_abbrev",
    ".debug_str",
    ".debug_line",
    ".debug_line_str",
    ".debug_rnglists",
    ".debug_loclists",
    ".debug_aranges",
    ".debug_frame",
    ".text",
];
const TEXT: u64 = 0x1000;

/// Answers everything.
struct Zeros;

impl VirtualMemory for Zeros {
    fn read(&self, _: VirtAddr, into: &mut [u8]) -> (usize, Option<Missing>) {
        into.fill(0);
        (into.len(), None)
    }
}

impl FrameState for Zeros {
    fn register(&self, number: u16) -> Option<u64> {
        Some(u64::from(number))
    }

    fn cfa(&self) -> Option<VirtAddr> {
        Some(VirtAddr(u64::MAX))
    }

    fn memory(&self) -> &dyn VirtualMemory {
        self
    }
}

/// A little-endian 64-bit ELF file with these sections behind each other, `.text` at [`TEXT`].
fn elf(contents: &[&[u8]]) -> Vec<u8> {
    let mut names = vec![0];
    let mut body = vec![0; 64];
    let mut heads = vec![0; 64];
    let strings = SECTIONS.iter().flat_map(|name| name.bytes().chain([0])).collect::<Vec<u8>>();
    let all = SECTIONS.iter().zip(contents.iter().copied()).chain([(&"", strings.as_slice())]);
    for (name, bytes) in all {
        let is_text = *name == ".text";
        let name_at = if name.is_empty() { 0 } else { names.len() as u32 };
        names.extend(name.bytes().chain([0]));
        let bytes = if name.is_empty() { &names[..] } else { bytes };
        // PROGBITS, or STRTAB for the names; SHF_ALLOC | SHF_EXECINSTR for code.
        heads.extend(name_at.to_le_bytes());
        heads.extend(if name.is_empty() { 3_u32 } else { 1 }.to_le_bytes());
        let (flags, address) = if is_text { (6, TEXT) } else { (0, 0) };
        for word in [flags, address, body.len() as u64, bytes.len() as u64] {
            heads.extend(word.to_le_bytes());
        }
        heads.extend([0; 8]);
        heads.extend([1, 0, 0, 0, 0, 0, 0, 0]);
        heads.extend([0; 8]);
        let bytes = bytes.to_vec();
        body.extend(bytes);
    }
    let count = contents.len() as u16 + 2;
    // ET_EXEC for x86-64.
    let mut header = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0".to_vec();
    header.extend([0; 16]);
    header.extend((body.len() as u64).to_le_bytes());
    header.extend([0; 4]);
    for word in [64, 0, 0, 64, count, count - 1] {
        header.extend(u16::to_le_bytes(word));
    }
    body[..64].copy_from_slice(&header);
    [body, heads].concat()
}

fuzz_target!(|bytes: &[u8]| {
    let Some((cuts, mut rest)) = bytes.split_at_checked(2 * SECTIONS.len()) else { return };
    let contents: Vec<&[u8]> = cuts
        .chunks_exact(2)
        .map(|cut| {
            let length = usize::from(u16::from_le_bytes([cut[0], cut[1]])).min(rest.len());
            let (section, behind) = rest.split_at(length);
            rest = behind;
            section
        })
        .collect();
    let Ok(elf) = ElfFile::parse(elf(&contents).into()) else { return };
    let Ok(file) = DwarfFile::open(elf, Placement::Slid(0)) else { return };
    for address in [TEXT, TEXT + 1, TEXT + 16, 0, u64::MAX].map(VirtAddr) {
        let _ = (file.frames(address), file.locals(address, &Zeros), file.caller(address, &Zeros, &[3]));
    }
    let types = Types::new(8).with(|unit| DwarfTypes::new(file, unit, None, Names::All));
    for tag in [Tag::Struct, Tag::Union, Tag::Enum, Tag::Typedef, Tag::Base, Tag::Function, Tag::Variable] {
        let mut found = Vec::new();
        types.for_each_name(tag, |name, id| found.push((name.to_owned(), id)));
        for (name, id) in found.into_iter().take(64) {
            let _ = (types.size_of(id), types.name_of(id), types.path_at(id, 1), types.find(tag, &name));
        }
    }
    let _ = types.enumerator("A");
});
