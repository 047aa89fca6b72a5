//! Modules and live patches that do not fit the kernel, and code that the kernel failed to patch.

use kdive_evidence::{Splat, SplatKind};

use super::Detector;
use super::support::{Draft, HINT, LIKELY, PROVEN, STRONG, alone, events, symbol, word_after};
use crate::case::{Case, Event, EventKind};
use crate::class::Class;
use crate::finding::Finding;

pub(super) const MISMATCH: Detector = Detector {
    name: "module-mismatch",
    claim: "A module was built for another kernel than the one that loads it.",
    run: mismatch,
};

pub(super) const LIVE_PATCH: Detector = Detector {
    name: "live-patch",
    claim: "A live patch could not be applied, or tasks still run the old code beside the new.",
    run: live_patch,
};

pub(super) const PATCHING: Detector = Detector {
    name: "code-patching",
    claim: "The kernel was to patch its own code, and found other bytes there than it had put.",
    run: patching,
};

fn mismatch(case: &Case<'_>, out: &mut Vec<Finding>) {
    let mut found = events(case, EventKind::ModuleMismatch);
    let Some(event) = found.next() else { return };
    let module = module(&event.text);
    let name = module.unwrap_or("a module");
    let alone = alone(case);
    let mut draft =
        Draft::new(MISMATCH.name, Class::ModuleMismatch, if alone { LIKELY } else { HINT }).module(module);
    draft = draft
        .title(format!("module {name} does not fit this kernel"))
        .claim(format!("The module {name} was built for another kernel than the one that loads it."))
        .says(&event.text);
    for other in found.take(3) {
        draft = draft.says(&other.text);
    }
    let refused = event.text.contains("disagrees about") || event.text.contains("version magic");
    draft
        .seen_if(refused, "The kernel refuses such a module: what needs it goes without.")
        .seen_if(
            event.text.contains("BTF"),
            "The module's types do not fit the kernel's: both come from different builds.",
        )
        .against_if(!alone, "What ended the kernel came by another way: a module that is refused runs no code.")
        .advice("Rebuild the module for exactly this kernel, or boot the kernel that it is for; look whether the initramfs holds modules of another build.")
        .push(out);
}

/// The module in `ext4: version magic '...'`, `foo: disagrees about version of symbol x`, `failed to validate module [foo] BTF: -22`.
fn module(text: &str) -> Option<&str> {
    let name =
        word_after(text, "validate module [").or_else(|| text.split_once(": ").map(|(name, _)| name))?;
    (!name.is_empty() && !name.contains(' ')).then_some(name)
}

fn live_patch(case: &Case<'_>, out: &mut Vec<Finding>) {
    let found: Vec<&Event> = events(case, EventKind::LivePatch).collect();
    let count = |needles: &[&str]| {
        found
            .iter()
            .filter(|event| needles.iter().any(|needle| event.text.contains(needle)))
            .fold(0_u64, |sum, event| sum.saturating_add(event.count))
    };
    let failed = found.iter().find(|event| event.text.contains("failed to enable patch"));
    let begun = count(&["starting patching transition", "starting unpatching transition"]);
    let is_open = begun > count(&["patching complete"]);
    let Some(event) = failed.or_else(|| found.iter().rev().find(|event| event.text.contains("transition")))
    else {
        return;
    };
    if failed.is_none() && !is_open {
        return;
    }
    let patch = event.text.split('\'').nth(1);
    let name = patch.unwrap_or("a live patch");
    let late = found.iter().find(|event| event.text.contains("signaling remaining tasks"));
    let score = match (alone(case), failed.is_some() || late.is_some()) {
        (true, true) => LIKELY,
        (true, false) => LIKELY - 14,
        (false, true) => HINT + 6,
        (false, false) => HINT,
    };
    let mut draft = Draft::new(LIVE_PATCH.name, Class::LivePatch, score)
        .module(patch)
        .title(format!("livepatch: {name} is in transition"))
        .claim(if failed.is_some() {
            format!("The live patch {name} could not be applied.")
        } else {
            format!("The live patch {name} is in transition: some tasks run the new code and others the old.")
        })
        .says(&event.text);
    if let Some(late) = late {
        draft = draft.says(&late.text).seen(
            "The kernel signals what is left after 15 s: a task stays in a function that is to be replaced.",
        );
    }
    draft
        .against_if(failed.is_none(), "A transition is safe by itself; it matters only where old and new code share data that the patch changes.")
        .advice("Look which tasks are left (kdive: livepatch), and at functions of the patch on the stack that failed.")
        .push(out);
}

/// Whether a splat is the assertion or warning that follows such a line.
fn follows(splat: &Splat) -> bool {
    matches!(splat.kind, SplatKind::Bug | SplatKind::Warning | SplatKind::InvalidOpcode)
        && splat.source.as_ref().is_some_and(|source| {
            ["jump_label.c", "static_call.c", "ftrace.c", "alternative.c"]
                .iter()
                .any(|file| source.file.ends_with(file))
        })
}

fn patching(case: &Case<'_>, out: &mut Vec<Finding>) {
    let Some(event) = events(case, EventKind::CodePatching).next() else { return };
    let splat = case.splats.iter().position(follows);
    let place = ["unexpected op at", "insn opcode", "modifying", "failed to modify", "writing"]
        .iter()
        .find_map(|mark| word_after(&event.text, mark))
        .filter(|place| place.contains('+'))
        .and_then(symbol);
    let what = if event.text.contains("jump_label") {
        "a jump label"
    } else if event.text.contains("static call") {
        "a static call"
    } else {
        "a function for tracing"
    };
    let mut draft = Draft::new(PATCHING.name, Class::TextCorruption, if splat.is_some() { PROVEN } else { STRONG })
        .function(place)
        .title_in("kernel text is not what is to be patched")
        .claim_in(format!("The kernel was to patch {what} and found other bytes than it had put there,"))
        .says(&event.text)
        .against("Two that patch the same place at once, a module of another build and a damaged page of text look alike.")
        .advice("Compare the code with the built kernel (kdive: text-check), and look who patches there: kprobes, ftrace, live patches, BPF.");
    if let Some(index) = splat {
        draft = draft.splat(index);
    }
    draft.push(out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_module_is_named_however_the_line_names_it() {
        for (text, name) in [
            ("foo: version magic '6.1.0-1 SMP ' should be '6.1.0-2 SMP '", Some("foo")),
            ("failed to validate module [overlay] BTF: -22", Some("overlay")),
            ("something went wrong: foo", None),
        ] {
            assert_eq!(module(text), name, "{text}");
        }
    }
}
