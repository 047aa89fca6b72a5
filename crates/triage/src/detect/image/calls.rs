//! Processors that do not answer: calls that others wait for, and grace periods of RCU that they hold out.

use kdive_linux::rcu::Rcu;
use kdive_linux::smp::{self, CpuCalls};
use kdive_linux::tasks::Tasks;

use super::{blamed, guilty, is_locked_up, long, person};
use crate::blame::Mode;
use crate::case::Case;
use crate::class::Class;
use crate::detect::Detector;
use crate::finding::{Culprit, Evidence, Finding};

/// Calls from processor to processor.
pub(in crate::detect) const DEAF: Detector = Detector {
    name: "deaf-cpu-in-memory",
    claim: "a processor with interrupts off does not answer a call that another waits for",
    run: deaf,
};

/// Grace periods.
pub(in crate::detect) const RCU: Detector = Detector {
    name: "rcu-stall-in-memory",
    claim: "a reader or a processor keeps a grace period of RCU from its end",
    run: rcu,
};

fn deaf(case: &Case<'_>, findings: &mut Vec<Finding>) {
    let Some(kernel) = case.image else { return };
    let calls = smp::calls(kernel);
    let Some(waiter) = calls.iter().find(|cpu| cpu.waits_in.is_some()) else { return };
    let is_deaf = |cpu: &&CpuCalls| cpu.cpu != waiter.cpu && !cpu.pending.is_empty() && !cpu.idle;
    let Some(deaf) = calls.iter().find(is_deaf) else { return };
    let culprit = blamed(
        deaf.task.as_ref().and_then(|task| guilty(kernel, task.task, Mode::Stall)),
        Culprit {
            function: deaf.function.clone(),
            task: deaf.task.as_ref().map(person),
            object: Some(format!("CPU {}", deaf.cpu)),
            ..Culprit::default()
        },
    );
    let function = culprit.function.as_deref().unwrap_or("?");
    let off = deaf.interrupts_off == Some(true);
    let how = if off { " with interrupts off" } else { "" };
    let claim = format!(
        "CPU {} waits for CPU {} to answer a call, and that is in {function}{how}",
        waiter.cpu, deaf.cpu
    );
    let locked_up = is_locked_up(case);
    let mut supports = vec![Evidence::shown(claim.clone(), "smp")];
    if off {
        supports.push(Evidence::shown(
            format!("CPU {} has interrupts off in {function}", deaf.cpu),
            format!("bt -c {}", deaf.cpu),
        ));
    }
    findings.push(Finding {
        detector: DEAF.name,
        class: Class::CpuUnresponsive,
        title: format!("BUG: CPU {} does not answer in {function}", deaf.cpu),
        claim,
        score: match (locked_up, off) {
            (true, true) => 90,
            (true, false) => 70,
            // Calls are answered within microseconds: a dump may fall into one.
            (false, _) => 15,
        },
        culprit,
        supports,
        against: Vec::new(),
        advice: Vec::new(),
        splat: None,
    });
}

fn rcu(case: &Case<'_>, findings: &mut Vec<Finding>) {
    let Some(kernel) = case.image else { return };
    let Ok(rcu) = Rcu::find(kernel) else { return };
    let period = &rcu.period;
    if !period.stalled {
        return;
    }
    let tasks = Tasks::find(kernel);
    let is_idle =
        |task: &kdive_linux::tasks::TaskName| tasks.at(task.task).is_some_and(|task| tasks.is_idle(task));
    let holdout = period.holdouts.iter().find(|of| of.task.as_ref().is_some_and(|task| !is_idle(task)));
    let Some((holdout, task)) = holdout.and_then(|of| Some((of, of.task.as_ref()?))) else { return };
    let culprit = blamed(
        guilty(kernel, task.task, if holdout.cpu.is_some() { Mode::Stall } else { Mode::Blocked }),
        Culprit {
            task: Some(person(task)),
            object: holdout.cpu.map(|cpu| format!("CPU {cpu}")),
            ..Culprit::default()
        },
    );
    let function = culprit.function.as_deref().unwrap_or("?");
    let age = period.age_ns.map(|age| format!(" for {}", long(age))).unwrap_or_default();
    let claim = format!("a grace period of RCU has not ended{age}: {} is in {function}", person(task));
    let pid = task.pid.map_or_else(|| format!("{:#}", task.task), |pid| pid.to_string());
    findings.push(Finding {
        detector: RCU.name,
        class: Class::RcuStall,
        title: format!("INFO: rcu detected stall in {function}"),
        supports: vec![
            Evidence::shown(claim.clone(), "rcu"),
            Evidence::shown(format!("{} is in {function}", person(task)), format!("bt {pid}")),
        ],
        claim,
        score: 80,
        culprit,
        against: Vec::new(),
        advice: Vec::new(),
        splat: None,
    });
}
