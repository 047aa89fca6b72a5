//! Suspects ranked, and why the second is second.

use crate::blame;
use crate::case::Case;
use crate::class::{Category, Class};
use crate::finding::Finding;
use crate::report::{Suspect, SuspectKind};

/// Suspects that are listed at most.
const MOST: usize = 8;

pub(super) fn rank(case: &Case<'_>, findings: &[Finding], chosen: Option<&Finding>) -> Vec<Suspect> {
    let mut suspects: Vec<Suspect> = Vec::new();
    let chosen_is_sure = chosen.is_some_and(|finding| finding.score >= 25);
    for finding in findings
        .iter()
        .filter(|finding| finding.score >= 25 || !chosen_is_sure && finding.class == Class::ForcedDump)
    {
        for (kind, name, score) in named(finding) {
            add(&mut suspects, kind, name, score, finding);
        }
    }
    if let Some(chosen) = chosen.filter(|finding| finding.score >= 25) {
        modules_on_the_stack(case, chosen, &mut suspects);
    }
    // Equal scores stay in the order of the findings.
    suspects.sort_by_key(|suspect| std::cmp::Reverse(suspect.score));
    suspects.truncate(MOST);
    say_why_not(&mut suspects);
    suspects
}

fn named(finding: &Finding) -> Vec<(SuspectKind, String, u8)> {
    let culprit = &finding.culprit;
    let mut found = Vec::new();
    match (finding.class.category(), finding.class) {
        (Category::Hardware, Class::DeviceFailure | Class::DeviceOverwrite | Class::Firmware) => {
            found.push((
                SuspectKind::Hardware,
                culprit.object.clone().unwrap_or_else(|| finding.class.text().to_owned()),
                finding.score,
            ));
        }
        (Category::Hardware, _) => found.push((
            SuspectKind::Hardware,
            culprit.object.clone().unwrap_or_else(|| "memory or processor".to_owned()),
            finding.score,
        )),
        (Category::Operator, Class::ForcedDump) => {
            found.push((SuspectKind::Administrator, "whoever asked for the dump".to_owned(), finding.score))
        }
        (Category::Operator, _) => found.push((
            SuspectKind::Administrator,
            culprit.object.clone().unwrap_or_else(|| "an NMI, a watchdog or a cluster manager".to_owned()),
            finding.score,
        )),
        (_, Class::HypervisorPause) => found.push((
            SuspectKind::Hypervisor,
            culprit.object.clone().unwrap_or_else(|| "the hypervisor".to_owned()),
            finding.score,
        )),
        (_, Class::ClockTrouble) => found.push((
            SuspectKind::Hardware,
            culprit.object.clone().unwrap_or_else(|| "the time source".to_owned()),
            finding.score,
        )),
        _ => {}
    }
    if let Some(task) = &culprit.task
        && matches!(finding.class.category(), Category::Hang | Category::Resource)
    {
        found.push((SuspectKind::Task, task.clone(), finding.score));
    }
    if let Some(function) = &culprit.function {
        let score = if finding.class.category() == Category::Hardware || finding.class == Class::ClockTrouble
        {
            finding.score / 2
        } else {
            finding.score
        };
        found.push((SuspectKind::Function, function.clone(), score));
    }
    if let Some(module) = &culprit.module {
        found.push((SuspectKind::Module, module.clone(), finding.score.saturating_sub(1)));
    }
    if let (Class::MemoryOverwrite, Some(object)) = (finding.class, &culprit.object) {
        found.push((SuspectKind::Module, object.clone(), finding.score));
    }
    found
}

fn add(suspects: &mut Vec<Suspect>, kind: SuspectKind, name: String, score: u8, finding: &Finding) {
    let why = finding.claim.clone();
    if let Some(known) = suspects.iter_mut().find(|suspect| suspect.kind == kind && suspect.name == name) {
        known.score = known.score.max(score);
        if !known.why.contains(&why) {
            known.why.push(why);
        }
        return;
    }
    let why_not = finding.against.iter().map(|evidence| evidence.text.clone()).collect();
    suspects.push(Suspect { kind, name, score, why: vec![why], why_not });
}

/// Modules that the stack of the verdict passes through. To be loaded is no ground for suspicion; to be on the stack is one.
fn modules_on_the_stack(case: &Case<'_>, chosen: &Finding, suspects: &mut Vec<Suspect>) {
    let Some(splat) = chosen.splat.and_then(|index| case.splats.get(index)) else { return };
    let mut seen: Vec<&str> = Vec::new();
    let places = splat.ip.iter().chain(splat.frames.iter().map(|frame| &frame.place));
    for place in places {
        let Some(module) = place.module.as_deref().filter(|module| !seen.contains(module)) else { continue };
        seen.push(module);
        if suspects.iter().any(|suspect| suspect.kind == SuspectKind::Module && suspect.name == module) {
            continue;
        }
        let loaded = case.modules.iter().find(|loaded| loaded.name == module);
        let foreign = loaded.is_some_and(crate::case::Module::is_foreign);
        let share = if foreign {
            70
        } else {
            45_u16.saturating_sub(u16::try_from(seen.len()).unwrap_or(u16::MAX).saturating_mul(3))
        };
        let score = u8::try_from(u16::from(chosen.score).saturating_mul(share) / 100).unwrap_or(0);
        let function = place.function.as_deref().map_or("a function of it", blame::plain);
        let mut why = vec![format!("{function} of it is on the stack.")];
        if let Some(module) = loaded.filter(|_| foreign) {
            why.push(format!(
                "It is no part of the kernel's own tree (taint {}{}).",
                module.taint,
                module.version.as_ref().map(|version| format!(", version {version}")).unwrap_or_default()
            ));
        }
        suspects.push(Suspect {
            kind: SuspectKind::Module,
            name: module.to_owned(),
            score,
            why,
            why_not: vec!["It is on the stack, but another function failed.".to_owned()],
        });
    }
}

fn say_why_not(suspects: &mut [Suspect]) {
    let Some((first, rest)) = suspects.split_first_mut() else { return };
    first.why_not.clear();
    for suspect in rest.iter_mut().filter(|suspect| suspect.why_not.is_empty()) {
        let same_event = suspect.why.iter().any(|why| first.why.contains(why));
        suspect.why_not.push(if same_event {
            format!("It is named by the same evidence as {}, which is the more exact name.", first.name)
        } else {
            format!(
                "Its evidence is weaker ({} of 100) than that against {} ({}).",
                suspect.score, first.name, first.score
            )
        });
    }
}
