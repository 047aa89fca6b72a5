//! Proof from memory: what a dump shows that no log says. Each of these says nothing where there is no image.

pub(super) mod calls;
pub(super) mod code;
pub(super) mod mapped;
pub(super) mod objects;
pub(super) mod pressure;
pub(super) mod spins;
pub(super) mod stacks;
pub(super) mod storage;
pub(super) mod timers;
pub(super) mod trigger;
pub(super) mod unloaded;
pub(super) mod waits;

use kdive_base::VirtAddr;
use kdive_evidence::{SplatKind, TraceFrame};
use kdive_linux::tasks::TaskName;
use kdive_target::Kernel;

use crate::blame::{self, Guilty, Mode, Role, role};
use crate::case::{Case, TriggerKind};
use crate::finding::Culprit;
use crate::image::trace_frame;

/// A second, in nanoseconds.
const SECOND: u64 = 1_000_000_000;

/// The stack of a task, innermost frame first; empty where it cannot be walked.
fn stack(kernel: &Kernel, task: VirtAddr) -> Vec<TraceFrame> {
    let frames = kernel.unwind_task(task).map(|frames| frames.frames).unwrap_or_default();
    frames.iter().map(|frame| trace_frame(kernel, frame)).collect()
}

/// Functions by which a processor that does not come on is stopped in the end.
const STOPPED: [&str; 9] = [
    "watchdog_timer_fn",
    "watchdog_overflow_callback",
    "watchdog_hardlockup_check",
    "panic_smp_self_stop",
    "nmi_panic_self_stop",
    "stop_this_cpu",
    "crash_nmi_callback",
    "panic",
    "vpanic",
];

/// The frames of what a processor did before a watchdog or the panic of another one stopped it.
fn before_stop(frames: &[TraceFrame]) -> &[TraceFrame] {
    let stops = |frame: &TraceFrame| {
        frame.place.function.as_deref().is_some_and(|name| STOPPED.contains(&blame::plain(name)))
    };
    let rest = |from: usize| frames.get(from..).unwrap_or_default();
    let Some(last) = frames.iter().rposition(stops) else { return frames };
    match rest(last).iter().position(|frame| frame.interrupted) {
        Some(interrupted) => rest(last.saturating_add(interrupted)),
        None => frames,
    }
}

/// The guilty function of a stack as the unwinder walked it.
fn guilty_of(frames: &[TraceFrame], mode: Mode) -> Option<Guilty> {
    blame::guilty_of(if mode == Mode::Stall { before_stop(frames) } else { frames }, mode)
}

/// The function that a task is to be blamed for.
fn guilty(kernel: &Kernel, task: VirtAddr, mode: Mode) -> Option<Guilty> {
    guilty_of(&stack(kernel, task), mode)
}

/// Adds a guilty function to a culprit; what only calls what it was given is none.
fn blamed(guilty: Option<Guilty>, culprit: Culprit) -> Culprit {
    let calls = |guilty: &Guilty| guilty.weak && role(&guilty.function) == Role::Dispatcher;
    match guilty.filter(|guilty| !calls(guilty)) {
        Some(guilty) => Culprit { function: Some(guilty.function), module: guilty.module, ..culprit },
        None => culprit,
    }
}

/// A task as a sentence speaks of it.
fn person(task: &TaskName) -> String {
    let name = task.command.as_deref().unwrap_or("?");
    match task.pid {
        Some(pid) => format!("{name} (PID {pid})"),
        None => format!("{name} ({})", task.task),
    }
}

/// How long, for a sentence.
fn long(ns: u64) -> String {
    let seconds = ns / SECOND;
    match seconds {
        0 => format!("{} ms", ns / 1_000_000),
        1..120 => format!("{seconds} s"),
        _ => format!("{} minutes", seconds / 60),
    }
}

/// Whether the case has a splat of one of these kinds.
fn has_splat(case: &Case<'_>, kinds: &[SplatKind]) -> bool {
    case.splats.iter().any(|splat| kinds.contains(&splat.kind))
}

/// Whether the kernel ended in one of these ways.
fn ended_by(case: &Case<'_>, kinds: &[TriggerKind]) -> bool {
    case.trigger.as_ref().is_some_and(|trigger| kinds.contains(&trigger.kind))
}

/// Whether a processor that does not come on is known to be the matter: then one that spins is no passing state.
fn is_locked_up(case: &Case<'_>) -> bool {
    use SplatKind::{CsdLock, HardLockup, RcuStall, SoftLockup};
    use TriggerKind::{HardLockupPanic, NmiButton, RcuStallPanic, SoftLockupPanic};
    has_splat(case, &[SoftLockup, HardLockup, RcuStall, CsdLock])
        || ended_by(case, &[SoftLockupPanic, HardLockupPanic, RcuStallPanic, NmiButton])
}

#[cfg(test)]
mod tests {
    use kdive_evidence::{FrameTrust, Place};

    use super::*;

    fn frame(name: &str, interrupted: bool) -> TraceFrame {
        TraceFrame {
            place: Place { function: Some(name.into()), ..Place::default() },
            trust: FrameTrust::Orc,
            stack: None,
            inlined: false,
            interrupted,
        }
    }

    #[test]
    fn what_a_watchdog_interrupted_is_of_interest() {
        let names = ["panic", "watchdog_timer_fn", "__hrtimer_run_queues", "asm_sysvec_apic_timer_interrupt"];
        let mut frames: Vec<TraceFrame> = names.iter().map(|name| frame(name, false)).collect();
        frames.push(frame("spin", true));
        frames.push(frame("kthread", false));
        assert_eq!(before_stop(&frames).first(), Some(&frame("spin", true)));
        assert_eq!(before_stop(&frames[4..]).len(), 2);
    }

    #[test]
    fn times_are_short() {
        assert_eq!([long(5_000_000), long(7 * SECOND), long(180 * SECOND)], ["5 ms", "7 s", "3 minutes"]);
    }
}
