//! What is written reads back, through every output form.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::single_range_in_vec_init,
    reason = "helpers of tests may fail as tests do"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Cursor;
use std::sync::Arc;

use kdive_base::{Cancel, Missing, Pfn, PhysAddr, Why};
use kdive_dump::write::{
    Compression, Control, FlattenedSink, Frames, KdumpOptions, LimitedSink, PlainSink, Plan, Sink,
    WriteError, Written, write_elf, write_kdump,
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
        assert_eq!((at.page_offset(), into.len() % PAGE), (0, 0), "writers read whole pages");
        let mut done = 0;
        for (pfn, into) in (at.pfn().0..).zip(into.chunks_exact_mut(PAGE)) {
            let Some(page) = self.pages.get(&pfn) else {
                return (done, Some(Missing::new(Pfn(pfn).start(), Why::Excluded)));
            };
            into.copy_from_slice(page);
            done += PAGE;
        }
        (done, None)
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
    prop_oneof![
        Just(Compression::None),
        Just(Compression::Zlib(1)),
        Just(Compression::Snappy),
        Just(Compression::Zstd(3))
    ]
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
    write_pages(memory, options, &mut *sink).unwrap();
    drop(sink);
    bytes
}

fn write_pages(memory: &Pages, options: &KdumpOptions, out: &mut dyn Sink) -> Result<Written, WriteError> {
    let cancel = Cancel::default();
    let control = Control::new(&cancel);
    let plan = Plan::new(memory, &|_| true, &control)?;
    write_kdump(&plan, &vmcoreinfo(), options, out, &control)
}

/// What an output had got when it could take no more.
fn cut_short(memory: &Pages, options: &KdumpOptions, flattened: bool, limit: u64) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    let failed = if flattened {
        // A pipe that closes.
        let whole = kdump(memory, options, true);
        bytes = whole[..whole.len().min(limit as usize)].to_vec();
        bytes.len() < whole.len()
    } else {
        let mut sink = PlainSink::new(Cursor::new(&mut bytes));
        write_pages(memory, options, &mut LimitedSink::new(&mut sink, limit)).is_err()
    };
    (bytes, failed)
}

/// Pages of which some cannot be read, though the index says that they are there.
struct Damaged {
    inner: Pages,
    bad: BTreeSet<u64>,
}

impl PhysicalMemory for Damaged {
    fn read(&self, at: PhysAddr, into: &mut [u8]) -> (usize, Option<Missing>) {
        let first = at.pfn().0;
        let good = self.bad.range(first..).next().map_or(into.len(), |bad| {
            usize::try_from(bad - first).unwrap().saturating_mul(PAGE).min(into.len())
        });
        let (count, missing) = self.inner.read(at, &mut into[..good]);
        let stop = || Some(Missing::new(at.add(good as u64), Why::Corrupt("damaged")));
        (count, missing.or_else(|| (good < into.len()).then(stop).flatten()))
    }

    fn next_run(&self, from: PhysAddr) -> Option<Run> {
        self.inner.next_run(from)
    }
}

fn any_tiers() -> impl Strategy<Value = Vec<Frames>> {
    let tier = proptest::collection::vec((0_u64..300, 1_u64..40), 0..4).prop_map(|runs| {
        let mut frames = Frames::default();
        runs.into_iter().for_each(|(start, length)| frames.insert(start..start + length));
        frames
    });
    proptest::collection::vec(tier, 0..3)
}

#[test]
fn of_a_stream_that_was_cut_the_pages_of_tiers_can_be_read() {
    // No two pages alike, and none that can be compressed.
    let mut seed = 1_u64;
    let mut byte = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 56) as u8
    };
    let pages = (0..300).map(|pfn| (pfn, (0..PAGE).map(|_| byte()).collect())).collect();
    let memory = Pages { pages, end: 300 };
    let cancel = Cancel::default();
    let control = Control::new(&cancel);
    let mut tier = Frames::default();
    tier.insert(100..102);
    tier.insert(240..245);
    let plan = Plan::new(&memory, &|_| true, &control).unwrap().first(vec![tier]);
    let mut bytes = Vec::new();
    let mut sink = FlattenedSink::new(&mut bytes).unwrap();
    write_kdump(&plan, &vmcoreinfo(), &KdumpOptions::default(), &mut sink, &control).unwrap();
    let opened = open_bytes(&bytes[..bytes.len() / 5]).unwrap();
    for pfn in [100, 101, 240, 241, 244] {
        assert_eq!(read_page(&*opened.memory, pfn).ok().as_ref(), memory.pages.get(&pfn), "page {pfn}");
    }
    assert!(read_page(&*opened.memory, 299).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn pages_of_tiers_come_first_and_no_page_is_another(
        pages in any_pages(),
        tiers in any_tiers(),
        bad in proptest::collection::btree_set(0_u64..300, 0..3),
        part in proptest::option::of(0_u64..300),
        flattened: bool,
        is_cut: bool,
        limit in 20_000_u64..140_000,
    ) {
        let memory = Damaged { inner: Pages { pages, end: 300 }, bad };
        let cancel = Cancel::default();
        // Few pages at a time.
        let control = Control { memory: 1 << 19, ..Control::new(&cancel) };
        let plan = Plan::new(&memory, &|_| true, &control).unwrap().first(tiers.clone());
        let within = part.map(|start| start..300);
        let options = KdumpOptions { part: within.clone(), ..KdumpOptions::default() };
        let (mut bytes, mut is_finished) = (Vec::new(), true);
        if flattened {
            let mut sink = FlattenedSink::new(&mut bytes).unwrap();
            write_kdump(&plan, &vmcoreinfo(), &options, &mut sink, &control).unwrap();
        } else {
            let mut sink = PlainSink::new(Cursor::new(&mut bytes));
            // A file that was cut, or one that was not finished.
            let room = if is_cut { u64::MAX } else { limit };
            let mut sink = LimitedSink::new(&mut sink, room);
            is_finished = write_kdump(&plan, &vmcoreinfo(), &options, &mut sink, &control).is_ok();
        }
        let whole = bytes.len() as u64;
        if is_cut {
            bytes.truncate(limit as usize);
        }
        let is_whole = is_finished && (!is_cut || whole <= limit);
        let opened = open_bytes(&bytes).unwrap();
        let is_first = |pfn: u64| tiers.iter().any(|tier| tier.runs().any(|run| run.contains(&pfn)));
        let (mut later, mut lacking) = (0, 0);
        for pfn in within.unwrap_or(0..300) {
            let expected = memory.inner.pages.get(&pfn).filter(|_| !memory.bad.contains(&pfn));
            match (read_page(&*opened.memory, pfn), expected) {
                (Ok(page), expected) => {
                    prop_assert_eq!(Some(&page), expected, "page {}", pfn);
                    // The one page of zeros may have come with the first.
                    later += u64::from(!is_first(pfn) && page.iter().any(|&byte| byte != 0));
                }
                (Err(why), Some(_)) => {
                    prop_assert!(!is_whole, "page {} of a whole file: {}", pfn, why);
                    lacking += u64::from(is_first(pfn));
                }
                (Err(_), None) => {}
            }
        }
        // Where a page before them was lost, their descriptors come once more in their turn.
        if memory.bad.iter().all(|pfn| !memory.inner.pages.contains_key(pfn)) {
            prop_assert!(later == 0 || lacking == 0, "{} of the first are lacking, {} others are not", lacking, later);
        }
    }

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
        let cancel = Cancel::default();
        let control = Control::new(&cancel);
        let even = |pfn: Pfn| pfn.0.is_multiple_of(2);
        let plan = Plan::new(&memory, &even, &control).unwrap();
        write_elf(&plan, &vmcoreinfo(), &mut sink, &control).unwrap();
        let opened = open_bytes(&bytes).unwrap();
        prop_assert_eq!(opened.notes.vmcoreinfo.as_deref(), Some(&b"OSRELEASE=6.12.1\n"[..]));
        for pfn in 0..300 {
            let expected = memory.pages.get(&pfn).filter(|_| pfn % 2 == 0).cloned().ok_or(Why::ZeroOrExcluded);
            prop_assert_eq!(read_page(&*opened.memory, pfn), expected, "page {}", pfn);
        }
        prop_assert!(!opened.facts.incomplete);
    }

    #[test]
    fn an_output_that_ends_early_opens_and_says_so(
        pages in any_pages(), compression in any_compression(), flattened: bool, limit in 0_u64..140_000,
    ) {
        /// Headers and bitmaps: five blocks, and in a stream the stream's own header and those of records.
        const HEAD: u64 = 6 * PAGE as u64;
        let memory = Pages { pages, end: 300 };
        let options = KdumpOptions { compression, ..KdumpOptions::default() };
        let (bytes, failed) = cut_short(&memory, &options, flattened, limit);
        match open_bytes(&bytes) {
            Ok(opened) => {
                prop_assert_eq!(opened.facts.incomplete || !opened.facts.warnings.is_empty(), failed);
                for pfn in 0..300 {
                    match read_page(&*opened.memory, pfn) {
                        Ok(page) => prop_assert_eq!(Some(&page), memory.pages.get(&pfn), "page {}", pfn),
                        Err(Why::NotWritten | Why::BeyondFileEnd) => prop_assert!(failed),
                        Err(why) => prop_assert!(
                            why == Why::Excluded && !memory.pages.contains_key(&pfn), "page {}: {}", pfn, why
                        ),
                    }
                }
            }
            Err(error) => prop_assert!(limit < HEAD, "{} bytes do not open: {}", limit, error),
        }
    }

    #[test]
    fn parts_have_the_same_number_of_pages(pages in any_pages(), parts in 1_usize..9) {
        let memory = Pages { pages, end: 300 };
        let cancel = Cancel::default();
        let plan = Plan::new(&memory, &|_| true, &Control::new(&cancel)).unwrap();
        let found = plan.split(parts);
        prop_assert!(found.len() <= parts && found.first().is_none_or(|part| part.start == 0));
        prop_assert!(found.windows(2).all(|pair| pair[0].end == pair[1].start));
        prop_assert_eq!(found.last().map_or(0, |part| part.end), plan.frames());
        let count = |part: &std::ops::Range<u64>| memory.pages.keys().filter(|pfn| part.contains(pfn)).count();
        let most = memory.pages.len().div_ceil(parts).max(1);
        prop_assert!(found.iter().all(|part| count(part) <= most));
    }

    #[test]
    fn a_plan_without_room_decides_again(pages in any_pages()) {
        let memory = Pages { pages, end: 300 };
        let cancel = Cancel::default();
        let mut files = Vec::new();
        for bytes in [0, Control::MEMORY] {
            let control = Control { memory: bytes, ..Control::new(&cancel) };
            let plan = Plan::new(&memory, &|_| true, &control).unwrap();
            prop_assert_eq!(plan.pages(), memory.pages.len() as u64);
            let mut file = Vec::new();
            let mut sink = PlainSink::new(Cursor::new(&mut file));
            write_kdump(&plan, &vmcoreinfo(), &KdumpOptions::default(), &mut sink, &control).unwrap();
            files.push(file);
        }
        prop_assert!(files[0] == files[1]);
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
    let cancel = Cancel::default();
    let control = Control::new(&cancel);
    let plan = Plan::new(&memory, &few, &control).unwrap();
    let written = write_kdump(&plan, &Notes::default(), &options, &mut sink, &control).unwrap();
    assert_eq!(written, Written { pages: 10, bytes: bytes.len() as u64, ..Written::default() });
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
    let cancel = Cancel::default();
    let control = Control::new(&cancel);
    let plan = Plan::new(&*opened.memory, &|_| true, &control).unwrap();
    let written = write_kdump(&plan, &opened.notes, &KdumpOptions::default(), &mut sink, &control).unwrap();
    assert_eq!((written.pages, written.unreadable), (1, 1));
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
