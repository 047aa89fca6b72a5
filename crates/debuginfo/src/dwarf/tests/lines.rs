//! Inline frames and lines.

use super::*;

/// The three functions at the mark, and the lines that lead from one to the next.
fn check(file: &DwarfFile, here: VirtAddr) {
    let frames = file.frames(here);
    let told: Vec<_> = frames
        .iter()
        .map(|frame| (frame.function.as_deref().unwrap(), frame.inlined, frame.at.as_ref().unwrap().line))
        .collect();
    let wanted = [
        ("innermost", true, line_of("here: nop")),
        ("between", true, line_of("innermost(doubled)")),
        ("outermost", false, line_of("between(local)")),
    ];
    assert_eq!(told, wanted);
    for frame in &frames {
        let file = &frame.at.as_ref().unwrap().file;
        assert!(file.starts_with('/') && file.ends_with("/fixture.c"), "{file}");
        assert_eq!(file.matches("fixture.c").count(), 1);
    }
    assert_eq!(file.line(here).as_ref(), frames[0].at.as_ref());
}

#[test]
fn inlined_calls_are_told_innermost_first() {
    for version in ["-gdwarf-4", "-gdwarf-5"] {
        for level in ["-O0", "-O2"] {
            let fixture = Fixture::new(&["-g", version, level]);
            check(&fixture.dwarf(), fixture.symbol("here"));
        }
    }
}

#[test]
fn a_slide_moves_all_addresses() {
    let fixture = Fixture::new(&["-g", "-O2"]);
    let slide = 0x1234_5000_0000;
    let file = DwarfFile::open(fixture.elf(), Placement::Slid(slide)).unwrap();
    let here = fixture.symbol("here");
    check(&file, here.add(slide));
    assert!(file.frames(here).is_empty());
    assert_eq!(file.line(here), None);
}

#[test]
fn units_are_found_without_a_table_of_ranges() {
    let mut fixture = Fixture::new(&["-g", "-O2"]);
    let here = fixture.symbol("here");
    let name = b".debug_aranges\0";
    let at = fixture.bytes.windows(name.len()).rposition(|bytes| bytes == name);
    if let Some(at) = at {
        fixture.bytes[at + 1] = b'x';
    }
    assert!(fixture.elf().find_section(".debug_aranges").is_none());
    check(&fixture.dwarf(), here);
}

#[test]
fn compressed_sections_are_read() {
    let fixture = Fixture::new(&["-g", "-O2", "-gz=zlib"]);
    let compressed = |name| fixture.elf().find_section(name).unwrap().flags & 0x800 != 0;
    assert!(compressed(".debug_info") || compressed(".debug_str"));
    check(&fixture.dwarf(), fixture.symbol("here"));
}

#[test]
fn sections_of_a_module_are_relocated_to_their_places() {
    for version in ["-gdwarf-4", "-gdwarf-5"] {
        for sections in ["-fno-function-sections", "-ffunction-sections"] {
            let fixture = Fixture::new(&["-g", version, "-O2", "-c", sections]);
            let elf = fixture.elf();
            assert!(elf.is_relocatable());
            let places = placed(&elf);
            let symbols = elf.symbols_at(&|section| places.get(&section.name).copied()).unwrap();
            let here = symbols.by_name("here").next().unwrap().address;
            assert!(here > VirtAddr(0xffff_ffff_c000_0000));
            check(&DwarfFile::open(elf, Placement::Sections(places)).unwrap(), here);
        }
    }
}

#[test]
fn addresses_outside_of_code_have_no_frames() {
    let fixture = Fixture::new(&["-g", "-O2"]);
    let file = fixture.dwarf();
    for address in [0, 1, fixture.symbol("the_plain").0, u64::MAX, 1 << 47] {
        assert!(file.frames(VirtAddr(address)).is_empty(), "{address:x}");
    }
}

#[test]
fn a_file_without_debuginfo_says_so() {
    let fixture = Fixture::new(&["-O2", "-s"]);
    let error = DwarfFile::open(fixture.elf(), Placement::Slid(0)).unwrap_err();
    assert_eq!(error, super::super::DwarfError::None);
}
