//! Code and data of modules that are gone.

use kdive_base::{VirtAddr, printable};
use kdive_evidence::{Access, Splat, SplatKind};
use kdive_target::Kernel;

use super::blamed;
use crate::blame::{self, Mode};
use crate::case::Case;
use crate::class::Class;
use crate::detect::Detector;
use crate::finding::{Culprit, Evidence, Finding};
use crate::image::MODULES;

/// Modules.
pub(in crate::detect) const UNLOADED: Detector = Detector {
    name: "unloaded-module",
    claim: "the kernel ran code, or used data, of a module that was unloaded",
    run: unloaded,
};

/// Longest name of a module.
const NAME: usize = 56;

fn unloaded(case: &Case<'_>, findings: &mut Vec<Finding>) {
    let Some(kernel) = case.image else { return };
    let found =
        case.splats.iter().enumerate().find_map(|(index, splat)| Some((index, splat, gone(kernel, splat)?)));
    let Some((index, splat, Gone { at, executed })) = found else { return };
    let module = last_unloaded(kernel);
    // A wild pointer may lie there too: data is claimed only where a module has gone.
    if !executed && module.is_none() {
        return;
    }
    let did = if executed { "was sent to" } else { "used" };
    let mut supports = vec![Evidence::shown(
        format!("the processor {did} {at}, where modules lie, and no module is there"),
        "mod",
    )];
    if let Some(name) = &module {
        supports
            .push(Evidence::shown(format!("the module unloaded last was {name}"), "p last_unloaded_module"));
    }
    let named = module.clone().map_or_else(|| "a module".to_owned(), |name| format!("the module {name}"));
    // A function of the kernel only called, or walked, what the module had left with it.
    let guilty = blame::guilty_of(&splat.frames, Mode::Fault).filter(|guilty| guilty.module.is_some());
    let mut culprit = blamed(guilty, Culprit { object: Some(at.to_string()), ..Culprit::default() });
    culprit.module = module.clone().or(culprit.module);
    findings.push(Finding {
        detector: UNLOADED.name,
        class: Class::UseAfterUnload,
        title: format!(
            "BUG: unable to handle page fault in unloaded module {}",
            module.as_deref().unwrap_or("?")
        ),
        claim: match executed {
            true => format!("code of {named} was called after it was unloaded"),
            false => format!("data of {named} was used after it was unloaded"),
        },
        score: match (executed, &module) {
            (true, Some(_)) => 90,
            (true, None) => 62,
            (false, _) => 84,
        },
        culprit,
        supports,
        against: Vec::new(),
        advice: vec!["The module must take back its timers, work items and hooks before it goes.".into()],
        splat: Some(index),
    });
}

/// An address in a module that is gone.
struct Gone {
    at: VirtAddr,
    /// It was to be run; else it was read or written.
    executed: bool,
}

/// The address in a module that is gone, where that is what a splat is about.
fn gone(kernel: &Kernel, splat: &Splat) -> Option<Gone> {
    if splat.kind != SplatKind::PageFault {
        return None;
    }
    let ip = splat.ip.as_ref().and_then(|place| place.address);
    let executed = splat.access == Some(Access::Execute) || splat.address.is_some() && splat.address == ip;
    let at = splat.address?;
    let is_free = MODULES.contains(&at.0) && kernel.modules().at(at).is_none() && kernel.place(at).is_none();
    is_free.then_some(Gone { at, executed })
}

/// `last_unloaded_module` (kernel/module/main.c): a name, in a structure of its own since 5.18.
fn last_unloaded(kernel: &Kernel) -> Option<String> {
    let at = kernel.symbol("last_unloaded_module").ok()?;
    let name = kernel.memory().c_string(at, NAME).ok()?;
    Some(printable(&name))
        .filter(|name| !name.is_empty() && name.chars().all(|of| of.is_alphanumeric() || of == '_'))
}
