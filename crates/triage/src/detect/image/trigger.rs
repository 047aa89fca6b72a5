//! Kernels whose log cannot be read: what the stack that panicked tells.

use kdive_evidence::SplatKind;

use super::{blamed, guilty_of};
use crate::blame::Mode;
use crate::case::{Case, TriggerKind};
use crate::class::Class;
use crate::detect::Detector;
use crate::finding::{Culprit, Evidence, Finding};

/// The stack alone.
pub(in crate::detect) const TRIGGER: Detector = Detector {
    name: "panic-stack",
    claim: "the functions on the stack that panicked say what ended the kernel",
    run: trigger,
};

/// What an end means, where nothing else tells of it.
const MEANINGS: &[(TriggerKind, Class, Mode, &str, SplatKind)] = &[
    (
        TriggerKind::SoftLockupPanic,
        Class::SoftLockup,
        Mode::Stall,
        "BUG: soft lockup in",
        SplatKind::SoftLockup,
    ),
    (TriggerKind::HardLockupPanic, Class::HardLockup, Mode::Stall, "hard LOCKUP in", SplatKind::HardLockup),
    (
        TriggerKind::RcuStallPanic,
        Class::RcuStall,
        Mode::Stall,
        "INFO: rcu detected stall in",
        SplatKind::RcuStall,
    ),
    (
        TriggerKind::InitKilled,
        Class::InitDied,
        Mode::Fault,
        "kernel panic: Attempted to kill init in",
        SplatKind::Panic,
    ),
    (TriggerKind::PanicOnWarn, Class::Warning, Mode::Fault, "WARNING in", SplatKind::Warning),
    (TriggerKind::Panic, Class::Panic, Mode::Fault, "kernel panic in", SplatKind::Panic),
];

fn trigger(case: &Case<'_>, findings: &mut Vec<Finding>) {
    let (Some(_), Some(crashed), Some(trigger)) = (case.image, &case.crashed, &case.trigger) else { return };
    let meaning = MEANINGS.iter().find(|(kind, ..)| *kind == trigger.kind);
    let Some((_, class, mode, title, splat)) = meaning else { return };
    // The log tells more of it.
    if case.splats.iter().any(|of| of.kind == *splat) {
        return;
    }
    let culprit = blamed(
        guilty_of(&crashed.frames, *mode),
        Culprit { task: crashed.comm.clone(), ..Culprit::default() },
    );
    let function = culprit.function.as_deref().unwrap_or("?");
    findings.push(Finding {
        detector: TRIGGER.name,
        class: *class,
        title: format!("{title} {function}"),
        claim: format!("{} in {function}", class.text()),
        score: 60,
        supports: vec![Evidence::shown(trigger.text.clone(), "bt -p")],
        against: vec![Evidence::seen("the log does not tell of it")],
        culprit,
        advice: Vec::new(),
        splat: None,
    });
}
