//! `sys`: the machine, its kernel, and how it died.

mod calls;

use std::fmt;

use jiff::Timestamp;
use kdive_linux::system::{
    Clock, DmiString, PanicMessage, Taint, Uts, config, dmi, load_average, mhz, panic_message, present_pages,
};
use kdive_linux::tasks::Tasks;
use kdive_target::os::CpuMask;
use serde::{Serialize, Serializer};

use crate::args::{Args, Opt, UsageError};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::render::{Elapsed, Known, UNKNOWN, date, size};
use crate::select;
use crate::set::Context;
use crate::sink::{Render, Sink, SinkExt};

/// Shows the machine.
pub static SYS: Command = Command {
    names: &["sys"],
    group: Group::System,
    summary: "the machine, its kernel, and how it died",
    operands: "[config | name | number]",
    options: &[
        Opt::flag(
            "-c",
            "the table of system calls; those whose name contains a text, or the one with a number",
        ),
        Opt::flag("-t", "the kernel's taint: the mask, and a letter for each bit"),
        Opt::flag("-i", "what the firmware says of the machine (DMI)"),
    ],
    help: include_str!("sys.md"),
    run: Run::Once(run),
};

fn run(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    let words: Vec<&str> = args.operands.iter().map(String::as_str).collect();
    if args.has("-c") && !args.has("-t") && !args.has("-i") {
        return calls::show(cx, &words, out);
    }
    match (words.as_slice(), args.has("-t"), args.has("-i")) {
        (["config"], false, false) => Ok(out.text(&config(&cx.kernel)?)?),
        ([], true, false) => Ok(out.row(&TaintRow(Taint::find(&cx.kernel)?), &())?),
        ([], false, true) => firmware(cx, out),
        ([], false, false) => {
            let system = System::find(cx);
            Ok(out.row(&system, &())?)
        }
        _ => Err(UsageError::new("sys", "one of -c, -t, -i and config, or nothing").into()),
    }
}

/// What a session shows when it starts: the machine, and the task that commands are about.
///
/// # Errors
/// Only when `out` has gone.
pub fn banner(cx: &mut Cx, out: &mut dyn Sink) -> Result<(), CommandError> {
    let system = System::find(cx);
    out.header(&system, &())?;
    if let Ok(task) = select::current(cx) {
        let context = Context::of(cx, &task);
        out.row(&context, &Context::WIDTH_OF_BANNER)?;
    }
    Ok(())
}

/// The machine as a record. What is not known is noted as a gap.
#[derive(Debug, Serialize)]
pub(crate) struct System {
    /// The vmlinux that was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    kernel: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    taint: Option<Taint>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dumpfile: Option<String>,
    /// Pages were left out by the dump level.
    partial: bool,
    /// The capture could not finish.
    incomplete: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpus: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offline_cpus: Option<u32>,
    /// Nanoseconds since 1970; a date in JSON, whose numbers are too short for it.
    #[serde(rename = "date", skip_serializing_if = "Option::is_none", serialize_with = "rfc3339")]
    date_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uptime_ns: Option<u64>,
    /// Hundredths.
    #[serde(skip_serializing_if = "Option::is_none")]
    load_average: Option<[u64; 3]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tasks: Option<u64>,
    #[serde(flatten)]
    uts: Uts,
    #[serde(skip_serializing_if = "Option::is_none")]
    mhz: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_bytes: Option<u64>,
    /// `null` where the log tells of no panic; absent where there is no log.
    #[serde(skip_serializing_if = "Option::is_none")]
    panic: Option<Option<PanicMessage>>,
}

impl System {
    pub(crate) fn find(cx: &mut Cx) -> Self {
        let kernel = cx.kernel.clone();
        let (uts, lacks) = Uts::find(&kernel);
        if let Some(lacks) = lacks {
            cx.lacks(&lacks, "name of the system", String::new);
        }
        let clock = cx.known(Clock::find(&kernel), "UPTIME", String::new);
        let date_ns = clock.map(|clock| clock.wall_ns).or_else(|| crash_time(cx));
        let (cpus, offline_cpus) = processors(cx);
        let tasks = Tasks::find(&kernel);
        for lacks in &tasks.incomplete {
            cx.lacks(lacks, "list of tasks", String::new);
        }
        let facts = kernel.facts();
        Self {
            kernel: kernel.options().debuginfo.vmlinux.as_ref().map(|vmlinux| vmlinux.name.clone()),
            taint: cx.known(Taint::find(&kernel), "taint", String::new),
            dumpfile: kernel.facts().files.first().cloned(),
            partial: facts.dump_level.is_some_and(|level| level > 0),
            incomplete: facts.incomplete,
            cpus,
            offline_cpus,
            date_ns,
            uptime_ns: clock.map(|clock| clock.uptime_ns()),
            load_average: cx.known(load_average(&kernel), "LOAD AVERAGE", String::new),
            tasks: Some(tasks.all().len() as u64).filter(|count| *count > 0),
            uts,
            mhz: cx.known(mhz(&kernel), "MACHINE: speed", String::new),
            memory_bytes: cx
                .known(present_pages(&kernel), "MEMORY", String::new)
                .map(|pages| pages.saturating_mul(kdive_base::PAGE_SIZE)),
            panic: cx.known(panic_message(&kernel), "PANIC", String::new),
        }
    }
}

fn rfc3339<S: Serializer>(ns: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
    ns.and_then(|ns| Timestamp::from_nanosecond(ns.into()).ok())
        .map(|time| time.to_string())
        .serialize(serializer)
}

/// When the dump was taken, as those say who took it.
fn crash_time(cx: &Cx) -> Option<u64> {
    let told = cx.kernel.vmcoreinfo().get("CRASHTIME").and_then(|seconds| seconds.trim().parse::<u64>().ok());
    let seconds = told.or(cx.kernel.facts().timestamp).filter(|seconds| *seconds > 0);
    seconds.map(|seconds| seconds.saturating_mul(1_000_000_000))
}

/// How many processors there are, and how many of them were offline.
pub(crate) fn processors(cx: &mut Cx) -> (Option<u32>, Option<u32>) {
    let kernel = cx.kernel.clone();
    let Some(cpus) = cx.known(kernel.cpus(), "CPUS", String::new) else { return (None, None) };
    let present = cpus.present.as_ref().unwrap_or(&cpus.possible);
    let online = cx.known(cpus.online.clone(), "CPUS: OFFLINE", String::new);
    let offline = |online: CpuMask| present.iter().filter(|cpu| !online.contains(*cpu)).count() as u32;
    (Some(present.count()), online.map(offline))
}

impl Render for System {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let kernel = self.kernel.as_deref().unwrap_or("(none: symbols and types are the dump's own)");
        let tainted =
            if self.taint.as_ref().is_some_and(|taint| taint.mask != 0) { "  [TAINTED]" } else { "" };
        writeln!(out, "      KERNEL: {kernel}{tainted}")?;
        let partial = if self.partial { "  [PARTIAL DUMP]" } else { "" };
        let incomplete = if self.incomplete { "  [INCOMPLETE]" } else { "" };
        writeln!(out, "    DUMPFILE: {}{partial}{incomplete}", self.dumpfile.as_deref().unwrap_or(UNKNOWN))?;
        write!(out, "        CPUS: {}", Known(self.cpus))?;
        match self.offline_cpus {
            None | Some(0) => writeln!(out)?,
            Some(offline) => writeln!(out, " [OFFLINE: {offline}]")?,
        }
        writeln!(out, "        DATE: {}", Known(self.date_ns.and_then(date)))?;
        let uptime = self.uptime_ns.map(|ns| Elapsed { seconds: ns / 1_000_000_000 });
        writeln!(out, "      UPTIME: {}", Known(uptime))?;
        let load = self
            .load_average
            .map(|load| load.map(|value| format!("{}.{:02}", value / 100, value % 100)).join(", "));
        writeln!(out, "LOAD AVERAGE: {}", Known(load))?;
        writeln!(out, "       TASKS: {}", Known(self.tasks))?;
        writeln!(out, "    NODENAME: {}", Known(self.uts.nodename.as_ref()))?;
        writeln!(out, "     RELEASE: {}", Known(self.uts.release.as_ref()))?;
        writeln!(out, "     VERSION: {}", Known(self.uts.version.as_ref()))?;
        writeln!(out, "     MACHINE: {}  ({} Mhz)", Known(self.uts.machine.as_ref()), Known(self.mhz))?;
        writeln!(out, "      MEMORY: {}", Known(self.memory_bytes.map(size)))?;
        match &self.panic {
            Some(None) => writeln!(out, "       PANIC: \"\""),
            Some(Some(PanicMessage { text, check_log: false })) => writeln!(out, "       PANIC: \"{text}\""),
            Some(Some(PanicMessage { text, check_log: true })) => {
                writeln!(out, "       PANIC: \"{text}\" (check log for details)")
            }
            None => writeln!(out, "       PANIC: {UNKNOWN}"),
        }
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct TaintRow(Taint);

impl Render for TaintRow {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let Self(taint) = self;
        writeln!(out, "TAINTED_MASK: {:x}  {}", taint.mask, taint.letters)
    }
}

fn firmware(cx: &mut Cx, out: &mut dyn Sink) -> Result<(), CommandError> {
    for string in dmi(&cx.kernel)? {
        match string {
            Ok(string) => out.row(&DmiRow(string), &())?,
            Err(lacks) => cx.lacks(&lacks, "string of the firmware", String::new),
        }
    }
    Ok(())
}

#[derive(Serialize)]
#[serde(transparent)]
struct DmiRow(DmiString);

impl Render for DmiRow {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "{:>25}: {}", self.0.name, self.0.text)
    }
}
