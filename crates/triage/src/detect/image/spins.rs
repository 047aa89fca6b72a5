//! Processors that spin for a lock which is not released.

use kdive_linux::locking::{LockKind, Locks, Wait};

use super::{blamed, guilty, is_locked_up, person};
use crate::blame::Mode;
use crate::case::Case;
use crate::class::Class;
use crate::detect::Detector;
use crate::finding::{Culprit, Evidence, Finding};
use crate::image::lock_name;

/// Spinlocks.
pub(in crate::detect) const SPINLOCK: Detector = Detector {
    name: "spinlock-in-memory",
    claim: "a processor spins for a lock whose holder does not release it",
    run: spinlock,
};

fn spinlock(case: &Case<'_>, findings: &mut Vec<Finding>) {
    let Some(kernel) = case.image else { return };
    let spins: Vec<&Wait> =
        Locks::find(kernel).waits.iter().filter(|wait| wait.kind == LockKind::Spinlock).collect();
    // A task that waits for what it holds itself never ends: it explains the others.
    let itself = |wait: &&&Wait| wait.holders.iter().any(|holder| holder.task.task == wait.task.task);
    let Some(wait) = spins
        .iter()
        .find(itself)
        .or_else(|| spins.iter().find(|wait| !wait.holders.is_empty()))
        .or(spins.first())
    else {
        return;
    };
    let is_itself = itself(&wait);
    let holder = wait.holders.iter().find(|holder| holder.sure).or_else(|| wait.holders.first());
    let blamed_task = holder.map_or(wait.task.task, |holder| holder.task.task);
    let culprit = blamed(
        guilty(kernel, blamed_task, Mode::Stall),
        Culprit {
            function: wait.function.clone(),
            task: Some(holder.map_or_else(|| person(&wait.task), |holder| person(&holder.task))),
            object: Some(lock_name(wait)),
            ..Culprit::default()
        },
    );
    let cpu = wait.cpu.map(|cpu| format!("CPU {cpu}")).unwrap_or_else(|| "a processor".into());
    let lock = lock_name(wait);
    let claim = match holder {
        _ if is_itself => format!("{cpu} spins for {lock}, which {} holds itself", person(&wait.task)),
        Some(holder) => format!("{cpu} spins for {lock}, held by {}", person(&holder.task)),
        None => format!("{cpu} spins for {lock}; its holder is not known"),
    };
    let locked_up = is_locked_up(case);
    let score = match (is_itself, locked_up, holder.is_some()) {
        (true, true, _) => 92,
        (true, false, _) => 60,
        (false, true, true) => 80,
        (false, true, false) => 62,
        // Locks are contended for moments on any machine.
        (false, false, _) => 15,
    };
    let mut supports = vec![Evidence::shown(claim.clone(), "locks")];
    if let Some(word) = wait.word.filter(|word| word.locked) {
        supports.push(Evidence::shown(format!("the lock's word is {:#x}: it is held", word.value), "locks"));
    }
    supports.extend(holder.into_iter().flat_map(|holder| {
        let words = holder.evidence.iter().map(|evidence| evidence.words());
        words
            .map(|words| Evidence::shown(format!("{}: {words}", person(&holder.task)), "locks"))
            .collect::<Vec<_>>()
    }));
    let against = match locked_up {
        true => Vec::new(),
        false => vec![Evidence::seen("no watchdog complained: it may have been a passing state")],
    };
    findings.push(Finding {
        detector: SPINLOCK.name,
        class: Class::SpinlockHang,
        title: format!("BUG: spinlock lockup in {}", culprit.function.as_deref().unwrap_or("?")),
        claim,
        score,
        culprit,
        supports,
        against,
        advice: Vec::new(),
        splat: None,
    });
}
