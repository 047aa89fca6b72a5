//! Lines to complaints: which line belongs to which, where several are printed at once, and what only repeats another.

use kdive_evidence::{Splat, SplatKind as Kind};

use super::lines::{Caller, Line};
use super::openings::{self, Phrase};
use super::splat::{Builder, Fed, reason};

/// Complaints that are kept in whole.
const MOST_SPLATS: usize = 512;
/// Complaints of one kind that are kept.
const MOST_OF_A_KIND: usize = 128;
/// Stacks of tasks that are kept.
const MOST_TASKS: usize = 4096;
/// Complaints that may be open at once.
const MOST_OPEN: usize = 64;
/// Lines behind an oops that repeat its registers.
const ECHO_LINES: u32 = 60;

/// Puts lines together.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    open: Vec<Open>,
    done: Vec<(u64, Builder)>,
    /// Complaints that were not kept, because there are too many.
    pub(super) dropped: u64,
    serial: u64,
    echo: u32,
    tasks: usize,
    /// The complaint that got the last line.
    last: u64,
    /// Lines behind `[ cut here ]`: what the warning or assertion says that is about to come.
    cut: Option<Vec<String>>,
    /// Kinds that were seen, to know what a panic is the consequence of.
    seen: Vec<Kind>,
}

#[derive(Debug)]
struct Open {
    serial: u64,
    caller: Option<Caller>,
    builder: Builder,
}

/// How a line that could begin a complaint stands to one that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Join {
    /// It is another line of it.
    Line,
    /// It tells the same, and adds facts.
    Same,
    /// It tells the same better.
    Better,
    /// It begins another complaint.
    New,
}

impl Assembler {
    /// Whether lines without any phrase may matter.
    pub(super) fn is_busy(&self) -> bool {
        !self.open.is_empty() || self.cut.is_some()
    }

    /// Takes a line.
    pub(super) fn line(&mut self, line: &Line<'_>, meanings: &[Phrase]) {
        self.echo = self.echo.saturating_sub(1);
        match openings::of(line.text(), meanings) {
            Some(splat) => self.opens(splat, line),
            None if self.cut.is_some() => self.behind_cut(line),
            None => self.feed(line),
        }
    }

    /// Keeps what stands between `[ cut here ]` and the line that says where.
    fn behind_cut(&mut self, line: &Line<'_>) {
        const MOST_BETWEEN: usize = 4;
        let lines = self.cut.get_or_insert_default();
        if lines.len() < MOST_BETWEEN {
            lines.push(line.text().to_owned());
        }
        if lines.len() >= MOST_BETWEEN || self.of(line).is_some() {
            self.cut = None;
            self.feed(line);
        }
    }

    /// Takes a row of a memory report, where such a report is what the line belongs to.
    pub(super) fn row(&mut self, line: &Line<'_>) -> bool {
        let at = self.of(line);
        let Some(open) =
            at.and_then(|at| self.open.get_mut(at)).filter(|open| open.builder.is_memory_report())
        else {
            return false;
        };
        self.echo = self.echo.saturating_sub(1);
        self.last = open.serial;
        open.builder.row()
    }

    fn opens(&mut self, mut splat: Splat, line: &Line<'_>) {
        let text = line.text();
        splat.time_ns = line.time_ns;
        let at = self.of(line);
        if is_cut_here(text) {
            if let Some(at) = at
                && self.open.get(at).is_some_and(|open| open.builder.has_body())
            {
                self.close(at);
            }
            self.cut = self.open.is_empty().then(Vec::new);
            return;
        }
        let cut = self.cut.take().unwrap_or_default();
        if let Some(at) = at
            && let Some(open) = self.open.get_mut(at)
        {
            match join(&open.builder, &splat) {
                Join::Line => return self.feed_to(at, line),
                Join::Same => return merge(&mut open.builder, splat),
                Join::Better => {
                    let first = std::mem::replace(&mut open.builder.splat.message, splat.message);
                    open.builder.splat.kind = splat.kind;
                    open.builder.detail(&first);
                    return;
                }
                Join::New => {
                    if self.lines_are_mixed(at, &splat, line) {
                        let said = "lines of another complaint are mixed in";
                        splat.damage = Some(said.to_owned());
                        if let Some(open) = self.open.get_mut(at) {
                            open.builder.splat.damage = Some(said.to_owned());
                        }
                    } else {
                        self.close(at);
                    }
                }
            }
        } else if is_weak(&splat) && self.echo > 0 {
            return;
        }
        self.begin(splat, line.caller);
        if let Some(open) = self.open.last_mut() {
            cut.iter().filter(|text| !text.is_empty()).for_each(|text| open.builder.detail(text));
        }
    }

    /// A second one with registers before the first has its trace: two processors print at once.
    fn lines_are_mixed(&self, at: usize, splat: &Splat, line: &Line<'_>) -> bool {
        let first = self.open.get(at);
        line.caller.is_none()
            && has_registers(splat.kind)
            && first.is_some_and(|open| {
                let other = &open.builder.splat;
                let elsewhere = other.cpu.is_none() || other.cpu != splat.cpu;
                has_registers(other.kind) && elsewhere && !open.builder.has_trace()
            })
    }

    fn begin(&mut self, splat: Splat, caller: Option<Caller>) {
        if self.open.len() >= MOST_OPEN {
            self.close(0);
        }
        let consequence = reason(&splat.message).is_some_and(|reason| self.follows(reason));
        let mut builder = Builder::new(splat);
        builder.discard = consequence;
        self.serial = self.serial.saturating_add(1);
        self.last = self.serial;
        self.open.push(Open { serial: self.serial, caller, builder });
    }

    /// Whether a panic for this reason is only the end of what was told before.
    fn follows(&self, reason: &str) -> bool {
        self.seen.iter().any(|&kind| is_reason(reason, kind))
    }

    /// The open complaint that a line belongs to: of the same caller, or without callers the one that lacks such a line. Of
    /// several that do it is the one that had the line before: processors take turns seldom.
    fn of(&self, line: &Line<'_>) -> Option<usize> {
        if line.caller.is_some() {
            return self.open.iter().position(|open| open.caller == line.caller);
        }
        let candidates = || self.open.iter().enumerate().filter(|(_, open)| open.caller.is_none());
        if candidates().count() < 2 {
            return candidates().next().map(|(at, _)| at);
        }
        if let Some((at, _)) = candidates().find(|(_, open)| open.builder.is_of_cpu(line.text())) {
            return Some(at);
        }
        let last = candidates().find(|(_, open)| open.serial == self.last).map(|(at, _)| at);
        let lacks = |at: &usize| self.open.get(*at).is_some_and(|open| open.builder.lacks(line.text()));
        last.filter(lacks)
            .or_else(|| candidates().map(|(at, _)| at).find(lacks))
            .or(last)
            .or_else(|| candidates().next_back().map(|(at, _)| at))
    }

    fn feed(&mut self, line: &Line<'_>) {
        if let Some(at) = self.of(line) {
            self.feed_to(at, line);
        }
    }

    fn feed_to(&mut self, at: usize, line: &Line<'_>) {
        let Some(open) = self.open.get_mut(at) else { return };
        self.last = open.serial;
        match open.builder.feed(line) {
            Fed::Taken | Fed::Foreign => {}
            Fed::End | Fed::Over => self.close(at),
        }
    }

    fn close(&mut self, at: usize) {
        if at >= self.open.len() {
            return;
        }
        let open = self.open.remove(at);
        let kind = open.builder.splat.kind;
        if is_exception(kind) || kind == Kind::Panic {
            self.echo = ECHO_LINES;
        }
        if !self.seen.contains(&kind) {
            self.seen.push(kind);
        }
        if open.builder.discard {
            return;
        }
        if is_task(&open.builder.splat) {
            if self.tasks < MOST_TASKS {
                self.tasks = self.tasks.saturating_add(1);
                self.done.push((open.serial, open.builder));
            }
            return;
        }
        let others = || self.done.iter().filter(|(_, builder)| !is_task(&builder.splat));
        let alike = others().filter(|(_, builder)| builder.splat.kind == kind).count();
        if others().count() >= MOST_SPLATS || alike >= MOST_OF_A_KIND {
            self.dropped = self.dropped.saturating_add(1);
            return;
        }
        self.done.push((open.serial, open.builder));
    }

    /// All complaints, in the order of their first lines.
    pub(super) fn finish(&mut self) -> Vec<Builder> {
        while !self.open.is_empty() {
            self.close(0);
        }
        self.done.sort_by_key(|(serial, _)| *serial);
        self.seen.clear();
        self.done.drain(..).map(|(_, builder)| builder).collect()
    }
}

fn merge(builder: &mut Builder, splat: Splat) {
    let known = &mut builder.splat;
    known.number = known.number.or(splat.number);
    known.error_code = known.error_code.or(splat.error_code);
    known.address = known.address.or(splat.address);
    known.source = known.source.take().or(splat.source);
    known.ip = known.ip.take().or(splat.ip);
    known.cpu = known.cpu.or(splat.cpu);
    known.pid = known.pid.or(splat.pid);
    known.comm = known.comm.take().or(splat.comm);
    if known.message != splat.message {
        builder.detail(&splat.message);
    }
}

fn is_cut_here(text: &str) -> bool {
    text.contains("cut here ]")
}

/// What begins a complaint only when its head was lost.
fn is_weak(splat: &Splat) -> bool {
    splat.kind == Kind::Other
        && ["Call Trace:", "RIP: ", "EIP is at "].iter().any(|mark| splat.message.starts_with(mark))
}

/// Kinds that the processor raised, each with an `Oops` line of its own.
fn is_exception(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::PageFault
            | Kind::GeneralProtection
            | Kind::InvalidOpcode
            | Kind::Bug
            | Kind::DivideError
            | Kind::DoubleFault
            | Kind::StackGuard
            | Kind::Exception
    )
}

/// Kinds that print the registers of a processor.
fn has_registers(kind: Kind) -> bool {
    is_exception(kind) || matches!(kind, Kind::SoftLockup | Kind::HardLockup | Kind::Warning)
}

/// A task of SysRq t or w.
pub(super) fn is_task(splat: &Splat) -> bool {
    splat.kind == Kind::Other && splat.message.starts_with("task:")
}

/// Kinds that a warning or a `BUG()` often only carries.
fn is_subject(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::ListCorruption
            | Kind::Refcount
            | Kind::NetdevWatchdog
            | Kind::Slab
            | Kind::Lockdep
            | Kind::SpinlockDebug
            | Kind::AtomicSchedule
    )
}

/// How `new` stands to what is open.
fn join(open: &Builder, new: &Splat) -> Join {
    let old = open.splat.kind;
    if is_weak(new) || new.message.contains("NMI backtrace for cpu") && !reason_of(open) {
        return Join::Line;
    }
    if let Some(reason) = reason(&new.message) {
        // A panic tells the end of a complaint that still waits for its trace.
        return if is_reason(reason, old) && !open.has_trace() { Join::Same } else { Join::New };
    }
    if is_task(new) {
        return if open.has_trace() || is_task(&open.splat) { Join::New } else { Join::Line };
    }
    if open.has_trace() {
        return match (old, new.kind) {
            (Kind::OutOfMemory, Kind::OutOfMemory) if !new.message.contains("invoked oom-killer") => {
                Join::Line
            }
            (Kind::RcuStall, Kind::RcuStall) if new.message.contains("kthread ") => Join::Line,
            _ => Join::New,
        };
    }
    let numbered = new.number.is_some() || new.message.starts_with("Oops");
    if is_exception(new.kind) && numbered && open.splat.number.is_none() && new.kind != Kind::Bug {
        return Join::Same;
    }
    if old == Kind::Sysrq {
        return Join::Same;
    }
    match new.kind {
        Kind::Bug | Kind::Warning if is_subject(old) || old == Kind::Other && !open.has_body() => Join::Same,
        Kind::Bug if old == Kind::Bug && open.splat.source.is_none() => Join::Same,
        kind if old == Kind::Warning && is_subject(kind) => Join::Better,
        kind if kind == old
            && matches!(
                kind,
                Kind::OutOfMemory
                    | Kind::RcuStall
                    | Kind::MachineCheck
                    | Kind::Lockdep
                    | Kind::StackGuard
                    | Kind::CsdLock
            ) =>
        {
            Join::Line
        }
        _ => Join::New,
    }
}

fn reason_of(open: &Builder) -> bool {
    reason(&open.splat.message).is_some()
}

/// Whether a panic for this reason is what such a complaint leads to.
fn is_reason(reason: &str, kind: Kind) -> bool {
    let has = |phrases: &[&str]| phrases.iter().any(|phrase| reason.contains(phrase));
    let fatal = has(&[
        "Fatal exception",
        "killing interrupt handler",
        "kill the idle task",
        "kill init",
        "panic_on_oops",
    ]);
    match kind {
        _ if is_exception(kind) => fatal || has(&["kernel stack overflow"]),
        Kind::HungTask => has(&["hung_task"]),
        Kind::SoftLockup => has(&["softlockup"]),
        Kind::HardLockup => has(&["LOCKUP", "atchdog"]),
        Kind::RcuStall => has(&["RCU Stall"]),
        Kind::MachineCheck => has(&["achine check"]) || fatal,
        Kind::Sysrq => has(&["sysrq"]),
        Kind::OutOfMemory => has(&["ut of memory", "eadlocked on memory"]),
        Kind::Nmi => has(&["NMI"]),
        Kind::Panic | Kind::StackProtector | Kind::StackEnd => false,
        _ => has(&["panic_on_warn", "Fatal exception"]),
    }
}
