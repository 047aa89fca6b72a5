//! Rules, and the order of pages, over a real dump.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests may fail as tests do"
)]

use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;

use kdive_base::{Cancel, PhysAddr, VirtAddr, VirtualMemory};
use kdive_dump::write::{Compression, Control, Frames, PlainSink, Plan};
use kdive_dump::{Hints, Input, InputFile, Opened, Touched};
use kdive_filter::{Classes, DumpLevel, Format, Header, Output, Rule, Ruled, Rules, Selection, image};
use kdive_linux::mm::MmLoader;
use kdive_linux::tasks::Tasks;
use kdive_linux::vma;
use kdive_target::{Kernel, OpenOptions};

const FIXTURE: &str = "6.12-rich.zstd";

fn open(bytes: Vec<u8>) -> Opened {
    let file = InputFile::new("test", Arc::new(bytes));
    kdive_dump::open(Input { files: vec![file] }, &Hints::default()).unwrap()
}

fn fixture() -> Opened {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/dumps").join(FIXTURE);
    open(std::fs::read(path).unwrap())
}

fn kernel(opened: &Opened) -> Arc<Kernel> {
    Kernel::open(opened.clone(), OpenOptions::default(), Arc::new(())).unwrap()
}

/// A dump of a dump, what rules changed, and what they found.
fn filter(
    source: &Opened,
    level: u8,
    keep: &[&str],
    drop: &[&str],
    first: Vec<Frames>,
) -> (Vec<u8>, Ruled, Arc<Rules>) {
    let (kernel, cancel) = (kernel(source), Cancel::default());
    let parse = |text: &[&str]| -> Vec<Rule> { text.iter().map(|rule| rule.parse().unwrap()).collect() };
    let rules = Arc::new(Rules::find(&kernel, &parse(keep), &parse(drop)));
    let classes = Arc::new(Classes::find(&kernel).unwrap());
    let level = DumpLevel::new(level).unwrap();
    let selection = Selection::of_level(level, Some(classes)).with_rules(rules.clone());
    let control = Control::new(&cancel);
    let plan = Plan::new(&*source.memory, &selection, &control).unwrap().first(first);
    let header = Header::of_dump(&source.facts, &source.notes);
    let output = Output { format: Format::Kdump(Compression::Zstd(1)), header };
    let mut bytes = Vec::new();
    output.write(&plan, &source.notes, None, &mut PlainSink::new(Cursor::new(&mut bytes)), &control).unwrap();
    (bytes, selection.ruled(), rules)
}

/// The user pages of a process that a dump has.
fn user_pages(kernel: &Arc<Kernel>, pid: i32) -> Vec<(VirtAddr, Vec<u8>)> {
    let tasks = Tasks::find(kernel);
    let Some(mm) = tasks.with_pid(pid).find_map(|task| task.mm.clone().ok()) else { return Vec::new() };
    let loader = MmLoader::new(kernel);
    let Ok(space) = loader.space(&loader.load(mm)) else { return Vec::new() };
    let areas = vma::all(kernel, mm).map(|(areas, _)| areas).unwrap_or_default();
    let mut pages = Vec::new();
    for area in areas {
        let (Ok(start), Ok(end)) = (area.start, area.end) else { continue };
        for address in (start.0..end.0).step_by(4096).take(4096).map(VirtAddr) {
            let mut page = vec![0; 4096];
            if space.read(address, &mut page) == (4096, None) {
                pages.push((address, page));
            }
        }
    }
    pages
}

#[test]
fn a_kept_process_reads_as_in_the_whole_dump() {
    let source = fixture();
    let whole = kernel(&source);
    let tasks = Tasks::find(&whole);
    let leaders = tasks.all().iter().filter(|task| task.is_group_leader() == Some(true));
    let processes = leaders.filter(|task| task.mm.as_ref().is_ok_and(|mm| !mm.is_null()));
    let named = processes.filter_map(|task| Some((*task.pid.as_ref().ok()?, task.name().to_owned())));
    let read = named.map(|(pid, name)| (user_pages(&whole, pid), pid, name));
    let (expected, pid, name) = read.max_by_key(|(pages, ..)| pages.len()).unwrap();
    assert!(!expected.is_empty(), "the fixture has pages of a process");
    let rule = format!("task:{pid}");
    let (bytes, ruled, rules) = filter(&source, 31, &[&rule], &[], Vec::new());
    assert_eq!(rules.found()[0].names, [format!("{name} ({pid})")]);
    assert!(user_pages(&kernel(&open(bytes)), pid) == expected, "{} of {name} ({pid})", expected.len());
    let (bytes, none, _) = filter(&source, 31, &[], &[], Vec::new());
    let without = user_pages(&kernel(&open(bytes)), pid);
    println!("{name} ({pid}): {} pages, {} without a rule, {ruled:?}", expected.len(), without.len());
    assert_eq!((without.len() < expected.len(), none), (ruled.kept > 0, Ruled::default()));
    // Its areas and page tables are the kernel's: they stay, and nothing else is lost than what is counted.
    let (bytes, ruled, _) = filter(&source, 0, &[], &[&rule], Vec::new());
    let left = user_pages(&kernel(&open(bytes)), pid);
    assert_eq!(ruled.kept, 0);
    assert!(left.len() as u64 + ruled.dropped >= expected.len() as u64, "{} left, {ruled:?}", left.len());
}

#[test]
fn a_cache_is_left_out_unless_another_rule_keeps_it() {
    let source = fixture();
    let (_, ruled, rules) = filter(&source, 0, &[], &["cache:dentry"], Vec::new());
    assert_eq!(rules.found()[0].names, ["dentry"]);
    assert!(ruled.dropped > 0 && ruled.kept == 0, "{ruled:?}");
    let (_, both, _) = filter(&source, 0, &["cache:dent*"], &["cache:dentry"], Vec::new());
    assert_eq!(both, Ruled::default());
}

#[test]
fn a_module_is_left_out_and_the_kernel_is_not() {
    let source = fixture();
    let whole = kernel(&source);
    let mut word = [0; 8];
    let mut parts =
        whole.modules().iter().flat_map(|module| module.memory.iter().map(move |part| (module, part)));
    let found = parts.find(|(_, part)| part.text && whole.memory().read(part.start, &mut word).0 == 8);
    let (module, text) = found.unwrap();
    let (bytes, ruled, _) = filter(&source, 0, &[], &[&format!("module:{}", module.name)], Vec::new());
    assert!(ruled.dropped > 0, "{ruled:?}");
    let without = kernel(&open(bytes));
    assert_eq!(without.memory().read(text.start, &mut word).0, 0);
    assert_eq!(without.memory().read(without.symbol("linux_banner").unwrap(), &mut word).0, 8);
}

#[test]
fn the_groups_of_a_path_are_found_with_those_below() {
    let source = fixture();
    let (_, ruled, rules) = filter(&source, 0, &[], &["cgroup:/"], Vec::new());
    println!("{}: {ruled:?}", rules.found()[0]);
    assert_eq!(rules.found()[0].names, ["/"]);
    assert_eq!(ruled.kept, 0);
    let (_, both, _) = filter(&source, 0, &["cgroup:*"], &["cgroup:/"], Vec::new());
    assert_eq!(both, Ruled::default());
}

#[test]
fn a_rule_that_finds_nothing_says_so() {
    let source = fixture();
    let none = ["task:nobody", "cgroup:/none", "module:none", "cache:none", "task:2"];
    let (_, ruled, rules) = filter(&source, 31, &none, &[], Vec::new());
    for found in rules.found() {
        assert_eq!((found.names.len(), found.lacks.len()), (0, 1), "{found}");
        assert!(found.to_string().contains("keeps nothing; "), "{found}");
    }
    assert_eq!(ruled, Ruled::default());
}

/// The log of the first quarter of a file, if it opens.
fn log_of_a_quarter(bytes: &[u8]) -> Option<Vec<String>> {
    let file = InputFile::new("cut", Arc::new(bytes[..bytes.len() / 4].to_vec()));
    let opened = kdive_dump::open(Input { files: vec![file] }, &Hints::default()).ok()?;
    let kernel = Kernel::open(opened, OpenOptions::default(), Arc::new(())).ok()?;
    log(&kernel)
}

fn log(kernel: &Kernel) -> Option<Vec<String>> {
    let records = kdive_linux::log::records(kernel).ok()?;
    Some(records.filter_map(Result::ok).map(|record| format!("{record:?}")).collect())
}

#[test]
fn what_was_read_before_is_first_in_the_file() {
    let source = fixture();
    let touched = Arc::new(Touched::new(source.memory.clone()));
    let watched = kernel(&Opened { memory: touched.clone(), ..source.clone() });
    let expected = log(&watched).unwrap();
    assert!(expected.len() > 100, "{} records", expected.len());
    touched.stop();
    let tiers = vec![touched.frames(), image(&watched)];
    let early = tiers[0].count();
    let (bytes, ..) = filter(&source, 31, &[], &[], tiers);
    let (plain, ..) = filter(&source, 31, &[], &[], Vec::new());
    assert_eq!(bytes.len(), plain.len(), "the same pages in another order");
    let (ordered, unordered) = (open(bytes.clone()), open(plain.clone()));
    let mut at = PhysAddr(0);
    while let Some(run) = ordered.memory.next_run(at) {
        assert_eq!(unordered.memory.next_run(at), Some(run));
        for page in (0..run.bytes).step_by(4096).map(|skip| run.start.add(skip)) {
            let (mut one, mut other) = ([0; 4096], [0; 4096]);
            let (left, right) =
                (ordered.memory.read(page, &mut one), unordered.memory.read(page, &mut other));
            assert!(left.0 == right.0 && one == other, "{page:?}");
        }
        at = PhysAddr(run.start.0 + run.bytes);
    }
    assert_eq!(log_of_a_quarter(&bytes).as_ref(), Some(&expected), "{early} pages come first");
    assert_ne!(log_of_a_quarter(&plain).as_ref(), Some(&expected));
}
