//! RCU Tasks (kernel/rcu/tasks.h): a grace period ends when each task has given up its processor of its own will, or was
//! seen in user mode or idle.

use kdive_base::VirtAddr;
use kdive_target::{Field, Kernel, Load};
use serde::Serialize;

use super::{SEQ_STATE, SEQ_STATE_BITS};
use crate::tasks::{TaskName, Tasks};
use crate::time::{jiffies, jiffies_to_ns};

#[derive(Load)]
#[load(type = "rcu_tasks")]
struct Raw {
    tasks_gp_seq: Field<u64>,
    gp_start: Field<u64>,
    kthread_ptr: Field<VirtAddr>,
}

#[derive(Load)]
#[load(type = "task_struct")]
struct Held {
    rcu_tasks_holdout: Field<u8>,
}

/// One flavour of RCU Tasks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RcuTasks {
    /// `rcu_tasks`, `rcu_tasks_rude`, `rcu_tasks_trace`.
    pub flavour: &'static str,
    /// The number of its grace period, or of the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<i64>,
    /// Whether one is under way.
    pub in_progress: bool,
    /// How long ago that began, in nanoseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_ns: Option<u64>,
    /// Its thread.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thread: Option<TaskName>,
    /// The tasks that it waits for, where the kernel marks them.
    pub holdouts: Vec<TaskName>,
}

const FLAVOURS: [&str; 3] = ["rcu_tasks", "rcu_tasks_rude", "rcu_tasks_trace"];

impl RcuTasks {
    /// The flavours that this kernel has.
    #[must_use]
    pub fn find(kernel: &Kernel) -> Vec<Self> {
        FLAVOURS.into_iter().filter_map(|flavour| Self::of(kernel, flavour).ok()).collect()
    }

    fn of(kernel: &Kernel, flavour: &'static str) -> Field<Self> {
        let raw: Raw = kernel.load(kernel.symbol(flavour)?);
        let sequence = raw.tasks_gp_seq?;
        let in_progress = sequence & SEQ_STATE != 0;
        let tasks = Tasks::find(kernel);
        let age = || {
            let ticks = jiffies(kernel).ok()?.wrapping_sub(raw.gp_start.clone().ok()?);
            jiffies_to_ns(kernel, ticks).ok().filter(|_| in_progress && ticks >> 63 == 0)
        };
        let holdouts = match flavour == "rcu_tasks" && in_progress {
            true => holdouts(kernel, &tasks),
            false => Vec::new(),
        };
        Ok(Self {
            flavour,
            number: Some(sequence as i64 >> SEQ_STATE_BITS),
            in_progress,
            age_ns: age(),
            thread: raw.kthread_ptr.ok().and_then(|at| TaskName::at(&tasks, at)),
            holdouts,
        })
    }
}

/// The tasks that were running when the grace period began, and have not switched since.
fn holdouts(kernel: &Kernel, tasks: &Tasks) -> Vec<TaskName> {
    let loader = kernel.loader::<Held>();
    let held =
        tasks.all().iter().filter(|task| loader.load(task.at).rcu_tasks_holdout.is_ok_and(|held| held != 0));
    held.map(TaskName::of).collect()
}
