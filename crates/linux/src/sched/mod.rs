//! What waits for a processor: run queues, class by class (kernel/sched).
//!
//! A processor has a queue for each scheduling class. In the fair and the real-time class a queue may hold whole task
//! groups, which have queues of their own on that processor.

mod deadline;
mod ext;
mod fair;
mod group;
mod rt;

use kdive_base::VirtAddr;
use kdive_target::{Field, Kernel, Lacks, Load, MemberAddress};
use rustc_hash::FxHashSet;

pub use group::TaskGroup;

/// The queues of one processor.
#[derive(Clone, Debug)]
pub struct CpuQueues {
    /// The processor.
    pub cpu: u32,
    /// Its `struct rq`.
    pub at: VirtAddr,
    /// Runnable tasks of all classes, the current one included.
    pub nr_running: Field<u64>,
    /// The fair class (`rq.cfs`).
    pub fair: Field<Queue>,
    /// The real-time class (`rq.rt`).
    pub rt: Field<Queue>,
    /// The deadline class (`rq.dl`, 3.14).
    pub deadline: Field<Queue>,
    /// The processor's own queue of the class that BPF programs schedule (`rq.scx.local_dsq`, 6.12).
    pub ext: Field<Queue>,
}

/// A queue of one class: a processor's own, or a task group's on that processor.
#[derive(Clone, Debug)]
pub struct Queue {
    /// The `struct cfs_rq`, `rt_rq`, `dl_rq` or `scx_dispatch_q`.
    pub at: VirtAddr,
    /// What holds its entries: the root of a tree, or the array of lists.
    pub head: VirtAddr,
    /// The task group that it is of.
    pub group: Option<VirtAddr>,
    /// Whether the kernel has task groups in this class.
    pub groups: bool,
    /// Whether it used up its time and waits for more.
    pub throttled: bool,
    /// What runs now; the fair class takes it off the queue meanwhile.
    pub current: Option<Box<Queued>>,
    /// What waits, in the order in which the class keeps it.
    pub queued: Vec<Queued>,
    /// Groups whose queue was taken off because it is throttled.
    pub off: Vec<Queue>,
    /// Why entries may be lacking.
    pub lacks: Vec<Lacks>,
}

/// One entry of a queue.
#[derive(Clone, Debug)]
pub struct Queued {
    /// The real-time priority level that it is queued at, 0 the highest.
    pub level: Option<u32>,
    /// What it is.
    pub what: What,
}

/// What waits in a queue.
#[derive(Clone, Debug)]
pub enum What {
    /// A task.
    Task {
        /// Its `task_struct`.
        at: VirtAddr,
        /// It went to sleep, but stays queued until its lag is worn off (6.12): it is not runnable.
        delayed: bool,
    },
    /// A group, by its queue.
    Group(Queue),
    /// A server that runs another class within a bandwidth (`sched_dl_entity`, 6.8).
    Server(VirtAddr),
}

impl Queue {
    fn new(at: VirtAddr, head: VirtAddr) -> Self {
        Self {
            at,
            head,
            group: None,
            groups: false,
            throttled: false,
            current: None,
            queued: Vec::new(),
            off: Vec::new(),
            lacks: Vec::new(),
        }
    }

    /// Whether nothing waits in it, groups included.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queued.is_empty()
    }
}

/// Groups inside each other: control groups are at most this deep in practice, and a deeper tree is damaged.
const MOST_LEVELS: usize = 64;

/// What a walk over a processor's queues carries along.
struct Walk<'k> {
    kernel: &'k Kernel,
    cpu: u32,
    /// Group queues that were met: a group whose queue leads back to itself ends here.
    seen: FxHashSet<VirtAddr>,
}

impl Walk<'_> {
    /// Whether to go into the queue of a group.
    fn enter(&mut self, queue: VirtAddr, depth: usize) -> Result<(), Lacks> {
        if depth > MOST_LEVELS {
            return Err(Lacks::implausible("task groups lie deeper than they can"));
        }
        match self.seen.insert(queue) {
            true => Ok(()),
            false => Err(Lacks::implausible(format_args!("the queue at {queue:#} is reached twice"))),
        }
    }
}

/// The part of `struct rq` that leads to the queues.
#[derive(Load)]
#[load(type = "rq")]
struct Rq {
    nr_running: Field<u64>,
    cfs: Field<MemberAddress>,
    rt: Field<MemberAddress>,
    dl: Field<MemberAddress>,
    #[load(any("scx.local_dsq"))]
    local_dsq: Field<MemberAddress>,
}

impl CpuQueues {
    /// The queues of a processor.
    ///
    /// # Errors
    /// There is no such processor, or where its queue lies is not known.
    pub fn find(kernel: &Kernel, cpu: u32) -> Field<Self> {
        let at = kernel.per_cpu("runqueues", cpu)?;
        let rq: Rq = kernel.load(at);
        let mut walk = Walk { kernel, cpu, seen: FxHashSet::default() };
        let fair = rq.cfs.and_then(|MemberAddress(at)| fair::queue(&mut walk, at, 0));
        let rt = rq.rt.and_then(|MemberAddress(at)| rt::queue(&mut walk, at, 0));
        let deadline = rq.dl.and_then(|MemberAddress(at)| deadline::queue(kernel, at));
        let ext = rq.local_dsq.and_then(|MemberAddress(at)| ext::queue(kernel, at));
        Ok(Self { cpu, at, nr_running: rq.nr_running, fair, rt, deadline, ext })
    }
}
