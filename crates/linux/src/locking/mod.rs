//! Locks: who waits for which, and who holds it (kernel/locking, and what else tasks wait for).
//!
//! A stock kernel keeps no table of its locks. What it leaves is found from the tasks: one that waits has a waiter on its own
//! stack, which hangs in the lock's list; the lock names its owner. Each record says how its parts are known.

mod code;
mod graph;
mod hang;
mod holder;
mod kind;
mod lockdep;
mod name;
mod scan;
mod spin;
mod waiter;

use kdive_base::VirtAddr;
use kdive_target::{Field, Kernel, Lacks, Load};
use rustc_hash::{FxHashMap, FxHashSet};
use serde::Serialize;

pub use graph::circles;
pub use hang::{Cause, Hang, Member, hangs};
pub use holder::{Evidence, Holder};
pub use kind::{LockKind, Mode, is_plumbing};
use name::Namer;
pub use scan::Found;
use scan::{Awaited, Scan};
pub use spin::{LockWord, Spin};

use crate::rcu::{Rcu, RcuTasks, Srcu};
use crate::sunrpc;
use crate::tasks::{Call, Stacks, State, Task, TaskName, Tasks};
use crate::workqueue;

/// A task that waits, and for what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Wait {
    /// Who waits.
    #[serde(flatten)]
    pub task: TaskName,
    /// Its state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// The processor it ran on last; for a spinlock the one that spins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<u32>,
    /// For how long, in nanoseconds: from when it last ran to the latest time that any run queue knows; of a remote
    /// procedure call from when that was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_ns: Option<u64>,
    /// What kind of thing it waits for.
    pub kind: LockKind,
    /// To read or to write, where that makes a difference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// The lock's address: of a folio its `struct page`, of a bit the word, of a futex in user memory, of a remote
    /// procedure call its transport (`struct rpc_xprt`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lock: Option<VirtAddr>,
    /// What the lock is called: a variable, or a member of an object of a slab cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The number of the bit that it waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bit: Option<u32>,
    /// The word of a spinlock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub word: Option<LockWord>,
    /// The waiter on its stack.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiter: Option<VirtAddr>,
    /// How the lock was found.
    pub found: Found,
    /// The function that wanted it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// The remote procedure call that it waits for (`struct rpc_task`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call: Option<VirtAddr>,
    /// What a server was asked for: `nfs3 LOOKUP`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// Who holds it.
    pub holders: Vec<Holder>,
    /// Readers inside, where the lock counts them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub readers: Option<u64>,
}

impl Wait {
    /// Whether nothing but another task can end it: the wait of a task that is deaf to signals, or for a lock that has a
    /// holder.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        match self.kind {
            LockKind::Timer | LockKind::Unknown => false,
            kind if kind.has_holder() => true,
            LockKind::Futex => !self.holders.is_empty(),
            // RCU Tasks are waited for without counting as load.
            LockKind::Rcu => matches!(self.state, Some(State::Uninterruptible | State::Idle)),
            _ => self.state == Some(State::Uninterruptible),
        }
    }
}

/// One lock, who holds it and who waits for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Lock {
    /// What kind of thing it is.
    pub kind: LockKind,
    /// Its address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lock: Option<VirtAddr>,
    /// What it is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Who holds it.
    pub holders: Vec<Holder>,
    /// Readers inside, where the lock counts them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub readers: Option<u64>,
    /// Who waits for it, the longest first.
    pub waiters: Vec<Wait>,
}

/// Tasks that wait for one another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cycle {
    /// Each waits for a lock that the next one holds; the last waits for the first.
    pub tasks: Vec<TaskName>,
    /// Whether each of them is proven to hold what the one before it waits for.
    pub sure: bool,
}

/// All that waits in a kernel.
#[derive(Debug)]
pub struct Locks {
    /// Every wait: of all tasks that are deaf to signals, of others where they wait for a lock, of processors that spin.
    pub waits: Vec<Wait>,
    /// Circles among them.
    pub cycles: Vec<Cycle>,
    /// Why waits may be lacking, or what they wait for.
    pub lacks: Vec<(&'static str, Lacks)>,
}

impl Locks {
    /// The waits: found on first use, then shared.
    #[must_use]
    pub fn find(kernel: &Kernel) -> &Self {
        kernel.once(find)
    }

    /// The locks that a choice of the waits is for, each once: those with most waiters first.
    pub fn grouped(&self, chosen: impl Fn(&Wait) -> bool) -> Vec<Lock> {
        let mut index: FxHashMap<(LockKind, VirtAddr, Option<&str>), usize> = FxHashMap::default();
        let mut locks: Vec<Lock> = Vec::new();
        for wait in self.waits.iter().filter(|wait| chosen(wait)) {
            let key = (wait.kind, wait.lock.unwrap_or_default(), wait.name.as_deref());
            let place = *index.entry(key).or_insert_with(|| {
                locks.push(Lock {
                    kind: wait.kind,
                    lock: wait.lock,
                    name: wait.name.clone(),
                    holders: wait.holders.clone(),
                    readers: wait.readers,
                    waiters: Vec::new(),
                });
                locks.len().saturating_sub(1)
            });
            if let Some(lock) = locks.get_mut(place) {
                lock.waiters.push(wait.clone());
            }
        }
        for lock in &mut locks {
            lock.waiters.sort_by_key(|wait| std::cmp::Reverse(wait.age_ns));
        }
        locks.sort_by_key(|lock| std::cmp::Reverse(lock.waiters.len()));
        locks
    }
}

/// The latest time that any processor's run queue knows, in nanoseconds of the scheduler's clock.
fn now(tasks: &Tasks) -> Option<u64> {
    tasks.processors().iter().filter_map(|of| of.queue.clone().and_then(|queue| queue.clock).ok()).max()
}

/// For how long a task has not run, in nanoseconds; `None` where its times are not known.
#[must_use]
pub fn age_ns(tasks: &Tasks, task: &Task) -> Option<u64> {
    let last = task.exec_start.as_ref().ok().max(task.last_run.as_ref().ok())?;
    if *last == 0 {
        return None;
    }
    Some(now(tasks)?.saturating_sub(*last))
}

/// Whether a task is asked what it waits for: all that are deaf to signals are, others where their functions wait for a
/// lock.
fn is_asked(kernel: &Kernel, tasks: &Tasks, task: &Task, calls: &[Call]) -> bool {
    match tasks.bits.state(task) {
        Some(State::Uninterruptible) => true,
        Some(State::Interruptible) | None => {
            let names = calls.iter().filter_map(|call| call.function(kernel));
            kind::awaited(names).is_some_and(|(kind, _)| kind.has_holder() || kind == LockKind::Futex)
        }
        // Kernels spare who waits for RCU Tasks the load average.
        Some(State::Idle) => {
            let mut names = calls.iter().filter_map(|call| call.function(kernel));
            names.any(|name| kind::rcu_flavour(name).is_some_and(|flavour| flavour.starts_with(TASKS)))
        }
        Some(_) => false,
    }
}

/// The flavours of RCU Tasks begin so.
const TASKS: &str = "rcu_tasks";

fn find(kernel: &Kernel) -> Locks {
    let tasks = Tasks::find(kernel);
    let mut scan = Scan::new(kernel, &tasks);
    let mut lacks: Vec<(&'static str, Lacks)> =
        scan.lacking().map(|(what, lacks)| (what, lacks.clone())).collect();
    let mut waits = Vec::new();
    for (task, stack) in tasks.all().iter().zip(Stacks::find(kernel).all()) {
        if tasks.is_active(task) {
            continue;
        }
        let calls = stack.calls.as_deref().unwrap_or_default();
        if !is_asked(kernel, &tasks, task, calls) {
            continue;
        }
        match scan.task(task, calls) {
            Ok(found) => waits.push(wait(&tasks, task, found)),
            Err(why) => lacks.push(("what a task waits for", why)),
        }
    }
    add_holders(kernel, &tasks, &mut waits);
    name_works(kernel, &mut waits);
    name_calls(kernel, &mut waits);
    add_readers(kernel, &tasks, &mut waits);
    add_sleepable_readers(kernel, &tasks, &mut waits);
    add_unswitched(kernel, &mut waits);
    waits.extend(spin::find(kernel, &tasks).iter().map(|spin| spin.wait(&tasks)));
    let mut namer = Namer::new(kernel, &tasks);
    for wait in &mut waits {
        if let (Some(at), None) = (wait.lock, &wait.name) {
            wait.name = namer.name(wait.kind, at);
        }
    }
    let cycles = cycles(&tasks, &waits);
    Locks { waits, cycles, lacks }
}

fn wait(tasks: &Tasks, task: &Task, found: Awaited) -> Wait {
    Wait {
        task: TaskName::of(task),
        state: tasks.bits.state(task),
        cpu: task.cpu.clone().ok(),
        age_ns: age_ns(tasks, task),
        kind: found.kind,
        mode: found.mode,
        lock: found.at,
        name: found.flavour.filter(|_| found.kind == LockKind::Rcu).map(str::to_owned),
        bit: found.bit,
        word: None,
        waiter: found.waiter,
        found: found.found,
        function: found.function,
        call: None,
        operation: None,
        holders: Vec::new(),
        readers: None,
    }
}

fn add_holders(kernel: &Kernel, tasks: &Tasks, waits: &mut [Wait]) {
    let mut known: FxHashMap<(LockKind, VirtAddr), holder::Held> = FxHashMap::default();
    let mut search = FxHashSet::default();
    for wait in waits.iter_mut() {
        let Some(lock) = wait.lock else { continue };
        let is_kernel_lock = wait.kind != LockKind::Futex || wait.found == Found::PiBlockedOn;
        if is_kernel_lock {
            let held = known
                .entry((wait.kind, lock))
                .or_insert_with(|| holder::named(kernel, tasks, wait.kind, lock).unwrap_or_default());
            if held.search {
                search.insert(lock);
            }
        }
        special(kernel, tasks, wait);
    }
    let waiting: FxHashSet<(VirtAddr, VirtAddr)> =
        waits.iter().filter_map(|wait| Some((wait.lock?, wait.task.task))).collect();
    let stacks = holder::on_stacks(kernel, tasks, &search);
    for ((_, lock), held) in known.iter_mut().filter(|(_, held)| held.search) {
        let likely = stacks.get(lock).into_iter().flatten();
        // Who waits for the lock has its address on the stack anyway.
        for task in likely.filter(|task| !waiting.contains(&(*lock, task.task))) {
            match held.holders.iter_mut().find(|holder| holder.task.task == task.task) {
                Some(holder) => holder.evidence.push(Evidence::OnStack),
                None => held.holders.push(Holder::new(task.clone(), vec![Evidence::OnStack])),
            }
        }
    }
    if let Ok(noted) = lockdep::held(kernel, tasks) {
        add_noted(kernel, &noted, &waiting, &mut known);
    }
    for wait in waits {
        let held = wait.lock.and_then(|lock| known.get(&(wait.kind, lock)));
        if let Some(held) = held {
            wait.holders.extend(held.holders.iter().cloned());
            wait.readers = held.readers;
        }
    }
}

/// Adds the holders that the kernel noted itself.
fn add_noted(
    kernel: &Kernel,
    noted: &FxHashMap<VirtAddr, Vec<TaskName>>,
    waiting: &FxHashSet<(VirtAddr, VirtAddr)>,
    known: &mut FxHashMap<(LockKind, VirtAddr), holder::Held>,
) {
    for ((kind, lock), held) in known.iter_mut().filter(|((kind, _), _)| kind.has_holder()) {
        let Ok(offset) = lockdep::map_offset(kernel, *kind) else { continue };
        let tasks = noted.get(&lock.add(offset)).into_iter().flatten();
        for task in tasks.filter(|task| !waiting.contains(&(*lock, task.task))) {
            match held.holders.iter_mut().find(|holder| holder.task.task == task.task) {
                Some(holder) => {
                    holder.evidence.push(Evidence::Lockdep);
                    holder.sure = true;
                }
                None => held.holders.push(Holder::new(task.clone(), vec![Evidence::Lockdep])),
            }
        }
    }
}

#[derive(Load)]
#[load(type = "task_struct")]
struct Child {
    vfork_done: Field<VirtAddr>,
}

/// Completions whose other side is known: the end of a work item, and of a vfork.
fn special(kernel: &Kernel, tasks: &Tasks, wait: &mut Wait) {
    let Some(lock) = wait.lock.filter(|_| wait.kind == LockKind::Completion) else { return };
    if let Some(flushed) = workqueue::flushed(kernel, lock) {
        wait.kind = LockKind::Work;
        wait.lock = flushed.work.or(Some(lock));
        wait.name = flushed.function;
        wait.holders.extend(flushed.worker.map(|task| Holder::new(task, vec![Evidence::Worker])));
        return;
    }
    let children = tasks.all().iter().filter(|task| task.real_parent == Ok(wait.task.task));
    let child =
        children.filter(|task| kernel.load::<Child>(task.at).vfork_done == Ok(lock)).map(TaskName::of);
    for child in child {
        wait.kind = LockKind::Vfork;
        wait.holders.push(Holder::new(child, vec![Evidence::VforkChild]));
    }
}

/// Who holds out the grace period that tasks wait for; processors that idle do so for no longer than the kernel asks them.
fn add_readers(kernel: &Kernel, tasks: &Tasks, waits: &mut [Wait]) {
    let waits_for = |wait: &&mut Wait| {
        wait.kind == LockKind::Rcu
            && wait.name.as_deref().is_some_and(|name| matches!(name, "rcu" | "rcu (expedited)"))
    };
    let mut waits = waits.iter_mut().filter(waits_for).peekable();
    if waits.peek().is_none() {
        return;
    }
    let Ok(rcu) = Rcu::find(kernel) else { return };
    let is_idle = |task: &TaskName| tasks.at(task.task).is_some_and(|task| tasks.is_idle(task));
    for wait in waits {
        let expedited = wait.name.as_deref() == Some("rcu (expedited)");
        let holdouts = rcu.period.holdouts.iter().filter(|holdout| holdout.expedited == expedited);
        wait.holders.extend(holdouts.filter_map(|holdout| {
            let task = holdout.task.clone().filter(|task| !is_idle(task))?;
            let evidence = if holdout.cpu.is_some() { Evidence::HoldsOut } else { Evidence::Reader };
            Some(Holder::new(task, vec![evidence]))
        }));
    }
}

/// Who waits for SRCU waits for one `srcu_struct`, whose readers are likely those that have its address.
fn add_sleepable_readers(kernel: &Kernel, tasks: &Tasks, waits: &mut [Wait]) {
    let mut awaited: FxHashMap<VirtAddr, Vec<Holder>> = FxHashMap::default();
    let sleepable =
        waits.iter_mut().filter(|wait| wait.kind == LockKind::Rcu && wait.name.as_deref() == Some("srcu"));
    let mut all: Vec<&mut Wait> = sleepable.collect();
    for wait in &mut all {
        let task = tasks.at(wait.task.task);
        let Some(srcu) = task.and_then(|task| Srcu::awaited_by(kernel, task).ok()) else { continue };
        wait.lock = Some(srcu.srcu);
        wait.name = srcu.name.map(|name| format!("srcu {name}")).or(wait.name.take());
        awaited.entry(srcu.srcu).or_default();
    }
    if awaited.is_empty() {
        return;
    }
    let waiting: FxHashSet<VirtAddr> = all.iter().map(|wait| wait.task.task).collect();
    let stacks = holder::on_stacks(kernel, tasks, &awaited.keys().copied().collect());
    for (srcu, readers) in &mut awaited {
        let keeps = stacks.get(srcu).into_iter().flatten();
        readers.extend(keeps.map(|task| Holder::new(task.clone(), vec![Evidence::OnStack])));
        let entered = tasks.all().iter().zip(Stacks::find(kernel).all()).filter(|(_, stack)| {
            let calls = stack.calls.as_deref().unwrap_or_default();
            calls.iter().any(|call| code::entered_before(kernel, call, *srcu))
        });
        for (task, _) in entered {
            match readers.iter_mut().find(|reader| reader.task.task == task.at) {
                Some(reader) => reader.evidence.push(Evidence::TookIt),
                None => readers.push(Holder::new(TaskName::of(task), vec![Evidence::TookIt])),
            }
        }
        readers.retain(|reader| !waiting.contains(&reader.task.task));
    }
    for wait in all {
        wait.holders.extend(wait.lock.and_then(|at| awaited.get(&at)).into_iter().flatten().cloned());
    }
}

/// Who holds out RCU Tasks.
fn add_unswitched(kernel: &Kernel, waits: &mut [Wait]) {
    let is_tasks = |wait: &&mut Wait| {
        wait.kind == LockKind::Rcu && wait.name.as_deref().is_some_and(|name| name.starts_with(TASKS))
    };
    let mut waits = waits.iter_mut().filter(is_tasks).peekable();
    if waits.peek().is_none() {
        return;
    }
    let flavours = RcuTasks::find(kernel);
    for wait in waits {
        let own = flavours.iter().filter(|of| wait.name.as_deref() == Some(of.flavour));
        let tasks = own.flat_map(|of| &of.holdouts).filter(|task| task.task != wait.task.task);
        wait.holders.extend(tasks.map(|task| Holder::new(task.clone(), vec![Evidence::NoSwitch])));
    }
}

/// A worker's own function says nothing; the compiler may have left out the frame of the item's, which is then told by the
/// worker.
fn name_works(kernel: &Kernel, waits: &mut [Wait]) {
    const OF_WORKERS: [&str; 3] = ["process_one_work", "process_scheduled_works", "worker_thread"];
    let is_worker =
        |wait: &&mut Wait| wait.function.as_deref().is_some_and(|name| OF_WORKERS.contains(&name));
    for wait in waits.iter_mut().filter(is_worker) {
        let function = workqueue::Workqueues::find(kernel)
            .work_of(wait.task.task)
            .and_then(|work| work.function.clone());
        wait.function = function.or(wait.function.take());
    }
}

/// Who sleeps on a bit of a remote procedure call waits for its server: those of one transport for the same thing.
fn name_calls(kernel: &Kernel, waits: &mut [Wait]) {
    let mut on_bits = waits.iter_mut().filter(|wait| wait.kind == LockKind::Bit).peekable();
    if on_bits.peek().is_none() {
        return;
    }
    let calls = sunrpc::awaited(kernel);
    for wait in on_bits {
        let Some(call) = wait.lock.and_then(|word| calls.get(&word)) else { continue };
        wait.kind = LockKind::Rpc;
        wait.lock = call.transport;
        wait.name = Some(call.server.clone());
        wait.call = Some(call.call);
        wait.operation = Some(call.operation.clone());
        // Each time that the call is sent again the task runs for a moment.
        wait.age_ns = call.age_ns.or(wait.age_ns);
        wait.bit = None;
    }
}

fn cycles(tasks: &Tasks, waits: &[Wait]) -> Vec<Cycle> {
    let edge = |wait: &Wait, holder: &Holder| (wait.task.task, holder.task.task);
    let edges: Vec<(VirtAddr, VirtAddr)> =
        waits.iter().flat_map(|wait| wait.holders.iter().map(|holder| edge(wait, holder))).collect();
    let sure: FxHashSet<(VirtAddr, VirtAddr)> = waits
        .iter()
        .flat_map(|wait| wait.holders.iter().filter(|holder| holder.sure).map(|holder| edge(wait, holder)))
        .collect();
    let pid = |at: &VirtAddr| tasks.at(*at).and_then(|task| task.pid.clone().ok());
    let cycle = |mut circle: Vec<VirtAddr>| {
        // Each begins with its lowest pid.
        let first = circle.iter().enumerate().min_by_key(|(_, at)| pid(at)).map_or(0, |(place, _)| place);
        circle.rotate_left(first);
        let after = circle.iter().cycle().skip(1);
        let sure = circle.iter().zip(after).all(|(from, to)| sure.contains(&(*from, *to)));
        Cycle { tasks: circle.iter().filter_map(|at| TaskName::at(tasks, *at)).collect(), sure }
    };
    let mut cycles: Vec<Cycle> = circles(&edges).into_iter().map(cycle).collect();
    cycles.sort_by_key(|cycle| cycle.tasks.first().and_then(|task| task.pid));
    cycles
}
