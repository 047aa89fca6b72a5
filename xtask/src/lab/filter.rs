//! `cargo xtask lab filter`: which pages kdive and makedumpfile keep of the same dump at each level, page by page; and,
//! where makedumpfile does not know the kernel, kdive's counts against the guest's own.

use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::Args;
use kdive_base::{Cancel, PAGE_SIZE, Pfn, PhysAddr, Why};
use kdive_dump::write::{Compression, Control, FrameSet, PlainSink, Plan};
use kdive_dump::{Hints, Input, Opened, PhysicalMemory, RunState};
use kdive_filter::{Classes, DumpLevel, Format, Header, Output, Selection, Usage};
use kdive_target::{Kernel, OpenOptions};

use super::descriptor::Descriptor;
use super::peers::Peers;
use super::place::Lab;
use super::truth::Truth;
use crate::run;

#[derive(Args)]
pub(crate) struct FilterArgs {
    /// Dumps by name; all copies of /proc/vmcore if none is named
    dumps: Vec<String>,
    /// Dump levels, as in 0-31 or 17
    #[arg(long, default_value = "0-31", value_parser = level_range)]
    levels: Range<u8>,
    /// Compare counts with what the guest wrote down, instead of pages with makedumpfile
    #[arg(long)]
    counts: bool,
}

fn level_range(text: &str) -> Result<Range<u8>, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| text.parse().ok().filter(|level| *level < 32).ok_or("levels are 0 to 31");
    Ok(number(first)?..number(last)? + 1)
}

/// A dump and the kernel in it.
struct Subject {
    dump: Descriptor,
    opened: Opened,
    kernel: Arc<Kernel>,
    classes: Arc<Classes>,
}

pub(crate) fn main(lab: &Lab, args: &FilterArgs) -> Result<()> {
    let named = |dump: &Descriptor| match args.dumps.is_empty() {
        true => dump.format == "vmcore",
        false => args.dumps.contains(&dump.name),
    };
    let dumps: Vec<Descriptor> = Descriptor::all(lab)?.into_iter().filter(named).collect();
    if dumps.is_empty() {
        bail!("there is no such dump: see `cargo xtask lab list`");
    }
    let mut faults = 0;
    for dump in dumps {
        let subject = open(lab, dump)?;
        faults += if args.counts { counts(lab, &subject)? } else { levels(lab, &subject, &args.levels)? };
    }
    if faults > 0 {
        bail!("{faults} differences");
    }
    Ok(())
}

fn open(lab: &Lab, dump: Descriptor) -> Result<Subject> {
    let opened = open_files(&dump.paths(lab))?;
    let kernel = Kernel::open(opened.clone(), OpenOptions::default(), Arc::new(()))?;
    let classes = Classes::find(&kernel).map_err(|lacks| anyhow::anyhow!("{}: {lacks}", dump.name))?;
    Ok(Subject { dump, opened, kernel, classes: Arc::new(classes) })
}

fn open_files(paths: &[std::path::PathBuf]) -> Result<Opened> {
    let inputs = kdive_fetch::sort(paths, None)?;
    Ok(kdive_dump::open(Input { files: inputs.dump }, &Hints::default())?)
}

/// Where both programs write.
const SCRATCH: &str = "filter";

fn levels(lab: &Lab, subject: &Subject, levels: &Range<u8>) -> Result<u64> {
    let peers = Peers::find(lab).context("makedumpfile is in the lab's unstable suite: `lab prepare`")?;
    let scratch = lab.scratch(SCRATCH)?;
    let mut differ = 0;
    for level in levels.clone().filter_map(DumpLevel::new) {
        let (ours, theirs) = (scratch.join("kdive"), scratch.join("makedumpfile"));
        for file in [&ours, &theirs] {
            // From the level before.
            let _ = std::fs::remove_file(file);
        }
        write(subject, level, &ours)?;
        let source = Peers::inside(subject.dump.files.first().context("a dump without files")?);
        let number = level.number().to_string();
        let out = Peers::inside(&format!("tmp/{SCRATCH}/makedumpfile"));
        let words = ["-p", "-d", &number, "--message-level", "4", &source, &out].map(String::from);
        run::output(&mut peers.command(lab, "makedumpfile", &words))?;
        let (kdive, makedumpfile) = (open_files(&[ours])?, open_files(&[theirs])?);
        let found = differences(&*kdive.memory, &*makedumpfile.memory);
        let pages: u64 = found.iter().map(|(run, ..)| run.end - run.start).sum();
        let kept = kdive.memory.totals(&Cancel::default())?.present / PAGE_SIZE;
        println!("{} -d {level}: {kept} pages kept, {pages} differ", subject.dump.name);
        for (run, kdive, makedumpfile) in found.iter().take(8) {
            let class = class_of(&subject.classes, run.start);
            println!(
                "  pfn {:x}-{:x}: kdive {kdive}, makedumpfile {makedumpfile}; {class}",
                run.start,
                run.end - 1
            );
        }
        differ += pages;
    }
    run::fresh_dir(&scratch)?;
    Ok(differ)
}

fn write(subject: &Subject, level: DumpLevel, path: &Path) -> Result<()> {
    let cancel = Cancel::default();
    let control = Control::new(&cancel);
    let selection = Selection::of_level(level, Some(subject.classes.clone()));
    let plan = Plan::new(&*subject.opened.memory, &selection, &control)?;
    let notes = &subject.opened.notes;
    let header = Header::of_dump(&subject.opened.facts, notes).with_kernel(&subject.kernel).with_level(level);
    let output = Output { format: Format::Kdump(Compression::Snappy), header };
    output.write(&plan, notes, None, &mut PlainSink::new(File::create(path)?), &control)?;
    Ok(())
}

/// Ranges of frames of which the two dumps do not say the same, with what each says.
fn differences(
    one: &dyn PhysicalMemory,
    other: &dyn PhysicalMemory,
) -> Vec<(Range<u64>, &'static str, &'static str)> {
    let state = |memory: &dyn PhysicalMemory, at| match memory.next_run(PhysAddr(at)) {
        Some(run) => (run.bytes, Some(word(run.state))),
        None => (u64::MAX, None),
    };
    let mut found = Vec::new();
    let mut at = 0;
    loop {
        let ((bytes, first), (more, second)) = (state(one, at), state(other, at));
        if first.is_none() && second.is_none() {
            return found;
        }
        let (first, second) = (first.unwrap_or(NO_RAM), second.unwrap_or(NO_RAM));
        let end = at.saturating_add(bytes.min(more));
        if first != second {
            found.push((at / PAGE_SIZE..end.div_ceil(PAGE_SIZE), first, second));
        }
        at = end;
    }
}

const NO_RAM: &str = "has no RAM";

fn word(state: RunState) -> &'static str {
    match state {
        RunState::Present => "keeps",
        RunState::Missing(Why::NeverPresent) => NO_RAM,
        RunState::Missing(_) => "drops",
    }
}

/// What kdive takes a frame for.
fn class_of(classes: &Classes, pfn: u64) -> String {
    let gib = FrameSet::empty(pfn / FrameSet::FRAMES).range();
    let mut class = None;
    classes.each(&Range { start: gib.start, end: Pfn(gib.end.0) }, |run, found| {
        if run.contains(&pfn) {
            class = Some(found);
        }
    });
    class.map_or_else(|| "no class".to_owned(), |class| format!("class {class:?}"))
}

/// The guest wrote its counts down a moment before it was broken: they move a little.
const SLACK_PAGES: u64 = 2048;

fn counts(lab: &Lab, subject: &Subject) -> Result<u64> {
    let cancel = Cancel::default();
    let usage = Usage::count(&*subject.opened.memory, &subject.classes, false, &Control::new(&cancel))?;
    let truth = Truth::load(&lab.dir().join(&subject.dump.truth))?;
    // `MemFree:         338988 kB`
    let kib = |key: &str| {
        let mut fields = truth.lines("meminfo").iter().filter_map(|line| line.split_once(':'));
        let (_, value) = fields.find(|(name, _)| *name == key)?;
        value.split_whitespace().next()?.parse::<u64>().ok()
    };
    let said = |keys: &[&str]| keys.iter().filter_map(|key| kib(key)).sum::<u64>() * 1024 / PAGE_SIZE;
    let counted = |kinds: &[&str]| -> u64 {
        usage.rows.iter().filter(|row| kinds.contains(&row.kind)).map(|row| row.pages).sum()
    };
    let mut wrong = 0;
    for (what, kinds, keys) in [
        ("free", &["free"][..], &["MemFree"][..]),
        ("cache", &["cache", "cache-private"], &["Cached", "Buffers"]),
        // `AnonPages` counts what is mapped; the swap cache holds anonymous pages that no process maps.
        ("user", &["user"], &["AnonPages", "SwapCached", "Hugetlb"]),
    ] {
        let (ours, theirs) = (counted(kinds), said(keys));
        let fits = ours.abs_diff(theirs) <= SLACK_PAGES;
        let verdict = if fits { "agrees" } else { "DIFFERS" };
        println!("{} {what}: kdive {ours}, the guest {theirs} pages: {verdict}", subject.dump.name);
        wrong += u64::from(!fits);
    }
    Ok(wrong)
}
