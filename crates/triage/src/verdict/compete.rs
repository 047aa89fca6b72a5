//! Findings compete by score. What came first is the cause of what came later, and one event is one finding.

use crate::blame;
use crate::case::Case;
use crate::class::{Category, Class};
use crate::finding::{Culprit, Evidence, Finding};

/// Adjusts the scores by what the findings say of one another, and sorts them: the surest first.
pub(super) fn compete(case: &Case<'_>, findings: Vec<Finding>) -> Vec<Finding> {
    let mut findings: Vec<Finding> =
        findings.into_iter().filter(|finding| !is_of_the_trigger(case, finding)).collect();
    merge(&mut findings);
    lower_secondary(case, &mut findings);
    weigh_hardware(&mut findings);
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.score));
    if case.trigger.is_some()
        && findings.iter().all(|finding| {
            finding.score < 25 && finding.class != Class::ForcedDump && finding.class != Class::ExternalReset
        })
    {
        findings.push(insufficient(case));
    }
    findings
}

/// The oops that a forced dump makes itself is no finding.
fn is_of_the_trigger(case: &Case<'_>, finding: &Finding) -> bool {
    finding.class != Class::ForcedDump
        && finding.splat.and_then(|index| case.splats.get(index)).is_some_and(|splat| {
            blame::mentions(splat, |name| {
                matches!(name, "sysrq_handle_crash" | "handle_sysrq" | "__handle_sysrq" | "sysrq_handle_oops")
            }) && finding.culprit.function.as_deref().is_none_or(|name| {
                blame::role(name) != blame::Role::Ordinary
                    || name.contains("sysrq")
                    || name.contains("scancode")
            })
        })
}

/// Findings of one detector that name the same culprit are one, seen several times.
fn merge(findings: &mut Vec<Finding>) {
    let mut kept: Vec<(Finding, usize)> = Vec::new();
    for finding in findings.drain(..) {
        let same = kept.iter_mut().find(|(other, _)| {
            other.detector == finding.detector
                && other.class == finding.class
                && alike(&other.culprit, &finding.culprit)
                && other.splat.is_some()
                && finding.splat.is_some()
        });
        match same {
            Some((_, times)) => *times = times.saturating_add(1),
            None => kept.push((finding, 1)),
        }
    }
    findings.extend(kept.into_iter().map(|(mut finding, times)| {
        if times > 1 {
            finding.supports.push(Evidence::seen(format!("The log has {times} such reports.")));
        }
        finding
    }));
}

fn alike(a: &Culprit, b: &Culprit) -> bool {
    a.function == b.function && a.module == b.module
}

/// How much a report of this class explains what comes after it.
fn explains(class: Class) -> bool {
    match class.category() {
        Category::Software => !matches!(
            class,
            Class::Warning
                | Class::PossibleDeadlock
                | Class::UndefinedBehaviour
                | Class::DataRace
                | Class::NetworkStall
                | Class::InterruptTrouble
        ),
        Category::Hardware => !matches!(class, Class::Firmware),
        Category::Hang => true,
        _ => false,
    }
}

fn lower_secondary(case: &Case<'_>, findings: &mut [Finding]) {
    const AN_HOUR: u64 = 3_600_000_000_000;
    let first_oops = case.splats.iter().position(|splat| splat.number.is_some());
    let seen: Vec<(usize, Class, u8)> =
        findings.iter().filter_map(|finding| Some((finding.splat?, finding.class, finding.score))).collect();
    for finding in findings.iter_mut() {
        let Some(index) = finding.splat else { continue };
        let Some(splat) = case.splats.get(index) else { continue };
        if splat.number.is_some_and(|number| number > 1) && first_oops.is_some_and(|first| first < index) {
            finding.score = finding.score.min(22);
            finding.against.push(Evidence::seen(format!(
                "It is oops number {}: what happened first is the cause, until shown otherwise.",
                splat.number.unwrap_or_default()
            )));
            continue;
        }
        let earlier = seen
            .iter()
            .filter(|&&(other, class, score)| other < index && score >= 60 && explains(class))
            .min_by_key(|(other, ..)| *other);
        let Some(&(other, class, _)) = earlier else { continue };
        let Some(cause) = case.splats.get(other) else { continue };
        let hang_first = class.category() == Category::Hang;
        let hangs = finding.class.category() == Category::Hang;
        let mut penalty: u8 = match (hang_first, hangs) {
            (false, _) => 30,
            (true, true) => 10,
            // A task that hung hours ago does not make memory rot.
            (true, false) => 0,
        };
        let apart = splat.time_ns.zip(cause.time_ns).map(|(later, earlier)| later.saturating_sub(earlier));
        if apart.is_some_and(|apart| apart > AN_HOUR) {
            penalty /= 2;
        }
        if penalty > 0 {
            finding.score = finding.score.saturating_sub(penalty);
            finding.against.push(Evidence::seen(format!(
                "Another report came before it ({}), which may have caused it.",
                cause.message.chars().take(100).collect::<String>()
            )));
        }
    }
}

/// Hardware and software compete: a poison pattern is written by software, and bad memory makes good code fail.
fn weigh_hardware(findings: &mut [Finding]) {
    let poison = findings.iter().any(|finding| {
        finding.score >= 70
            && matches!(finding.class, Class::DeletedListEntry | Class::UseAfterFree | Class::Uninitialized)
    });
    let bad_memory = findings
        .iter()
        .find(|finding| {
            finding.score >= 50
                && matches!(finding.class, Class::BadMemory | Class::BitFlip | Class::HardwareError)
        })
        .map(|finding| (finding.class, finding.claim.clone()));
    for finding in findings.iter_mut() {
        if poison && finding.class == Class::BitFlip {
            finding.score /= 2;
            finding.against.push(Evidence::seen(
                "A poison pattern of the kernel is there too: software wrote it, no flipped bit.",
            ));
        }
        let suffers = matches!(
            finding.class,
            Class::Assertion
                | Class::BadPageState
                | Class::ListCorruption
                | Class::SlabCorruption
                | Class::WildPointer
                | Class::NonCanonical
                | Class::PageTableCorruption
                | Class::InvalidOpcode
        );
        if let Some((class, claim)) =
            bad_memory.as_ref().filter(|(class, _)| suffers && *class != finding.class)
        {
            let penalty = if *class == Class::BitFlip { 0 } else { 24 };
            finding.score = finding.score.saturating_sub(penalty);
            finding.against.push(Evidence::seen(format!("The machine itself is suspected: {claim}")));
        }
    }
}

fn insufficient(case: &Case<'_>) -> Finding {
    let told = case.trigger.as_ref().map(|trigger| trigger.text.clone()).unwrap_or_default();
    Finding {
        detector: "insufficient",
        class: Class::Insufficient,
        title: "insufficient evidence".to_owned(),
        claim: "The kernel ended, and what there is does not tell why.".to_owned(),
        score: 10,
        culprit: Culprit::default(),
        supports: if told.is_empty() {
            Vec::new()
        } else {
            vec![Evidence::seen(format!("All that is known of the end: {told}"))]
        },
        against: Vec::new(),
        advice: case.gaps.iter().filter_map(|gap| gap.next_time.clone()).collect(),
        splat: None,
    }
}
