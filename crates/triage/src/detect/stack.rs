//! Kernel stacks: too short, or overwritten.

use kdive_evidence::{Register, Splat, SplatKind};
use rustc_hash::FxHashMap;

use super::Detector;
use super::support::{Draft, LIKELY, NOTE, PROVEN, STRONG, events, says, symbol, word_after};
use crate::blame::{self, Mode, Role};
use crate::case::{Case, EventKind};
use crate::class::Class;
use crate::finding::Finding;

pub(super) const STACK: Detector = Detector {
    name: "stack",
    claim: "A kernel stack was too short, or something on it was overwritten.",
    run,
};

pub(super) const UNWINDER: Detector = Detector {
    name: "unwinder",
    claim: "The kernel's unwinder found frames that do not fit together.",
    run: unwinder,
};

fn unwinder(case: &Case<'_>, out: &mut Vec<Finding>) {
    let Some(event) = events(case, EventKind::Unwinder).next() else { return };
    Draft::new(UNWINDER.name, Class::StackCorruption, NOTE)
        .title("WARNING: kernel stack is not as the unwinder expects")
        .claim("The kernel's unwinder found frames that do not fit together: traces near it may lack frames.")
        .says(&event.text)
        .against("Assembly without unwind data and stacks read while their task runs look so too: most often nothing is damaged.")
        .push(out);
}

/// Whether a splat is about a stack.
pub(super) fn concerns(splat: &Splat) -> bool {
    matches!(
        splat.kind,
        SplatKind::StackGuard | SplatKind::StackEnd | SplatKind::StackProtector | SplatKind::DoubleFault
    ) || [
        "stack-protector: Kernel stack is corrupted",
        "corrupted stack end detected",
        "stack guard page was hit",
        "Kernel stack overflow",
        "kernel stack overflow",
        "Insufficient stack space",
    ]
    .iter()
    .any(|text| says(splat, text))
}

fn run(case: &Case<'_>, out: &mut Vec<Finding>) {
    for (index, splat) in case.splats.iter().enumerate().filter(|(_, splat)| concerns(splat)) {
        if splat.kind == SplatKind::StackProtector || says(splat, "stack-protector:") {
            protector(index, splat, out);
        } else if splat.kind == SplatKind::StackEnd || says(splat, "corrupted stack end") {
            stack_end(index, splat, out);
        } else {
            overflow_or_double_fault(index, splat, out);
        }
    }
}

fn protector(index: usize, splat: &Splat, out: &mut Vec<Finding>) {
    let named = word_after(&splat.message, "is corrupted in:")
        .and_then(symbol)
        .filter(|name| blame::role(name) != Role::CrashPath);
    Draft::new(STACK.name, Class::StackCorruption, PROVEN)
        .at(index, splat, Mode::Fault)
        .function(named)
        .title_in("kernel panic: stack is corrupted")
        .claim_in("A buffer on the kernel stack was overrun")
        .says(&splat.message)
        .seen("The compiler's canary between local variables and the return address had another value when the function returned.")
        .advice("Look for a local array or structure in that function, or in what it passed one to, whose length comes from outside (a packet, an ioctl).")
        .push(out);
}

fn stack_end(index: usize, splat: &Splat, out: &mut Vec<Finding>) {
    let recursion = recursion(splat);
    let deep = splat.frames.len() > 50;
    let (class, claim) = if recursion.is_some() || deep {
        (Class::StackOverflow, "The kernel stack was too short and its end was overwritten")
    } else {
        (Class::StackCorruption, "The end of a kernel stack was overwritten")
    };
    let mut draft = Draft::new(STACK.name, class, STRONG).at(index, splat, Mode::Fault);
    if let Some((name, _)) = &recursion {
        draft = draft.function(Some(name.clone()));
    }
    draft = draft
        .title_in("kernel panic: corrupted stack end")
        .claim_in(claim)
        .says(&splat.message)
        .seen("The magic word at the end of the stack is gone; the scheduler looks at it.");
    draft = match recursion {
        Some((name, times)) => draft.seen(format!("{name} is on the stack {times} times.")),
        None if deep => draft.seen(format!("The stack is {} frames deep.", splat.frames.len())),
        None => draft.against("The stack shown is not deep: who overwrote its end may have returned long ago, or wrote there by a wild pointer."),
    };
    draft.push(out);
}

fn overflow_or_double_fault(index: usize, splat: &Splat, out: &mut Vec<Finding>) {
    let recursion = recursion(splat);
    let guard = splat.kind == SplatKind::StackGuard
        || says(splat, "stack guard page")
        || says(splat, "stack overflow")
        || says(splat, "Insufficient stack space");
    let sp = splat.registers.get(Register::Rsp);
    // The access that failed lay just below the stack pointer.
    let below = sp
        .zip(splat.address)
        .is_some_and(|(sp, at)| sp.wrapping_sub(at.0) < 0x2000 || at.0.wrapping_sub(sp) < 0x100);
    if !guard && recursion.is_none() && !below {
        return Draft::new(STACK.name, Class::DoubleFault, LIKELY + 8)
            .at(index, splat, Mode::Fault)
            .title_in("PANIC: double fault")
            .claim_in("An exception could not be delivered (double fault)")
            .says(&splat.message)
            .seen("Nothing tells of a stack that was too short: the stack pointer, a segment or a descriptor table was bad when an exception came.")
            .push(out);
    }
    let mut draft = Draft::new(
        STACK.name,
        Class::StackOverflow,
        if guard || recursion.is_some() { PROVEN } else { STRONG },
    )
    .at(index, splat, Mode::Fault);
    if let Some((name, _)) = &recursion {
        draft = draft.function(Some(name.clone()));
    }
    draft = draft
        .title_in("BUG: stack guard page was hit")
        .claim_in("The kernel stack was too short")
        .says(&splat.message);
    if let Some((name, times)) = recursion {
        draft = draft.seen(format!("{name} is on the stack {times} times: it calls itself without end."));
    }
    draft
        .seen_if(guard, "The page below the stack was hit, which is left unmapped for this.")
        .seen_if(below, "The address that failed lies at the stack pointer.")
        .push(out);
}

/// The function that is on the stack most often, three times at least, and how often.
fn recursion(splat: &Splat) -> Option<(String, usize)> {
    let mut counts: FxHashMap<&str, usize> = FxHashMap::default();
    let places = splat.ip.iter().chain(
        splat
            .frames
            .iter()
            .filter(|frame| frame.trust != kdive_evidence::FrameTrust::PrintedUnsure)
            .map(|frame| &frame.place),
    );
    let names = places
        .filter_map(|place| place.function.as_deref())
        .map(blame::plain)
        .filter(|name| blame::role(name) == Role::Ordinary);
    let mut order = Vec::new();
    for name in names {
        let count = counts.entry(name).or_default();
        *count = count.saturating_add(1);
        if *count == 1 {
            order.push(name);
        }
    }
    let most = order
        .iter()
        .filter_map(|name| Some((*name, *counts.get(name)?)))
        .rev()
        .max_by_key(|&(_, count)| count)?;
    (most.1 >= 3).then(|| (most.0.to_owned(), most.1))
}
