//! ELF files put together by hand; the differential check against real ones is in `tests/lab.rs`.

use proptest::prelude::*;

use super::*;

/// A little-endian 64-bit ELF file with these sections: name, type, flags, address, bytes.
fn elf64(object_type: u16, sections: &[(&str, u32, u64, u64, Vec<u8>)]) -> Vec<u8> {
    let mut names = vec![0_u8];
    let mut body = vec![0_u8; 64];
    let mut heads = vec![0_u8; 64];
    let strings = (".shstrtab", 3, 0, 0, vec![]);
    for (name, kind, flags, address, bytes) in sections.iter().chain([&strings]) {
        let name_at = names.len() as u32;
        names.extend(name.bytes().chain([0]));
        let bytes = if name == &".shstrtab" { names.clone() } else { bytes.clone() };
        while !body.len().is_multiple_of(8) {
            body.push(0);
        }
        // A symbol table is linked to the section behind it.
        let link = if *kind == 2 { heads.len() as u32 / 64 + 1 } else { 0 };
        heads.extend(name_at.to_le_bytes());
        heads.extend(kind.to_le_bytes());
        for word in [*flags, *address, body.len() as u64, bytes.len() as u64] {
            heads.extend(word.to_le_bytes());
        }
        heads.extend(link.to_le_bytes());
        heads.extend(1_u32.to_le_bytes());
        heads.extend(8_u64.to_le_bytes());
        heads.extend(if *kind == 2 { 24_u64 } else { 0 }.to_le_bytes());
        body.extend(bytes);
    }
    while !body.len().is_multiple_of(8) {
        body.push(0);
    }
    let count = sections.len() as u16 + 2;
    let mut header = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    header.extend(object_type.to_le_bytes());
    header.extend(62_u16.to_le_bytes());
    header.extend(1_u32.to_le_bytes());
    header.extend([0; 16]);
    header.extend((body.len() as u64).to_le_bytes());
    header.extend([0; 4]);
    for word in [64, 0, 0, 64, count, count - 1] {
        header.extend(u16::to_le_bytes(word));
    }
    body[..64].copy_from_slice(&header);
    [body, heads].concat()
}

fn symbol(name: u32, info: u8, section: u16, value: u64, size: u64) -> Vec<u8> {
    let words = [name.to_le_bytes().to_vec(), vec![info, 0], section.to_le_bytes().to_vec()];
    [words.concat(), value.to_le_bytes().to_vec(), size.to_le_bytes().to_vec()].concat()
}

fn note(name: &[u8], kind: u32, description: &[u8]) -> Vec<u8> {
    let mut note =
        [(name.len() as u32).to_le_bytes(), (description.len() as u32).to_le_bytes(), kind.to_le_bytes()]
            .concat();
    for part in [name, description] {
        note.extend(part);
        note.resize(note.len().next_multiple_of(4), 0);
    }
    note
}

fn compressed(kind: u32, size: u64, body: &[u8]) -> Vec<u8> {
    let header = [&kind.to_le_bytes()[..], &[0; 4], &size.to_le_bytes(), &1_u64.to_le_bytes()].concat();
    [&header, body].concat()
}

fn module() -> Vec<u8> {
    let symbols = [
        symbol(0, 0, 0, 0, 0),
        symbol(1, 0x12, 1, 0x10, 0x20),
        symbol(6, 0x01, 2, 0x4, 4),
        symbol(1, 0x22, 1, 0, 0),
        symbol(6, 0x10, 0, 0, 0),
    ];
    let notes = [note(b"Linux\0", 1, &[1, 2, 3]), note(b"GNU\0", 3, &[7; 20])].concat();
    let text = b"all work and no play ".repeat(20);
    let zlib = {
        let mut encoder = flate2::read::ZlibEncoder::new(&text[..], flate2::Compression::best());
        let mut out = vec![];
        std::io::Read::read_to_end(&mut encoder, &mut out).unwrap();
        out
    };
    let zstd = zstd::bulk::compress(&text, 3).unwrap();
    elf64(
        1,
        &[
            (".text", 1, 6, 0, vec![0x90; 0x40]),
            (".data", 1, 3, 0, vec![0; 16]),
            (".symtab", 2, 0, 0, symbols.concat()),
            (".strtab", 3, 0, 0, b"\0init\0state\0".to_vec()),
            (".note.gnu.build-id", 7, 2, 0, notes),
            (".modinfo", 1, 2, 0, b"license=GPL\0name=crasher\0vermagic=6.1 SMP\0".to_vec()),
            (".debug_str", 1, 0x800, 0, compressed(1, text.len() as u64, &zlib)),
            (".debug_line", 1, 0x800, 0, compressed(2, text.len() as u64, &zstd)),
            (".zdebug_info", 1, 0, 0, [b"ZLIB", &(text.len() as u64).to_be_bytes()[..], &zlib].concat()),
            (".debug_bad", 1, 0x800, 0, compressed(1, u64::MAX, &zlib)),
            (".gnu_debuglink", 1, 0, 0, b"crasher.ko.debug\0\0\0\0\x44\x33\x22\x11".to_vec()),
        ],
    )
}

#[test]
fn a_module_file_is_understood() {
    let file = ElfFile::parse(module().into()).unwrap();
    assert_eq!(
        (file.kind(), file.machine(), file.is_64(), file.is_relocatable()),
        (ElfKind::Module, 62, true, true)
    );
    assert_eq!(file.build_id(), Some(vec![7; 20]));
    assert_eq!(file.module_name().as_deref(), Some("crasher"));
    assert_eq!(file.debug_link(), Some(("crasher.ko.debug".into(), 0x1122_3344)));
    let text = b"all work and no play ".repeat(20);
    for name in [".debug_str", ".debug_line", ".debug_info"] {
        assert_eq!(file.section(name).unwrap().unwrap()[..], text[..], "{name}");
    }
    assert!(matches!(file.section(".debug_bad"), Err(ElfError::Compressed { .. })));
    assert!(file.section(".missing").unwrap().is_none());
    assert!(file.has_dwarf());
}

#[test]
fn symbols_of_a_module_are_placed_by_section() {
    let file = ElfFile::parse(module().into()).unwrap();
    let place = |section: &Section| (&*section.name == ".text").then_some(VirtAddr(0x5000));
    let table = file.symbols_at(&place).unwrap();
    let found: Vec<_> = table.iter().map(|s| (s.name, s.address.0, s.size, s.kind.letter())).collect();
    assert_eq!(found, [("init", 0x5000, None, 'W'), ("init", 0x5010, Some(0x20), 'T')]);
    let all = file.symbols_at(&|section| Some(section.address)).unwrap();
    assert_eq!(all.by_name("state").map(|s| s.kind.letter()).collect::<Vec<_>>(), ['d']);
}

#[test]
fn kinds_are_told_by_content() {
    let kind =
        |object_type, sections: &[_]| ElfFile::parse(elf64(object_type, sections).into()).unwrap().kind();
    assert_eq!(kind(2, &[("__ksymtab", 1, 2, 0x1000, vec![])]), ElfKind::Kernel);
    assert_eq!(kind(4, &[]), ElfKind::Core);
    assert_eq!(kind(3, &[(".text", 1, 6, 0x1000, vec![])]), ElfKind::Other);
    assert_eq!(ElfFile::parse(b"#!/bin/sh\n".to_vec().into()).err(), Some(ElfError::NotElf));
    assert!(matches!(ElfFile::parse(module()[..100].to_vec().into()), Err(ElfError::Damaged(_))));
}

proptest! {
    #[test]
    fn damage_never_panics(cut in 1_usize..4096, flips in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..12)) {
        let mut bytes = module();
        for (at, value) in flips {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        bytes.truncate(cut);
        if let Ok(file) = ElfFile::parse(bytes.into()) {
            let _ = (file.kind(), file.build_id(), file.module_info(), file.debug_link(), file.symbols());
            for section in file.sections() {
                let _ = file.contents(section);
            }
        }
    }
}
