//! Who holds a lock, and how that is known.

use kdive_base::VirtAddr;
use kdive_target::{Field, Kernel, Load};
use rayon::prelude::*;
use rustc_hash::{FxHashMap, FxHashSet};
use serde::Serialize;

use super::kind::LockKind;
use crate::tasks::{LiveWords, TaskName, Tasks};

/// What speaks for a holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Evidence {
    /// The lock names its owner.
    Owner,
    /// The lock names the last task that took it to read; it may have given it back.
    LastReader,
    /// The lock names the last task that took it; it may have given it back.
    LastHolder,
    /// The kernel noted it among the locks that the task holds (`CONFIG_LOCKDEP`).
    Lockdep,
    /// The lock's address stands on the task's stack, where functions keep what they still need.
    OnStack,
    /// A function on its stack has taken the lock before it went on.
    TookIt,
    /// It runs the work item that is waited for.
    Worker,
    /// The processor that runs it has let no grace period pass, which a reader would explain.
    HoldsOut,
    /// It was preempted in a reader that began before the grace period.
    Reader,
    /// It has not given up its processor of its own will since the grace period of RCU Tasks began.
    NoSwitch,
    /// It is the child that borrowed the waiting task's memory.
    VforkChild,
}

impl Evidence {
    /// Whether it alone is proof.
    #[must_use]
    pub fn is_proof(self) -> bool {
        matches!(
            self,
            Self::Owner | Self::Lockdep | Self::Worker | Self::VforkChild | Self::Reader | Self::NoSwitch
        )
    }

    /// In words, behind the name of the task.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Owner => "the lock's owner",
            Self::LastReader => "the last that took it to read",
            Self::LastHolder => "the last that took it",
            Self::Lockdep => "noted by lockdep",
            Self::OnStack => "the lock's address is on its stack",
            Self::TookIt => "a function on its stack took it",
            Self::Worker => "runs the work",
            Self::HoldsOut => "its CPU holds out the grace period",
            Self::Reader => "preempted in a reader",
            Self::NoSwitch => "has not switched since",
            Self::VforkChild => "the child",
        }
    }
}

/// A task that holds a lock, or is likely to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Holder {
    /// The task.
    #[serde(flatten)]
    pub task: TaskName,
    /// What speaks for it.
    pub evidence: Vec<Evidence>,
    /// Whether that is proof.
    pub sure: bool,
}

impl Holder {
    pub(super) fn new(task: TaskName, evidence: Vec<Evidence>) -> Self {
        let sure = evidence.iter().any(|evidence| evidence.is_proof());
        Self { task, evidence, sure }
    }
}

#[derive(Load)]
#[load(type = "mutex")]
struct Mutex {
    owner: Field<u64>,
}

#[derive(Load)]
#[load(type = "rt_mutex_base", type = "rt_mutex")]
struct RtMutex {
    owner: Field<u64>,
}

#[derive(Load)]
#[load(type = "rw_semaphore")]
struct Rwsem {
    count: Field<i64>,
    owner: Field<u64>,
}

#[derive(Load)]
#[load(type = "semaphore")]
struct Semaphore {
    /// 6.16, `CONFIG_DETECT_HUNG_TASK_BLOCKER`.
    last_holder: Field<u64>,
}

/// Flags of an owner's word: `MUTEX_FLAGS`, `RWSEM_OWNER_FLAGS_MASK`, `RT_MUTEX_HAS_WAITERS`.
const OWNER_FLAGS: u64 = 7;
/// `RWSEM_WRITER_LOCKED` (kernel/locking/rwsem.c, 5.3).
const WRITER_LOCKED: i64 = 1;
/// `RWSEM_READER_SHIFT`.
const READER_SHIFT: u32 = 8;

/// How a lock is held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) holders: Vec<Holder>,
    /// Readers inside, where the lock counts them.
    pub(super) readers: Option<u64>,
    /// The stacks of all tasks are to be searched for its address.
    pub(super) search: bool,
}

/// Who a lock says holds it.
///
/// # Errors
/// The lock cannot be read.
pub(super) fn named(kernel: &Kernel, tasks: &Tasks, kind: LockKind, lock: VirtAddr) -> Field<Held> {
    let holder = |word: u64, evidence| {
        let task = TaskName::at(tasks, VirtAddr(word & !OWNER_FLAGS))?;
        Some(Holder::new(task, vec![evidence]))
    };
    let mut held = Held::default();
    match kind {
        LockKind::Mutex | LockKind::WwMutex => {
            held.holders.extend(holder(kernel.load::<Mutex>(lock).owner?, Evidence::Owner));
        }
        LockKind::RtMutex | LockKind::Futex => {
            held.holders.extend(holder(kernel.load::<RtMutex>(lock).owner?, Evidence::Owner));
        }
        LockKind::Rwsem => {
            let Rwsem { count, owner } = kernel.load(lock);
            let count = count?;
            let readers = (count.max(0) as u64) >> READER_SHIFT;
            if count & WRITER_LOCKED != 0 {
                held.holders.extend(holder(owner?, Evidence::Owner));
            } else if readers > 0 {
                held.readers = Some(readers);
                held.search = true;
                held.holders.extend(owner.ok().and_then(|owner| holder(owner, Evidence::LastReader)));
            }
        }
        LockKind::Semaphore => {
            let last = kernel.load::<Semaphore>(lock).last_holder.ok();
            held.holders.extend(last.and_then(|last| holder(last, Evidence::LastHolder)));
            held.search = true;
        }
        LockKind::PercpuRwsem => held.search = true,
        _ => {}
    }
    Ok(held)
}

/// The tasks whose stacks hold the address of one of `locks`, in the order of the list of tasks.
pub(super) fn on_stacks(
    kernel: &Kernel,
    tasks: &Tasks,
    locks: &FxHashSet<VirtAddr>,
) -> FxHashMap<VirtAddr, Vec<TaskName>> {
    let mut found: FxHashMap<VirtAddr, Vec<TaskName>> = FxHashMap::default();
    if locks.is_empty() {
        return found;
    }
    let asleep: Vec<_> = tasks.all().iter().filter(|task| !tasks.is_active(task)).collect();
    let each: Vec<(TaskName, FxHashSet<VirtAddr>)> = asleep
        .into_par_iter()
        .filter_map(|task| {
            let words = LiveWords::of_sleeping(kernel, task).ok()?;
            let held: FxHashSet<_> =
                words.iter().map(|(_, word)| word).filter(|word| locks.contains(word)).collect();
            (!held.is_empty()).then(|| (TaskName::of(task), held))
        })
        .collect();
    for (task, held) in each {
        for lock in held {
            found.entry(lock).or_default().push(task.clone());
        }
    }
    found
}
