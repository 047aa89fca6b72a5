//! Processors whose timers do not run.

use kdive_evidence::{Register, Splat, SplatKind};
use kdive_linux::time::overdue::overdue;

use super::long;
use crate::blame::Mode;
use crate::case::Case;
use crate::class::Class;
use crate::detect::Detector;
use crate::detect::support::{Draft, LIKELY, STRONG, splats};
use crate::finding::{Evidence, Finding};

/// Interrupts that were off for long.
pub(in crate::detect) const INTERRUPTS_OFF: Detector = Detector {
    name: "interrupts-off-in-memory",
    claim: "an NMI found a processor with interrupts off, and its timers had waited for long",
    run: interrupts_off,
};

/// Longer than a report of the NMI takes on a slow console, which is printed with interrupts off.
const LONG: u64 = 2_000_000_000;
/// After which the kernel's own watchdog complains (`watchdog_thresh`, kernel/watchdog.c).
const WATCHDOG: u64 = 10_000_000_000;
/// `X86_EFLAGS_IF`.
const INTERRUPTS_ON: u64 = 1 << 9;

fn interrupts_off(case: &Case<'_>, findings: &mut Vec<Finding>) {
    let Some(kernel) = case.image else { return };
    let is_off = |splat: &Splat| {
        splat.registers.get(Register::Rflags).is_some_and(|flags| flags & INTERRUPTS_ON == 0)
            && !splat.registers.in_user_mode()
    };
    let Some((index, splat)) = splats(case, &[SplatKind::Nmi]).find(|(_, splat)| is_off(splat)) else {
        return;
    };
    let Some(cpu) = splat.cpu else { return };
    let (timers, _) = overdue(kernel, LONG);
    let Some(latest) = timers.iter().filter(|timer| timer.cpu == cpu).max_by_key(|timer| timer.late_ns)
    else {
        return;
    };
    let (late, count) = (long(latest.late_ns), timers.iter().filter(|timer| timer.cpu == cpu).count());
    let score = if latest.late_ns >= WATCHDOG { STRONG } else { LIKELY };
    let mut draft = Draft::new(INTERRUPTS_OFF.name, Class::HardLockup, score)
        .at(index, splat, Mode::Stall)
        .title_in("hard LOCKUP")
        .claim_in(format!("CPU {cpu} ran with interrupts off for {late}"))
        .shown(Evidence::shown(
            format!("Timers of CPU {cpu} did not run: {count} are late, the first by {late}."),
            "overdue",
        ))
        .seen("The NMI found the processor with interrupts off.")
        .advice(
            "Look at what the function waits for: `dis -l` of it, and the lock or the device that it polls.",
        );
    if latest.late_ns < WATCHDOG {
        draft = draft.against("The watchdog for hard lockups, which waits for 10 s, did not complain yet.");
    }
    draft.push(findings);
}
