//! Xen's guest cores and s390's stand-alone dumps laid out by hand.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::single_range_in_vec_init,
    reason = "helpers of tests may fail as tests do"
)]

mod support;

use kdive_base::{PhysAddr, Why};
use kdive_dump::{Kind, RunState, probe};
use support::{PAGE, open_bytes, page, read_page, runs, s390, xen};

fn pages(numbers: impl IntoIterator<Item = u64>) -> Vec<(u64, Vec<u8>)> {
    numbers.into_iter().map(|pfn| (pfn, page(pfn))).collect()
}

#[test]
fn a_xen_guest_has_its_pages_where_its_table_says() {
    for is_paravirtual in [false, true] {
        let bytes = xen::build(&pages((0..8).chain([100, 50, 51])), is_paravirtual);
        assert_eq!(probe(&bytes), Kind::Dump("Xen guest core"));
        let opened = open_bytes(&bytes).unwrap();
        assert_eq!(opened.facts.machine.as_deref(), Some("x86_64"));
        let warned = opened.facts.warnings.iter().any(|warning| warning.contains("paravirtual"));
        assert_eq!(warned, is_paravirtual);
        for pfn in (0..8).chain([100, 50, 51]) {
            assert_eq!(read_page(&*opened.memory, pfn).unwrap(), page(pfn), "page {pfn}");
        }
        assert_eq!(read_page(&*opened.memory, 8), Err(Why::NeverPresent));
        let present =
            |(start, end, state)| (state == RunState::Present).then_some((start / 4096, end / 4096));
        let present: Vec<(u64, u64)> = runs(&*opened.memory).into_iter().filter_map(present).collect();
        assert_eq!(present, [(0, 8), (50, 52), (100, 101)]);
        let cut = open_bytes(&bytes[..bytes.len() - PAGE]).unwrap();
        assert!(cut.facts.warnings.iter().any(|warning| warning.contains("truncated")));
        assert_eq!(read_page(&*cut.memory, 51), Err(Why::BeyondFileEnd));
        assert_eq!(read_page(&*cut.memory, 50).unwrap(), page(50));
    }
}

#[test]
fn a_page_without_a_number_is_passed_over() {
    let mut numbers = pages([0, 1, 2]);
    numbers[1].0 = u64::MAX;
    let opened = open_bytes(&xen::build(&numbers, false)).unwrap();
    assert_eq!(read_page(&*opened.memory, 1), Err(Why::NeverPresent));
    assert_eq!(read_page(&*opened.memory, 2).unwrap(), page(2));
}

#[test]
fn a_stand_alone_dump_is_memory_behind_a_header() {
    let memory: Vec<u8> = (0..6).flat_map(page).collect();
    let whole = s390::build(&memory);
    let opened = open_bytes(&whole).unwrap();
    assert_eq!((opened.facts.format, opened.facts.version), ("s390 stand-alone dump", Some(5)));
    assert_eq!((opened.facts.machine.as_deref(), opened.facts.big_endian), (Some("s390x"), true));
    assert!(!opened.facts.incomplete && opened.facts.warnings.is_empty());
    let mut bytes = vec![0; memory.len()];
    assert_eq!(opened.memory.read(PhysAddr(0), &mut bytes), (memory.len(), None));
    assert_eq!(bytes, memory);
    assert_eq!(read_page(&*opened.memory, 6), Err(Why::NeverPresent), "the end mark is no memory");
    let cut = open_bytes(&whole[..whole.len() - 16 - PAGE]).unwrap();
    assert!(cut.facts.incomplete && cut.facts.warnings[0].contains("end mark"), "{:?}", cut.facts);
    assert_eq!(read_page(&*cut.memory, 5), Err(Why::BeyondFileEnd));
    assert_eq!(read_page(&*cut.memory, 4).unwrap(), page(4));
}

#[test]
fn a_volume_of_several_says_so_and_sizes_must_make_sense() {
    let mut bytes = s390::build(&page(0));
    bytes[92] = 1;
    assert!(open_bytes(&bytes).unwrap().facts.warnings[0].contains("volume 0 of several"));
    bytes[24..32].fill(0xff);
    assert!(open_bytes(&bytes).is_ok(), "the file has what it has");
    bytes[32..40].fill(0xff);
    let error = open_bytes(&bytes).map(drop).unwrap_err();
    assert!(error.to_string().contains("sizes make no sense"), "{error}");
}
