//! What watchdogs say: lockups, stalls, hung tasks, stuck work, processors that do not answer.

use kdive_evidence::{Splat, SplatKind as Kind};

use crate::text::openings::{Opening, plain};
use crate::text::scan::{after, decimal, number_after};

pub(super) const OPENINGS: &[Opening] = &[
    Opening { phrase: "BUG: soft lockup", kind: Kind::SoftLockup, read: lockup },
    Opening { phrase: "hard LOCKUP on cpu", kind: Kind::HardLockup, read: lockup },
    Opening {
        phrase: "Hard LOCKUP",
        kind: Kind::HardLockup,
        read: |text, splat| !text.contains("anic") && lockup(text, splat),
    },
    Opening {
        phrase: "hard LOCKUP",
        kind: Kind::HardLockup,
        read: |text, splat| !text.contains("anic") && lockup(text, splat),
    },
    Opening { phrase: "NMI Watchdog detected LOCKUP", kind: Kind::HardLockup, read: lockup },
    plain("self-detected stall on CPU", Kind::RcuStall),
    plain("detected stalls on CPUs/tasks", Kind::RcuStall),
    plain("detected expedited stalls on CPUs/tasks", Kind::RcuStall),
    plain("detected stalls on tasks", Kind::RcuStall),
    plain("_state detected stalls", Kind::RcuStall),
    Opening { phrase: "detected stall on CPU", kind: Kind::RcuStall, read: lockup },
    plain("kthread starved for", Kind::RcuStall),
    plain("kthread timer wakeup didn't happen for", Kind::RcuStall),
    Opening { phrase: "blocked for more than", kind: Kind::HungTask, read: hung },
    Opening { phrase: "blocked in I/O wait for more than", kind: Kind::HungTask, read: hung },
    plain("BUG: workqueue lockup", Kind::WorkqueueLockup),
    Opening { phrase: "non-responsive CSD lock", kind: Kind::CsdLock, read: lockup },
    Opening { phrase: "CSD lock (#", kind: Kind::CsdLock, read: |text, _| !text.contains("got unstuck") },
];

/// The processor and, in brackets, the task: `CPU#1 stuck for 22s! [comm:123]`.
fn lockup(text: &str, splat: &mut Splat) -> bool {
    let cpu = ["on CPU#", "CPU#", "on cpu ", "on CPU ", "CPU=", "on CPU", "CPU "]
        .iter()
        .find_map(|mark| number_after(text, mark));
    splat.cpu = cpu.and_then(|cpu| u32::try_from(cpu).ok());
    task(text.rsplit_once('[').map(|(_, task)| task.trim_end_matches(']')), splat);
    true
}

/// `INFO: task kworker/0:1:123 blocked for more than 120 seconds.`
fn hung(text: &str, splat: &mut Splat) -> bool {
    let named = after(text, "task ").and_then(|rest| rest.split_once(" blocked")).map(|(named, _)| named);
    // Since 6.13 a writer and the like may be told between.
    task(named.map(|named| named.split_once(" <").map_or(named, |(named, _)| named)), splat);
    splat.pid.is_some()
}

/// `comm:123`: names may have colons.
fn task(text: Option<&str>, splat: &mut Splat) {
    let Some((comm, pid)) = text.and_then(|text| text.rsplit_once(':')) else { return };
    if let Some((pid, "")) = decimal(pid) {
        splat.comm = Some(comm.to_owned());
        splat.pid = i32::try_from(pid).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::openings;

    #[test]
    fn watchdogs_name_processor_and_task() {
        for (text, kind, cpu, comm, pid) in [
            (
                "BUG: soft lockup - CPU#1 stuck for 22s! [kworker/1:2:123]",
                Kind::SoftLockup,
                Some(1),
                Some("kworker/1:2"),
                Some(123),
            ),
            (
                "watchdog: BUG: soft lockup - CPU#10 stuck for 26s! [a b:7]",
                Kind::SoftLockup,
                Some(10),
                Some("a b"),
                Some(7),
            ),
            ("BUG: soft lockup detected on CPU#3!", Kind::SoftLockup, Some(3), None, None),
            ("NMI watchdog: Watchdog detected hard LOCKUP on cpu 5", Kind::HardLockup, Some(5), None, None),
            ("watchdog: CPU2: Watchdog detected hard LOCKUP on cpu 2", Kind::HardLockup, Some(2), None, None),
            ("NMI Watchdog detected LOCKUP, CPU=0, registers:", Kind::HardLockup, Some(0), None, None),
            (
                "NMI Watchdog detected LOCKUP on CPU1, eip c0123456, registers:",
                Kind::HardLockup,
                Some(1),
                None,
                None,
            ),
            ("rcu: INFO: rcu_preempt self-detected stall on CPU", Kind::RcuStall, None, None, None),
            (
                "INFO: rcu_sched detected stalls on CPUs/tasks: { 1} (detected by 0, t=60002 jiffies)",
                Kind::RcuStall,
                None,
                None,
                None,
            ),
            (
                "INFO: task jbd2/sda1-8:42 blocked for more than 120 seconds.",
                Kind::HungTask,
                None,
                Some("jbd2/sda1-8"),
                Some(42),
            ),
            (
                "INFO: task a:42 <writer> blocked for more than 120 seconds.",
                Kind::HungTask,
                None,
                Some("a"),
                Some(42),
            ),
            (
                "smp: csd: Detected non-responsive CSD lock (#1) on CPU#0, waiting 5000000042 ns for CPU#02 f+0x0/0x1(0x0).",
                Kind::CsdLock,
                Some(0),
                None,
                None,
            ),
        ] {
            let splat = openings::of(text, &openings::meanings(text)).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(
                (splat.kind, splat.cpu, splat.comm.as_deref(), splat.pid),
                (kind, cpu, comm, pid),
                "{text}"
            );
        }
    }
}
