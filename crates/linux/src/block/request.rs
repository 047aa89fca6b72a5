//! I/O that is not done (block/blk-mq.c): every request that has a tag, where it stands, and for how long.

use kdive_base::VirtAddr;
use kdive_target::{Field, Kernel, Lacks, Load, Loader};
use rustc_hash::{FxHashMap, FxHashSet};
use serde::Serialize;

use super::bio::{self, Bio, Operation, Operations};
use super::issuer::{Issuers, Owner};
use super::queue::{HardwareQueue, Queue, Tags};
use crate::system;
use crate::time;

/// Where I/O stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stands {
    /// The driver has it (`MQ_RQ_IN_FLIGHT`).
    Driver,
    /// The driver has completed it, and it is not ended yet (`MQ_RQ_COMPLETE`).
    Completed,
    /// The driver had no room for it (`hctx->dispatch`).
    Dispatch,
    /// It is to be sent again (`requeue_list`).
    Requeue,
    /// It waits for a flush before or after it.
    Flush,
    /// The scheduler has it, or it is on the way to it.
    Queued,
    /// It waits in a stacked device (device mapper), as a bio.
    Deferred,
}

impl Stands {
    /// In a word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Driver => "driver",
            Self::Completed => "completed",
            Self::Dispatch => "dispatch",
            Self::Requeue => "requeue",
            Self::Flush => "flush",
            Self::Queued => "queued",
            Self::Deferred => "deferred",
        }
    }
}

/// I/O that is not done: a request, or a bio that waits in a device without requests.
#[derive(Clone, Debug)]
pub struct Io {
    /// The `struct request`, or the `struct bio`.
    pub at: VirtAddr,
    /// Whether it is a request.
    pub is_request: bool,
    /// Where it stands.
    pub stands: Stands,
    /// The number of its hardware queue.
    pub hardware_queue: Option<u32>,
    /// Its tag in the driver's set.
    pub tag: Option<u32>,
    /// What it does.
    pub operation: Field<Operation>,
    /// Where, in sectors of 512 bytes of the whole disk.
    pub sector: Field<u64>,
    /// How much, in bytes.
    pub bytes: Field<u32>,
    /// Nanoseconds since it was allocated or submitted.
    pub age_ns: Option<u64>,
    /// Nanoseconds since the task that waits for it last ran: not less than its age, but for moments.
    pub waited_ns: Option<u64>,
    /// Nanoseconds since the driver was given it.
    pub issued_ns: Option<u64>,
    /// Nanoseconds until it times out, below zero where it should have.
    pub times_out_ns: Option<i64>,
    /// The bios in it, the first ones of many.
    pub bios: Vec<Bio>,
    /// Who issued it or waits for it, the surest first.
    pub owners: Vec<Owner>,
}

#[derive(Clone, Load)]
#[load(type = "request")]
struct Request {
    #[load(address)]
    at: VirtAddr,
    q: Field<VirtAddr>,
    /// Null once it was freed.
    mq_hctx: Field<VirtAddr>,
    cmd_flags: Field<u32>,
    state: Field<u32>,
    tag: Field<i32>,
    internal_tag: Field<i32>,
    #[load(any("__sector"))]
    sector: Field<u64>,
    #[load(any("__data_len"))]
    bytes: Field<u32>,
    bio: Field<VirtAddr>,
    start_time_ns: Field<u64>,
    io_start_time_ns: Field<u64>,
    deadline: Field<u64>,
    timeout: Field<u32>,
    end_io_data: Field<VirtAddr>,
}

/// `MQ_RQ_IN_FLIGHT`.
const IN_FLIGHT: u32 = 1;
/// `MQ_RQ_COMPLETE`.
const COMPLETE: u32 = 2;
/// Bios kept of one request.
const MOST_BIOS: usize = 64;

/// The clocks that ages are told by.
#[derive(Clone, Copy)]
pub struct Now {
    monotonic_ns: Option<u64>,
    jiffies: Option<u64>,
    tick_ns: Option<u64>,
}

impl Now {
    /// The clocks of the machine when it died.
    #[must_use]
    pub fn find(kernel: &Kernel) -> Self {
        Self {
            monotonic_ns: system::Clock::find(kernel).ok().map(|clock| clock.monotonic_ns),
            jiffies: time::jiffies(kernel).ok(),
            tick_ns: system::ticks_per_second(kernel).ok().and_then(|hz| 1_000_000_000_u64.checked_div(hz)),
        }
    }

    /// Nanoseconds since a time of the monotonic clock; 0 stands for none. What began after the last tick is new.
    pub(crate) fn since_ns(&self, at: u64) -> Option<u64> {
        (at != 0).then_some(self.monotonic_ns?.saturating_sub(at))
    }

    /// Nanoseconds until a time in jiffies.
    pub(crate) fn until_jiffies(&self, at: u64) -> Option<i64> {
        let ticks = at.wrapping_sub(self.jiffies?).cast_signed();
        Some(ticks.saturating_mul(self.tick_ns?.cast_signed()))
    }

    /// Nanoseconds since a time in jiffies; 0 for one that is still to come.
    pub(crate) fn since_jiffies(&self, at: u64) -> Option<u64> {
        let until = self.until_jiffies(at)?;
        Some(u64::try_from(until.saturating_neg()).unwrap_or(0))
    }

    /// Nanoseconds of so many ticks.
    pub(crate) fn ticks_ns(&self, ticks: u64) -> Option<u64> {
        Some(ticks.saturating_mul(self.tick_ns?))
    }

    /// Nanoseconds until a time of which the low 32 bits in jiffies are known.
    pub(crate) fn until_jiffies_32(&self, at: u32) -> Option<i64> {
        let ticks = at.wrapping_sub(self.jiffies? as u32).cast_signed();
        Some(i64::from(ticks).saturating_mul(self.tick_ns?.cast_signed()))
    }

    /// Nanoseconds since such a time; 0 for one that is still to come.
    pub(crate) fn since_jiffies_32(&self, at: u32) -> Option<u64> {
        Some(u64::try_from(self.until_jiffies_32(at)?.saturating_neg()).unwrap_or(0))
    }

    /// The monotonic clock.
    pub(crate) fn monotonic(&self) -> Option<u64> {
        self.monotonic_ns
    }
}

/// Finds what a queue has not done.
pub struct Requests<'k> {
    kernel: &'k Kernel,
    now: Now,
    loader: Loader<'k, Request>,
}

/// What was found in a queue.
#[derive(Default)]
pub struct Pending {
    /// In the order of hardware queues and tags.
    pub all: Vec<Io>,
    /// What could not be read.
    pub lacking: Vec<Lacks>,
}

impl<'k> Requests<'k> {
    /// Bound to a kernel.
    #[must_use]
    pub fn new(kernel: &'k Kernel) -> Self {
        Self { kernel, now: Now::find(kernel), loader: kernel.loader() }
    }

    /// The requests of a queue that are not done, without their owners.
    #[must_use]
    pub fn of_queue(&self, queue: &Queue) -> Pending {
        let mut pending = Pending::default();
        let hardware = match queue.hardware_queues(self.kernel) {
            Ok(hardware) => hardware,
            Err(lacks) => {
                pending.lacking.push(lacks);
                return pending;
            }
        };
        let mut search = Search { requests: self, queue: queue.at, places: FxHashMap::default(), pending };
        search.note(queue.requeued(self.kernel), Stands::Requeue);
        let (mut tags, mut seen) = (Vec::new(), FxHashSet::default());
        for at in hardware {
            let hardware: HardwareQueue = self.kernel.load(at);
            search.note(hardware.dispatched(self.kernel), Stands::Dispatch);
            search.note(hardware.awaiting_flush(self.kernel), Stands::Flush);
            let number = hardware.number.clone().ok();
            // The scheduler's tags first: where there is one, its requests are the ones that live.
            for (set, by_scheduler) in [(&hardware.sched_tags, true), (&hardware.tags, false)] {
                match set {
                    Ok(at) if !at.is_null() && seen.insert(*at) => tags.push((*at, number, by_scheduler)),
                    Ok(_) => {}
                    Err(lacks) => search.pending.lacking.push(lacks.clone()),
                }
            }
        }
        let mut seen = FxHashSet::default();
        for (at, number, by_scheduler) in tags {
            if let Err(lacks) = search.add_tags(at, number, by_scheduler, &mut seen) {
                search.pending.lacking.push(lacks);
            }
        }
        search.pending
    }

    /// A bio as I/O that waits in a device.
    #[must_use]
    pub fn of_bio(&self, bio: Bio, stands: Stands) -> Io {
        let age = self.now.monotonic().and_then(|now| bio.age_ns(now));
        Io {
            at: bio.at,
            is_request: false,
            stands,
            hardware_queue: None,
            tag: None,
            operation: bio.operation(self.kernel),
            sector: bio.sector.clone(),
            bytes: bio.bytes.clone(),
            age_ns: age,
            waited_ns: None,
            issued_ns: None,
            times_out_ns: None,
            bios: vec![bio],
            owners: Vec::new(),
        }
    }

    fn of_request(&self, request: &Request, stands: Stands, number: Option<u32>) -> Io {
        let timeout = request.timeout.clone().ok().filter(|ticks| *ticks != 0);
        // A timer that never ran has no deadline.
        let deadline = request.deadline.clone().ok().filter(|at| *at != 0 && stands == Stands::Driver);
        let given = timeout.zip(deadline).map(|(timeout, deadline)| deadline.wrapping_sub(timeout.into()));
        let by_timer = given.and_then(|at| self.now.since_jiffies(at));
        let by_clock = |at: &Field<u64>| at.clone().ok().and_then(|at| self.now.since_ns(at));
        let issued = by_clock(&request.io_start_time_ns).filter(|_| stands == Stands::Driver).or(by_timer);
        let first = request.bio.clone().ok().filter(|at| !at.is_null());
        let bios = first.and_then(|at| bio::chain(self.kernel, at).ok());
        Io {
            at: request.at,
            is_request: true,
            stands,
            hardware_queue: number,
            tag: request.tag.clone().ok().and_then(|tag| u32::try_from(tag).ok()),
            operation: request.cmd_flags.clone().map(|flags| Operations::of(self.kernel).decode(flags)),
            sector: request.sector.clone(),
            bytes: request.bytes.clone(),
            age_ns: by_clock(&request.start_time_ns).or(issued),
            waited_ns: None,
            issued_ns: issued,
            times_out_ns: deadline.and_then(|at| self.now.until_jiffies(at)),
            bios: bios.into_iter().flatten().take(MOST_BIOS).map_while(Result::ok).collect(),
            owners: Vec::new(),
        }
    }
}

impl Io {
    /// Finds who issued it.
    pub fn find_owners(&mut self, kernel: &Kernel, issuers: &Issuers<'_>) {
        let mut others = vec![self.at];
        if self.is_request {
            others.extend(kernel.load::<Request>(self.at).end_io_data.ok());
        }
        self.owners = issuers.of(&self.bios, &others);
        self.waited_ns = self.owners.first().and_then(|owner| issuers.blocked_ns(owner.task));
    }
}

/// The search through one queue.
struct Search<'r, 'k> {
    requests: &'r Requests<'k>,
    queue: VirtAddr,
    /// Lists on which requests are.
    places: FxHashMap<VirtAddr, Stands>,
    pending: Pending,
}

impl Search<'_, '_> {
    fn note(&mut self, list: Field<Vec<VirtAddr>>, stands: Stands) {
        match list {
            Ok(list) => self.places.extend(list.into_iter().map(|at| (at, stands))),
            Err(lacks) => self.pending.lacking.push(lacks),
        }
    }

    /// The requests of one set of tags. A tag's own request lives while the tag is taken; the one that had it last may be
    /// another: a request of the scheduler, or the flush machine's.
    fn add_tags(
        &mut self,
        at: VirtAddr,
        number: Option<u32>,
        by_scheduler: bool,
        seen: &mut FxHashSet<VirtAddr>,
    ) -> Field<()> {
        let kernel = self.requests.kernel;
        let memory = kernel.memory();
        let tags: Tags = kernel.load(at);
        for tag in tags.taken(kernel)? {
            for array in [&tags.made, &tags.requests] {
                let Ok(array) = array else { continue };
                // Not every set of tags has both.
                if array.is_null() {
                    continue;
                }
                let request = memory.pointer(array.add(u64::from(tag).wrapping_mul(8)))?;
                if request.is_null() {
                    continue;
                }
                let request = self.requests.loader.load(request);
                if request.mq_hctx.clone()?.is_null() {
                    continue;
                }
                let own = if by_scheduler { request.internal_tag.clone()? } else { request.tag.clone()? };
                if request.q.clone()? == self.queue
                    && i64::from(own) == i64::from(tag)
                    && seen.insert(request.at)
                {
                    let stands = self.stands(&request)?;
                    self.pending.all.push(self.requests.of_request(&request, stands, number));
                }
            }
        }
        Ok(())
    }

    fn stands(&self, request: &Request) -> Field<Stands> {
        Ok(match (request.state.clone()?, self.places.get(&request.at)) {
            (IN_FLIGHT, _) => Stands::Driver,
            (COMPLETE, _) => Stands::Completed,
            (_, Some(stands)) => *stands,
            (_, None) => Stands::Queued,
        })
    }
}
