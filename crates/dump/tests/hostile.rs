//! Dumps cut at every byte and dumps with wrong bits: an error or a partial answer, never a panic, and never a wrong page.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::single_range_in_vec_init,
    reason = "helpers of tests may fail as tests do"
)]

mod support;

use kdive_base::{Cancel, PhysAddr, Why};
use kdive_dump::{Hints, Opened, find_vmcoreinfo, open};
use proptest::prelude::*;
use support::every::{every_format, kdump};
use support::{Kdump, PAGE, Stored, flatten, input, open_bytes, page, read_page};

/// Reads a little of everything.
fn touch(opened: &Opened) {
    let cancel = Cancel::default();
    let mut at = PhysAddr(0);
    for _ in 0..64 {
        let Some(run) = opened.memory.next_run(at) else { break };
        assert!(run.bytes > 0 && run.start == at);
        let mut bytes = vec![0; (5 * PAGE).min(run.bytes as usize)];
        let (count, missing) = opened.memory.read(at, &mut bytes);
        assert!(count == bytes.len() || missing.is_some());
        let Some(next) = at.0.checked_add(run.bytes) else { break };
        at = PhysAddr(next);
    }
    for segment in opened.memory.virtual_segments().iter().take(4) {
        opened.memory.read_virtual(segment.virt, &mut [0; 100]);
    }
    opened.memory.read(PhysAddr(u64::MAX - 3), &mut [0; 16]);
    find_vmcoreinfo(&*opened.memory, &cancel).take(2).for_each(drop);
}

#[test]
fn a_dump_cut_at_any_byte_yields_what_lies_before() {
    for (name, whole) in every_format() {
        let mut readable = 0;
        for length in 0..whole.len() {
            let Ok(opened) = open_bytes(&whole[..length]) else { continue };
            let now = (0..4).filter(|&pfn| match read_page(&*opened.memory, pfn) {
                Ok(bytes) => {
                    assert_eq!(bytes, page(pfn), "{name} cut at {length}, page {pfn}");
                    true
                }
                Err(why) => {
                    assert_eq!(why, Why::BeyondFileEnd, "{name} cut at {length}, page {pfn}");
                    false
                }
            });
            let now = now.count();
            assert!(now >= readable, "{name} cut at {length}: {now} pages, but {readable} of a shorter file");
            readable = now;
        }
        assert!(readable >= 3, "{name}: only {readable} pages of a file that lacks its last byte");
    }
}

#[test]
fn a_log_before_the_cut_is_read() {
    let whole = kdump();
    let with_one_page = open_bytes(&whole[..whole.len() - 100]).unwrap();
    assert!(with_one_page.notes.vmcoreinfo.is_some());
    assert!(with_one_page.facts.warnings.iter().any(|warning| warning.contains("truncated")));
}

/// Found by fuzzing: a few records of a flattened file can claim bitmaps of petabytes, which are holes in it.
#[test]
fn a_small_file_does_not_stand_for_petabytes() {
    let mut dump = Kdump { ram: vec![0..16], max_mapnr: 16, ..Kdump::default() };
    dump.pages.insert(3, Stored::raw(&page(3)));
    let mut file = support::Layout { bytes: dump.build(), big: false };
    let blocks = 1_u64 << 30;
    file.int(436, 4, blocks).int(PAGE + 96, 8, 1 << 40);
    let far = usize::try_from(blocks * PAGE as u64).unwrap();
    let bytes = flatten(&file.bytes, &[PAGE], |records| records.push((far, vec![1; PAGE])));
    let error = open_bytes(&bytes).map(drop).unwrap_err();
    assert!(error.to_string().contains("inside its headers"), "{error}");
}

#[test]
fn bitmaps_cut_in_the_middle_are_walked_in_big_steps() {
    let mut dump = Kdump { ram: vec![0..1 << 24], max_mapnr: 1 << 24, ..Kdump::default() };
    dump.pages.insert(3, Stored::raw(&page(3)));
    dump.pages.insert(1 << 20, Stored::raw(&page(4)));
    let bytes = dump.build();
    let half_of_the_second = dump.bitmaps_at() + dump.bitmap_bytes() * 3 / 2;
    let opened = open_bytes(&bytes[..half_of_the_second]).unwrap();
    let totals = opened.memory.totals(&Cancel::default()).unwrap();
    assert_eq!(totals.present, 2 * PAGE as u64);
    assert_eq!(totals.missing["beyond-file-end"], (1 << 23) * PAGE as u64);
    assert_eq!(read_page(&*opened.memory, 3), Err(Why::BeyondFileEnd));
    assert_eq!(read_page(&*opened.memory, 4), Err(Why::Excluded));
    assert_eq!(read_page(&*opened.memory, (1 << 24) - 1), Err(Why::BeyondFileEnd));
}

fn one_of(which: proptest::sample::Index) -> (&'static str, Vec<u8>) {
    let mut formats = every_format();
    formats.swap_remove(which.index(formats.len()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 800, ..ProptestConfig::default() })]

    #[test]
    fn wrong_bits_never_panic(
        which: proptest::sample::Index,
        flips in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>(), any::<bool>()), 1..6),
        zero_excluded: bool,
    ) {
        let (_, mut bytes) = one_of(which);
        for (at, value, in_header) in flips {
            // Headers are a small part of the file, and where it matters most.
            let at = at.index(if in_header { 640.min(bytes.len()) } else { bytes.len() });
            bytes[at] = value;
        }
        if let Ok(opened) = open(input(&[bytes]), &Hints { zero_excluded, ..Hints::default() }) {
            touch(&opened);
        }
    }

    #[test]
    fn wrong_words_never_panic(
        which: proptest::sample::Index,
        at in 0_usize..5000,
        value in prop_oneof![Just(u64::MAX), Just(i64::MAX as u64), Just(1 << 40), Just(0), any::<u64>()],
    ) {
        let (_, mut bytes) = one_of(which);
        let at = (at & !3).min(bytes.len() - 8);
        bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        if let Ok(opened) = open_bytes(&bytes) {
            touch(&opened);
        }
    }
}
