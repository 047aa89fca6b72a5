//! sadump's files laid out by hand.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::single_range_in_vec_init,
    reason = "helpers of tests may fail as tests do"
)]

mod support;

use kdive_base::{PhysAddr, Why};
use kdive_dump::{Hints, Opened, RunState, open};
use kdive_evidence::Register;
use support::sadump::{Kind, Sadump};
use support::{PAGE, input, open_bytes, page, read_page, runs};

const PAGES: [u64; 9] = [0, 1, 2, 9, 10, 11, 12, 40, 63];

fn sample(kind: Kind) -> Sadump {
    Sadump { left_out: vec![3, 4, 70], ..Sadump::of_pages(kind, PAGES.map(|pfn| (pfn, page(pfn)))) }
}

fn expect_sample(opened: &Opened) {
    assert_eq!(opened.facts.format, "sadump");
    assert!(opened.facts.warnings.is_empty(), "{:?}", opened.facts.warnings);
    for pfn in PAGES {
        assert_eq!(read_page(&*opened.memory, pfn).unwrap(), page(pfn), "page {pfn}");
    }
    for pfn in [3, 4, 70] {
        assert_eq!(read_page(&*opened.memory, pfn), Err(Why::Excluded), "page {pfn}");
    }
    for pfn in [5, 41, 71, 1 << 40] {
        assert_eq!(read_page(&*opened.memory, pfn), Err(Why::NeverPresent), "page {pfn}");
    }
    let present = |(start, end, state)| (state == RunState::Present).then_some((start / 4096, end / 4096));
    let present: Vec<(u64, u64)> = runs(&*opened.memory).into_iter().filter_map(present).collect();
    assert_eq!(present, [(0, 3), (9, 13), (40, 41), (63, 64)]);
    let mut across = vec![0; PAGE];
    assert_eq!(opened.memory.read(PhysAddr(PAGE as u64 - 100), &mut across), (PAGE, None));
    assert_eq!((&across[..100], &across[100..]), (&page(0)[PAGE - 100..], &page(1)[..PAGE - 100]));
}

#[test]
fn one_partition_and_a_medium_are_read() {
    for kind in [Kind::Single, Kind::Media] {
        for version in [0, 1] {
            let opened = open_bytes(&Sadump { version, ..sample(kind) }.build()[0]).unwrap();
            expect_sample(&opened);
            assert_eq!(opened.facts.version, Some(version as u32));
            let zeroed =
                open(input(&sample(kind).build()), &Hints { zero_excluded: true, ..Hints::default() })
                    .unwrap();
            assert_eq!(read_page(&*zeroed.memory, 3).unwrap(), vec![0; PAGE]);
        }
    }
}

#[test]
fn the_disks_of_a_set_come_in_any_order() {
    let mut files = sample(Kind::Disks(3)).build();
    files.rotate_left(1);
    expect_sample(&open(input(&files), &Hints::default()).unwrap());
    files.reverse();
    expect_sample(&open(input(&files), &Hints::default()).unwrap());
}

#[test]
fn a_disk_that_is_not_there_is_missed() {
    let files = sample(Kind::Disks(3)).build();
    for given in [vec![files[0].clone(), files[2].clone()], vec![files[0].clone()]] {
        let opened = open(input(&given), &Hints::default()).unwrap();
        assert!(opened.facts.warnings[0].contains("3 disks"), "{:?}", opened.facts.warnings);
        assert_eq!(read_page(&*opened.memory, 2).unwrap(), page(2));
        assert_eq!(read_page(&*opened.memory, 9), Err(Why::InMissingFile));
        assert_eq!(read_page(&*opened.memory, 63), Err(Why::InMissingFile));
    }
    let error = open_bytes(&files[1]).map(drop).unwrap_err();
    assert!(error.to_string().contains("disk 2 of a set"), "{error}");
    let twice = open(input(&[files[0].clone(), files[0].clone()]), &Hints::default()).map(drop).unwrap_err();
    assert!(twice.to_string().contains("same disk"), "{twice}");
}

#[test]
fn registers_are_those_of_system_management_mode() {
    let opened = open_bytes(&sample(Kind::Single).build()[0]).unwrap();
    let [cpu] = opened.notes.cpus.as_slice() else { panic!("{:?}", opened.notes.cpus) };
    let register = |register| cpu.registers.get(register).unwrap();
    assert_eq!((register(Register::Rip), register(Register::Rsp)), (0x1111, 0x2222));
    assert_eq!((register(Register::Rax), register(Register::R15)), (0x3333, 0x4444));
    let control = cpu.control.unwrap();
    assert_eq!((control.cr0, control.cr3.0, control.cr4), (0x8005_0033, 0x1234_5000, 0x6f0));
}

#[test]
fn words_that_do_not_follow_one_another_are_no_header() {
    let mut bytes = sample(Kind::Single).build().swap_remove(0);
    bytes[1000] ^= 1;
    let error = open_bytes(&bytes).map(drop).unwrap_err();
    assert!(error.to_string().contains("no format that kdive knows"), "{error}");
    let whole = sample(Kind::Single).build().swap_remove(0);
    let cut = open_bytes(&whole[..whole.len() - PAGE]).unwrap();
    assert!(cut.facts.warnings[0].contains("truncated"), "{:?}", cut.facts.warnings);
    assert_eq!(read_page(&*cut.memory, 63), Err(Why::BeyondFileEnd));
}
