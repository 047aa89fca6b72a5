//! What is written reads back, through every output form.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::single_range_in_vec_init,
    reason = "helpers of tests may fail as tests do"
)]

mod support;

use std::collections::BTreeMap;
use std::io::Cursor;
use std::sync::Arc;

use kdive_base::{Cancel, Missing, Pfn, PhysAddr, Why};
use kdive_dump::write::{
    Compression, FlattenedSink, KdumpOptions, PlainSink, Sink, Written, write_elf, write_kdump,
};
use kdive_dump::{Hints, Notes, PhysicalMemory, RawNote, Run, RunState, UtsName, open};
use proptest::prelude::*;
use support::{PAGE, input, open_bytes, page, read_page};

/// Pages by number; all others below `end` are excluded.
struct Pages {
    pages: BTreeMap<u64, Vec<u8>>,
    end: u64,
}

impl PhysicalMemory for Pages {
    fn read(&self, at: PhysAddr, into: &mut [u8]) -> (usize, Option<Missing>) {
        assert_eq!((at.page_offset(), into.len()), (0, PAGE), "writers read whole pages");
        match self.pages.get(&at.pfn().0) {
            Some(page) => {
                into.copy_from_slice(page);
                (PAGE, None)
            }
            None => (0, Some(Missing::new(at, Why::Excluded))),
        }
    }

    fn next_run(&self, from: PhysAddr) -> Option<Run> {
        let pfn = from.pfn().0;
        let state = |pfn| {
            if self.pages.contains_key(&pfn) { RunState::Present } else { RunState::Missing(Why::Excluded) }
        };
        let end = (pfn..self.end).find(|&next| state(next) != state(pfn)).unwrap_or(self.end);
        let bytes = (end * PAGE as u64).checked_sub(from.0).filter(|&bytes| bytes > 0)?;
        Some(Run { start: from, bytes, state: state(pfn) })
    }
}

fn any_pages() -> impl Strategy<Value = BTreeMap<u64, Vec<u8>>> {
    let content = prop_oneof![
        Just(vec![0; PAGE]),
        any::<u64>().prop_map(page),
        proptest::collection::vec(any::<u8>(), PAGE),
    ];
    proptest::collection::btree_map(0_u64..300, content, 0..24)
}

fn any_compression() -> impl Strategy<Value = Compression> {
    prop_oneof![Just(Compression::None), Just(Compression::Zlib(1)), Just(Compression::Zstd(3))]
}

fn vmcoreinfo() -> Notes {
    let text = b"OSRELEASE=6.12.1\n".to_vec();
    let mut notes = Notes { vmcoreinfo: Some(text), ..Notes::default() };
    notes.raw.push(RawNote { name: b"CORE".to_vec(), kind: 1, descriptor: vec![7; 336] });
    notes
}

fn kdump(memory: &Pages, options: &KdumpOptions, flattened: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut sink: Box<dyn Sink> = if flattened {
        Box::new(FlattenedSink::new(&mut bytes).unwrap())
    } else {
        Box::new(PlainSink::new(Cursor::new(&mut bytes)))
    };
    let everything = |_| true;
    write_kdump(memory, &vmcoreinfo(), options, &everything, &mut *sink, &Cancel::default()).unwrap();
    drop(sink);
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn pages_written_read_back(
        pages in any_pages(),
        compression in any_compression(),
        flattened: bool,
        boundary in proptest::option::of(1_u64..300),
    ) {
        let memory = Pages { pages, end: 300 };
        let part = |range| KdumpOptions { compression, part: range, ..KdumpOptions::default() };
        let files = match boundary {
            Some(at) => vec![kdump(&memory, &part(Some(at..300)), flattened), kdump(&memory, &part(Some(0..at)), flattened)],
            None => vec![kdump(&memory, &part(None), flattened)],
        };
        let opened = open(input(&files), &Hints::default()).unwrap();
        prop_assert_eq!(&opened.facts.warnings, &Vec::<String>::new());
        prop_assert_eq!(opened.notes.vmcoreinfo.as_deref(), Some(&b"OSRELEASE=6.12.1\n"[..]));
        prop_assert_eq!(opened.notes.cpus.len(), 1);
        for pfn in 0..300 {
            let expected = memory.pages.get(&pfn).cloned().ok_or(Why::Excluded);
            prop_assert_eq!(read_page(&*opened.memory, pfn), expected, "page {}", pfn);
        }
        prop_assert_eq!(read_page(&*opened.memory, 300), Err(Why::NeverPresent));
    }

    #[test]
    fn an_elf_core_written_reads_back(pages in any_pages()) {
        let memory = Pages { pages, end: 300 };
        let mut bytes = Vec::new();
        let mut sink = PlainSink::new(Cursor::new(&mut bytes));
        let even = |pfn: Pfn| pfn.0.is_multiple_of(2);
        write_elf(&memory, &vmcoreinfo(), &even, &mut sink, &Cancel::default()).unwrap();
        let opened = open_bytes(&bytes).unwrap();
        prop_assert_eq!(opened.notes.vmcoreinfo.as_deref(), Some(&b"OSRELEASE=6.12.1\n"[..]));
        for pfn in 0..300 {
            let expected = memory.pages.get(&pfn).filter(|_| pfn % 2 == 0).cloned().ok_or(Why::NeverPresent);
            prop_assert_eq!(read_page(&*opened.memory, pfn), expected, "page {}", pfn);
        }
    }
}

#[test]
fn the_header_says_what_it_was_told_and_a_filter_leaves_pages_out() {
    let memory = Pages { pages: (0..100).map(|pfn| (pfn, page(pfn))).collect(), end: 100 };
    let uts = UtsName {
        sysname: "Linux".into(),
        release: "6.12.1".into(),
        machine: "x86_64".into(),
        ..UtsName::default()
    };
    let options = KdumpOptions {
        uts: uts.clone(),
        dump_level: 31,
        timestamp: 1_700_000_000,
        ..KdumpOptions::default()
    };
    let mut bytes = Vec::new();
    let few = |pfn: Pfn| (10..20).contains(&pfn.0);
    let mut sink = PlainSink::new(Cursor::new(&mut bytes));
    let written =
        write_kdump(&memory, &Notes::default(), &options, &few, &mut sink, &Cancel::default()).unwrap();
    assert_eq!(written, Written { pages: 10, unreadable: 0 });
    let opened = open_bytes(&bytes).unwrap();
    assert_eq!(opened.facts.uts, Some(uts));
    assert_eq!((opened.facts.dump_level, opened.facts.timestamp), (Some(31), Some(1_700_000_000)));
    assert_eq!((opened.facts.compression, opened.facts.max_mapnr), (vec!["zlib"], Some(100)));
    let totals = opened.memory.totals(&Cancel::default()).unwrap();
    assert_eq!((totals.present, totals.missing["excluded"]), (10 * PAGE as u64, 90 * PAGE as u64));
}

#[test]
fn a_page_that_cannot_be_read_is_left_out_and_counted() {
    let mut dump = support::Kdump::default();
    dump.pages.insert(3, support::Stored { flags: 1, bytes: vec![1; 50] });
    dump.pages.insert(4, support::Stored::raw(&page(4)));
    let opened = open_bytes(&dump.build()).unwrap();
    let mut bytes = Vec::new();
    let mut sink = PlainSink::new(Cursor::new(&mut bytes));
    let options = KdumpOptions::default();
    let written =
        write_kdump(&*opened.memory, &opened.notes, &options, &|_| true, &mut sink, &Cancel::default())
            .unwrap();
    assert_eq!(written, Written { pages: 1, unreadable: 1 });
    let copy = open_bytes(&bytes).unwrap();
    assert_eq!(read_page(&*copy.memory, 3), Err(Why::Excluded));
    assert_eq!(read_page(&*copy.memory, 4).unwrap(), page(4));
    assert_eq!(copy.notes.vmcoreinfo, opened.notes.vmcoreinfo);
}

#[test]
fn several_threads_read_at_once() {
    // More than the page cache holds, so that pages are thrown out while others read them.
    let pages: BTreeMap<u64, Vec<u8>> = (0..12_000).map(|pfn| (pfn, page(pfn))).collect();
    let memory = Pages { pages, end: 12_000 };
    for flattened in [false, true] {
        let bytes = Arc::new(kdump(&memory, &KdumpOptions::default(), flattened));
        let opened = open_bytes(&bytes).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4_u64 {
                let (opened, memory) = (&opened, &memory);
                scope.spawn(move || {
                    for step in 0..8000 {
                        let pfn = (step * 7919 + thread * 31) % 12_000;
                        assert_eq!(
                            read_page(&*opened.memory, pfn).unwrap(),
                            memory.pages[&pfn],
                            "page {pfn}"
                        );
                    }
                });
            }
        });
    }
}
