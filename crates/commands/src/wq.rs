//! `wq`: workqueues, what runs on them and what waits.

use std::fmt;

use kdive_base::VirtAddr;
use kdive_linux::locking::{LockKind, Locks, Wait, age_ns};
use kdive_linux::tasks::{State, TaskName, Tasks};
use kdive_linux::time::{jiffies, jiffies_to_ns};
use kdive_linux::workqueue::{Pool, Worker, Workqueue, Workqueues};
use kdive_target::Kernel;
use serde::Serialize;

use crate::args::{Args, Opt};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::locks::Titled;
use crate::render::{Age, Known, UNKNOWN};
use crate::sink::{Render, Sink, SinkExt};

/// Shows workqueues.
pub(crate) static WQ: Command = Command {
    names: &["wq"],
    group: Group::System,
    summary: "workqueues: what runs on them, what waits, and pools of workers",
    operands: "[workqueue]...",
    options: &[
        Opt::flag("-a", "all workqueues, those with nothing to do too"),
        Opt::flag("-p", "the pools and their workers"),
    ],
    help: include_str!("wq.md"),
    run: Run::Once(run),
};

/// A workqueue.
#[derive(Serialize)]
struct QueueRow {
    /// Its address.
    workqueue: VirtAddr,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// Items that may be active at a time in each pool.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_active: Option<u32>,
    /// Items that workers have begun.
    running: Vec<Running>,
    /// Items that wait, in their order.
    waiting: Vec<Waiting>,
}

/// An item that a worker has begun.
#[derive(Clone, Serialize)]
struct Running {
    /// The worker's thread.
    #[serde(flatten)]
    worker: Option<TaskName>,
    /// Its state.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<State>,
    /// The number of the pool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pool: Option<i32>,
    /// The pool's processor.
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu: Option<u32>,
    /// The item.
    work: VirtAddr,
    /// What it calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    function: Option<String>,
    /// How long ago it began, in nanoseconds, where the kernel keeps that.
    #[serde(skip_serializing_if = "Option::is_none")]
    age_ns: Option<u64>,
    /// How long the worker has slept in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    asleep_ns: Option<u64>,
    /// Tasks that wait for its end.
    flushers: usize,
    /// What the worker waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    waits_for: Option<String>,
}

/// An item that waits.
#[derive(Clone, Serialize)]
struct Waiting {
    /// The item.
    work: VirtAddr,
    /// What it calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    function: Option<String>,
    /// Whether its pool has it: otherwise it waits for an active item of its workqueue to end.
    pending: bool,
    /// The number of the pool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pool: Option<i32>,
    /// The pool's processor.
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu: Option<u32>,
    /// How long ago the pool last began an item, in nanoseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    no_progress_ns: Option<u64>,
}

/// A pool.
#[derive(Serialize)]
struct PoolRow {
    /// Its address.
    pool: VirtAddr,
    /// Its number.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<i32>,
    /// Its processor.
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu: Option<u32>,
    /// Nice value of its workers.
    #[serde(skip_serializing_if = "Option::is_none")]
    nice: Option<i32>,
    /// Workers, and how many of them are idle.
    workers: usize,
    /// Workers without an item.
    #[serde(skip_serializing_if = "Option::is_none")]
    idle: Option<u32>,
    /// Items that no worker has begun.
    pending: usize,
    /// Items that are worked on.
    running: Vec<Running>,
}

/// Items that only tell a waiting task that those before them have ended.
const BARRIER: &str = "wq_barrier_func";

/// What rows are made from.
struct Source<'k> {
    kernel: &'k Kernel,
    tasks: std::sync::Arc<Tasks>,
    queues: std::sync::Arc<Workqueues>,
    locks: &'k Locks,
    now: Option<u64>,
}

fn run(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let source = Source {
        kernel: &kernel,
        tasks: Tasks::find(&kernel),
        queues: Workqueues::find(&kernel),
        locks: Locks::find(&kernel),
        now: cx.known(jiffies(&kernel), "age of works", String::new),
    };
    for lacks in &source.queues.lacks {
        cx.lacks(lacks, "workqueues", String::new);
    }
    if args.has("-p") {
        return source.pools(cx, out);
    }
    let named = |queue: &&Workqueue| {
        args.operands.is_empty() || queue.name.as_ref().is_ok_and(|name| args.operands.contains(name))
    };
    let all = args.has("-a") || !args.operands.is_empty();
    let mut rows: Vec<QueueRow> =
        source.queues.list.iter().filter(named).map(|queue| source.row(queue)).collect();
    if rows.is_empty() && !args.operands.is_empty() {
        return Err(CommandError::not_found(format!(
            "wq: there is no workqueue {}",
            args.operands.join(" or ")
        )));
    }
    rows.retain(|row| all || !row.running.is_empty() || !row.waiting.is_empty());
    // What has slept for longest is what others wait for.
    rows.sort_by_key(|row| std::cmp::Reverse(row.running.iter().filter_map(|work| work.asleep_ns).max()));
    if rows.is_empty() {
        return Ok(out.heading("no work runs or waits\n")?);
    }
    for (index, row) in rows.iter().enumerate() {
        cx.cancel.check()?;
        if index > 0 {
            out.heading("\n")?;
        }
        out.row(row, &())?;
    }
    Ok(())
}

impl Source<'_> {
    fn row(&self, queue: &Workqueue) -> QueueRow {
        let shares: Vec<VirtAddr> = queue.shares.iter().map(|share| share.at).collect();
        let is_ours = |pwq: Option<VirtAddr>| pwq.is_some_and(|at| shares.contains(&at));
        let mut running = Vec::new();
        let mut waiting = Vec::new();
        for pool in &self.queues.pools {
            let begun = pool.workers.iter().filter_map(|worker| Some((worker, worker.current.as_ref()?.pwq)));
            let ours = begun.filter(|(_, pwq)| is_ours(*pwq));
            running.extend(ours.filter_map(|(worker, _)| self.running(pool, worker)));
            let chained = pool.workers.iter().flat_map(|worker| &worker.scheduled);
            let pending = pool.pending.iter().chain(chained).filter(|work| is_ours(work.pwq));
            waiting.extend(pending.map(|work| self.waiting(work, Some(pool), true)));
        }
        for share in &queue.shares {
            let pool = self.queues.pools.iter().find(|pool| pool.at == share.pool);
            waiting.extend(share.inactive.iter().map(|work| self.waiting(work, pool, false)));
        }
        waiting.retain(|work| work.function.as_deref() != Some(BARRIER));
        let (name, max_active) = (queue.name.clone().ok(), queue.max_active.clone().ok());
        QueueRow { workqueue: queue.at, name, max_active, running, waiting }
    }

    fn running(&self, pool: &Pool, worker: &Worker) -> Option<Running> {
        let work = worker.current.as_ref()?;
        let task = worker.task.as_ref().ok().and_then(|at| self.tasks.at(*at));
        let asleep = task.filter(|task| !self.tasks.is_active(task));
        let waits =
            |wait: &&Wait| Some(wait.task.task) == task.map(|task| task.at) && wait.kind != LockKind::Unknown;
        let wait = self.locks.waits.iter().find(waits);
        let begun = worker.started.as_ref().ok().copied().filter(|ticks| *ticks != 0).zip(self.now);
        Some(Running {
            worker: task.map(TaskName::of),
            state: task.and_then(|task| self.tasks.bits.state(task)),
            pool: pool.id.clone().ok(),
            cpu: pool.cpu.clone().ok().flatten(),
            work: work.work,
            function: work.function.clone(),
            age_ns: begun.and_then(|(then, now)| jiffies_to_ns(self.kernel, now.saturating_sub(then)).ok()),
            asleep_ns: asleep.and_then(|task| age_ns(&self.tasks, task)),
            flushers: worker
                .scheduled
                .iter()
                .filter(|work| work.function.as_deref() == Some(BARRIER))
                .count(),
            waits_for: wait.map(|wait| {
                Titled { kind: wait.kind, lock: wait.lock, name: wait.name.as_deref() }.to_string()
            }),
        })
    }

    fn waiting(&self, work: &kdive_linux::workqueue::Work, pool: Option<&Pool>, pending: bool) -> Waiting {
        let progress = pool.and_then(|pool| pool.progress.clone().ok()).zip(self.now);
        let idle = progress.and_then(|(then, now)| jiffies_to_ns(self.kernel, now.saturating_sub(then)).ok());
        Waiting {
            work: work.work,
            function: work.function.clone(),
            pending,
            pool: pool.and_then(|pool| pool.id.clone().ok()),
            cpu: pool.and_then(|pool| pool.cpu.clone().ok().flatten()),
            no_progress_ns: idle.filter(|_| pending),
        }
    }

    fn pools(&self, cx: &mut Cx, out: &mut dyn Sink) -> Result<(), CommandError> {
        out.heading(" POOL  ADDRESS           CPU  NICE  WORKERS  IDLE  PENDING\n")?;
        for pool in &self.queues.pools {
            cx.cancel.check()?;
            let running = pool.workers.iter().filter_map(|worker| self.running(pool, worker));
            let row = PoolRow {
                pool: pool.at,
                id: pool.id.clone().ok(),
                cpu: pool.cpu.clone().ok().flatten(),
                nice: pool.nice.clone().ok(),
                workers: pool.workers.len(),
                idle: pool.idle.clone().ok(),
                pending: pool.pending.len(),
                running: running.collect(),
            };
            out.row(&row, &())?;
        }
        Ok(())
    }
}

impl Render for QueueRow {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let name = self.name.as_deref().unwrap_or(UNKNOWN);
        write!(out, "{name} {}: ", self.workqueue)?;
        write!(out, "{} running, {} waiting", self.running.len(), self.waiting.len())?;
        if let Some(most) = self.max_active {
            write!(out, ", at most {most} at a time")?;
        }
        out.write_char('\n')?;
        self.running.iter().try_for_each(|work| running(work, out))?;
        for work in &self.waiting {
            let how = if work.pending { "pending" } else { "inactive" };
            let function = work.function.as_deref().unwrap_or(UNKNOWN);
            write!(out, "  {how:<8}  {function}  work {}  {}", work.work, Place(work.pool, work.cpu))?;
            match work.no_progress_ns {
                Some(idle) => writeln!(out, ", which began nothing for {}", Age(idle))?,
                None => out.write_char('\n')?,
            }
        }
        Ok(())
    }
}

fn running(work: &Running, out: &mut dyn fmt::Write) -> fmt::Result {
    let function = work.function.as_deref().unwrap_or(UNKNOWN);
    write!(out, "  running   {function}  work {}  {}", work.work, Place(work.pool, work.cpu))?;
    if let Some(age) = work.age_ns {
        write!(out, ", for {}", Age(age))?;
    }
    out.write_str("\n            ")?;
    match &work.worker {
        Some(worker) => write!(out, "{worker}")?,
        None => out.write_str(UNKNOWN)?,
    }
    write!(out, "  {}", work.state.map_or(UNKNOWN, State::letters))?;
    if let Some(asleep) = work.asleep_ns {
        write!(out, "  asleep for {}", Age(asleep))?;
    }
    if let Some(waits_for) = &work.waits_for {
        write!(out, "  waits for {waits_for}")?;
    }
    match work.flushers {
        0 => {}
        1 => out.write_str("; 1 flusher")?,
        more => write!(out, "; {more} flushers")?,
    }
    out.write_char('\n')
}

/// `pool 3 of CPU 1`
struct Place(Option<i32>, Option<u32>);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pool {}", Known(self.0))?;
        match self.1 {
            Some(cpu) => write!(f, " of CPU {cpu}"),
            None => Ok(()),
        }
    }
}

impl Render for PoolRow {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let cpu = self.cpu.map_or_else(|| "-".to_owned(), |cpu| cpu.to_string());
        let (id, nice, idle) = (Known(self.id), Known(self.nice), Known(self.idle));
        writeln!(
            out,
            " {id:>4}  {}  {cpu:>3}  {nice:>4}  {:>7}  {idle:>4}  {:>7}",
            self.pool, self.workers, self.pending
        )?;
        self.running.iter().try_for_each(|work| running(work, out))
    }
}
