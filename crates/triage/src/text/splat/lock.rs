//! Lockdep, spinlock checks, and sleeping where none is allowed.

use kdive_evidence::{SourceLine, Splat, SplatKind as Kind};

use crate::text::openings::{Opening, plain};
use crate::text::scan::{after, decimal, number_after};

pub(super) const OPENINGS: &[Opening] = &[
    plain("possible circular locking dependency detected", Kind::Lockdep),
    plain("possible recursive locking detected", Kind::Lockdep),
    plain("inconsistent lock state", Kind::Lockdep),
    plain("possible irq lock inversion dependency detected", Kind::Lockdep),
    plain("lock order detected", Kind::Lockdep),
    plain("bad unlock balance detected", Kind::Lockdep),
    plain("bad contention detected", Kind::Lockdep),
    plain("held lock freed!", Kind::Lockdep),
    plain("lock held when returning to user space", Kind::Lockdep),
    plain("still has locks held!", Kind::Lockdep),
    plain("suspicious RCU usage", Kind::Lockdep),
    plain("suspicious rcu_dereference", Kind::Lockdep),
    plain("Invalid wait context", Kind::Lockdep),
    plain("Nested lock was not taken", Kind::Lockdep),
    plain("INFO: trying to register non-static key", Kind::Lockdep),
    plain("workqueue leaked lock", Kind::Lockdep),
    Opening { phrase: "scheduling while atomic", kind: Kind::AtomicSchedule, read: scheduling },
    Opening {
        phrase: "sleeping function called from invalid context",
        kind: Kind::AtomicSchedule,
        read: sleeping,
    },
    plain("bad: scheduling from the idle thread", Kind::AtomicSchedule),
    plain("in preemptible [", Kind::AtomicSchedule),
    plain("huh, entered softirq", Kind::AtomicSchedule),
    Opening { phrase: "BUG: spinlock ", kind: Kind::SpinlockDebug, read: spinlock },
    Opening { phrase: "BUG: rwlock ", kind: Kind::SpinlockDebug, read: spinlock },
    plain("spin_is_locked on uninitialized spinlock", Kind::SpinlockDebug),
    plain(" already locked by ", Kind::SpinlockDebug),
    plain("DEBUG_LOCKS_WARN_ON", Kind::SpinlockDebug),
];

/// `BUG: scheduling while atomic: comm/123/0x00000002`.
fn scheduling(text: &str, splat: &mut Splat) -> bool {
    let task = after(text, "atomic: ").map(|task| task.rsplit_once('/').map_or(task, |(task, _)| task));
    if let Some((comm, pid)) = task.and_then(|task| task.rsplit_once('/')) {
        splat.comm = Some(comm.to_owned());
        splat.pid = decimal(pid).and_then(|(pid, _)| i32::try_from(pid).ok());
    }
    true
}

/// `BUG: sleeping function called from invalid context at mm/slab.h:123`.
fn sleeping(text: &str, splat: &mut Splat) -> bool {
    if let Some((file, line)) = after(text, "context at ").and_then(|place| place.rsplit_once(':')) {
        let line = decimal(line).and_then(|(line, _)| u32::try_from(line).ok());
        splat.source = line.map(|line| SourceLine { file: file.trim_end_matches('(').to_owned(), line });
    }
    true
}

/// `BUG: spinlock bad magic on CPU#0, comm/123`.
fn spinlock(text: &str, splat: &mut Splat) -> bool {
    splat.cpu = number_after(text, "CPU#").and_then(|cpu| u32::try_from(cpu).ok());
    let task = after(text, "CPU#")
        .and_then(|rest| after(rest, ", "))
        .map(|task| task.split(", ").next().unwrap_or(task));
    if let Some((comm, pid)) = task.and_then(|task| task.rsplit_once('/')) {
        splat.comm = Some(comm.to_owned());
        splat.pid = decimal(pid).and_then(|(pid, _)| i32::try_from(pid).ok());
    }
    true
}
