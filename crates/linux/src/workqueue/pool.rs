//! Pools and their workers.

use kdive_base::VirtAddr;
use kdive_target::{Field, Kernel, Lacks, Load, MemberAddress, Text, walk};

use super::{MOST_WORKS, Reader, Work, function};

/// A thread of a pool (`struct worker`).
#[derive(Clone, Debug)]
pub struct Worker {
    /// Its address.
    pub at: VirtAddr,
    /// Its `task_struct`.
    pub task: Field<VirtAddr>,
    /// The item that it works on; `None` where it is idle.
    pub current: Option<Work>,
    /// When it began, in jiffies (6.19).
    pub started: Field<u64>,
    /// What the item said of itself (`set_worker_desc`).
    pub description: Option<String>,
    /// Items that it is to do next, before others of the pool: those that were linked to the current one, barriers among
    /// them.
    pub scheduled: Vec<Work>,
}

/// A pool of workers (`struct worker_pool`).
#[derive(Clone, Debug)]
pub struct Pool {
    /// Its address.
    pub at: VirtAddr,
    /// Its number.
    pub id: Field<i32>,
    /// Its processor; `None` for one of no processor.
    pub cpu: Field<Option<u32>>,
    /// Nice value of its workers.
    pub nice: Field<i32>,
    /// Workers that run and are counted for it.
    pub running: Field<i32>,
    /// All workers.
    pub workers: Vec<Worker>,
    /// Workers without an item.
    pub idle: Field<u32>,
    /// Items that no worker has begun, in their order.
    pub pending: Vec<Work>,
    /// When an item was last begun, in jiffies; of a pool without pending items it may be long ago.
    pub progress: Field<u64>,
}

#[derive(Load)]
#[load(type = "worker_pool")]
struct RawPool {
    id: Field<i32>,
    cpu: Field<i32>,
    nr_running: Field<i32>,
    nr_idle: Field<u32>,
    worklist: Field<MemberAddress>,
    workers: Field<MemberAddress>,
    attrs: Field<VirtAddr>,
    #[load(any("last_progress_ts", "watchdog_ts"))]
    progress: Field<u64>,
}

#[derive(Load)]
#[load(type = "workqueue_attrs")]
struct Attrs {
    nice: Field<i32>,
}

#[derive(Load)]
#[load(type = "worker")]
struct RawWorker {
    current_work: Field<VirtAddr>,
    current_func: Field<VirtAddr>,
    current_pwq: Field<VirtAddr>,
    current_start: Field<u64>,
    scheduled: Field<MemberAddress>,
    task: Field<VirtAddr>,
    desc: Field<Text>,
}

/// The `task_struct` of the worker at an address.
pub(super) fn task_of(kernel: &Kernel, worker: VirtAddr) -> Option<VirtAddr> {
    kernel.load::<RawWorker>(worker).task.ok().filter(|at| !at.is_null())
}

impl Pool {
    pub(super) fn read(reader: &Reader<'_>, at: VirtAddr, lacks: &mut Vec<Lacks>) -> Self {
        let kernel = reader.kernel;
        let raw: RawPool = kernel.load(at);
        let attrs = raw.attrs.map(|at| kernel.load::<Attrs>(at));
        let pending = match raw.worklist {
            Ok(MemberAddress(head)) => reader.works(head, lacks),
            Err(why) => {
                lacks.push(why);
                Vec::new()
            }
        };
        let workers = workers(reader, raw.workers, lacks).unwrap_or_else(|why| {
            lacks.push(why);
            Vec::new()
        });
        Self {
            at,
            id: raw.id,
            cpu: raw.cpu.map(|cpu| u32::try_from(cpu).ok()),
            nice: attrs.and_then(|attrs| attrs.nice),
            running: raw.nr_running,
            workers,
            idle: raw.nr_idle,
            pending,
            progress: raw.progress,
        }
    }
}

fn workers(reader: &Reader<'_>, head: Field<MemberAddress>, lacks: &mut Vec<Lacks>) -> Field<Vec<Worker>> {
    let kernel = reader.kernel;
    let MemberAddress(head) = head?;
    let link = kernel.offset_of("worker", "node")?;
    let loader = kernel.loader::<RawWorker>();
    let mut workers = Vec::new();
    for item in walk::list(kernel.memory(), head).take(MOST_WORKS) {
        let at = match item {
            Ok(at) => at.sub(link),
            Err(broken) => {
                lacks.push(broken.into());
                break;
            }
        };
        let raw = loader.load(at);
        // The function is the worker's own: the item may be gone by the time that it runs.
        let current = raw.current_work.ok().filter(|work| !work.is_null()).map(|work| Work {
            work,
            function: raw.current_func.ok().and_then(|at| function(kernel, at)),
            pwq: raw.current_pwq.ok().filter(|at| !at.is_null()),
        });
        let scheduled = match raw.scheduled {
            Ok(MemberAddress(head)) => reader.works(head, lacks),
            Err(why) => {
                lacks.push(why);
                Vec::new()
            }
        };
        let description = raw.desc.ok().map(|Text(text)| text).filter(|text| !text.is_empty());
        workers.push(Worker {
            at,
            task: raw.task,
            current,
            started: raw.current_start,
            description,
            scheduled,
        });
    }
    Ok(workers)
}
