//! The list of all tasks, and which of them ran.

use std::sync::Arc;

use kdive_base::VirtAddr;
use kdive_target::{Field, Kernel, Lacks, Load, walk};
use rayon::prelude::*;
use rustc_hash::{FxHashMap, FxHashSet};

use super::panic::PanicTask;
use super::pids;
use super::state::StateBits;
use super::task::{Task, TaskLoader};

/// The part of `struct rq` (kernel/sched/sched.h) that says what a processor runs.
#[derive(Clone, Debug, Load)]
#[load(type = "rq")]
pub struct RunQueue {
    /// Its address.
    #[load(address)]
    pub at: VirtAddr,
    /// The task on the processor.
    pub curr: Field<VirtAddr>,
    /// The processor's idle task.
    pub idle: Field<VirtAddr>,
    /// The scheduler's clock of this processor, in nanoseconds, as of its last update.
    pub clock: Field<u64>,
}

/// One processor: its run queue, and what it ran.
#[derive(Clone, Debug)]
pub struct Processor {
    /// Its number.
    pub cpu: u32,
    /// Its run queue.
    pub queue: Field<RunQueue>,
    /// The task on it.
    pub current: Field<VirtAddr>,
}

impl Processor {
    fn new(kernel: &Kernel, cpu: u32, queue: Field<RunQueue>) -> Self {
        let current = queue.clone().and_then(|queue| queue.curr);
        let current = current.or_else(|lacks| current_task(kernel, cpu).map_err(|_| lacks));
        let current = current.and_then(|at| match at.is_null() {
            true => Err(Lacks::unavailable(format_args!("CPU {cpu} ran nothing"))),
            false => Ok(at),
        });
        Self { cpu, queue, current }
    }
}

/// What the processor itself calls `current`: a per-CPU variable, which 6.2 to 6.14 kept in `struct pcpu_hot`.
fn current_task(kernel: &Kernel, cpu: u32) -> Field<VirtAddr> {
    let at = kernel.per_cpu("current_task", cpu).or_else(|_| {
        Ok::<_, Lacks>(kernel.per_cpu("pcpu_hot", cpu)?.add(kernel.offset_of("pcpu_hot", "current_task")?))
    })?;
    Ok(kernel.memory().pointer(at)?)
}

/// All tasks of a kernel.
#[derive(Debug)]
pub struct Tasks {
    list: Vec<Task>,
    by_address: FxHashMap<VirtAddr, usize>,
    processors: Vec<Processor>,
    /// Idle tasks at the front of the list.
    idle: usize,
    /// What the state bits mean in this kernel.
    pub bits: StateBits,
    /// Why tasks may be lacking from the list; empty where it is whole.
    pub incomplete: Vec<Lacks>,
    /// The task that panicked.
    pub panic: Field<PanicTask>,
}

impl Tasks {
    /// The kernel's tasks: walked on first use, then shared.
    #[must_use]
    pub fn find(kernel: &Kernel) -> Arc<Self> {
        kernel.once(|kernel| Arc::new(Self::walk(kernel))).clone()
    }

    fn walk(kernel: &Kernel) -> Self {
        let loader = TaskLoader::new(kernel);
        let mut incomplete = Vec::new();
        let processors = processors(kernel).unwrap_or_else(|lacks| {
            incomplete.push(lacks);
            Vec::new()
        });
        let unknown_idle =
            processors.iter().filter_map(|of| of.queue.clone().and_then(|queue| queue.idle).err());
        let mut list = idle_tasks(kernel, &loader, &processors);
        if list.len() < processors.len() {
            incomplete.extend(unknown_idle);
        }
        let idle = list.len();
        let mut seen: FxHashSet<VirtAddr> = list.iter().map(|task| task.at).collect();
        let mut others = listed(kernel, &loader, &mut incomplete);
        let known: FxHashSet<VirtAddr> = others.iter().map(|task| task.at).collect();
        for at in running(&processors).filter(|at| !known.contains(at)) {
            others.push(loader.load(at));
        }
        if !incomplete.is_empty() {
            // What is missing on this way too has been said of the list already.
            add_by_pid(&mut others, &loader, pids::tasks(kernel).unwrap_or_default());
        }
        others.retain(|task| seen.insert(task.at));
        others.sort_by_key(|task| task.pid.as_ref().copied().unwrap_or(i32::MAX));
        list.extend(others);
        // One reason is enough where it is the kernel's and not a page's.
        let mut reasons = Vec::new();
        for lacks in incomplete {
            if !reasons.contains(&lacks) {
                reasons.push(lacks);
            }
        }
        let by_address = list.iter().enumerate().map(|(index, task)| (task.at, index)).collect();
        let bits = StateBits::of(kernel);
        let panic = Err(Lacks::unavailable("the panic task was not looked for"));
        let mut tasks = Self { list, by_address, processors, idle, bits, incomplete: reasons, panic };
        tasks.panic = PanicTask::find(kernel, &tasks);
        tasks
    }

    /// Every task: the idle tasks by processor, then the others by pid.
    #[must_use]
    pub fn all(&self) -> &[Task] {
        &self.list
    }

    /// The idle tasks, by processor.
    #[must_use]
    pub fn idle(&self) -> &[Task] {
        self.list.get(..self.idle).unwrap_or_default()
    }

    /// Whether it is a processor's idle task.
    #[must_use]
    pub fn is_idle(&self, task: &Task) -> bool {
        self.idle().iter().any(|idle| idle.at == task.at)
    }

    /// The task at an address.
    #[must_use]
    pub fn at(&self, at: VirtAddr) -> Option<&Task> {
        self.list.get(*self.by_address.get(&at)?)
    }

    /// The tasks with a pid: one, or for 0 the idle tasks.
    pub fn with_pid(&self, pid: i32) -> impl Iterator<Item = &Task> {
        self.list.iter().filter(move |task| task.pid == Ok(pid))
    }

    /// The processors, in order.
    #[must_use]
    pub fn processors(&self) -> &[Processor] {
        &self.processors
    }

    /// The task that a processor ran.
    #[must_use]
    pub fn on_cpu(&self, cpu: u32) -> Option<&Task> {
        let processor = self.processors.iter().find(|of| of.cpu == cpu)?;
        self.at(*processor.current.as_ref().ok()?)
    }

    /// Whether a processor ran the task.
    #[must_use]
    pub fn is_active(&self, task: &Task) -> bool {
        self.processors.iter().any(|of| of.current == Ok(task.at))
    }

    /// The threads of a task's group, itself included, in the order of the list.
    pub fn group<'a>(&'a self, of: &'a Task) -> impl Iterator<Item = &'a Task> {
        self.list.iter().filter(move |task| match (&of.tgid, &of.pid) {
            // Idle tasks all have the thread group 0 and are no group.
            (Ok(0), _) | (Err(_), _) => task.at == of.at,
            (tgid, _) => task.tgid == *tgid,
        })
    }

    /// The process that started a task: the leader of its group, for what a listing calls the parent.
    #[must_use]
    pub fn parent(&self, of: &Task) -> Option<&Task> {
        let parent = of.parent.as_ref().ok()?;
        self.at(*parent)
    }
}

/// What processors run: tasks even where the list is broken before them.
fn running(processors: &[Processor]) -> impl Iterator<Item = VirtAddr> {
    processors.iter().filter_map(|of| of.current.clone().ok())
}

/// Adds the tasks that were found by their pids; a task that is not in the dump itself gets at least that.
fn add_by_pid(tasks: &mut Vec<Task>, loader: &TaskLoader<'_>, found: Vec<(VirtAddr, i32)>) {
    let mut known: FxHashMap<VirtAddr, usize> =
        tasks.iter().enumerate().map(|(index, task)| (task.at, index)).collect();
    for (at, pid) in found {
        let index = *known.entry(at).or_insert_with(|| {
            tasks.push(loader.load(at));
            tasks.len().saturating_sub(1)
        });
        if let Some(task) = tasks.get_mut(index).filter(|task| task.pid.is_err()) {
            task.pid = Ok(pid);
        }
    }
}

fn processors(kernel: &Kernel) -> Field<Vec<Processor>> {
    let cpus = kernel.cpus()?;
    let mask = cpus.present.as_ref().unwrap_or(&cpus.possible);
    let symbol = kernel.symbol("runqueues");
    let loader = kernel.loader::<RunQueue>();
    let queue = |cpu| Ok(loader.load(cpus.per_cpu(symbol.clone()?, cpu)?));
    let all = mask.iter().filter(|cpu| *cpu < cpus.limit);
    Ok(all.map(|cpu| Processor::new(kernel, cpu, queue(cpu))).collect())
}

/// The idle task of each processor: `rq.idle`, else the per-CPU variable `idle_threads`, else `init_task` for the first.
fn idle_tasks(kernel: &Kernel, loader: &TaskLoader<'_>, processors: &[Processor]) -> Vec<Task> {
    let idle_of = |processor: &Processor| {
        let of_queue = processor.queue.as_ref().ok().and_then(|queue| queue.idle.clone().ok());
        let of_variable = || {
            let at = kernel.per_cpu("idle_threads", processor.cpu).ok()?;
            kernel.memory().pointer(at).ok()
        };
        of_queue.or_else(of_variable).filter(|at| !at.is_null())
    };
    let mut found: Vec<_> = processors.iter().filter_map(idle_of).collect();
    if found.is_empty() {
        found.extend(kernel.symbol("init_task").ok());
    }
    let mut seen = FxHashSet::default();
    found.into_iter().filter(|at| seen.insert(*at)).map(|at| loader.load(at)).collect()
}

/// All tasks but the idle ones: the processes on `init_task.tasks`, and each one's threads.
fn listed(kernel: &Kernel, loader: &TaskLoader<'_>, incomplete: &mut Vec<Lacks>) -> Vec<Task> {
    let leaders = leaders(kernel).unwrap_or_else(|(found, lacks)| {
        incomplete.push(lacks);
        found
    });
    let threads = ThreadLists::new(kernel);
    let groups: Vec<(Vec<Task>, Option<Lacks>)> =
        leaders.into_par_iter().map(|leader| threads.group(kernel, loader, leader)).collect();
    let mut tasks = Vec::new();
    for (group, lacks) in groups {
        tasks.extend(group);
        incomplete.extend(lacks);
    }
    tasks
}

/// Addresses of the thread group leaders. A list that breaks is walked from its other end too.
fn leaders(kernel: &Kernel) -> Result<Vec<VirtAddr>, (Vec<VirtAddr>, Lacks)> {
    let found =
        kernel.symbol("init_task").and_then(|init| Ok((init, kernel.offset_of("task_struct", "tasks")?)));
    let (init, link) = found.map_err(|lacks| (Vec::new(), lacks))?;
    let memory = kernel.memory();
    let head = init.add(link);
    let mut leaders = Vec::new();
    let broken = take_links(walk::list(memory, head), link, &mut leaders);
    let Some(broken) = broken else { return Ok(leaders) };
    let mut from_the_end = Vec::new();
    take_links(walk::list_backwards(memory, head), link, &mut from_the_end);
    let known: FxHashSet<_> = leaders.iter().copied().collect();
    leaders.extend(from_the_end.into_iter().rev().filter(|at| !known.contains(at)));
    Err((leaders, broken))
}

/// The structures that hold the links of a chain, up to where it breaks.
fn take_links(chain: walk::Chain<'_>, link: u64, into: &mut Vec<VirtAddr>) -> Option<Lacks> {
    for item in chain {
        match item {
            Ok(at) => into.push(at.sub(link)),
            Err(broken) => return Some(broken.into()),
        }
    }
    None
}

/// How threads of a group hang together.
enum ThreadLists {
    /// `signal_struct.thread_head` heads a list of `task_struct.thread_node` (3.14).
    Signal { head: u64, node: u64 },
    /// A ring through `task_struct.thread_group`, without a head (before 6.7).
    Ring { link: u64 },
    /// Neither is known: only leaders can be listed.
    Unknown(Lacks),
}

impl ThreadLists {
    fn new(kernel: &Kernel) -> Self {
        let signal = kernel.offset_of("signal_struct", "thread_head");
        let node = kernel.offset_of("task_struct", "thread_node");
        match (signal, node, kernel.offset_of("task_struct", "thread_group")) {
            (Ok(head), Ok(node), _) => Self::Signal { head, node },
            (_, _, Ok(link)) => Self::Ring { link },
            (_, Err(lacks), _) | (Err(lacks), _, _) => Self::Unknown(lacks),
        }
    }

    /// The leader and its threads, and why threads may be lacking.
    fn group(
        &self,
        kernel: &Kernel,
        loader: &TaskLoader<'_>,
        leader: VirtAddr,
    ) -> (Vec<Task>, Option<Lacks>) {
        let leader = loader.load(leader);
        let mut threads = Vec::new();
        let lacks = match self {
            Self::Signal { head, node } => match &leader.signal {
                Ok(signal) if signal.is_null() => None,
                Ok(signal) => take_links(walk::list(kernel.memory(), signal.add(*head)), *node, &mut threads),
                Err(lacks) => Some(lacks.clone()),
            },
            Self::Ring { link } => {
                take_links(walk::list(kernel.memory(), leader.at.add(*link)), *link, &mut threads)
            }
            Self::Unknown(lacks) => Some(lacks.clone()),
        };
        let others = threads.into_iter().filter(|at| *at != leader.at).map(|at| loader.load(at));
        let mut group: Vec<Task> = others.collect();
        group.insert(0, leader);
        (group, lacks)
    }
}
