//! The task that died, and its stack.

use kdive_evidence::{Frame, FrameTrust, Place, Registers, TraceFrame};
use kdive_linux::tasks::{Task, Tasks, plain_name};
use kdive_target::{Kernel, Text};

use crate::case::Crashed;

/// Functions in which a dying kernel ends: what they interrupted lies outside of the outermost of them.
const LAST: [&str; 8] = [
    "panic",
    "vpanic",
    "nmi_panic",
    "__crash_kexec",
    "crash_kexec",
    "machine_kexec",
    "oops_end",
    "sysrq_handle_crash",
];

/// The task that panicked, with its stack. `None` where no processor was in a panic.
pub(super) fn read(kernel: &Kernel) -> Option<Crashed> {
    let tasks = Tasks::find(kernel);
    let panic = tasks.panic.clone().ok()?;
    let mut crashed = Crashed { task: Some(panic.task), cpu: Some(panic.cpu), ..Crashed::default() };
    if let Some(task) = tasks.at(panic.task) {
        name(&mut crashed, task);
    }
    if let Ok(frames) = kernel.unwind_task(panic.task) {
        crashed.registers = exception(kernel, &frames.frames).cloned();
        // A scan of the stack steps over what it cannot name: where modules are not listed, over their functions.
        let is_listed = kernel.modules().incomplete.is_none();
        let is_told = |frame: &&Frame| is_listed || frame.trust != FrameTrust::Scan;
        crashed.frames =
            frames.frames.iter().take_while(is_told).map(|frame| trace_frame(kernel, frame)).collect();
        if let Some(beyond) = frames.frames.get(crashed.frames.len()) {
            crashed.frames.push(unnamed(beyond));
        }
    }
    Some(crashed)
}

fn name(crashed: &mut Crashed, task: &Task) {
    crashed.pid = task.pid.clone().ok();
    crashed.comm = task.comm.clone().ok().map(|Text(name)| name);
}

/// Functions that die of an exception, or by a watchdog: only then what was interrupted is what died. A panic that is called
/// may lie inside of any page fault.
const DIED: [&str; 9] = [
    "oops_end",
    "die",
    "die_addr",
    "__die_body",
    "page_fault_oops",
    "exc_double_fault",
    "do_double_fault",
    "watchdog_timer_fn",
    "watchdog_overflow_callback",
];

/// The registers of the code that died: the first that an exception saved outside of the functions of a dying kernel.
fn exception<'f>(kernel: &Kernel, frames: &'f [Frame]) -> Option<&'f Registers> {
    let is_any = |frame: &Frame, names: &[&str]| {
        function(kernel, frame).is_some_and(|(name, ..)| names.contains(&plain_name(name)))
    };
    if !frames.iter().any(|frame| is_any(frame, &DIED)) {
        return None;
    }
    let last = frames.iter().rposition(|frame| is_any(frame, &LAST))?;
    let outside = frames.iter().skip(last.saturating_add(1));
    let mut saved = outside.filter(|frame| frame.interrupted && frame.trust == FrameTrust::PtRegs);
    saved.next().map(|frame| &frame.registers).filter(|registers| !registers.in_user_mode())
}

/// The function that a frame is in, the offset in it, and its module. A call that never returns can be the last instruction
/// of its function: a return address is looked up by the byte before it.
fn function<'k>(kernel: &'k Kernel, frame: &Frame) -> Option<(&'k str, u64, Option<&'k str>)> {
    let back = u64::from(!frame.interrupted);
    let place = kernel.place(frame.ip.sub(back))?;
    Some((place.symbol.name, place.offset.saturating_add(back), place.symbol.module))
}

/// Stands for callers that nobody can name, at the place of the stack where they begin.
fn unnamed(frame: &Frame) -> TraceFrame {
    TraceFrame {
        place: Place::default(),
        trust: FrameTrust::Scan,
        stack: Some(frame.stack),
        inlined: false,
        interrupted: false,
    }
}

/// A frame of the unwinder as a line of a call trace.
#[must_use]
pub fn trace_frame(kernel: &Kernel, frame: &Frame) -> TraceFrame {
    let place = match function(kernel, frame) {
        Some((name, offset, module)) => Place {
            address: Some(frame.ip),
            function: Some(name.to_owned()),
            offset: Some(offset),
            size: None,
            module: module.map(str::to_owned),
        },
        None => Place { address: Some(frame.ip), ..Place::default() },
    };
    TraceFrame {
        place,
        trust: frame.trust,
        stack: Some(frame.stack),
        inlined: false,
        interrupted: frame.interrupted && frame.trust == FrameTrust::PtRegs,
    }
}
