//! Locks: lockdep's reports, the debug checks of spinlocks, and sleeping where it is not allowed.

use kdive_evidence::{Splat, SplatKind};

use super::Detector;
use super::assertion::is_bug;
use super::support::{
    Draft, HINT, LIKELY, POSSIBLE, PROVEN, STRONG, hex_after, line, says, splats, task_of, triggered,
    word_after,
};
use crate::blame::{self, Mode, Role};
use crate::case::{Case, TriggerKind};
use crate::class::Class;
use crate::finding::Finding;

pub(super) const LOCKDEP: Detector = Detector {
    name: "lockdep",
    claim: "Lockdep found an order or a use of locks that can deadlock.",
    run: lockdep,
};

pub(super) const SPINLOCK_DEBUG: Detector = Detector {
    name: "spinlock-debug",
    claim: "A debug check found that a spinlock is no lock, or that its holder takes it again.",
    run: spinlock_debug,
};

pub(super) const ATOMIC: Detector = Detector {
    name: "sleep-in-atomic",
    claim: "Code slept, or might have slept, where it must not.",
    run: atomic,
};

/// Whether a splat is a debug check of a lock.
pub(super) fn concerns(splat: &Splat) -> bool {
    splat.kind == SplatKind::SpinlockDebug || is_lock_source(splat)
}

/// `kernel BUG at include/asm/spinlock.h:146!`: kernels before 2.6.18 check with `BUG_ON` in their headers.
fn is_lock_source(splat: &Splat) -> bool {
    is_bug(splat)
        && splat.source.as_ref().is_some_and(|source| {
            let file = source.file.as_str();
            file.contains("spinlock")
                || file.contains("rwlock")
                || file.contains("locking/")
                || file.ends_with("rwsem.c")
                || file.ends_with("mutex.c")
        })
}

fn lockdep(case: &Case<'_>, out: &mut Vec<Finding>) {
    let fatal = triggered(case, TriggerKind::PanicOnWarn);
    for (index, splat) in splats(case, &[SplatKind::Lockdep]) {
        let text = |needle: &str| says(splat, needle);
        let (class, score, title, claim) = if text("suspicious RCU usage") {
            (
                Class::Warning,
                HINT,
                "WARNING: suspicious RCU usage",
                "RCU-protected data was read without protection",
            )
        } else if text("bad unlock balance") || text("bad contention") {
            (
                Class::LockCorruption,
                LIKELY,
                "WARNING: bad unlock balance",
                "A lock was released that is not held",
            )
        } else if text("held lock freed") {
            (
                Class::UseAfterFree,
                LIKELY,
                "WARNING: held lock freed",
                "Memory was freed with a held lock in it",
            )
        } else if text("still has locks held")
            || text("lock held when returning")
            || text("leaving the kernel with locks still held")
        {
            (
                Class::PossibleDeadlock,
                LIKELY,
                "WARNING: lock held when returning to user space",
                "A lock was not released: whoever wants it next waits for ever",
            )
        } else if text("non-static key") {
            (
                Class::LockCorruption,
                POSSIBLE,
                "INFO: trying to register non-static key",
                "A lock was used that was never initialised",
            )
        } else if text("recursive locking") {
            (
                Class::PossibleDeadlock,
                POSSIBLE + 10,
                "possible deadlock",
                "A task takes a lock that it may hold already",
            )
        } else if text("inconsistent lock state") {
            (
                Class::PossibleDeadlock,
                POSSIBLE,
                "inconsistent lock state",
                "A lock is taken both with interrupts on and inside of an interrupt",
            )
        } else {
            (Class::PossibleDeadlock, POSSIBLE, "possible deadlock", "Locks are taken in opposite orders")
        };
        let hung = case.splats.iter().any(|splat| {
            matches!(splat.kind, SplatKind::HungTask | SplatKind::SoftLockup | SplatKind::HardLockup)
        });
        let score = if hung || fatal { score.max(LIKELY) } else { score };
        let lock = line(splat, "is trying to acquire lock").and_then(|_| locks(splat).next());
        Draft::new(LOCKDEP.name, class, score)
            .at(index, splat, Mode::Blocked)
            .object(lock)
            .task(task_of(splat))
            .title_in(title)
            .claim_in(claim)
            .says(&splat.message)
            .seen_if(hung, "A hang followed in the same log.")
            .against_if(!hung, "Lockdep tells what could happen: nothing in the log shows that it did.")
            .push(out);
    }
}

/// Names of locks in `ffff... (&name){+.+.}-{3:3}, at: f+0x1/0x2`.
fn locks(splat: &Splat) -> impl Iterator<Item = String> {
    splat.details.iter().filter(|line| line.contains("){")).filter_map(|line| {
        let inside = line.split_once('(')?.1.split_once("){")?.0;
        Some(inside.trim_start_matches('(').to_owned())
    })
}

fn spinlock_debug(case: &Case<'_>, out: &mut Vec<Finding>) {
    for (index, splat) in case.splats.iter().enumerate().filter(|(_, splat)| concerns(splat)) {
        let text = |needle: &str| says(splat, needle);
        let (class, score, title, claim) = if text("recursion") {
            (
                Class::Deadlock,
                PROVEN,
                "BUG: spinlock recursion",
                "A processor took a spinlock that it holds itself",
            )
        } else if text("lockup suspected") || text("lockup on CPU") {
            (
                Class::SpinlockHang,
                STRONG,
                "BUG: spinlock lockup suspected",
                "A spinlock was not released for long",
            )
        } else if text("already unlocked") || text("wrong owner") || text("wrong CPU") {
            (
                Class::LockCorruption,
                STRONG,
                "BUG: spinlock is not held by its releaser",
                "A spinlock was released by somebody who does not hold it",
            )
        } else if text("bad magic") || text("uninitialized") {
            (
                Class::LockCorruption,
                PROVEN,
                "BUG: spinlock bad magic",
                "A spinlock is no lock: it was never initialised, or its memory is overwritten or freed",
            )
        } else {
            (
                Class::LockCorruption,
                STRONG,
                "",
                "A debug check of a lock failed: the lock is corrupted, freed or was never initialised",
            )
        };
        let mut draft = Draft::new(SPINLOCK_DEBUG.name, class, score).at(index, splat, Mode::Fault);
        let title = match &splat.source {
            Some(source) if title.is_empty() => format!("kernel BUG at {}:{}", source.file, source.line),
            _ if title.is_empty() => "BUG: spinlock bad magic".to_owned(),
            _ => title.to_owned(),
        };
        draft = draft.title_in(title).claim_in(claim).says(&splat.message);
        if let Some(owner) = line(splat, ".owner:")
            .and_then(|text| word_after(text, ".owner:"))
            .filter(|owner| *owner != "<none>/-1")
        {
            draft = draft.seen(format!("The lock names {owner} as its owner."));
        }
        if let Some(magic) = line(splat, ".magic:").and_then(|text| hex_after(text, ".magic:")) {
            draft = draft.seen_if(
                magic != 0xdead_4ead,
                format!("The lock's magic is {magic:08x} instead of dead4ead."),
            );
        }
        draft.advice("Look at what the lock is part of: an object that was freed, or never initialised, brings such a lock.").push(out);
    }
}

fn atomic(case: &Case<'_>, out: &mut Vec<Finding>) {
    for (index, splat) in splats(case, &[SplatKind::AtomicSchedule]) {
        let slept = says(splat, "scheduling while atomic") || says(splat, "scheduling from the idle thread");
        let score = if slept || triggered(case, TriggerKind::PanicOnWarn) { STRONG - 4 } else { POSSIBLE };
        let title = if says(splat, "scheduling from the idle") {
            "bad: scheduling from the idle thread"
        } else if slept {
            "BUG: scheduling while atomic"
        } else if says(splat, "sleeping function called") {
            "BUG: sleeping function called from invalid context"
        } else {
            "BUG: using per-CPU data in preemptible code"
        };
        let mut draft = Draft::new(ATOMIC.name, Class::SleepInAtomic, score).at(index, splat, Mode::Blocked);
        draft = draft
            .title_in(title)
            .claim_in(if slept {
                "Code slept where it must not"
            } else {
                "Code that may sleep was called where it must not"
            })
            .says(&splat.message);
        // `scheduling while atomic: comm/pid/0x00000002`
        let count = splat.message.rsplit('/').next().filter(|_| slept).and_then(super::support::hex);
        if let Some(count) = count {
            draft = draft.seen(format!("The preemption count was {count:#x}: {}.", preempt_count(count)));
        }
        if let Some(text) = line(splat, "in_atomic():") {
            draft = draft.says(text);
        }
        if let Some(text) = line(splat, "Preemption disabled at") {
            draft = draft.says(text);
        }
        let holder = blame::steps(splat)
            .into_iter()
            .find(|step| step.role == Role::Lock)
            .map(|step| step.name.to_owned());
        draft = draft.seen_if(holder.is_some(), format!("The sleep is in {}.", holder.unwrap_or_default()));
        draft.push(out);
    }
}

/// The parts of `preempt_count`, in words (`include/linux/preempt.h`).
fn preempt_count(count: u64) -> String {
    let parts = [
        (count & 0xff, "spinlocks or preempt_disable()"),
        (count >> 8 & 0xff, "soft interrupts off or served"),
        (count >> 16 & 0xf, "hard interrupts served"),
        (count >> 20 & 0xf, "NMIs served"),
    ];
    let words: Vec<String> = parts
        .iter()
        .filter(|(value, _)| *value > 0)
        .map(|(value, what)| format!("{value} × {what}"))
        .collect();
    if words.is_empty() { "nothing".to_owned() } else { words.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preemption_count_is_told_by_its_parts() {
        assert_eq!(preempt_count(0x2), "2 × spinlocks or preempt_disable()");
        assert_eq!(
            preempt_count(0x10101),
            "1 × spinlocks or preempt_disable(), 1 × soft interrupts off or served, 1 × hard interrupts served"
        );
    }
}
