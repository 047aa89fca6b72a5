//! Flattened, LiME, AVML and raw files laid out by hand; and what is no dump at all.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::single_range_in_vec_init,
    reason = "helpers of tests may fail as tests do"
)]

mod support;

use std::sync::Arc;

use kdive_base::{Cancel, PhysAddr, Why};
use kdive_dump::{Form, Hints, Input, InputFile, Kind, OpenError, RunState, find_vmcoreinfo, open, probe};
use support::lime::{avml_range, header as lime_header};
use support::{Kdump, PAGE, Stored, flatten, input, open_bytes, page, read_page, runs};

fn sample() -> Kdump {
    let mut dump = Kdump::default();
    for pfn in 0..20 {
        dump.pages.insert(pfn, Stored::raw(&page(pfn)));
    }
    dump
}

fn expect_sample(bytes: &[u8]) {
    let opened = open_bytes(bytes).unwrap();
    assert_eq!(opened.facts.wrappers, ["flattened"]);
    assert!(opened.facts.warnings.is_empty(), "{:?}", opened.facts.warnings);
    for pfn in 0..20 {
        assert_eq!(read_page(&*opened.memory, pfn).unwrap(), page(pfn), "page {pfn}");
    }
    let mut all = vec![0; 20 * PAGE];
    assert_eq!(opened.memory.read(PhysAddr(0), &mut all), (20 * PAGE, None), "the way of long reads");
    assert_eq!(all, (0..20).flat_map(page).collect::<Vec<_>>());
}

#[test]
fn flattened_records_come_in_any_size_and_order() {
    let plain = sample().build();
    expect_sample(&flatten(&plain, &[1 << 20], |_| ()));
    expect_sample(&flatten(&plain, &[1, 16, 4096, 100, 20_000], |_| ()));
    expect_sample(&flatten(&plain, &[5000, 64], |records| records.reverse()));
}

#[test]
fn in_a_flattened_file_the_last_write_wins() {
    let plain = sample().build();
    // First wrong headers and a wrong piece in the middle, later the right ones, over several records.
    let bytes = flatten(&plain, &[3000], |records| {
        records.insert(0, (0, vec![0xee; 10_000]));
        records.insert(3, (20_000, vec![0xee; 7001]));
    });
    expect_sample(&bytes);
    let stale = flatten(&plain, &[3000], |records| records.push((PAGE * 40, vec![0xee; 16])));
    assert!(open_bytes(&stale).is_ok());
}

#[test]
fn a_hole_in_a_flattened_file_is_zeros_if_the_file_is_complete() {
    let mut dump = sample();
    dump.pages.insert(19, Stored::raw(&[0; PAGE]));
    let plain = dump.build();
    let without_last_page = |records: &mut Vec<(usize, Vec<u8>)>| {
        records.retain(|(at, _)| *at < plain.len() - PAGE);
        // The last byte keeps the file's length.
        records.push((plain.len() - 1, vec![0]));
    };
    let bytes = flatten(&plain, &[PAGE / 8], without_last_page);
    let opened = open_bytes(&bytes).unwrap();
    assert_eq!(read_page(&*opened.memory, 19).unwrap(), vec![0; PAGE]);
    let cut = open_bytes(&bytes[..bytes.len() - 16]).unwrap();
    assert!(cut.facts.warnings[0].contains("truncated"), "{:?}", cut.facts.warnings);
    assert_eq!(read_page(&*cut.memory, 19), Err(Why::BeyondFileEnd), "the record may have been lost");
    assert_eq!(read_page(&*cut.memory, 17).unwrap(), page(17));
}

#[test]
fn lime_ranges_are_found_behind_their_headers() {
    let mut file = lime_header(b"EMiL", 1, 0x1000, 2 * PAGE as u64);
    file.extend(page(1));
    file.extend(page(2));
    file.extend(lime_header(b"EMiL", 1, 0x10_0000, PAGE as u64));
    file.extend(page(256));
    let opened = open_bytes(&file).unwrap();
    assert_eq!(opened.facts.format, "LiME");
    for pfn in [1, 2, 256] {
        assert_eq!(read_page(&*opened.memory, pfn).unwrap(), page(pfn));
    }
    assert_eq!(read_page(&*opened.memory, 3), Err(Why::NeverPresent));
    let cut = open_bytes(&file[..file.len() - 96]).unwrap();
    assert_eq!(read_page(&*cut.memory, 256), Err(Why::BeyondFileEnd));
    assert!(cut.facts.warnings[0].contains("truncated"), "{:?}", cut.facts.warnings);
}

#[test]
fn avml_frames_are_found_and_decompressed() {
    let pages: Vec<u8> = (1..40).flat_map(page).collect();
    // Random bytes are kept uncompressed in their frame.
    let mut noise = vec![0_u8; 20 * PAGE];
    let mut state = 1_u64;
    for byte in &mut noise {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        *byte = (state >> 33) as u8;
    }
    let mut file = avml_range(0x1000, &pages);
    file.extend(avml_range(0x40_0000, &noise));
    let opened = open_bytes(&file).unwrap();
    assert_eq!((opened.facts.format, opened.facts.version), ("AVML", Some(2)));
    assert!(opened.facts.warnings.is_empty(), "{:?}", opened.facts.warnings);
    for pfn in 1..40 {
        assert_eq!(read_page(&*opened.memory, pfn).unwrap(), page(pfn), "page {pfn}");
    }
    let mut back = vec![0; noise.len()];
    assert_eq!(opened.memory.read(PhysAddr(0x40_0000), &mut back), (noise.len(), None));
    assert_eq!(back, noise);
    assert_eq!(read_page(&*opened.memory, 100), Err(Why::ZeroOrExcluded), "zero ranges are left out");
    assert_eq!(read_page(&*opened.memory, 1 << 20), Err(Why::NeverPresent));
    let states: Vec<_> = runs(&*opened.memory).into_iter().map(|(_, _, state)| state).collect();
    let hole = RunState::Missing(Why::ZeroOrExcluded);
    assert_eq!(states, [hole, RunState::Present, hole, RunState::Present]);
}

#[test]
fn a_bad_byte_in_avml_costs_its_frame() {
    let pages: Vec<u8> = (0..40).flat_map(page).collect();
    let mut file = avml_range(0, &pages);
    let frame = 32 + 10;
    file[frame + 100] ^= 0x10;
    let opened = open_bytes(&file).unwrap();
    assert_eq!(read_page(&*opened.memory, 0), Err(Why::Corrupt("snappy frame")));
    assert_eq!(read_page(&*opened.memory, 20).unwrap(), page(20), "the second frame is whole");
    let cut = open_bytes(&file[..file.len() - 100]).unwrap();
    assert_eq!(read_page(&*cut.memory, 39), Err(Why::BeyondFileEnd));
    assert_eq!(read_page(&*cut.memory, 20).unwrap(), page(20));
}

#[test]
fn raw_images_lie_where_the_user_says() {
    let file = |seed, base| InputFile::raw("ram", Arc::new(page(seed)), PhysAddr(base));
    let opened = open(Input { files: vec![file(9, 0x9000), file(1, 0x1000)] }, &Hints::default()).unwrap();
    assert_eq!(read_page(&*opened.memory, 1).unwrap(), page(1));
    assert_eq!(read_page(&*opened.memory, 9).unwrap(), page(9));
    assert_eq!(read_page(&*opened.memory, 2), Err(Why::NeverPresent));
}

#[test]
fn vmcoreinfo_is_found_in_memory_as_a_page_and_as_a_note() {
    let text = b"OSRELEASE=6.12.1\nPAGESIZE=4096\n";
    let mut memory = vec![0_u8; 3 << 20];
    memory[0x5000..0x5000 + text.len()].copy_from_slice(text);
    let note = support::note(kdive_base::Endian::Little, "VMCOREINFO", 0, text);
    memory[0x10_0010..0x10_0010 + note.len()].copy_from_slice(&note);
    memory[0x20_0800..0x20_0800 + text.len()].copy_from_slice(text);
    let file = InputFile::raw("ram", Arc::new(memory), PhysAddr(0x4000_0000));
    let opened = open(file.into(), &Hints::default()).unwrap();
    let cancel = Cancel::default();
    let found: Vec<_> = find_vmcoreinfo(&*opened.memory, &cancel).map(|found| found.unwrap()).collect();
    assert_eq!(found.len(), 2, "text that does not begin a page is none: {found:?}");
    assert_eq!((found[0].at.0, found[0].form), (0x4000_5000, Form::Page));
    assert_eq!((found[1].at.0, found[1].form), (0x4010_0010 + 24, Form::Note));
    assert!(found.iter().all(|found| found.text == text));
    cancel.cancel();
    assert!(find_vmcoreinfo(&*opened.memory, &cancel).next().unwrap().is_err());
}

#[test]
fn what_is_no_dump_is_told_with_the_next_step() {
    let mut package = b"!<arch>\ndebian-binary   ".to_vec();
    package.resize(200, b' ');
    let cases: &[(&[u8], Kind)] = &[
        (b"", Kind::Empty),
        (&[0; 100], Kind::Zeros),
        (b"[    0.000000] Linux version 6.12\nBUG: x\n", Kind::Text),
        (b"ffffffff81000000 T _text\nffffffff81000010 t a\nffffffff81000020 D b\n", Kind::SystemMap),
        (b"BZh91AY&SY", Kind::Compressed("bzip2")),
        (b"QEVM\0\0\0\x02", Kind::UnreadDump("QEMU savevm of an old version")),
        (&package, Kind::Archive("Debian package")),
        (b"\x01\x02\x03\xff", Kind::Unknown),
    ];
    for (bytes, kind) in cases {
        assert_eq!(probe(&bytes.to_vec()), *kind);
        let error = open_bytes(bytes).map(drop).unwrap_err();
        assert!(matches!(&error, OpenError::NotADump { kind: found, .. } if found == kind), "{error}");
        assert!(
            error.to_string().contains(&kind.description()) && error.to_string().contains("hint: "),
            "{error}"
        );
    }
    let error = open(Input::default(), &Hints::default()).map(drop).unwrap_err();
    assert!(matches!(error, OpenError::NoFiles));
    let error =
        open(input(&[sample().build(), b"text\n".to_vec()]), &Hints::default()).map(drop).unwrap_err();
    assert!(error.to_string().starts_with("part1 is a text file"), "{error}");
}
