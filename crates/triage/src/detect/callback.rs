//! Callbacks: timers, work items, RCU heads and notifiers whose function or object is gone; and code of modules that are gone.

use kdive_evidence::{Splat, SplatKind};

use super::Detector;
use super::support::{Draft, LIKELY, STRONG, line, says, symbol, word_after};
use crate::blame::{self, Mode, Role};
use crate::case::Case;
use crate::class::Class;
use crate::finding::Finding;

pub(super) const OBJECT_DEBUG: Detector = Detector {
    name: "debug-objects",
    claim: "An object was freed or reused while its timer, work item or RCU head was still active.",
    run: object_debug,
};

pub(super) const CALLBACK: Detector = Detector {
    name: "callback",
    claim: "What calls timers, work items or RCU callbacks was given something that is no callback.",
    run: callback,
};

pub(super) const UNLOADED: Detector = Detector {
    name: "unloaded-module",
    claim: "Code of a module that is no longer loaded was called.",
    run: unloaded,
};

/// Whether a splat is a report of debug objects.
pub(super) fn concerns(splat: &Splat) -> bool {
    says(splat, "ODEBUG:")
}

fn object_debug(case: &Case<'_>, out: &mut Vec<Finding>) {
    for (index, splat) in case.splats.iter().enumerate().filter(|(_, splat)| concerns(splat)) {
        let Some(text) = line(splat, "ODEBUG:") else { continue };
        let freed = text.contains("ODEBUG: free active");
        let kind = word_after(text, "object type:");
        let hint = word_after(text, "hint:").and_then(symbol);
        let mut draft = Draft::new(
            OBJECT_DEBUG.name,
            if freed { Class::UseAfterFree } else { Class::CallbackCorruption },
            STRONG - 4,
        )
        .at(index, splat, Mode::Fault);
        draft = draft
            .object(hint.map(|hint| format!("{} {hint}", kind.unwrap_or("object"))))
            .title_in("WARNING: ODEBUG bug")
            .claim_in(if freed {
                "Memory was freed while a callback in it was still active"
            } else {
                "An object with a callback was used in a state that does not allow it"
            })
            .says(text);
        if let Some(hint) = hint {
            draft =
                draft.seen(format!("The callback is {hint}: whoever frees its object must cancel it first."));
        }
        draft.push(out);
    }
}

/// Faults in the very function that calls callbacks.
fn callback(case: &Case<'_>, out: &mut Vec<Finding>) {
    for (index, splat) in faults(case) {
        let jumped = no_code(splat);
        let steps = blame::steps(splat);
        // A call into nowhere leaves no function of its own: the first step is who called.
        let Some(first) = steps
            .iter()
            .find(|step| step.role != Role::CrashPath)
            .filter(|step| step.role == Role::Dispatcher)
        else {
            continue;
        };
        let what = match first.name {
            name if name.contains("timer") => "timer",
            name if name.contains("rcu") => "RCU callback",
            name if name.contains("work") || name.contains("rescuer") => "work item",
            name if name.contains("tasklet") => "tasklet",
            name if name.contains("notifier") => "notifier",
            name if name.contains("irq") || name.contains("IRQ") => "interrupt handler",
            _ => "callback",
        };
        // Modules' init and exit functions are called by dispatchers too: a fault there is the function's own.
        if matches!(
            first.name,
            "do_one_initcall" | "do_init_module" | "load_module" | "__do_sys_delete_module"
        ) && !jumped
        {
            continue;
        }
        Draft::new(CALLBACK.name, Class::CallbackCorruption, LIKELY + 8)
            .at(index, splat, Mode::Fault)
            .function(Some(first.name.to_owned()))
            .object(Some(what))
            .title_in("BUG: corrupted callback")
            // It did what it is for: to blame is whoever let the object go.
            .nobody()
            .claim(format!("A {what} was called whose object is freed or overwritten."))
            .says(&splat.message)
            .seen(format!("{} failed, which only takes {what}s from a list and calls them.", first.name))
            .seen_if(jumped, "The address that was called is no code of the kernel or of a loaded module.")
            .advice(format!("Find the object that the {what} was part of: it was freed without cancelling it, or its module is gone."))
            .push(out);
    }
}

fn faults<'c>(case: &'c Case<'_>) -> impl Iterator<Item = (usize, &'c Splat)> {
    super::support::splats(
        case,
        &[SplatKind::PageFault, SplatKind::GeneralProtection, SplatKind::InvalidOpcode],
    )
}

/// Whether the instruction pointer is at no known function.
pub(super) fn no_code(splat: &Splat) -> bool {
    splat.ip.as_ref().is_some_and(|ip| ip.function.is_none() && ip.address.is_some())
        || splat.ip.as_ref().is_none_or(|ip| ip.function.is_none())
            && (says(splat, "Unable to access opcode bytes") || says(splat, "Bad RIP value"))
}

/// Where modules are on x86-64.
pub(super) fn is_module_space(address: u64) -> bool {
    (0xffff_ffff_a000_0000..0xffff_ffff_ff00_0000).contains(&address)
}

fn unloaded(case: &Case<'_>, out: &mut Vec<Finding>) {
    for (index, splat) in faults(case) {
        let at = splat.ip.as_ref().and_then(|ip| ip.address).or(splat.address);
        let Some(at) = at.filter(|at| no_code(splat) && is_module_space(at.0)) else { continue };
        let last = case.unloaded.first().cloned();
        let known = last.is_some();
        Draft::new(UNLOADED.name, Class::UseAfterUnload, if known { STRONG + 4 } else { LIKELY })
            .at(index, splat, Mode::Fault)
            .nobody()
            .module(last.clone())
            .object(Some(format!("code at {at:#}")))
            .title(format!("BUG: use after module unload{}", last.as_ref().map(|name| format!(" of {name}")).unwrap_or_default()))
            .claim(match &last {
                Some(module) => format!("Code was called at {at:#}, where a module was that is gone: {module} was unloaded last."),
                None => format!("Code was called at {at:#}, where modules are loaded, but none is there."),
            })
            .says(&splat.message)
            .seen_if(known, "The kernel notes which module was unloaded last.")
            .against_if(!known, "The log does not say that a module was unloaded.")
            .advice("Look in that module's exit function for a timer, work item, notifier, hook or file that is not taken back.")
            .push(out);
    }
}
