//! Tasks that hang, by what they hang on in the end.

use std::cmp::Reverse;

use kdive_base::VirtAddr;
use kdive_target::Kernel;
use rustc_hash::{FxHashMap, FxHashSet};
use serde::Serialize;

use super::{Cycle, LockKind, Locks, Wait};
use crate::tasks::{State, TaskName, Tasks};

/// What tasks hang on in the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "cause", rename_all = "kebab-case")]
pub enum Cause {
    /// Tasks that wait for one another.
    Deadlock {
        /// They.
        cycle: Cycle,
    },
    /// A task that holds what others wait for, and does not wait for a lock itself.
    Holder {
        /// The task.
        #[serde(flatten)]
        task: TaskName,
        /// Its state.
        #[serde(skip_serializing_if = "Option::is_none")]
        state: Option<State>,
        /// The processor that runs it.
        #[serde(skip_serializing_if = "Option::is_none")]
        running_on: Option<u32>,
        /// Whether it is proven to hold it.
        sure: bool,
    },
    /// Something of which no holder is known.
    Event {
        /// What kind of thing.
        kind: LockKind,
        /// Its address.
        #[serde(skip_serializing_if = "Option::is_none")]
        lock: Option<VirtAddr>,
        /// What it is called.
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// The function that waits for it.
        #[serde(skip_serializing_if = "Option::is_none")]
        function: Option<String>,
    },
}

/// A task that hangs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Member {
    /// What it waits for.
    #[serde(flatten)]
    pub wait: Wait,
    /// How many tasks stand between it and the cause.
    pub depth: u32,
}

/// Tasks that hang on one thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hang {
    /// What they hang on.
    #[serde(flatten)]
    pub cause: Cause,
    /// How many they are.
    pub count: usize,
    /// How long the first of them has waited, in nanoseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_ns: Option<u64>,
    /// The tasks, the nearest to the cause first, then the longest.
    pub tasks: Vec<Member>,
}

/// What a chain of waits ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum End<'w> {
    Cycle(usize),
    Holder(VirtAddr, bool),
    /// A thing; where no address is known its name, or the function that waits for it.
    Event(LockKind, Option<VirtAddr>, Option<&'w str>),
}

/// The tasks that are deaf to signals and wait for nothing that time alone brings, by cause: the cause with most of them
/// first.
#[must_use]
pub fn hangs(kernel: &Kernel) -> Vec<Hang> {
    let tasks = Tasks::find(kernel);
    let locks = Locks::find(kernel);
    by_cause(locks, |at| {
        let task = tasks.at(at);
        let running = tasks.processors().iter().find(|of| of.current == Ok(at)).map(|of| of.cpu);
        let name = task.map_or(TaskName { pid: None, task: at, command: None }, TaskName::of);
        (name, task.and_then(|task| tasks.bits.state(task)), running)
    })
}

fn by_cause(
    locks: &Locks,
    describe: impl Fn(VirtAddr) -> (TaskName, Option<State>, Option<u32>),
) -> Vec<Hang> {
    let hangs = |wait: &&Wait| {
        let deaf = wait.state == Some(State::Uninterruptible) && wait.kind != LockKind::Timer;
        // RCU Tasks are waited for without counting as load.
        let is_spared = wait.state == Some(State::Idle) && wait.kind == LockKind::Rcu;
        deaf || is_spared || wait.kind == LockKind::Spinlock
    };
    let chains = Chains::new(locks);
    let mut groups: FxHashMap<End<'_>, Vec<Member>> = FxHashMap::default();
    let mut known = FxHashMap::default();
    for wait in locks.waits.iter().filter(hangs) {
        let (end, depth) = chains.end(wait, &mut known);
        groups.entry(end).or_default().push(Member { wait: wait.clone(), depth });
    }
    let cause = |end: End<'_>, members: &[Member]| match end {
        End::Cycle(index) => locks.cycles.get(index).cloned().map(|cycle| Cause::Deadlock { cycle }),
        End::Holder(at, sure) => {
            let (task, state, running_on) = describe(at);
            Some(Cause::Holder { task, state, running_on, sure })
        }
        End::Event(kind, lock, _) => members.iter().min_by_key(|member| member.depth).map(|first| {
            let wait = &first.wait;
            Cause::Event { kind, lock, name: wait.name.clone(), function: wait.function.clone() }
        }),
    };
    let mut hangs: Vec<Hang> = groups
        .into_iter()
        .filter_map(|(end, mut tasks)| {
            tasks.sort_by_key(|member| (member.depth, Reverse(member.wait.age_ns), member.wait.task.pid));
            let oldest_ns = tasks.iter().filter_map(|member| member.wait.age_ns).max();
            Some(Hang { cause: cause(end, &tasks)?, count: tasks.len(), oldest_ns, tasks })
        })
        .collect();
    let first_pid = |hang: &Hang| hang.tasks.first().map(|member| member.wait.task.pid);
    hangs.sort_by_key(|hang| (Reverse(hang.count), Reverse(hang.oldest_ns), first_pid(hang)));
    hangs
}

/// Who waits for what, to follow from one to the next.
struct Chains<'w> {
    waits: FxHashMap<VirtAddr, &'w Wait>,
    cycles: FxHashMap<VirtAddr, usize>,
}

impl<'w> Chains<'w> {
    fn new(locks: &'w Locks) -> Self {
        let waits = locks.waits.iter().map(|wait| (wait.task.task, wait)).collect();
        let members = locks.cycles.iter().enumerate();
        let cycles =
            members.flat_map(|(index, cycle)| cycle.tasks.iter().map(move |task| (task.task, index)));
        Self { waits, cycles: cycles.collect() }
    }

    /// What a wait ends with, and how far away that is. What was found on the way is kept: each wait is followed once.
    fn end(&self, from: &'w Wait, known: &mut FxHashMap<VirtAddr, (End<'w>, u32)>) -> (End<'w>, u32) {
        let mut path = Vec::new();
        let mut met = FxHashSet::default();
        let mut wait = from;
        let (end, mut depth) = loop {
            let task = wait.task.task;
            if let Some(found) = known.get(&task) {
                break *found;
            }
            path.push(task);
            if let Some(cycle) = self.cycles.get(&task) {
                break (End::Cycle(*cycle), 0);
            }
            let holder = wait.holders.iter().find(|holder| holder.sure).or_else(|| wait.holders.first());
            let Some(holder) = holder.filter(|_| met.insert(task)) else {
                let nameless =
                    wait.lock.is_none().then_some(wait.name.as_deref().or(wait.function.as_deref()));
                let function = nameless.flatten();
                break (End::Event(wait.kind, wait.lock, function), 0);
            };
            match self.waits.get(&holder.task.task) {
                Some(next) if next.is_blocked() || next.kind != LockKind::Timer => wait = next,
                _ => break (End::Holder(holder.task.task, holder.sure), 0),
            }
        };
        let of_known = path.last() != Some(&wait.task.task);
        for (index, task) in path.into_iter().rev().enumerate() {
            if index > 0 || of_known {
                depth = depth.saturating_add(1);
            }
            known.insert(task, (end, depth));
        }
        known.get(&from.task.task).copied().unwrap_or((end, depth))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Evidence, Found, Holder};
    use super::*;

    fn task(number: u64) -> TaskName {
        TaskName { pid: Some(number as i32), task: VirtAddr(number), command: None }
    }

    fn wait(from: u64, lock: u64, holder: Option<u64>) -> Wait {
        let holders = holder.map(|to| Holder { task: task(to), evidence: vec![Evidence::Owner], sure: true });
        Wait {
            task: task(from),
            state: Some(State::Uninterruptible),
            cpu: None,
            age_ns: Some(from),
            kind: LockKind::Mutex,
            mode: None,
            lock: Some(VirtAddr(lock)),
            name: None,
            bit: None,
            word: None,
            waiter: None,
            found: Found::Waiter,
            function: None,
            call: None,
            operation: None,
            holders: holders.into_iter().collect(),
            readers: None,
        }
    }

    fn hung(waits: Vec<Wait>, cycles: &[&[u64]]) -> Vec<(usize, Vec<(u64, u32)>)> {
        let cycle =
            |members: &&[u64]| Cycle { tasks: members.iter().map(|of| task(*of)).collect(), sure: true };
        let locks = Locks { waits, cycles: cycles.iter().map(cycle).collect(), lacks: Vec::new() };
        let hangs = by_cause(&locks, |at| (task(at.0), None, None));
        let members = |hang: Hang| hang.tasks.iter().map(|of| (of.wait.task.task.0, of.depth)).collect();
        hangs.into_iter().map(|hang| (hang.count, members(hang))).collect()
    }

    #[test]
    fn tasks_stand_behind_what_they_hang_on_in_the_end() {
        // 9 holds what 1 waits for, 1 what 2 waits for; 3 waits alone.
        let waits = vec![wait(1, 0x10, Some(9)), wait(2, 0x20, Some(1)), wait(3, 0x30, None)];
        assert_eq!(hung(waits, &[]), [(2, vec![(1, 0), (2, 1)]), (1, vec![(3, 0)])]);
    }

    #[test]
    fn a_deadlock_gathers_those_behind_it() {
        let waits = vec![
            wait(1, 0x10, Some(2)),
            wait(2, 0x20, Some(1)),
            wait(3, 0x10, Some(2)),
            wait(4, 0x30, Some(3)),
        ];
        assert_eq!(hung(waits, &[&[1, 2]]), [(4, vec![(2, 0), (1, 0), (3, 1), (4, 2)])]);
    }

    #[test]
    fn a_circle_that_nobody_named_ends() {
        let waits = vec![wait(1, 0x10, Some(2)), wait(2, 0x20, Some(1))];
        assert_eq!(hung(waits, &[]).iter().map(|(count, _)| count).sum::<usize>(), 2);
    }
}
