//! Puts a case together: boots of one log, complaints, and what a pasted session adds to them.

use kdive_base::VirtAddr;
use kdive_evidence::{Place, Splat, SplatKind as Kind, TraceFrame};

use super::events::Events;
use super::interleave::{Assembler, is_task};
use super::lines::Line;
use super::memory::MemoryReports;
use super::openings::{self, Phrase};
use super::session::{Backtrace, Session};
use super::splat::{Builder, access};
use super::{system, trigger};
use crate::case::{Case, CaseGap, Crashed, StrayText, System, TaskStack, Trigger, TriggerKind};

/// All boots that a log tells of.
#[derive(Debug, Default)]
pub(super) struct Boots {
    now: Boot,
    /// The last boot that ended badly.
    bad: Option<Boot>,
    count: u32,
    session: Session,
}

/// One boot.
#[derive(Debug, Default)]
struct Boot {
    assembler: Assembler,
    splats: Vec<Builder>,
    events: Events,
    system: System,
    trigger: Option<Trigger>,
    memory: MemoryReports,
    lines: u64,
}

impl Boots {
    /// Whether lines without any phrase may matter.
    pub(super) fn is_busy(&self) -> bool {
        self.session.active || self.now.assembler.is_busy()
    }

    /// Takes a line.
    pub(super) fn line(&mut self, line: &Line<'_>) {
        let text = line.text();
        if text.is_empty() {
            if self.now.assembler.is_busy() {
                self.now.assembler.line(line, &[]);
            }
            return;
        }
        if self.session.active && self.session.line(line) {
            return;
        }
        let meanings = openings::meanings(text);
        let begins = || meanings.iter().any(|meaning| matches!(meaning, Phrase::Session));
        if !self.session.active && begins() && self.session.line(line) {
            return;
        }
        if system::is_boot(text) && !self.session.active {
            self.next_boot();
        }
        self.now.line(line, &meanings);
    }

    fn next_boot(&mut self) {
        self.count = self.count.saturating_add(1);
        if self.now.lines == 0 {
            return;
        }
        let mut old = std::mem::take(&mut self.now);
        old.end();
        old.cut_off();
        if !old.splats.is_empty() || self.bad.is_none() {
            self.bad = Some(old);
        }
    }

    /// The case.
    pub(super) fn finish(mut self) -> Case<'static> {
        self.now.end();
        let mut case = Case::default();
        let boot = match self.bad {
            Some(bad) if self.now.splats.is_empty() && !bad.splats.is_empty() => bad,
            _ => self.now,
        };
        if self.count > 1 {
            case.gaps.push(CaseGap {
                what: format!("{} further boots of this log", self.count.saturating_sub(1)),
                why: "a report is about one: the last that complained".to_owned(),
                next_time: None,
            });
        }
        let dropped = boot.assembler.dropped;
        if dropped > 0 {
            case.gaps.push(CaseGap {
                what: format!("{dropped} further complaints of the kernel"),
                why: "there are too many of their kind; the first are kept".to_owned(),
                next_time: None,
            });
        }
        boot.into_case(&mut case);
        self.session.finish(&mut case);
        with_session(&mut case, self.session);
        describe(&mut case);
        case
    }
}

impl Boot {
    fn line(&mut self, line: &Line<'_>, meanings: &[Phrase]) {
        self.lines = self.lines.saturating_add(1);
        let text = line.text();
        let opens = openings::may_open(meanings);
        if opens || meanings.iter().any(|meaning| matches!(meaning, Phrase::Other)) {
            system::line(text, &mut self.system);
            if let Some(found) = trigger::of(text) {
                self.ended(found);
            }
        }
        let event = meanings.iter().find_map(|meaning| match meaning {
            Phrase::Event(index) => Some(*index),
            _ => None,
        });
        if let Some(index) = event {
            self.events.note(index, line);
        }
        let is_row = (opens || self.assembler.is_busy()) && self.memory.line(text, opens);
        // Tables of a report are most of a log that is full of them: their rows need no other reader.
        if !(is_row && meanings.is_empty() && self.assembler.row(line)) {
            self.assembler.line(line, meanings);
        }
    }

    /// A panic on an operator's request is still that request.
    fn ended(&mut self, found: Trigger) {
        let kept = self.trigger.as_ref().is_some_and(|known| known.kind == TriggerKind::Sysrq);
        if !kept && (self.trigger.is_none() || found.kind != TriggerKind::Panic) {
            self.trigger = Some(found);
        }
    }

    fn end(&mut self) {
        self.splats = self.assembler.finish();
    }

    /// Another boot follows. Behind an oops without a panic a crash kernel was started: the oops was the end.
    fn cut_off(&mut self) {
        let last = self.splats.last().map(|builder| &builder.splat);
        if let Some(oops) = last.filter(|splat| splat.number.is_some() && self.trigger.is_none()) {
            let text = format!("{}: the next boot follows", oops.message);
            self.trigger = Some(Trigger { kind: TriggerKind::PanicOnOops, text });
        }
    }

    fn into_case(self, case: &mut Case<'static>) {
        case.system = self.system;
        case.events = self.events.finish();
        case.trigger = self.trigger;
        case.memory = self.memory.facts;
        for mut builder in self.splats {
            let splat = builder.finish();
            if is_task(&splat) {
                case.stacks.push(stack(splat));
                continue;
            }
            if case.modules.is_empty() && !builder.modules.is_empty() {
                case.modules = std::mem::take(&mut builder.modules);
                case.unloaded = std::mem::take(&mut builder.unloaded);
            }
            stray_text(&splat, &builder.stack_words, &mut case.stray_text);
            if case.crashed.is_none() && is_death(splat.kind) {
                case.crashed = Some(crashed(&splat, builder.context.task));
            }
            case.splats.push(splat);
        }
    }
}

/// A task of SysRq t or w as what it is.
fn stack(splat: Splat) -> TaskStack {
    let state = splat.message.split_once(" state:").and_then(|(_, state)| state.chars().next());
    TaskStack { pid: splat.pid, comm: splat.comm, task: None, cpu: splat.cpu, state, frames: splat.frames }
}

/// Kinds whose task is the one that died.
fn is_death(kind: Kind) -> bool {
    !matches!(
        kind,
        Kind::HungTask
            | Kind::Warning
            | Kind::AllocationFailure
            | Kind::RcuStall
            | Kind::WorkqueueLockup
            | Kind::Lockdep
            | Kind::Other
    )
}

fn crashed(splat: &Splat, task: Option<VirtAddr>) -> Crashed {
    let mut frames = splat.frames.clone();
    if let Some(place) = splat.ip.clone() {
        frames.insert(0, frame(place));
    }
    Crashed {
        pid: splat.pid,
        comm: splat.comm.clone(),
        task,
        cpu: splat.cpu,
        frames,
        registers: Some(splat.registers.clone()).filter(|registers| registers.known().next().is_some()),
    }
}

fn frame(place: Place) -> TraceFrame {
    TraceFrame {
        place,
        trust: kdive_evidence::FrameTrust::Printed,
        stack: None,
        inlined: false,
        interrupted: true,
    }
}

/// Words that are nothing but letters.
fn stray_text(splat: &Splat, stack: &[u64], found: &mut Vec<StrayText>) {
    const MOST: usize = 32;
    for (register, value) in splat.registers.known() {
        if let Some(text) = letters(value) {
            found.push(StrayText { place: register.name().to_owned(), text });
        }
    }
    for text in stack.iter().filter_map(|&word| letters(word)).take(MOST) {
        found.push(StrayText { place: "stack".to_owned(), text });
    }
}

/// A word of 64 bits whose bytes all are printable.
fn letters(word: u64) -> Option<String> {
    let bytes = word.to_le_bytes();
    let plain = bytes.iter().all(|byte| matches!(byte, b' '..=b'~'));
    let words = bytes.iter().filter(|byte| byte.is_ascii_alphanumeric()).count() >= 5;
    (plain && words).then(|| bytes.iter().map(|&byte| char::from(byte)).collect())
}

/// What a session tells of the death: the block, and the backtrace of the task that panicked.
fn with_session(case: &mut Case<'static>, session: Session) {
    let block = session.block;
    let mut backtraces = session.backtraces;
    let own =
        backtraces.iter().position(|bt| block.pid.is_some() && bt.pid == block.pid && !bt.frames.is_empty());
    let own = own.or_else(|| backtraces.iter().position(|bt| !block.seen && !bt.frames.is_empty()));
    let bt = own.map(|at| backtraces.remove(at));
    if case.splats.is_empty() {
        let panic = block.panic.as_deref().and_then(|text| {
            let meanings = openings::meanings(text);
            if case.trigger.is_none() {
                case.trigger = trigger::of(text);
            }
            openings::of(text, &meanings)
                .or_else(|| Some(Splat { message: text.to_owned(), kind: Kind::Panic, ..Splat::default() }))
        });
        let shown = panic.or_else(|| bt.as_ref().and_then(raised));
        case.splats.extend(shown);
    }
    if let Some(splat) = case.splats.first_mut() {
        if splat.pid.is_none() {
            splat.pid = block.pid;
            splat.comm = splat.comm.take().or(block.comm.clone());
            splat.cpu = splat.cpu.or(block.cpu);
        }
        if let Some(bt) = &bt {
            complete(splat, bt);
        }
    }
    if block.pid.is_some() || bt.is_some() {
        let crashed = case.crashed.get_or_insert_default();
        let bt = bt.unwrap_or_default();
        crashed.pid = block.pid.or(bt.pid).or(crashed.pid);
        crashed.comm = block.comm.or(bt.comm).or(crashed.comm.take());
        crashed.task = block.task.or(bt.task).or(crashed.task);
        crashed.cpu = block.cpu.or(bt.cpu).or(crashed.cpu);
        if bt.registers.known().next().is_some() {
            crashed.registers = Some(bt.registers);
        }
        if !bt.frames.is_empty() {
            crashed.frames = bt.frames;
            // Where crash could not unwind, what it saw on the stack is all there is.
            if crashed.frames.len() < 4 {
                crashed.frames.extend(bt.symbols);
            }
        }
    }
    let state = block.state.as_deref().unwrap_or_default();
    if case.trigger.is_none()
        && (state.contains("(PANIC)") || state.contains("(NMI)") || state.contains("(SYSRQ)"))
    {
        case.trigger = by_state(state, case);
    }
    case.stacks.extend(backtraces.into_iter().filter(|bt| !bt.frames.is_empty()).map(Backtrace::into_task));
}

/// What the state of the task that panicked tells of the end.
fn by_state(state: &str, case: &Case<'_>) -> Option<Trigger> {
    let oops = case
        .splats
        .iter()
        .any(|splat| splat.number.is_some() || splat.source.is_some() || splat.error_code.is_some());
    let interrupt = case.crashed.as_ref().is_some_and(|crashed| {
        crashed.pid == Some(0)
            || crashed.frames.iter().any(|frame| {
                matches!(
                    frame.stack,
                    Some(kdive_evidence::StackKind::Irq | kdive_evidence::StackKind::SoftIrq)
                )
            })
    });
    let kind = if state.contains("(SYSRQ)") {
        TriggerKind::Sysrq
    } else if state.contains("(NMI)") {
        TriggerKind::HardLockupPanic
    } else if interrupt {
        TriggerKind::FatalOops
    } else if oops {
        TriggerKind::PanicOnOops
    } else {
        return None;
    };
    Some(Trigger { kind, text: format!("STATE: {state}") })
}

/// The complaint that a backtrace alone shows: the functions of the exception's path name it.
fn raised(bt: &Backtrace) -> Option<Splat> {
    let has = |functions: &[&str]| functions.iter().any(|function| bt.has(function));
    let (kind, what) = if has(&["do_invalid_op", "exc_invalid_op", "invalid_op", "handle_invalid_op"]) {
        (Kind::InvalidOpcode, "invalid opcode")
    } else if has(&["do_general_protection", "exc_general_protection", "general_protection"]) {
        (Kind::GeneralProtection, "general protection fault")
    } else if has(&["do_divide_error", "exc_divide_error", "divide_error"]) {
        (Kind::DivideError, "divide error")
    } else if has(&["do_double_fault", "exc_double_fault", "double_fault", "df_debug"]) {
        (Kind::DoubleFault, "double fault")
    } else if has(&[
        "do_page_fault",
        "exc_page_fault",
        "__do_page_fault",
        "page_fault_oops",
        "no_context",
        "bad_area",
    ]) {
        (Kind::PageFault, "page fault")
    } else if has(&["sysrq_handle_crash"]) {
        (Kind::Sysrq, "sysrq crash")
    } else if has(&["__stack_chk_fail"]) {
        (Kind::StackProtector, "stack-protector")
    } else if has(&["panic"]) {
        (Kind::Panic, "panic")
    } else {
        return None;
    };
    Some(Splat { kind, message: what.to_owned(), ..Splat::default() })
}

/// Gives a complaint what the backtrace knows and the log did not say.
fn complete(splat: &mut Splat, bt: &Backtrace) {
    splat.pid = splat.pid.or(bt.pid);
    splat.comm = splat.comm.take().or(bt.comm.clone());
    splat.cpu = splat.cpu.or(bt.cpu);
    if splat.ip.as_ref().is_none_or(|place| place.function.is_none()) {
        splat.ip = bt.place().cloned().or(splat.ip.take());
    }
    if splat.registers.known().next().is_none() {
        splat.registers = bt.registers.clone();
    }
    if splat.kind == Kind::PageFault {
        splat.access = splat.access.or(splat.error_code.map(access));
    }
    if splat.frames.is_empty() {
        splat.frames = match bt.exception {
            Some(_) => bt.callers().to_vec(),
            None => {
                let panic =
                    bt.frames.iter().position(|frame| frame.place.function.as_deref() == Some("panic"));
                bt.frames.get(panic.map_or(0, |at| at.saturating_add(1))..).unwrap_or_default().to_vec()
            }
        };
    }
    if let (Some(_), false) = (&splat.damage, splat.frames.is_empty()) {
        splat.damage = None;
    }
}

/// What follows from the rest: the machine's kind, the release.
fn describe(case: &mut Case<'static>) {
    let release = case.splats.iter().find_map(|splat| splat.release.clone());
    let system = &mut case.system;
    system::keep(&mut system.release, release);
    let hardware = case.splats.iter().find_map(|splat| splat.machine.clone());
    system::keep(&mut system.hardware, hardware);
    let taint = case.splats.iter().rev().find_map(|splat| splat.taint.clone());
    system::keep(&mut system.taint, taint);
    let machine = system.release.as_deref().and_then(system::machine_of).map(str::to_owned);
    system::keep(&mut system.machine, machine);
    if system.machine.is_none() {
        let ip =
            case.splats.iter().filter_map(|splat| splat.registers.ip().or(splat.ip.as_ref()?.address)).next();
        let ip = ip.or_else(|| {
            case.splats.iter().flat_map(|splat| &splat.frames).find_map(|frame| frame.place.address)
        });
        system.machine = ip.map(|ip| if ip.0 > u64::from(u32::MAX) { "x86_64" } else { "i686" }.to_owned());
    }
}
