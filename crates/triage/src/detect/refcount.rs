//! Reference counts.

use kdive_evidence::{Splat, SplatKind};

use super::Detector;
use super::support::{Draft, PROVEN, STRONG, line};
use crate::blame::Mode;
use crate::case::Case;
use crate::class::Class;
use crate::finding::Finding;

pub(super) const REFCOUNT: Detector = Detector {
    name: "refcount",
    claim: "A reference count fell below zero, was raised from zero or saturated.",
    run,
};

/// Whether a splat is a check of `refcount_t`.
pub(super) fn concerns(splat: &Splat) -> bool {
    splat.kind == SplatKind::Refcount || line(splat, "refcount_t:").is_some()
}

fn run(case: &Case<'_>, out: &mut Vec<Finding>) {
    for (index, splat) in case.splats.iter().enumerate().filter(|(_, splat)| concerns(splat)) {
        let message = line(splat, "refcount_t:").unwrap_or(&splat.message);
        let (score, claim, why) = if message.contains("underflow") {
            (
                PROVEN,
                "A reference was given back once too often",
                "The count fell below zero: whoever holds the object still uses what is freed.",
            )
        } else if message.contains("addition on 0") || message.contains("increment on 0") {
            (
                PROVEN,
                "A reference was taken to an object that has none left",
                "The count was zero: the object was being freed or is freed already.",
            )
        } else if message.contains("saturated") {
            (
                STRONG,
                "A reference count overflowed, or held garbage",
                "The count reached its upper end: references leak, or the counter's memory holds other data.",
            )
        } else {
            (STRONG, "A reference was lost", "The count reached zero where it must not.")
        };
        Draft::new(REFCOUNT.name, Class::Refcount, score)
            .at(index, splat, Mode::Fault)
            .title_in("WARNING: refcount bug")
            .claim_in(claim)
            .says(message)
            .seen(why)
            .advice("Look for an error path that drops a reference which its caller drops too, or for a lookup that takes no reference.")
            .push(out);
    }
}
