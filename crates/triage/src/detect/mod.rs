//! The detectors: each states one claim and looks for what speaks for and against it.
//!
//! A detector is a file here and a line in [`DETECTORS`]. It reads the [`Case`], and where there is an image it may ask
//! [`Case::image`] for proof. It says nothing when its claim has no support.

mod assertion;
mod boot;
mod callback;
mod clock;
mod fault;
mod flip;
mod guest;
mod hardware;
mod hung;
mod image;
mod list;
mod lock;
mod lockup;
mod memory;
mod module;
mod net;
mod operator;
mod overwrite;
mod page;
mod pool;
mod refcount;
mod sanitizer;
mod slab;
mod stack;
mod support;
mod trap;

use crate::case::Case;
use crate::finding::Finding;

/// A rule.
pub struct Detector {
    /// Its name, in kebab-case: it stands in every finding that it makes.
    pub name: &'static str,
    /// What it claims, in one sentence.
    pub claim: &'static str,
    /// Looks at a case.
    pub run: fn(&Case<'_>, &mut Vec<Finding>),
}

/// All detectors.
pub static DETECTORS: &[Detector] = &[
    sanitizer::SANITIZER,
    list::LIST_CORRUPTION,
    refcount::REFCOUNT,
    slab::SLAB,
    slab::FREE_LIST,
    stack::STACK,
    stack::UNWINDER,
    lock::SPINLOCK_DEBUG,
    lock::LOCKDEP,
    lock::ATOMIC,
    callback::OBJECT_DEBUG,
    callback::UNLOADED,
    callback::CALLBACK,
    fault::ACCESS,
    fault::JUMP,
    flip::FLIPPED_POINTER,
    overwrite::TEXT,
    page::PAGE,
    page::REPEATED,
    lockup::LOCKUP,
    lockup::RCU_STALL,
    lockup::UNANSWERED_CALL,
    lockup::STUCK_WORK,
    lockup::CPU_HOTPLUG,
    hung::HUNG,
    hung::CIRCLE,
    trap::TRAP,
    trap::IMPOSSIBLE,
    memory::OUT_OF_MEMORY,
    memory::LOW_MEMORY,
    memory::ALLOCATION,
    memory::RECLAIM,
    memory::LIMIT,
    pool::POOL,
    pool::LEAK,
    hardware::MACHINE_CHECK,
    hardware::REPORTED,
    hardware::DEVICE,
    boot::INIT,
    boot::BOOT,
    boot::POWER,
    boot::FILESYSTEM,
    boot::BUSY,
    module::MISMATCH,
    module::LIVE_PATCH,
    module::PATCHING,
    guest::CONFIDENTIAL,
    guest::EFI,
    net::PACKET,
    net::QUEUE,
    net::DEVICE_REFERENCE,
    clock::CLOCK,
    clock::PAUSE,
    assertion::ASSERTION,
    assertion::PANIC,
    assertion::WARNING,
    operator::EXTERNAL,
    operator::FORCED,
    image::waits::DEADLOCK,
    image::waits::HANG,
    image::spins::SPINLOCK,
    image::calls::DEAF,
    image::calls::RCU,
    image::timers::INTERRUPTS_OFF,
    image::storage::STORAGE,
    image::mapped::MAPPED,
    image::pressure::PRESSURE,
    image::pressure::FRAGMENTATION,
    image::code::CODE,
    image::stacks::STACKS,
    image::objects::FREED,
    image::objects::FLIPPED,
    image::unloaded::UNLOADED,
    image::trigger::TRIGGER,
];

/// All findings on a case, in the order of [`DETECTORS`].
#[must_use]
pub fn run(case: &Case<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for detector in DETECTORS {
        (detector.run)(case, &mut findings);
    }
    for finding in &mut findings {
        finding.claim = sentence(&finding.claim);
        for evidence in finding.supports.iter_mut().chain(&mut finding.against) {
            evidence.text = sentence(&evidence.text);
        }
    }
    findings
}

/// A claim as a sentence: with a capital, unless it begins with a name, and with a full stop.
fn sentence(text: &str) -> String {
    let word = text.split(' ').next().unwrap_or_default();
    let behind = text.get(word.len()..).unwrap_or_default();
    let is_name = word.is_empty()
        || !word.chars().all(|letter| letter.is_ascii_lowercase())
        || behind.starts_with(" (");
    let mut letters = text.chars();
    let mut sentence = match letters.next() {
        Some(first) if !is_name => format!("{}{}", first.to_ascii_uppercase(), letters.as_str()),
        _ => text.to_owned(),
    };
    if !sentence.ends_with(['.', '!', '?', ':']) {
        sentence.push('.');
    }
    sentence
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_sentences() {
        assert_eq!(sentence("one bit differs"), "One bit differs.");
        assert_eq!(sentence("The log says so."), "The log says so.");
        assert_eq!(sentence("abba_one (PID 3) waits"), "abba_one (PID 3) waits.");
        assert_eq!(sentence("insmod (PID 3) waits"), "insmod (PID 3) waits.");
    }
}
