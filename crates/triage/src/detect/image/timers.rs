//! Processors whose timers do not run.

use kdive_evidence::SplatKind;
use kdive_linux::smp;
use kdive_linux::time::overdue::overdue;

use super::{guilty, long, person};
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

fn interrupts_off(case: &Case<'_>, findings: &mut Vec<Finding>) {
    let Some(kernel) = case.image else { return };
    let Some((index, splat)) = splats(case, &[SplatKind::Nmi]).next() else { return };
    let stood = smp::calls(kernel).into_iter().find(|of| Some(of.cpu) == splat.cpu);
    let Some(stood) = stood.filter(|of| of.interrupts_off == Some(true) && !of.idle) else { return };
    let cpu = stood.cpu;
    let (mut timers, _) = overdue(kernel, LONG);
    timers.retain(|timer| timer.cpu == cpu);
    let Some(latest) = timers.iter().map(|timer| timer.late_ns).max() else { return };
    let guilty = stood.task.as_ref().and_then(|task| guilty(kernel, task.task, Mode::Stall));
    let (function, module) = guilty.map(|of| (of.function, of.module)).unzip();
    let score = if latest >= WATCHDOG { STRONG } else { LIKELY };
    let late = long(latest);
    let mut draft = Draft::new(INTERRUPTS_OFF.name, Class::HardLockup, score)
        .splat(index)
        .function(function)
        .module(module.flatten())
        .task(stood.task.as_ref().map(person))
        .title_in("hard LOCKUP")
        .claim_in(format!("CPU {cpu} ran with interrupts off for {late}"))
        .shown(Evidence::shown(
            format!("Timers of CPU {cpu} did not run: {} are late, the first by {late}.", timers.len()),
            "overdue",
        ))
        .shown(Evidence::shown("The NMI found it with interrupts off.", format!("bt -c {cpu}")))
        .advice("Look at what the function waits for: `dis -l` of it, and the lock or device that it polls.");
    if latest < WATCHDOG {
        draft = draft.against("The watchdog for hard lockups, which waits for 10 s, did not complain yet.");
    }
    draft.push(findings);
}
