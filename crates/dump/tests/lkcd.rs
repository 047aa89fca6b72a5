//! LKCD dumps laid out by hand: every version, word size, byte order and packing.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::single_range_in_vec_init,
    reason = "helpers of tests may fail as tests do"
)]

mod support;

use kdive_base::{Endian, PhysAddr, Why};
use kdive_dump::RunState;
use support::lkcd::{Lkcd, Packing};
use support::{PAGE, open_bytes, page, read_page, runs};

/// Pages that follow one another for longer than any group, and some that do not; one does not pack.
fn sample() -> Lkcd {
    let mut state = 7_u32;
    let noise = (0..PAGE).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    });
    let noise: Vec<u8> = noise.collect();
    let pages =
        (0..100).map(|pfn| (pfn, page(pfn))).chain([(300, noise), (120, vec![0; PAGE]), (110, page(110))]);
    Lkcd::of_pages(pages)
}

#[test]
fn every_version_word_size_byte_order_and_packing_opens() {
    for version in 1..=10 {
        for (is_64, endian) in [(false, Endian::Little), (true, Endian::Little), (true, Endian::Big)] {
            for packing in [Packing::None, Packing::Rle, Packing::Gzip] {
                let dump = Lkcd { version, is_64: is_64 && version > 1, endian, packing, ..sample() };
                let what = format!("version {version}, {endian:?}, 64 bits {is_64}, {packing:?}");
                let opened = open_bytes(&dump.build()).unwrap();
                let facts = &opened.facts;
                assert!(facts.warnings.is_empty(), "{what}: {:?}", facts.warnings);
                assert_eq!((facts.format, facts.version), ("LKCD", Some(version as u32)), "{what}");
                assert_eq!(facts.word_bits, Some(if dump.is_64 { 64 } else { 32 }), "{what}");
                assert_eq!(facts.timestamp, Some(1_100_000_000), "{what}");
                assert_eq!(facts.uts.as_ref().unwrap().release, "2.6.5-7.97-smp", "{what}");
                let name = ["none", "run-length", "zlib"][packing as usize];
                assert_eq!(facts.compression, if version < 5 { vec![] } else { vec![name] }, "{what}");
                for (pfn, bytes) in &dump.pages {
                    assert_eq!(read_page(&*opened.memory, *pfn).as_ref(), Ok(bytes), "{what}: page {pfn}");
                }
                assert_eq!(read_page(&*opened.memory, 200), Err(Why::NeverPresent), "{what}");
            }
        }
    }
}

#[test]
fn reads_go_over_groups_and_holes_end_them() {
    let opened = open_bytes(&sample().build()).unwrap();
    let mut bytes = vec![0; 99 * PAGE];
    assert_eq!(opened.memory.read(PhysAddr(100), &mut bytes), (bytes.len(), None));
    assert_eq!(bytes, (0..100).flat_map(page).skip(100).take(99 * PAGE).collect::<Vec<_>>());
    let (count, missing) = opened.memory.read(PhysAddr(98 * PAGE as u64), &mut bytes);
    let wanted = kdive_base::Missing::new(PhysAddr(100 * PAGE as u64), Why::NeverPresent);
    assert_eq!((count, missing), (2 * PAGE, Some(wanted)));
    let present = |(start, end, state)| (state == RunState::Present).then_some((start / 4096, end / 4096));
    let present: Vec<(u64, u64)> = runs(&*opened.memory).into_iter().filter_map(present).collect();
    assert_eq!(present, [(0, 100), (110, 111), (120, 121), (300, 301)]);
}

/// The flags of Mission Critical Linux's own writers stand in the version.
#[test]
fn flags_in_the_version_are_no_version() {
    let mut bytes = Lkcd { version: 8, ..sample() }.build();
    bytes[11] = 0x80;
    assert_eq!(open_bytes(&bytes).unwrap().facts.version, Some(8));
}

#[test]
fn a_dump_without_its_end_is_truncated_and_what_is_not_there_is_lost() {
    let whole = Lkcd { has_end_mark: false, ..sample() }.build();
    let opened = open_bytes(&whole).unwrap();
    assert!(opened.facts.warnings[0].contains("truncated"), "{:?}", opened.facts.warnings);
    assert_eq!(read_page(&*opened.memory, 110).unwrap(), page(110));
    assert_eq!(read_page(&*opened.memory, 200), Err(Why::BeyondFileEnd));
    let cut = open_bytes(&whole[..whole.len() - 3]).unwrap();
    assert_eq!(read_page(&*cut.memory, 110), Err(Why::BeyondFileEnd));
    assert_eq!(read_page(&*cut.memory, 120).unwrap(), vec![0; PAGE]);
}

#[test]
fn a_damaged_record_ends_the_walk_and_a_damaged_page_costs_itself() {
    let dump = sample();
    let whole = dump.build();
    let mut bytes = whole.clone();
    bytes[dump.pages_at() + 16 + 10] ^= 0x55;
    let opened = open_bytes(&bytes).unwrap();
    assert_eq!(read_page(&*opened.memory, 0), Err(Why::Corrupt("zlib")));
    assert_eq!(read_page(&*opened.memory, 1).unwrap(), page(1));
    let mut bytes = whole;
    bytes[dump.pages_at() + 12] = 0x33;
    let error = open_bytes(&bytes).map(drop).unwrap_err();
    assert!(error.to_string().contains("nothing of the memory"), "{error}");
}

#[test]
fn a_header_that_makes_no_sense_is_refused() {
    for (at, value, said) in [(20, 3_u32, "page size"), (8, 15, "version 15")] {
        let mut bytes = sample().build();
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        let error = open_bytes(&bytes).map(drop).unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
    }
}
