//! Random words of the kernel's data are overwritten, and all commands run: what is damaged costs its row. No panic, no
//! hang, no output without end.
//!
//! `KDIVE_MUTATIONS=N` overwrites N words instead of 2,000 in all; a failure names the round that repeats it.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests may fail as tests do"
)]

mod common;

use std::io::{self, Write};
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use kdive_base::{Missing, PAGE_SIZE, PhysAddr};
use kdive_commands::{Cx, TextSink};
use kdive_dump::{Hints, Input, InputFile, Opened, PhysicalMemory, Run, RunState, Segment};
use kdive_target::{Kernel, OpenOptions};

/// Words overwritten in each round, before a part of the commands runs.
const WORDS_A_ROUND: u64 = 125;
const WORDS: u64 = 2000;
/// In so many rounds each command runs once.
const PARTS: usize = 8;
/// A command that takes longer than this on a dump of a few megabytes does not end.
const PATIENCE: Duration = Duration::from_secs(120);
/// More text than this on such a dump does not end either.
const MOST_TEXT: usize = 256 << 20;

/// Memory of which some words are others.
struct Mutated {
    memory: Arc<dyn PhysicalMemory>,
    /// By address, each aligned.
    words: Vec<(u64, [u8; 8])>,
}

impl PhysicalMemory for Mutated {
    fn read(&self, at: PhysAddr, into: &mut [u8]) -> (usize, Option<Missing>) {
        let (count, missing) = self.memory.read(at, into);
        let end = at.0 + count as u64;
        let first = self.words.partition_point(|(word, _)| word + 8 <= at.0);
        for (word, bytes) in self.words[first..].iter().take_while(|(word, _)| *word < end) {
            for (index, byte) in (*word..).zip(bytes).filter(|(index, _)| (at.0..end).contains(index)) {
                into[(index - at.0) as usize] = *byte;
            }
        }
        (count, missing)
    }

    fn next_run(&self, from: PhysAddr) -> Option<Run> {
        self.memory.next_run(from)
    }

    fn virtual_segments(&self) -> &[Segment] {
        self.memory.virtual_segments()
    }
}

/// Numerical Recipes' generator, so that a failure repeats.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 20) % end
    }
}

/// The pages that hold data of the kernel: not its code, and not its tables of symbols and types.
fn data_pages(kernel: &Kernel) -> Vec<u64> {
    let physical = |name: &str| {
        let at = kernel.symbol(name).expect("every kernel has this symbol");
        kernel.space().translate(at).expect("the image is mapped").phys.0
    };
    let image = physical("_text")..physical("_end");
    let data: [Range<u64>; 2] = [("_sdata", "_edata"), ("__bss_start", "__bss_stop")]
        .map(|(start, end)| physical(start)..physical(end));
    let is_data = |at: &u64| !image.contains(at) || data.iter().any(|range| range.contains(at));
    let mut pages = Vec::new();
    let mut at = PhysAddr(0);
    while let Some(run) = kernel.physical().next_run(at) {
        if run.state == RunState::Present {
            pages.extend((run.start.0..run.start.0 + run.bytes).step_by(PAGE_SIZE as usize).filter(is_data));
        }
        at = PhysAddr(run.start.0 + run.bytes);
    }
    pages
}

/// A word that is there, mostly one that is not zero.
fn choose(random: &mut Random, memory: &dyn PhysicalMemory, pages: &[u64]) -> (u64, u64) {
    let mut chosen = (0, 0);
    for _ in 0..8 {
        let page = pages[random.below(pages.len() as u64) as usize];
        let at = page + 8 * random.below(PAGE_SIZE / 8);
        let mut bytes = [0; 8];
        if memory.read(PhysAddr(at), &mut bytes) == (8, None) {
            chosen = (at, u64::from_le_bytes(bytes));
        }
        if chosen.1 != 0 {
            break;
        }
    }
    chosen
}

/// What memory goes wrong by: a flipped bit, nothing, poison, another word, a number that is a little off.
fn damaged(random: &mut Random, word: u64, other: u64) -> u64 {
    match random.below(8) {
        0..3 => word ^ 1 << random.below(64),
        3 => 0,
        4 => u64::MAX,
        5 => 0xdead_0000_0000_0100,
        6 => other,
        _ => word.wrapping_add(random.below(64) * 8).wrapping_sub(256),
    }
}

fn mutate(opened: &Opened, pages: &[u64], random: &mut Random) -> Opened {
    let memory = Arc::clone(&opened.memory);
    let mut words: Vec<(u64, [u8; 8])> = (0..WORDS_A_ROUND)
        .map(|_| {
            let ((at, word), (_, other)) = (choose(random, &*memory, pages), choose(random, &*memory, pages));
            (at, damaged(random, word, other).to_le_bytes())
        })
        .collect();
    words.sort_unstable();
    words.dedup_by_key(|(at, _)| *at);
    Opened { memory: Arc::new(Mutated { memory, words }), ..opened.clone() }
}

/// Counts, and takes no more than can be meant.
#[derive(Default)]
struct Counted(usize);

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        assert!(self.0 <= MOST_TEXT, "output without end");
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Runs a command line where a hang is noticed; how many bytes of text came?
fn run(kernel: &Arc<Kernel>, line: &str, round: u64) -> usize {
    let (done, answer) = channel();
    let (kernel, words) =
        (Arc::clone(kernel), line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    let thread = std::thread::spawn(move || {
        let mut sink = TextSink::new(Counted::default());
        // An error is an answer.
        let _ = kdive_commands::run(&mut Cx::new(kernel), &words, &mut sink);
        let text = sink.finish().map_or(0, |counted| counted.0);
        let _ = done.send(text);
    });
    match answer.recv_timeout(PATIENCE) {
        Ok(text) => {
            thread.join().expect("it has ended");
            text
        }
        Err(RecvTimeoutError::Timeout) => panic!("round {round}: `{line}` does not end"),
        Err(RecvTimeoutError::Disconnected) => panic!("round {round}: `{line}` panicked"),
    }
}

#[test]
fn overwritten_words_cost_rows_and_nothing_else() {
    let words = std::env::var("KDIVE_MUTATIONS").ok().and_then(|count| count.parse().ok()).unwrap_or(WORDS);
    let bytes = std::fs::read(common::dump("6.12-rich")).expect("the fixture can be read");
    let opened = common::open_bytes(bytes).expect("the fixture opens");
    let open =
        |opened| Kernel::open(opened, OpenOptions::default(), Arc::new(())).expect("nothing was given");
    let pages = data_pages(&open(opened.clone()));
    assert!(pages.len() > 500, "{} pages of data", pages.len());
    let lines = common::command_lines();
    let (mut commands, mut answered) = (0, 0);
    for round in 0..words.div_ceil(WORDS_A_ROUND) {
        let kernel = open(mutate(&opened, &pages, &mut Random(round + 1)));
        let part = lines.iter().skip(round as usize % PARTS).step_by(PARTS);
        for line in part {
            commands += 1;
            answered += usize::from(run(&kernel, line, round) > 0);
        }
    }
    assert!(
        answered * 2 > commands,
        "of {commands} commands only {answered} printed anything: this is no test"
    );
}

#[test]
fn a_word_that_was_overwritten_reads_back_from_anywhere() {
    let file = InputFile::raw("zeros", Arc::new(vec![0_u8; 64]), PhysAddr(0));
    let opened = kdive_dump::open(Input::from(file), &Hints::default()).expect("raw bytes open");
    let memory = Mutated { memory: opened.memory, words: vec![(16, [1, 2, 3, 4, 5, 6, 7, 8]), (32, [9; 8])] };
    let read = |at, count| {
        let mut bytes = vec![0; count];
        assert_eq!(memory.read(PhysAddr(at), &mut bytes), (count, None));
        bytes
    };
    assert_eq!(read(14, 4), [0, 0, 1, 2]);
    assert_eq!(read(19, 3), [4, 5, 6]);
    assert_eq!(read(22, 12), [7, 8, 0, 0, 0, 0, 0, 0, 0, 0, 9, 9]);
    assert_eq!(read(24, 8), [0; 8]);
}
