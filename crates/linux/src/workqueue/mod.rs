//! Workqueues: what kernel threads are to do for others (kernel/workqueue.c).
//!
//! A work item is queued on a workqueue, which hands it to a pool of workers: the pool of a processor, or one without. A
//! workqueue gives a pool only so many at a time; the others are inactive until one of them ends.

mod flush;
mod pool;

use std::sync::Arc;

use kdive_base::VirtAddr;
use kdive_target::{Field, Kernel, Lacks, Load, Loader, MemberAddress, Text, walk};
use rustc_hash::FxHashSet;
use serde::Serialize;

pub use flush::{Flushed, flushed};
pub use pool::{Pool, Worker};

use crate::tasks::plain_name;

/// A work item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Work {
    /// Its `struct work_struct`.
    pub work: VirtAddr,
    /// What it calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// The `struct pool_workqueue` that it was queued through, and with it its workqueue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pwq: Option<VirtAddr>,
}

/// A workqueue's share in a pool (`struct pool_workqueue`).
#[derive(Clone, Debug)]
pub struct Share {
    /// Its address.
    pub at: VirtAddr,
    /// Its workqueue.
    pub workqueue: VirtAddr,
    /// Its pool.
    pub pool: VirtAddr,
    /// Items that the pool was given and that have not ended.
    pub active: Field<u32>,
    /// Items that wait for one of those to end, in their order.
    pub inactive: Vec<Work>,
    /// Whether it takes no items for now, for an older share of an ordered workqueue is not done yet (6.9).
    pub plugged: bool,
}

/// A workqueue (`struct workqueue_struct`).
#[derive(Clone, Debug)]
pub struct Workqueue {
    /// Its address.
    pub at: VirtAddr,
    /// Its name.
    pub name: Field<String>,
    /// `WQ_*` flags.
    pub flags: Field<u32>,
    /// Items that may be active at a time, in each pool.
    pub max_active: Field<u32>,
    /// The `task_struct` of the thread that helps out when no worker can be made.
    pub rescuer: Option<VirtAddr>,
    /// Its shares in pools.
    pub shares: Vec<Share>,
}

/// All workqueues and pools.
#[derive(Debug, Default)]
pub struct Workqueues {
    /// The workqueues in the order of the kernel's list.
    pub list: Vec<Workqueue>,
    /// The pools that they use, by their numbers.
    pub pools: Vec<Pool>,
    /// Why some may be lacking.
    pub lacks: Vec<Lacks>,
}

#[derive(Load)]
#[load(type = "workqueue_struct")]
struct RawQueue {
    #[load(address)]
    at: VirtAddr,
    pwqs: Field<MemberAddress>,
    name: Field<Text>,
    flags: Field<u32>,
    #[load(any("max_active", "saved_max_active"))]
    max_active: Field<u32>,
    rescuer: Field<VirtAddr>,
}

#[derive(Load)]
#[load(type = "pool_workqueue")]
struct RawShare {
    pool: Field<VirtAddr>,
    wq: Field<VirtAddr>,
    nr_active: Field<u32>,
    /// `delayed_works` before 5.15.
    #[load(any("inactive_works", "delayed_works"))]
    inactive: Field<MemberAddress>,
    plugged: Field<bool>,
}

#[derive(Load)]
#[load(type = "work_struct")]
struct RawWork {
    data: Field<u64>,
    func: Field<VirtAddr>,
}

/// Longest list of works that is read: a listing of more would tell nobody anything.
const MOST_WORKS: usize = 1 << 16;

/// Reads works.
struct Reader<'k> {
    kernel: &'k Kernel,
    work: Loader<'k, RawWork>,
    link: u64,
    shares: FxHashSet<VirtAddr>,
}

impl Workqueues {
    /// The workqueues: read on first use, then shared.
    #[must_use]
    pub fn find(kernel: &Kernel) -> Arc<Self> {
        let read = |kernel: &Kernel| {
            Arc::new(
                Self::read(kernel).unwrap_or_else(|lacks| Self { lacks: vec![lacks], ..Self::default() }),
            )
        };
        kernel.once(read).clone()
    }

    /// The workqueue at an address.
    #[must_use]
    pub fn at(&self, at: VirtAddr) -> Option<&Workqueue> {
        self.list.iter().find(|queue| queue.at == at)
    }

    /// The workqueue that an item was queued on.
    #[must_use]
    pub fn of(&self, work: &Work) -> Option<&Workqueue> {
        let share = work.pwq?;
        self.list.iter().find(|queue| queue.shares.iter().any(|of| of.at == share))
    }

    fn read(kernel: &Kernel) -> Field<Self> {
        let memory = kernel.memory();
        let link = kernel.offset_of("workqueue_struct", "list")?;
        let queues = kernel.loader::<RawQueue>();
        let mut found = Self::default();
        let mut raw = Vec::new();
        for item in walk::list(memory, kernel.symbol("workqueues")?) {
            match item {
                Ok(at) => raw.push(queues.load(at.sub(link))),
                Err(broken) => found.lacks.push(broken.into()),
            }
        }
        let shares: Vec<Field<Vec<VirtAddr>>> = raw.iter().map(|queue| shares(kernel, queue)).collect();
        let known = shares.iter().flatten().flatten().copied().collect();
        let reader = Reader {
            kernel,
            work: kernel.loader(),
            link: kernel.offset_of("work_struct", "entry")?,
            shares: known,
        };
        for (queue, shares) in raw.into_iter().zip(shares) {
            let queue = found.queue(&reader, queue, shares);
            found.list.push(queue);
        }
        found.add_pools(&reader);
        Ok(found)
    }

    fn queue(&mut self, reader: &Reader<'_>, raw: RawQueue, shares: Field<Vec<VirtAddr>>) -> Workqueue {
        let addresses = shares.unwrap_or_else(|lacks| {
            self.lacks.push(lacks);
            Vec::new()
        });
        let shares = addresses.into_iter().filter_map(|at| self.share(reader, at)).collect();
        let rescuer = raw.rescuer.ok().filter(|at| !at.is_null());
        let rescuer = rescuer.and_then(|at| pool::task_of(reader.kernel, at));
        Workqueue {
            at: raw.at,
            name: raw.name.map(|Text(name)| name),
            flags: raw.flags,
            max_active: raw.max_active,
            rescuer,
            shares,
        }
    }

    fn share(&mut self, reader: &Reader<'_>, at: VirtAddr) -> Option<Share> {
        let raw: RawShare = reader.kernel.load(at);
        let (pool, workqueue) = match (raw.pool, raw.wq) {
            (Ok(pool), Ok(workqueue)) => (pool, workqueue),
            (Err(lacks), _) | (_, Err(lacks)) => {
                self.lacks.push(lacks);
                return None;
            }
        };
        let inactive = match raw.inactive {
            Ok(MemberAddress(head)) => reader.works(head, &mut self.lacks),
            Err(lacks) => {
                self.lacks.push(lacks);
                Vec::new()
            }
        };
        let plugged = raw.plugged.unwrap_or(false);
        Some(Share { at, workqueue, pool, active: raw.nr_active, inactive, plugged })
    }

    fn add_pools(&mut self, reader: &Reader<'_>) {
        let mut seen = FxHashSet::default();
        let used = self.list.iter().flat_map(|queue| queue.shares.iter().map(|share| share.pool));
        let used: Vec<VirtAddr> = used.filter(|at| seen.insert(*at)).collect();
        for at in used {
            let pool = Pool::read(reader, at, &mut self.lacks);
            self.pools.push(pool);
        }
        self.pools.sort_by_key(|pool| pool.id.as_ref().copied().unwrap_or(i32::MAX));
    }

    /// The item that a task works on.
    #[must_use]
    pub fn work_of(&self, task: VirtAddr) -> Option<&Work> {
        let mut workers = self.pools.iter().flat_map(|pool| &pool.workers);
        workers.find(|worker| worker.task == Ok(task))?.current.as_ref()
    }
}

fn shares(kernel: &Kernel, queue: &RawQueue) -> Field<Vec<VirtAddr>> {
    let MemberAddress(head) = queue.pwqs.clone()?;
    let link = kernel.offset_of("pool_workqueue", "pwqs_node")?;
    let shares = walk::list(kernel.memory(), head).take(MOST_WORKS);
    shares.map(|item| Ok(item.map_err(Lacks::from)?.sub(link))).collect()
}

impl Reader<'_> {
    /// The works of a list.
    fn works(&self, head: VirtAddr, lacks: &mut Vec<Lacks>) -> Vec<Work> {
        let mut works = Vec::new();
        for item in walk::list(self.kernel.memory(), head).take(MOST_WORKS) {
            match item {
                Ok(at) => works.push(self.at(at.sub(self.link))),
                Err(broken) => lacks.push(broken.into()),
            }
        }
        works
    }

    fn at(&self, at: VirtAddr) -> Work {
        let raw = self.work.load(at);
        let function = raw.func.ok().and_then(|at| function(self.kernel, at));
        Work { work: at, function, pwq: raw.data.ok().and_then(|data| self.share_of(data)) }
    }

    /// The share in the upper bits of `work_struct.data`; how many bits below it are flags differs (8 or 9, more with
    /// debugging), and only a share of a workqueue counts.
    fn share_of(&self, data: u64) -> Option<VirtAddr> {
        let candidates = (6..=12).map(|bits| VirtAddr(data >> bits << bits));
        candidates.into_iter().find(|at| self.shares.contains(at))
    }
}

/// The name of a function that works call.
fn function(kernel: &Kernel, at: VirtAddr) -> Option<String> {
    kernel.place(at).map(|place| plain_name(place.symbol.name).to_owned())
}
