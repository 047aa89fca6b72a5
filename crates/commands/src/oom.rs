//! `oom`: whom the OOM killer would choose, and whom it took.

use std::fmt;

use kdive_base::{PAGE_SIZE, VirtAddr};
use kdive_linux::cgroup::Cgroups;
use kdive_linux::mm::PagesByKind;
use kdive_linux::oom_kill::{self, Candidate, Kill, Scope, Spared, Table};
use serde::Serialize;

use crate::args::{Args, Opt};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::operand;
use crate::render::{Known, in_unit, place};
use crate::sink::{Render, Sink, SinkExt};

/// Computes the OOM killer's table anew.
pub(crate) static OOM: Command = Command {
    names: &["oom"],
    group: Group::Memory,
    summary: "the OOM killer's table computed anew: badness, who would be killed, who was",
    operands: "",
    options: &[
        Opt::value(
            "-g",
            "path",
            "as if this control group were at its limit: only its processes, against its memory",
        ),
        Opt::value("-n", "count", "only the worst so many; 0 for all (default 20)"),
        Opt::flag("-k", "only the kills that are in the log"),
    ],
    help: include_str!("oom.md"),
    run: Run::Once(run),
};

/// Rows where none are asked for by number.
const USUAL: u64 = 20;

fn run(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let kills = cx.known(oom_kill::kills(&kernel), "the log", String::new).unwrap_or_default();
    if args.has("-k") {
        for kill in &kills {
            out.row(&KillRow(kill.clone()), &())?;
        }
        return match kills.is_empty() {
            true => Ok(out.trailer(&Message { message: "the log tells of no kill" }, &())?),
            false => Ok(()),
        };
    }
    let most = args.value("-n").map(|word| operand::count("oom", word)).transpose()?.unwrap_or(USUAL);
    let scope = match args.value("-g") {
        None => Scope::global(&kernel)?,
        Some(path) => {
            let groups = Cgroups::find(&kernel)?;
            let group = groups.with_memory(path).ok_or_else(|| CommandError::NotFound {
                what: format!("oom: no control group {path} with a memory controller"),
                hint: Some("`cgroup` lists them".into()),
            })?;
            Scope::of_group(&kernel, &groups, group)?
        }
    };
    let table = oom_kill::table(&kernel, &scope);
    show(cx, &table, &scope, most, out)?;
    for kill in &kills {
        out.row(&KillRow(kill.clone()), &())?;
    }
    Ok(())
}

fn show(
    cx: &mut Cx,
    table: &Table,
    scope: &Scope,
    most: u64,
    out: &mut dyn Sink,
) -> Result<(), CommandError> {
    let mut rows = Vec::new();
    for (index, candidate) in table.candidates.iter().enumerate() {
        cx.cancel.check()?;
        // Threads of the kernel are never asked.
        if candidate.badness == Ok(Err(Spared::KernelThread)) {
            continue;
        }
        rows.push(Row::new(cx, candidate, scope, table.chosen == Some(index)));
    }
    let chosen = rows.iter().find(|row| row.chosen);
    let waiting = table.waiting_for.and_then(|index| table.candidates.get(index));
    out.header(&Verdict::new(chosen, waiting, scope), &())?;
    // The worst first; those that are spared last.
    rows.sort_by_key(|row| (std::cmp::Reverse(row.chosen), std::cmp::Reverse(row.badness), row.pid));
    out.heading("    PID   UID     BADNESS  SCORE    ADJ        ANON       FILE      SHMEM       SWAP  PGTABLES  COMMAND\n")?;
    let most = if most == 0 { usize::MAX } else { usize::try_from(most).unwrap_or(usize::MAX) };
    for row in rows.iter().take(most) {
        out.row(row, &())?;
    }
    Ok(())
}

/// What the OOM killer would do.
#[derive(Debug, Serialize)]
struct Verdict {
    /// Pages that may be had, swap included.
    total_pages: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    chosen_pid: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    chosen_command: Option<String>,
    /// A victim that is not gone yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting_for_pid: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting_for_command: Option<String>,
}

impl Verdict {
    fn new(chosen: Option<&Row>, waiting: Option<&Candidate>, scope: &Scope) -> Self {
        Self {
            total_pages: scope.total_pages,
            chosen_pid: chosen.and_then(|row| row.pid),
            chosen_command: chosen.map(|row| row.command.clone()),
            waiting_for_pid: waiting.and_then(|of| of.task.pid.clone().ok()),
            waiting_for_command: waiting.map(|of| of.task.name().to_owned()),
        }
    }
}

impl Render for Verdict {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let total = in_unit(self.total_pages.saturating_mul(PAGE_SIZE));
        match (&self.waiting_for_command, &self.chosen_command) {
            (Some(victim), _) => writeln!(
                out,
                "the OOM killer waits for its victim {} ({victim}) to die, and would choose nobody",
                Known(self.waiting_for_pid)
            ),
            (None, Some(chosen)) => {
                writeln!(out, "next to be killed: {} ({chosen}); against {total}", Known(self.chosen_pid))
            }
            (None, None) => {
                writeln!(out, "nobody can be killed: the kernel would panic, or the allocation fail")
            }
        }
    }
}

/// A process.
#[derive(Debug, Serialize)]
struct Row {
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
    task: VirtAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    mm: Option<VirtAddr>,
    command: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    /// Pages, with the adjustment; none where it is spared.
    #[serde(skip_serializing_if = "Option::is_none")]
    badness: Option<i64>,
    /// As in `/proc/PID/oom_score`.
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<u64>,
    /// `/proc/PID/oom_score_adj`.
    #[serde(skip_serializing_if = "Option::is_none")]
    adjustment: Option<i16>,
    /// Why it cannot be chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    spared: Option<Spared>,
    #[serde(skip_serializing_if = "Option::is_none")]
    anonymous_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shmem_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    swap_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    page_table_bytes: Option<u64>,
    /// The one that would be killed.
    chosen: bool,
    /// Chosen before, and not gone yet.
    victim: bool,
}

impl Row {
    fn new(cx: &mut Cx, of: &Candidate, scope: &Scope, chosen: bool) -> Self {
        let badness = cx.known(of.badness.clone(), "BADNESS", || place(&of.task));
        let pages = of.pages.as_ref().ok();
        let bytes = |pages: i64| u64::try_from(pages).unwrap_or(0).saturating_mul(PAGE_SIZE);
        let kind = |of: fn(&PagesByKind) -> i64| pages.map(|pages| bytes(of(pages)));
        Self {
            pid: of.task.pid.clone().ok(),
            task: of.task.at,
            mm: of.mm,
            command: of.task.name().to_owned(),
            uid: of.uid.clone().ok(),
            badness: badness.and_then(Result::ok),
            score: badness.map(|badness| oom_kill::score(badness, scope.total_pages)),
            adjustment: cx.known(of.adjustment.clone(), "ADJ", || place(&of.task)),
            spared: badness.and_then(Result::err),
            anonymous_bytes: kind(|pages| pages.anonymous),
            file_bytes: kind(|pages| pages.file),
            shmem_bytes: kind(|pages| pages.shmem),
            swap_bytes: kind(|pages| pages.swap),
            page_table_bytes: of.page_table_bytes.clone().ok(),
            chosen,
            victim: of.is_victim,
        }
    }
}

const fn why(spared: Spared) -> &'static str {
    match spared {
        Spared::Init => "never: process 1",
        Spared::KernelThread => "never: a thread of the kernel",
        Spared::NoMemory => "no: it has no memory",
        Spared::Adjusted => "never: oom_score_adj is -1000",
        Spared::Reaped => "no: its memory was reaped",
        Spared::Vfork => "no: the memory is its parent's (vfork)",
    }
}

impl Render for Row {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let mark = if self.chosen { '>' } else { ' ' };
        let badness = match self.spared {
            Some(_) => "-".to_owned(),
            None => Known(self.badness).to_string(),
        };
        write!(out, "{mark}{:>6}{:>6}{badness:>12}", Known(self.pid), Known(self.uid))?;
        write!(out, "{:>7}{:>7} ", Known(self.score), Known(self.adjustment))?;
        let sizes = [self.anonymous_bytes, self.file_bytes, self.shmem_bytes, self.swap_bytes];
        for bytes in sizes {
            write!(out, "{:>11}", bytes.map_or_else(String::new, in_unit))?;
        }
        write!(out, "{:>10}", self.page_table_bytes.map_or_else(String::new, in_unit))?;
        write!(out, "  {}", self.command)?;
        match (self.victim, self.spared) {
            (true, _) => writeln!(out, "  (a victim, not gone yet)"),
            (false, Some(spared)) => writeln!(out, "  ({})", why(spared)),
            (false, None) => writeln!(out),
        }
    }
}

/// A kill in the log.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct KillRow(Kill);

impl Render for KillRow {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let Kill { time_ns, pid, name, of_group, group } = &self.0;
        let time = time_ns.map(|ns| format!("[{:>5}.{:06}] ", ns / 1_000_000_000, ns / 1000 % 1_000_000));
        let of = match (of_group, group) {
            (true, Some(group)) => format!("its control group {group} was at its limit"),
            (true, None) => "its control group was at its limit".to_owned(),
            (false, _) => "the system was out of memory".to_owned(),
        };
        writeln!(out, "{}killed {pid} ({name}): {of}", time.unwrap_or_default())
    }
}

#[derive(Debug, Serialize)]
struct Message {
    message: &'static str,
}

impl Render for Message {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "{}", self.message)
    }
}
