//! Lets the findings compete, and writes the report.

mod compete;
mod happened;
mod suspects;
#[cfg(test)]
mod tests;

use crate::case::{Case, Trigger, TriggerKind};
use crate::class::Class;
use crate::finding::{Confidence, Finding};
use crate::known::KnownIssues;
use crate::report::{REPORT_VERSION, Report, Verdict};
use crate::signature;

/// The report on a case, from what the detectors found.
#[must_use]
pub fn report(case: &Case<'_>, findings: Vec<Finding>, known: &KnownIssues) -> Report {
    let findings = compete::compete(case, findings);
    let chosen = choose(case, &findings);
    let splat = chosen.and_then(|finding| finding.splat).and_then(|index| case.splats.get(index));
    Report {
        version: REPORT_VERSION,
        verdict: chosen.map(|finding| verdict(case, finding, &findings)),
        trigger: case.trigger.clone(),
        system: case.system.clone(),
        happened: happened::happened(case, chosen),
        suspects: suspects::rank(case, &findings, chosen),
        known_issues: known.matches(case, &findings),
        wait_graph: None,
        memory: None,
        signature: chosen.map(|finding| signature::of(finding, splat)),
        gaps: case.gaps.clone(),
        findings,
    }
}

/// The finding that is the verdict: the surest. A note is one only when the kernel did end and nothing better is there.
fn choose<'f>(case: &Case<'_>, findings: &'f [Finding]) -> Option<&'f Finding> {
    let first = findings.first()?;
    if first.confidence() > Confidence::Note {
        return Some(first);
    }
    let of = |class: Class| findings.iter().find(|finding| finding.class == class);
    case.trigger.as_ref()?;
    of(Class::ForcedDump)
        .or_else(|| of(Class::ExternalReset))
        .or_else(|| of(Class::Insufficient))
        .or(Some(first))
}

fn verdict(case: &Case<'_>, finding: &Finding, findings: &[Finding]) -> Verdict {
    let differs = case.trigger.as_ref().is_some_and(|trigger| differs(trigger, finding.class));
    let mut advice = finding.advice.clone();
    // What competes for the same event is worth following too.
    for other in findings
        .iter()
        .skip(1)
        .filter(|other| other.score >= 50 && other.splat.is_some() && other.splat == finding.splat)
    {
        advice.extend(other.advice.iter().filter(|text| !finding.advice.contains(text)).cloned());
    }
    Verdict {
        class: finding.class,
        title: finding.title.clone(),
        sentence: sentence(case, finding, differs),
        function: finding.culprit.function.clone(),
        module: finding.culprit.module.clone(),
        confidence: finding.confidence(),
        trigger_differs: differs,
        advice,
    }
}

fn sentence(case: &Case<'_>, finding: &Finding, differs: bool) -> String {
    let claim = finding.claim.trim();
    match case.trigger.as_ref().filter(|_| differs) {
        Some(trigger) => format!("{claim} {}", ended_by(trigger)),
        None => claim.to_owned(),
    }
}

/// What ended the kernel, as a sentence.
fn ended_by(trigger: &Trigger) -> &'static str {
    match trigger.kind {
        TriggerKind::Sysrq => "It did not crash of it: an operator forced the dump (SysRq).",
        TriggerKind::NmiButton => "It did not crash of it: an NMI from outside ended it.",
        TriggerKind::Snapshot => "It did not crash: the image was taken from outside.",
        TriggerKind::HungTaskPanic => "The hung-task watchdog ended the kernel.",
        TriggerKind::SoftLockupPanic => "The soft-lockup watchdog ended the kernel.",
        TriggerKind::HardLockupPanic => "The hard-lockup watchdog ended the kernel.",
        TriggerKind::RcuStallPanic => "panic_on_rcu_stall ended the kernel.",
        TriggerKind::PanicOnWarn => "panic_on_warn ended the kernel.",
        TriggerKind::OutOfMemoryPanic => "The panic for lack of memory ended the kernel.",
        TriggerKind::PanicOnOops => "panic_on_oops ended the kernel.",
        TriggerKind::PanicSwitch => "A panic switch ended the kernel.",
        TriggerKind::InitKilled => "The kernel ended because init died of it.",
        TriggerKind::MachineCheck => "A machine check ended the kernel.",
        TriggerKind::FatalOops | TriggerKind::Panic => "The kernel ended by a panic.",
    }
}

/// Whether what ended the kernel is something else than the cause.
fn differs(trigger: &Trigger, class: Class) -> bool {
    use TriggerKind as T;
    match trigger.kind {
        T::Sysrq | T::Snapshot => class != Class::ForcedDump,
        T::NmiButton => !matches!(class, Class::ForcedDump | Class::ExternalReset | Class::HardwareError),
        T::FatalOops | T::PanicOnOops | T::Panic => false,
        T::HungTaskPanic => class != Class::HungTask,
        T::SoftLockupPanic => class != Class::SoftLockup,
        T::HardLockupPanic => class != Class::HardLockup,
        T::RcuStallPanic => class != Class::RcuStall,
        T::PanicOnWarn => class != Class::Warning,
        T::OutOfMemoryPanic => !matches!(class, Class::OutOfMemory | Class::CgroupOutOfMemory),
        T::PanicSwitch => true,
        T::MachineCheck => class != Class::HardwareError,
        T::InitKilled => class != Class::InitDied,
    }
}
