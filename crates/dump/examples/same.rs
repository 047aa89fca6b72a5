//! Compares the memory of dumps of one machine, page by page: `same DUMP DUMP...`, each against the first.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a tool of tests")]

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use kdive_base::{PhysAddr, ReadAt};
use kdive_dump::{Hints, Input, InputFile, Opened, RunState, open};

const PAGE: u64 = 4096;

fn main() {
    let dumps: Vec<(String, Opened)> =
        std::env::args().skip(1).map(|name| (name.clone(), open_file(&name))).collect();
    let Some(((first, one), others)) = dumps.split_first() else { return };
    for (name, other) in others {
        let (mut alike, mut alone, mut differ) = (0_u64, 0_u64, Vec::new());
        for pfn in pages(one) {
            match (page(one, pfn), page(other, pfn)) {
                (Some(left), Some(right)) if left == right => alike += 1,
                (Some(_), Some(_)) => differ.push(pfn),
                (None, None) => {}
                _ => alone += 1,
            }
        }
        println!("{first} and {name}: {alike} pages alike, {alone} in one alone, {} differ", differ.len());
        differ.iter().take(8).for_each(|pfn| println!("  page {pfn:#x} differs"));
        other.facts.warnings.iter().for_each(|warning| println!("  {name}: {warning}"));
    }
}

fn open_file(name: &str) -> Opened {
    let files = name.split(',').map(|name| InputFile::new(name, Arc::new(OnDisk(File::open(name).unwrap()))));
    open(Input { files: files.collect() }, &Hints::default()).unwrap()
}

struct OnDisk(File);

impl ReadAt for OnDisk {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(into, offset)
    }

    fn len(&self) -> u64 {
        self.0.metadata().unwrap().len()
    }
}

/// Numbers of all pages that are whole in the dump.
fn pages(dump: &Opened) -> impl Iterator<Item = u64> {
    let next = |at: &PhysAddr| dump.memory.next_run(*at).map(|run| PhysAddr(run.start.0 + run.bytes));
    let mut starts: Vec<PhysAddr> = std::iter::successors(Some(PhysAddr(0)), next).collect();
    starts.retain(|at| dump.memory.next_run(*at).is_some_and(|run| run.state == RunState::Present));
    starts
        .into_iter()
        .filter_map(|at| dump.memory.next_run(at))
        .flat_map(|run| run.start.0.div_ceil(PAGE)..(run.start.0 + run.bytes) / PAGE)
}

fn page(dump: &Opened, pfn: u64) -> Option<Vec<u8>> {
    let mut bytes = vec![0; PAGE as usize];
    let (_, missing) = dump.memory.read(PhysAddr(pfn * PAGE), &mut bytes);
    missing.is_none().then_some(bytes)
}
