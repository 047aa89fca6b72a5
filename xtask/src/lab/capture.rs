//! `lab capture`: the whole way of a dump, for real. A kernel dies, kexec boots the capture kernel, and in its initramfs the
//! static `kdive-capture` writes /proc/vmcore onto a disk, filtered. Then kdive, crash and drgn read what came out, and have
//! to say the same of it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;

use super::boot::Boot;
use super::check::{self, Session};
use super::descriptor::Descriptor;
use super::format::{self, Format};
use super::peers::Peers;
use super::place::{Kernel, Lab};
use super::{compare, scenario};
use crate::run;

#[derive(Args)]
pub(crate) struct CaptureArgs {
    /// Series (`6.12`) or releases; all that are prepared if none is named
    kernels: Vec<String>,
    /// The kdive-capture to put into the initramfs [default: built]
    #[arg(long)]
    program: Option<PathBuf>,
    /// The kdive that reads [default: target/release/kdive, built if it is not there]
    #[arg(long)]
    kdive: Option<PathBuf>,
    /// Judge the dumps that are there, boot nothing
    #[arg(long)]
    no_boot: bool,
}

/// How the kernel dies.
const SCENARIO: &str = "null";

pub(crate) fn main(lab: &Lab, args: &CaptureArgs) -> Result<()> {
    let kernels = match args.kernels.is_empty() {
        true => lab.kernels()?,
        false => args.kernels.iter().map(|name| lab.kernel(name)).collect::<Result<_>>()?,
    };
    if !args.no_boot {
        let program = args.program.clone().map_or_else(crate::capture::build, Ok)?;
        run::copy(&program, &format::capture_program(lab))?;
        for kernel in &kernels {
            boot(lab, kernel)?;
        }
    }
    let kdive = check::program(args.kdive.as_deref())?;
    let peers = Peers::find(lab);
    println!("{:<26} {:>10} {:>7} {:>7}  WHO READS IT", "DUMP", "BYTES", "SECONDS", "PEAK MB");
    let mut failed = 0;
    for kernel in &kernels {
        for dump in Descriptor::all(lab)?.into_iter().filter(|dump| dump.console == console(kernel)) {
            failed += judge(lab, &kdive, peers.as_ref(), &dump)?;
        }
    }
    if failed > 0 {
        bail!("{failed} differences");
    }
    Ok(())
}

fn name(kernel: &Kernel) -> String {
    format!("{}-captured", kernel.series)
}

fn console(kernel: &Kernel) -> String {
    format!("dumps/{}.console", name(kernel))
}

fn boot(lab: &Lab, kernel: &Kernel) -> Result<()> {
    let formats: Vec<&'static Format> = format::FORMATS.iter().filter(|format| format.is_ours()).collect();
    let mut boot = Boot::new(kernel.clone(), scenario::find(SCENARIO)?, formats);
    boot.name = name(kernel);
    boot.run(lab)
}

/// What somebody reads in a dump.
struct Reading {
    pids: BTreeSet<u64>,
    backtrace: Stack,
    log: Vec<String>,
}

/// The stack of the task that died.
enum Stack {
    /// As crash lays it out.
    Text(String),
    /// Only where it begins: drgn, which is not given the modules' debuginfo, does not come far.
    At(String),
}

/// Reads one dump with everybody; how many faults were found?
fn judge(lab: &Lab, kdive: &Path, peers: Option<&Peers>, dump: &Descriptor) -> Result<usize> {
    let (seconds, peak) = cost(lab, dump).unwrap_or_default();
    let bytes: u64 = dump.paths(lab).iter().filter_map(|path| Some(path.metadata().ok()?.len())).sum();
    let mut words = Vec::new();
    let mut faults = Vec::new();
    let mut verdict = |who: &str, found: compare::Faults| {
        words.push(format!("{who} {}", if found.is_empty() { "ok" } else { "FAILS" }));
        faults.extend(found.into_iter().map(|fault| format!("{who}: {fault}")));
    };
    verdict("kdive", check::faults(lab, kdive, dump));
    let session = Session { kdive, files: dump.paths(lab) };
    verdict("analyze", analyze(&session));
    let say = |command: &str| session.run(&[], command).map_err(|error| anyhow::anyhow!(error));
    let ours =
        Reading { pids: pids(&say("ps")?), backtrace: Stack::Text(say("bt")?), log: lines(&say("log")?) };
    if let Some(peers) = peers {
        for (who, reading) in [("crash", crash(lab, peers, dump)), ("drgn", drgn(lab, peers, dump))] {
            match reading {
                Ok(theirs) => verdict(who, ours.differences(&theirs, dump)),
                // crash 9.0.2 opens no 7.2, whatever the dump: what it says is told, and no fault of the dump.
                Err(error) if who == "crash" && dump.suite == super::guest::TOOLS_SUITE => {
                    let text = format!("{error:#}");
                    println!("  SKIPPED: crash: {}", text.lines().last().unwrap_or_default());
                }
                Err(error) => verdict(who, vec![format!("{error:#}")]),
            }
        }
    }
    let tasks = ours.pids.len();
    println!(
        "{:<26} {bytes:>10} {seconds:>7.1} {peak:>7.1}  {} ({tasks} tasks, {} lines of log)",
        dump.name,
        words.join(", "),
        ours.log.len()
    );
    faults.iter().for_each(|fault| println!("    {fault}"));
    Ok(faults.len())
}

/// What the verdict gets wrong about [`SCENARIO`].
fn analyze(session: &Session<'_>) -> compare::Faults {
    let text = match session.run(&["--silent"], "analyze --format json") {
        Ok(text) => text,
        Err(error) => return vec![error],
    };
    let report: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let of = |key: &str| report.pointer(&format!("/verdict/{key}")).and_then(|value| value.as_str());
    match (of("class"), of("function")) {
        (Some("null-dereference"), Some("write_through" | "crash_null")) => Vec::new(),
        other => vec![format!("the verdict is {other:?}")],
    }
}

impl Reading {
    fn differences(&self, theirs: &Self, dump: &Descriptor) -> compare::Faults {
        let mut faults = match &theirs.backtrace {
            Stack::Text(text) => compare::backtrace(&dump.frames, text),
            Stack::At(place) => match &self.backtrace {
                Stack::Text(text) if text.contains(place) => Vec::new(),
                _ => vec![format!("the backtrace begins at {place} there, which is not here")],
            },
        };
        let unlike: Vec<u64> = self.pids.symmetric_difference(&theirs.pids).copied().collect();
        if !unlike.is_empty() {
            faults.push(format!("{} tasks there, {} here: {unlike:?}", theirs.pids.len(), self.pids.len()));
        }
        if self.log != theirs.log {
            let first = self.log.iter().zip(&theirs.log).find(|(ours, theirs)| ours != theirs);
            let (ours, theirs) = (self.log.len(), theirs.log.len());
            faults
                .push(format!("{theirs} lines of log there, {ours} here; the first that differs: {first:?}"));
        }
        faults
    }
}

/// Text of log lines, without time and without the marks that the readers put before it.
fn lines(log: &str) -> Vec<String> {
    let text = |line: &str| match line.split_once("] ") {
        Some((_, text)) if line.trim_start().starts_with('[') => text.trim().to_owned(),
        _ => line.trim().to_owned(),
    };
    log.lines().map(text).filter(|line| !line.is_empty()).collect()
}

/// The processes of a listing in crash's layout, but for the idle tasks.
fn pids(ps: &str) -> BTreeSet<u64> {
    let first = |line: &str| line.trim_start_matches(['>', ' ']).split_whitespace().next()?.parse().ok();
    ps.lines().filter_map(first).filter(|pid| *pid != 0).collect()
}

const SCRATCH: &str = "tmp/captured";

fn crash(lab: &Lab, peers: &Peers, dump: &Descriptor) -> Result<Reading> {
    let scratch = lab.dir().join(SCRATCH);
    run::fresh_dir(&scratch)?;
    let script: String = ["ps", "bt", "log"]
        .map(|command| format!("{command} > {}/{command}\n", Peers::inside(SCRATCH)))
        .concat();
    std::fs::write(scratch.join("script"), script + "exit\n")?;
    let file = dump.files.first().context("a dump without files")?;
    run::output(&mut peers.crash(lab, &format!("{SCRATCH}/script"), &dump.vmlinux, file))?;
    let read = |name: &str| -> Result<String> {
        Ok(String::from_utf8_lossy(&std::fs::read(scratch.join(name))?).into_owned())
    };
    Ok(Reading { pids: pids(&read("ps")?), backtrace: Stack::Text(read("bt")?), log: lines(&read("log")?) })
}

const DRGN: &str = "\
from drgn.helpers.linux.pid import for_each_task
from drgn.helpers.linux.printk import get_dmesg
for task in for_each_task(prog): print('pid', task.pid.value_())
print('at', '%016x' % prog.crashed_thread().stack_trace()[0].pc)
for line in get_dmesg().decode(errors='replace').splitlines(): print('log', line)
";

fn drgn(lab: &Lab, peers: &Peers, dump: &Descriptor) -> Result<Reading> {
    let file = Peers::inside(dump.files.first().context("a dump without files")?);
    let vmlinux = Peers::inside(&dump.vmlinux);
    let args = ["-q", "--no-default-symbols", "-c", &file, "-s", &vmlinux, "-e", DRGN];
    let text = run::output(&mut peers.command(lab, "drgn", &args.map(String::from)))?;
    let of = |key: &str| {
        let lines = text.lines().filter_map(|line| line.split_once(' ')).filter(|(word, _)| *word == key);
        lines.map(|(_, rest)| format!("{rest}\n")).collect::<String>()
    };
    Ok(Reading {
        pids: pids(&of("pid")),
        backtrace: Stack::At(of("at").trim().to_owned()),
        log: lines(&of("log")),
    })
}

/// Seconds and MB that writing it took in the capture kernel, from what `time -v` wrote onto the console.
fn cost(lab: &Lab, dump: &Descriptor) -> Option<(f64, f64)> {
    let console = std::fs::read(lab.dir().join(&dump.console)).ok()?;
    let console = String::from_utf8_lossy(&console);
    let (_, after) = console.split_once(&format!("lab: {}: ", dump.format))?;
    let value =
        |key: &str| after.lines().find_map(|line| line.split_once(key)).map(|(_, value)| value.trim());
    // `0m 4.31s`
    let (minutes, seconds) = value("Elapsed (wall clock) time (h:mm:ss or m:ss):")?.split_once("m ")?;
    let seconds = minutes.parse::<f64>().ok()? * 60.0 + seconds.trim_end_matches('s').parse::<f64>().ok()?;
    let kib: f64 = value("Maximum resident set size (kbytes):")?.parse().ok()?;
    Some((seconds, kib * 1024.0 / 1e6))
}
