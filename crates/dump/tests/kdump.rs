//! kdump-compressed files, laid out by hand: every header version, word size, byte order and compression.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::single_range_in_vec_init,
    reason = "helpers of tests may fail as tests do"
)]

mod support;

use std::io::Write;

use kdive_base::{Endian, PhysAddr, Why};
use kdive_dump::{Hints, OpenError, RunState, open};
use support::{Kdump, PAGE, Stored, flatten, input, lzo_literal, note, open_bytes, page, read_page, runs};

fn zlib(bytes: &[u8]) -> Stored {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    Stored { flags: 1, bytes: encoder.finish().unwrap() }
}

/// RAM 0..64; pages 3, 10, 11 and 40 in the dump.
fn sample() -> Kdump {
    let mut dump = Kdump { ram: vec![0..20, 30..64], ..Kdump::default() };
    for pfn in [3, 10, 11, 40] {
        dump.pages.insert(pfn, zlib(&page(pfn)));
    }
    dump
}

fn expect_sample(bytes: &[u8]) {
    let opened = open_bytes(bytes).unwrap();
    for pfn in [3, 10, 11, 40] {
        assert_eq!(read_page(&*opened.memory, pfn).unwrap(), page(pfn), "page {pfn}");
    }
    assert_eq!(read_page(&*opened.memory, 0), Err(Why::Excluded));
    assert_eq!(read_page(&*opened.memory, 25), Err(Why::NeverPresent));
    assert_eq!(read_page(&*opened.memory, 63), Err(Why::Excluded));
    assert_eq!(read_page(&*opened.memory, 64), Err(Why::NeverPresent));
    assert_eq!(read_page(&*opened.memory, 1 << 51), Err(Why::NeverPresent));
}

#[test]
fn every_version_word_size_and_byte_order_opens() {
    for version in 1..=6 {
        for endian in [Endian::Little, Endian::Big] {
            for (is_64, padded, machine) in
                [(true, false, "x86_64"), (false, false, "i686"), (false, true, "armv7l")]
            {
                let dump = Kdump { version, endian, is_64, padded, machine, ..sample() };
                let bytes = dump.build();
                expect_sample(&bytes);
                let opened = open_bytes(&bytes).unwrap();
                let what = format!("version {version}, {endian:?}, 64 bits {is_64}, padded {padded}");
                assert_eq!(opened.facts.version, Some(version), "{what}");
                assert_eq!(opened.facts.word_bits, Some(if is_64 { 64 } else { 32 }), "{what}");
                assert_eq!(opened.facts.big_endian, endian == Endian::Big, "{what}");
                assert_eq!(opened.facts.dump_level, Some(31), "{what}");
                assert_eq!(opened.facts.timestamp, Some(1_700_000_000), "{what}");
                assert_eq!(opened.facts.uts.unwrap().release, "6.12.1-test", "{what}");
                assert_eq!(opened.notes.vmcoreinfo, (version >= 3).then_some(dump.vmcoreinfo), "{what}");
            }
        }
    }
}

#[test]
fn every_compression_is_read() {
    let content: Vec<Vec<u8>> = (0..5).map(page).collect();
    let mut dump = Kdump { status: 1 | 2 | 4 | 0x20, ..Kdump::default() };
    dump.pages.insert(0, Stored::raw(&content[0]));
    dump.pages.insert(1, zlib(&content[1]));
    // Literals alone make a page longer, and no writer keeps such a page: so a page with one long match.
    let mut run = vec![b'k'; PAGE];
    run[..18].copy_from_slice(b"eighteen literals!");
    run[18..].fill(b'!');
    let mut packed = vec![17 + 18];
    packed.extend_from_slice(b"eighteen literals!");
    // Matches of distance 1: 001LLLLL with a length beyond 2 + 31 in zero bytes, then the distance less 1, times 4.
    let more = PAGE - 18 - 33;
    packed.push(0x20);
    packed.extend(std::iter::repeat_n(0, (more - 1) / 255));
    packed.push(((more - 1) % 255 + 1) as u8);
    packed.extend_from_slice(&[0, 0, 0x11, 0, 0]);
    dump.pages.insert(2, Stored { flags: 2, bytes: packed });
    dump.pages
        .insert(3, Stored { flags: 4, bytes: snap::raw::Encoder::new().compress_vec(&content[3]).unwrap() });
    dump.pages.insert(4, Stored { flags: 0x20, bytes: zstd::bulk::compress(&content[4], 3).unwrap() });
    let opened = open_bytes(&dump.build()).unwrap();
    assert_eq!(opened.facts.compression, ["zlib", "lzo", "snappy", "zstd"]);
    for pfn in [0, 1, 3, 4] {
        assert_eq!(read_page(&*opened.memory, pfn).unwrap(), content[pfn as usize], "page {pfn}");
    }
    assert_eq!(read_page(&*opened.memory, 2).unwrap(), run);
    let mut all = vec![0; 5 * PAGE];
    assert_eq!(opened.memory.read(PhysAddr(0), &mut all), (5 * PAGE, None));
    assert_eq!(&all[3 * PAGE..4 * PAGE], content[3]);
}

#[test]
fn pages_that_do_not_decode_are_corrupt_and_say_which_compression_failed() {
    let mut dump = Kdump::default();
    let short = page(1)[..100].to_vec();
    dump.pages.insert(0, Stored { flags: 1, bytes: vec![1; 50] });
    dump.pages.insert(1, zlib(&short));
    dump.pages.insert(2, Stored { flags: 2, bytes: lzo_literal(&short) });
    dump.pages.insert(3, Stored { flags: 4, bytes: vec![0xff; 50] });
    dump.pages.insert(4, Stored { flags: 0x20, bytes: zstd::bulk::compress(&short, 3).unwrap() });
    dump.pages.insert(5, Stored { flags: 0, bytes: short.clone() });
    dump.pages.insert(6, Stored { flags: 3, bytes: short });
    dump.pages.insert(7, Stored { flags: 1, bytes: vec![0; 2 * PAGE] });
    dump.pages.insert(8, zlib(&page(8)));
    let opened = open_bytes(&dump.build()).unwrap();
    let expected = ["zlib", "zlib", "lzo", "snappy", "zstd", "none", "page descriptor", "page descriptor"];
    for (pfn, what) in expected.iter().enumerate() {
        assert_eq!(read_page(&*opened.memory, pfn as u64), Err(Why::Corrupt(what)), "page {pfn}");
    }
    assert_eq!(read_page(&*opened.memory, 8).unwrap(), page(8));
}

#[test]
fn runs_tell_present_excluded_and_no_memory() {
    let opened = open_bytes(&sample().build()).unwrap();
    let bytes = PAGE as u64;
    let expected = [
        (0, 3, RunState::Missing(Why::Excluded)),
        (3, 4, RunState::Present),
        (4, 10, RunState::Missing(Why::Excluded)),
        (10, 12, RunState::Present),
        (12, 20, RunState::Missing(Why::Excluded)),
        (20, 30, RunState::Missing(Why::NeverPresent)),
        (30, 40, RunState::Missing(Why::Excluded)),
        (40, 41, RunState::Present),
        (41, 64, RunState::Missing(Why::Excluded)),
    ];
    assert_eq!(runs(&*opened.memory), expected.map(|(from, to, state)| (from * bytes, to * bytes, state)));
    let inside = opened.memory.next_run(PhysAddr(11 * bytes + 5)).unwrap();
    assert_eq!((inside.start.0, inside.bytes, inside.state), (11 * bytes + 5, bytes - 5, RunState::Present));
}

#[test]
fn excluded_pages_read_as_zeros_only_when_asked() {
    let hints = Hints { zero_excluded: true, ..Hints::default() };
    let opened = open(input(&[sample().build()]), &hints).unwrap();
    assert_eq!(read_page(&*opened.memory, 0).unwrap(), vec![0; PAGE]);
    assert_eq!(read_page(&*opened.memory, 25), Err(Why::NeverPresent), "no RAM is not an excluded page");
    let mut across = vec![1; 18 * PAGE];
    let (count, missing) = opened.memory.read(PhysAddr(2 * PAGE as u64), &mut across);
    assert_eq!((count, missing), (18 * PAGE, None), "the way of long reads");
    assert_eq!(&across[PAGE..2 * PAGE], page(3));
    assert_eq!(&across[2 * PAGE..3 * PAGE], vec![0; PAGE]);
}

#[test]
fn an_incomplete_dump_says_which_pages_were_not_written() {
    let mut dump = Kdump { status: 1 | 8, ..sample() };
    dump.pages.insert(40, Stored { flags: 0, bytes: Vec::new() });
    let opened = open_bytes(&dump.build()).unwrap();
    assert!(opened.facts.incomplete);
    assert_eq!(read_page(&*opened.memory, 40), Err(Why::NotWritten));
    assert_eq!(read_page(&*opened.memory, 11).unwrap(), page(11));
}

#[test]
fn the_rank_counts_over_many_blocks_of_a_big_bitmap() {
    // 4 GiB: a bitmap of 128 KiB; every 1000th page is there.
    let mut dump = Kdump { ram: vec![0..1 << 20], max_mapnr: 1 << 20, ..Kdump::default() };
    for pfn in (5..1 << 20).step_by(1000) {
        dump.pages.insert(pfn, zlib(&page(pfn)));
    }
    let opened = open_bytes(&dump.build()).unwrap();
    for &pfn in dump.pages.keys().rev() {
        assert_eq!(read_page(&*opened.memory, pfn).unwrap(), page(pfn), "page {pfn}");
        assert_eq!(read_page(&*opened.memory, pfn + 1), Err(Why::Excluded));
    }
    let totals = opened.memory.totals(&kdive_base::Cancel::default()).unwrap();
    assert_eq!(totals.present, dump.pages.len() as u64 * PAGE as u64);
}

fn split(dump: &Kdump, parts: &[std::ops::Range<u64>]) -> Vec<Vec<u8>> {
    parts.iter().map(|part| Kdump { part: Some(part.clone()), ..dump.clone() }.build()).collect()
}

#[test]
fn the_parts_of_a_split_set_come_in_any_order_and_one_may_be_missing() {
    for version in [2, 5, 6] {
        let mut files = split(&Kdump { version, ..sample() }, &[0..11, 11..30, 30..64]);
        files.rotate_left(1);
        files[0] = flatten(&files[0], &[100, 5000], |_| ());
        let opened = open(input(&files), &Hints::default()).unwrap();
        for pfn in [3, 10, 11, 40] {
            assert_eq!(read_page(&*opened.memory, pfn).unwrap(), page(pfn), "page {pfn}");
        }
        assert_eq!(opened.facts.parts.len(), 3);

        files.remove(0);
        let opened = open(input(&files), &Hints::default()).unwrap();
        assert_eq!(read_page(&*opened.memory, 10).unwrap(), page(10));
        assert_eq!(read_page(&*opened.memory, 11), Err(Why::InMissingFile));
        assert_eq!(read_page(&*opened.memory, 12), Err(Why::Excluded), "the other parts' bitmaps still tell");
        assert_eq!(read_page(&*opened.memory, 25), Err(Why::NeverPresent));
        let run = opened.memory.next_run(PhysAddr(11 * PAGE as u64)).unwrap();
        assert_eq!((run.bytes, run.state), (PAGE as u64, RunState::Missing(Why::InMissingFile)));
        let missing: Vec<_> = opened.facts.parts.iter().filter(|part| part.name.is_none()).collect();
        assert_eq!((missing.len(), missing[0].start_pfn, missing[0].end_pfn), (1, 11, 30));
    }
}

#[test]
fn files_that_do_not_belong_together_are_refused() {
    let one = split(&sample(), &[0..11, 11..64]);
    let other = split(&Kdump { machine: "aarch64", ..sample() }, &[11..64]);
    for files in [vec![one[0].clone(), other[0].clone()], vec![sample().build(), sample().build()]] {
        let error = open(input(&files), &Hints::default()).map(drop).unwrap_err();
        assert!(matches!(error, OpenError::NotOneDump { .. }), "{error}");
    }
}

#[test]
fn notes_come_from_the_note_area_and_vmcoreinfo_from_where_the_sub_header_points() {
    let mut prstatus = support::Layout::new(Endian::Little);
    prstatus.int(32, 4, 4711).int(112 + 16 * 8, 8, 0xffff_ffff_8123_4567).int(
        112 + 19 * 8,
        8,
        0xffff_8800_0000_1000,
    );
    prstatus.put(335, &[0]);
    let mut notes = note(Endian::Little, "CORE", 1, &prstatus.bytes);
    notes.extend(note(Endian::Little, "VMCOREINFO", 0, b"OSRELEASE=old\n"));
    notes.extend(note(Endian::Little, "Xen", 0x100_0002, &[0; 8]));
    let opened = open_bytes(&Kdump { notes, eraseinfo: b"erase x\n".to_vec(), ..sample() }.build()).unwrap();
    let cpu = &opened.notes.cpus[0];
    assert_eq!(cpu.pid, Some(4711));
    assert_eq!(cpu.registers.ip().unwrap().0, 0xffff_ffff_8123_4567);
    assert_eq!(cpu.registers.sp().unwrap().0, 0xffff_8800_0000_1000);
    assert_eq!(opened.notes.vmcoreinfo.unwrap(), Kdump::default().vmcoreinfo);
    assert_eq!(opened.notes.eraseinfo.unwrap(), b"erase x\n");
    assert_eq!((opened.notes.other[0].name.as_str(), opened.notes.other[0].kind), ("Xen", 0x100_0002));
}

#[test]
fn a_diskdump_header_is_read_without_its_sub_header() {
    let dump = Kdump { signature: b"DISKDUMP", version: 1, status: 8, ..sample() };
    expect_sample(&dump.build());
    let facts = open_bytes(&dump.build()).unwrap().facts;
    assert_eq!((facts.format, facts.incomplete, facts.dump_level), ("diskdump", false, None));
    assert_eq!(facts.compression, ["zlib"]);
    let facts = open_bytes(&Kdump { status: 1, ..dump }.build()).unwrap().facts;
    assert_eq!((facts.incomplete, facts.compression), (true, vec!["none"]));
}

/// Of a machine whose RAM is all in the dump, diskdump writes one bitmap. One block of it is not too little.
#[test]
fn a_diskdump_without_filter_has_one_bitmap() {
    for (is_64, endian) in [(true, Endian::Little), (false, Endian::Little), (false, Endian::Big)] {
        let mut dump = Kdump { signature: b"DISKDUMP", version: 1, status: 8, is_64, endian, ..sample() };
        dump.one_bitmap = true;
        let ram: Vec<u64> = dump.pages.keys().copied().collect();
        let opened = open_bytes(&dump.build()).unwrap();
        assert_eq!(opened.facts.word_bits, Some(if is_64 { 64 } else { 32 }));
        for pfn in 0..64 {
            let wanted = dump.pages.get(&pfn).map_or(Err(Why::NeverPresent), |_| Ok(()));
            assert_eq!(read_page(&*opened.memory, pfn).map(drop), wanted, "page {pfn} of {ram:?}");
        }
        let both = open_bytes(&Kdump { one_bitmap: false, ..dump }.build()).unwrap();
        let left_out = (0..64).find(|pfn| !ram.contains(pfn)).unwrap();
        assert_eq!(read_page(&*both.memory, left_out), Err(Why::Excluded));
    }
}

#[test]
fn zero_pages_that_share_one_descriptor_target_read_as_zeros() {
    let mut dump = Kdump::default();
    for pfn in 0..40 {
        dump.pages.insert(pfn, if pfn % 2 == 0 { Stored::raw(&[0; PAGE]) } else { zlib(&page(pfn)) });
    }
    let mut bytes = dump.build();
    let at = dump.descriptors_at();
    let first = bytes[at..at + 24].to_vec();
    for index in (0..40).step_by(2) {
        bytes[at + 24 * index..at + 24 * (index + 1)].copy_from_slice(&first);
    }
    let opened = open_bytes(&bytes).unwrap();
    for _ in 0..2 {
        for pfn in 0..40 {
            let expected = if pfn % 2 == 0 { vec![0; PAGE] } else { page(pfn) };
            assert_eq!(read_page(&*opened.memory, pfn).unwrap(), expected, "page {pfn}");
        }
    }
}

#[test]
fn a_damaged_header_is_an_error_that_says_what_it_is() {
    for (at, width, value) in
        [(428, 4, 3), (432, 4, 0), (436, 4, 0), (8, 4, 0x1234_5678), (440, 4, u64::from(u32::MAX))]
    {
        let mut file = support::Layout { bytes: Kdump { version: 5, ..sample() }.build(), big: false };
        file.int(at, width, value);
        let error = open_bytes(&file.bytes).map(drop).unwrap_err();
        assert!(matches!(error, OpenError::Damaged { format: "kdump-compressed", .. }), "{at}: {error}");
    }
    // Sizes beyond the file: nothing of that size is allocated.
    let mut file = support::Layout { bytes: sample().build(), big: false };
    file.int(436, 4, u64::from(u32::MAX));
    let error = open_bytes(&file.bytes).map(drop).unwrap_err();
    assert!(matches!(error, OpenError::Truncated { .. }), "{error}");
}
