//! Well-formed dumps of every format and every wrapping, mutated: an error or a partial answer, never a panic or a hang,
//! in bounded memory.
//!
//! `KDIVE_MUTATED_FILES=N` mutates N files instead of 10,000 in all; a failure names the round that repeats it.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "helpers of tests may fail as tests do"
)]

mod support;

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use kdive_base::{Cancel, PhysAddr};
use kdive_dump::{Hints, Input, InputFile, find_vmcoreinfo, open, probe};
use support::every::{every_format, every_set, every_wrapped};
use support::{PAGE, page, read_page};

const FILES: u64 = 10_000;
/// A file of some KiB that takes longer does not end.
const PATIENCE: Duration = Duration::from_secs(60);
/// Of the whole test: tables are as large as the file can justify, caches and pieces of packed files have fixed sizes.
const MOST_KIB: u64 = 400 << 10;

/// The files of a dump, and the address of a raw image.
#[derive(Clone)]
struct Sample {
    name: &'static str,
    files: Vec<Vec<u8>>,
    base: Option<PhysAddr>,
}

/// One of each.
fn samples() -> Vec<Sample> {
    let one = |(name, bytes)| Sample { name, files: vec![bytes], base: None };
    let several = |(name, files)| Sample { name, files, base: None };
    let raw =
        Sample { name: "raw image", files: vec![(0..4).flat_map(page).collect()], base: Some(PhysAddr(0)) };
    let single = every_format().into_iter().chain(every_wrapped()).map(one);
    single.chain(every_set().into_iter().map(several)).chain([raw]).collect()
}

fn input(sample: &Sample) -> Input {
    let file = |bytes: &Vec<u8>| {
        let data = Arc::new(bytes.clone());
        match sample.base {
            Some(base) => InputFile::raw("image", data, base),
            None => InputFile::new("dump", data),
        }
    };
    Input { files: sample.files.iter().map(file).collect() }
}

/// Reads a little of all that the files describe. Whether they open?
fn touch(sample: &Sample, zero_excluded: bool) -> bool {
    let input = input(sample);
    for file in &input.files {
        let _ = probe(&*file.data);
    }
    let Ok(opened) = open(input, &Hints { zero_excluded, ..Hints::default() }) else { return false };
    let mut at = PhysAddr(0);
    for _ in 0..64 {
        let Some(run) = opened.memory.next_run(at) else { break };
        assert!(run.bytes > 0 && run.start == at, "{run:?} at {at:?}");
        let mut bytes = vec![0; (5 * PAGE as u64).min(run.bytes) as usize];
        let (count, missing) = opened.memory.read(at, &mut bytes);
        assert!(count == bytes.len() || missing.is_some(), "{count} bytes and no reason");
        opened.memory.read(at.add(run.bytes / 2), &mut [0; 100]);
        let Some(next) = at.0.checked_add(run.bytes) else { break };
        at = PhysAddr(next);
    }
    for segment in opened.memory.virtual_segments().iter().take(4) {
        opened.memory.read_virtual(segment.virt, &mut [0; 100]);
    }
    opened.memory.read(PhysAddr(u64::MAX - 3), &mut [0; 16]);
    find_vmcoreinfo(&*opened.memory, &Cancel::default()).take(2).for_each(drop);
    true
}

/// Numerical Recipes' generator, so that a failure repeats.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 20) as usize % end.max(1)
    }

    /// A place in a file: every second one is in its headers, a small part of it, and where it matters most.
    fn place(&mut self, bytes: &[u8]) -> usize {
        let end = if self.below(2) == 0 { bytes.len().min(640) } else { bytes.len() };
        self.below(end)
    }
}

/// One change, as damage of disks, memory and transfers makes them, and as somebody with bad intentions does.
fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
    let at = random.place(bytes);
    let word = |bytes: &mut Vec<u8>, value: &[u8]| {
        bytes.iter_mut().skip(at & !3).zip(value).for_each(|(to, from)| *to = *from);
    };
    match random.below(10) {
        0..3 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << (at % 8)),
        3 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = 0xff),
        4 => word(bytes, &u64::MAX.to_le_bytes()),
        5 => {
            let size = random.below(64);
            word(bytes, &1_u64.wrapping_shl(size as u32).to_le_bytes());
        }
        6 => {
            let size = random.below(32);
            word(bytes, &1_u32.wrapping_shl(size as u32).to_be_bytes());
        }
        7 => bytes.truncate(at),
        8 => {
            // A piece comes twice, or is lost.
            let end = (at + random.below(600)).min(bytes.len());
            let piece: Vec<u8> = bytes.drain(at..end).collect();
            if random.below(2) == 0 {
                let twice = [&piece[..], &piece[..]].concat();
                bytes.splice(at..at, twice);
            }
        }
        _ => {
            let end = (at + random.below(4096)).min(bytes.len());
            bytes[at..end].fill(0);
        }
    }
}

#[test]
fn every_sample_opens_and_has_its_pages() {
    for sample in samples() {
        let opened = open(input(&sample), &Hints::default());
        let opened = opened.unwrap_or_else(|error| panic!("{}: {error}", sample.name));
        for pfn in 0..4 {
            let same = read_page(&*opened.memory, pfn) == Ok(page(pfn));
            assert!(same, "{}: page {pfn}", sample.name);
        }
    }
}

#[test]
fn mutated_files_of_every_format_neither_panic_nor_hang() {
    let count = std::env::var("KDIVE_MUTATED_FILES").ok().and_then(|count| count.parse().ok());
    let (count, samples) = (count.unwrap_or(FILES), samples());
    let mut opened = 0;
    for round in 0..count {
        let mut sample = samples[round as usize % samples.len()].clone();
        let mut random = Random(round + 1);
        for _ in 0..=random.below(6) {
            let which = random.below(sample.files.len());
            mutate(&mut sample.files[which], &mut random);
        }
        let (name, zero_excluded) = (sample.name, random.below(2) == 0);
        let (done, answer) = channel();
        let thread = std::thread::spawn(move || {
            let _ = done.send(touch(&sample, zero_excluded));
        });
        match answer.recv_timeout(PATIENCE) {
            Ok(opens) => {
                thread.join().unwrap();
                opened += u64::from(opens);
            }
            Err(RecvTimeoutError::Timeout) => panic!("round {round}: {name} does not end"),
            Err(RecvTimeoutError::Disconnected) => panic!("round {round}: {name} panicked"),
        }
    }
    eprintln!("{count} files of {} kinds, of which {opened} opened", samples.len());
    assert!(opened * 3 > count, "of {count} files only {opened} opened: this is no test");
    if let Some(peak) = peak_kib() {
        eprintln!("{peak} KiB at most");
        assert!(peak < MOST_KIB, "{peak} KiB were resident");
    }
}

/// The most memory that the process ever had.
fn peak_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}
