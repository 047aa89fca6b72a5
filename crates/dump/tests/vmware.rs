//! VMware's snapshots laid out by hand.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::single_range_in_vec_init,
    reason = "helpers of tests may fail as tests do"
)]

mod support;

use kdive_base::Why;
use kdive_dump::{Hints, Opened, open};
use kdive_evidence::Register;
use support::vmware::Vmware;
use support::{PAGE, input, open_bytes, page, read_page};

/// Two regions, the second above a hole.
fn sample() -> Vmware {
    Vmware::of_pages((0..5).chain(0x10_0000..0x10_0003).map(|pfn| (pfn, page(pfn))))
}

fn expect_sample(opened: &Opened) {
    assert_eq!(opened.facts.format, "VMware snapshot");
    assert!(opened.facts.warnings.is_empty(), "{:?}", opened.facts.warnings);
    for pfn in (0..5).chain(0x10_0000..0x10_0003) {
        assert_eq!(read_page(&*opened.memory, pfn).unwrap(), page(pfn), "page {pfn}");
    }
    assert_eq!(read_page(&*opened.memory, 5), Err(Why::NeverPresent));
    let [cpu] = opened.notes.cpus.as_slice() else { panic!("{:?}", opened.notes.cpus) };
    assert_eq!(cpu.registers.get(Register::Rip), Some(0x11));
    assert_eq!(cpu.registers.get(Register::Rsp), Some(0x22));
    assert_eq!(cpu.control.unwrap().cr3.0, 0x3000);
}

#[test]
fn memory_lies_inside_or_in_a_file_of_its_own() {
    for magic in [0xbed0_bed0, 0xbed2_bed2, 0xbed3_bed3, 0xbad1_bad1, 0xbad2_bad2] {
        let inside = Vmware { magic, is_inside: true, ..sample() };
        expect_sample(&open_bytes(&inside.build()).unwrap());
        let beside = Vmware { magic, ..sample() };
        let files = [beside.build(), beside.image.clone()];
        expect_sample(&open(input(&files), &Hints::default()).unwrap());
        let turned = [beside.image.clone(), beside.build()];
        expect_sample(&open(input(&turned), &Hints::default()).unwrap());
    }
}

#[test]
fn without_regions_memory_is_one_piece() {
    let pages: Vec<_> = (0..5).map(|pfn| (pfn, page(pfn))).collect();
    let snapshot = Vmware { regions: Vec::new(), is_inside: true, ..Vmware::of_pages(pages) };
    let opened = open_bytes(&snapshot.build()).unwrap();
    assert_eq!(read_page(&*opened.memory, 4).unwrap(), page(4));
    assert_eq!(read_page(&*opened.memory, 5), Err(Why::NeverPresent));
}

#[test]
fn memory_that_is_not_given_is_asked_for_and_a_cut_image_is_said_to_be_one() {
    let beside = sample();
    let error = open_bytes(&beside.build()).map(drop).unwrap_err();
    assert!(error.to_string().contains(".vmem"), "{error}");
    let files = [beside.build(), beside.image[..6 * PAGE].to_vec()];
    let opened = open(input(&files), &Hints::default()).unwrap();
    assert_eq!(read_page(&*opened.memory, 4).unwrap(), page(4));
    assert_eq!(read_page(&*opened.memory, 0x10_0002), Err(Why::BeyondFileEnd));
    assert!(opened.facts.warnings[0].contains("truncated"), "{:?}", opened.facts.warnings);
    let error = open(input(&[beside.build(), beside.build()]), &Hints::default()).map(drop).unwrap_err();
    assert!(error.to_string().contains("each is a whole snapshot"), "{error}");
}

#[test]
fn a_compressed_image_is_named() {
    let mut bytes = Vmware { is_inside: true, ..sample() }.build();
    let at = bytes.windows(6).position(|window| window == b"Memory").unwrap();
    bytes[at - 2] ^= 1;
    let error = open_bytes(&bytes).map(drop).unwrap_err();
    assert!(error.to_string().contains("compressed"), "{error}");
}
