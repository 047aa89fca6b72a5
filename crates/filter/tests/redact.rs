//! What is redacted is in no page of the new dump, and reading says why.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests may fail as tests do")]

use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;

use kdive_base::{Cancel, PhysAddr, VirtualMemory, Why};
use kdive_dump::write::{Compression, Control, KdumpOptions, PlainSink, Plan, write_kdump};
use kdive_dump::{Hints, Input, InputFile, Opened, RunState, Veiled, open};
use kdive_filter::{Found, Redact, Selection};
use kdive_linux::mm::{MmLoader, strings};
use kdive_linux::tasks::Tasks;
use kdive_target::{Kernel, OpenOptions};

fn opened(bytes: Vec<u8>) -> Opened {
    open(Input::from(InputFile::new("f", Arc::new(bytes))), &Hints::default()).unwrap()
}

fn kernel(dump: &Opened) -> Arc<Kernel> {
    Kernel::open(dump.clone(), OpenOptions::default(), Arc::new(())).unwrap()
}

fn fixture(name: &str) -> Opened {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/dumps").join(name);
    opened(std::fs::read(path).unwrap())
}

/// A copy of a dump with some of it redacted.
fn redacted(dump: &Opened, what: &[&str]) -> (Found, Opened) {
    let cancel = Cancel::default();
    let control = Control::new(&cancel);
    let what: Vec<Redact> = what.iter().map(|what| what.parse().unwrap()).collect();
    let found = Found::find(&what, Some(&kernel(dump)), &*dump.memory, &cancel).unwrap();
    let mut notes = dump.notes.clone();
    found.redacted.add_to(&mut notes).unwrap();
    let veiled = Veiled::filled(dump.memory.clone(), &found.redacted);
    let everything = Selection::everything();
    let plan = Plan::new(&veiled, &everything, &control).unwrap();
    let options = KdumpOptions { compression: Compression::Snappy, ..KdumpOptions::default() };
    let mut bytes = Cursor::new(Vec::new());
    write_kdump(&plan, &notes, &options, &mut PlainSink::new(&mut bytes), &control).unwrap();
    (found, opened(bytes.into_inner()))
}

/// How many pages of a dump, as they are stored, hold these bytes.
fn pages_with(dump: &Opened, secret: &[u8]) -> usize {
    let files = dump.files.clone();
    let stored = open(Input { files }, &Hints { as_stored: true, ..Hints::default() }).unwrap();
    let (mut count, mut at) = (0, PhysAddr(0));
    while let Some(run) = stored.memory.next_run(at) {
        at = run.start.add(run.bytes);
        if run.state == RunState::Present {
            for pfn in run.start.pfn().0..at.pfn().0 {
                let mut page = vec![0; 4096];
                let (read, _) = stored.memory.read(PhysAddr(pfn * 4096), &mut page);
                count += usize::from(page[..read].windows(secret.len()).any(|window| window == secret));
            }
        }
    }
    count
}

#[test]
fn command_lines_and_environments_are_gone() {
    for name in ["6.1-rich.zstd", "6.12-rich.zstd", "7.2-rich.zstd"] {
        let dump = fixture(name);
        let before = kernel(&dump);
        let (found, after) = redacted(&dump, &["args"]);
        assert_eq!(after.facts.redacted[0].kind, "args");
        let after_kernel = kernel(&after);
        let mut told = 0;
        for task in
            Tasks::find(&before).all().iter().filter(|task| matches!(&task.mm, Ok(mm) if !mm.is_null()))
        {
            let loader = MmLoader::new(&before);
            let mm = loader.load(task.mm.clone().unwrap());
            let (start, end) = (mm.arg_start.clone().unwrap(), mm.arg_end.clone().unwrap());
            if loader
                .space(&mm)
                .and_then(|space| strings(&space, start, end))
                .is_ok_and(|found| !found.is_empty())
            {
                told += 1;
                let space = MmLoader::new(&after_kernel).space(&mm).unwrap();
                let (read, missing) = space.read(start, &mut [0; 1]);
                assert_eq!((read, missing.unwrap().why), (0, Why::Redacted), "{name}: task {}", task.at);
            }
        }
        assert!(told > 0 && !found.redacted.is_empty(), "{name}: {:?}", found.lacking);
    }
}

#[test]
fn packets_are_gone() {
    let mut told = 0;
    for name in ["6.1-rich.zstd", "6.12-rich.zstd", "7.2-rich.zstd"] {
        let dump = fixture(name);
        // A fixture holds what the commands read: not each has the caches of socket buffers.
        let Ok(buffers) = kdive_linux::net::skbuff::buffers(&kernel(&dump)) else { continue };
        told += buffers.linear.len();
        let (_, after) = redacted(&dump, &["net"]);
        let after = kernel(&after);
        for (at, _) in buffers.linear {
            let (read, missing) = after.space().read(at, &mut [0; 1]);
            assert_eq!(read, 0, "{name}: {at}");
            assert!(matches!(missing.unwrap().why, Why::Redacted | Why::Excluded), "{name}: {at}");
        }
    }
    assert!(told > 0, "no fixture has a packet");
}

#[test]
fn a_pattern_is_in_no_page_afterwards() {
    let dump = fixture("6.12-rich.zstd");
    let secret = b"PATH=/";
    assert!(pages_with(&dump, secret) > 0);
    let (_, after) = redacted(&dump, &["text:PATH=/"]);
    assert_eq!(pages_with(&after, secret), 0);
    let erased = String::from_utf8(after.notes.eraseinfo.clone().unwrap()).unwrap();
    assert!(erased.starts_with("erase pattern ") && !erased.contains("PATH"), "{erased}");
}

#[test]
fn keys_are_found_and_lists_of_keys_are_no_secrets() {
    let mut told = 0;
    for name in ["6.1-rich.zstd", "6.12-rich.zstd", "7.2-rich.zstd"] {
        let kernel = kernel(&fixture(name));
        // Keys and their tree may lie on pages that the fixture lacks.
        let (keys, _) = kdive_linux::keys::all(&kernel).unwrap();
        for key in keys {
            // Names of kinds lie in the kernel's data, of which a fixture lacks pages.
            if key.kind_name(&kernel).is_ok_and(|kind| kind == b"keyring") {
                told += 1;
                assert_eq!(key.secrets(&kernel).unwrap(), []);
            }
        }
    }
    assert!(told > 0, "no fixture has a keyring whose kind can be read");
}
