//! Queueing disciplines (include/net/sch_generic.h) and the queues of network devices: what waits to be sent, and when
//! something was sent last.

use kdive_base::VirtAddr;
use kdive_target::walk;
use kdive_target::{Field, Kernel, Lacks, Load, MemberAddress, Text};
use rustc_hash::FxHashSet;

use crate::block::Now;

/// The part of `struct net_device` that is about sending.
#[derive(Clone, Debug, Load)]
#[load(type = "net_device")]
pub struct Sender {
    /// Its address.
    #[load(address)]
    pub at: VirtAddr,
    #[load(any("_tx"))]
    queues: Field<VirtAddr>,
    #[load(any("num_tx_queues"))]
    queue_count: Field<u32>,
    /// Queues in use.
    #[load(any("real_num_tx_queues"))]
    pub queues_in_use: Field<u32>,
    #[load(any("qdisc"))]
    root: Field<VirtAddr>,
    #[load(any("qdisc_hash"))]
    others: Field<MemberAddress>,
    /// `__LINK_STATE_*`, bits of a word.
    pub state: Field<u64>,
    /// Ticks without a packet after which a stopped queue counts as stuck; 0 for the default of 5 seconds.
    #[load(any("watchdog_timeo"))]
    pub watchdog: Field<u32>,
    napi_list: Field<MemberAddress>,
}

/// A queue of a device (`struct netdev_queue`).
#[derive(Clone, Debug)]
pub struct DeviceQueue {
    /// Its address.
    pub at: VirtAddr,
    /// Its number.
    pub number: u32,
    /// Whether the driver stopped it (`__QUEUE_STATE_DRV_XOFF`).
    pub stopped: Field<bool>,
    /// Whether too much is on its way already (`__QUEUE_STATE_STACK_XOFF`).
    pub throttled: Field<bool>,
    /// Nanoseconds since the driver took a packet; `None` where it never did, or does not say.
    pub last_sent_ns: Option<u64>,
    /// How often the watchdog found it stuck.
    pub timeouts: Field<u64>,
}

/// A discipline.
#[derive(Clone, Debug)]
pub struct Discipline {
    /// Its `struct Qdisc`.
    pub at: VirtAddr,
    /// `fq_codel`, `noqueue`...
    pub kind: Field<String>,
    /// Its number, major and minor.
    pub handle: Field<u32>,
    /// That of the class it serves; all ones for the root.
    pub parent: Field<u32>,
    /// Packets that wait.
    pub packets: Field<u64>,
    /// Bytes that wait.
    pub backlog: Field<u64>,
    /// Packets that it let go, ever.
    pub sent: Field<u64>,
    /// Packets that it dropped.
    pub drops: Field<u64>,
    /// Packets that the driver gave back.
    pub requeues: Field<u64>,
    /// How often it held packets back.
    pub overlimits: Field<u64>,
}

#[derive(Load)]
#[load(type = "netdev_queue")]
struct RawQueue {
    #[load(address)]
    at: VirtAddr,
    state: Field<u64>,
    trans_start: Field<u64>,
    #[load(any("trans_timeout.counter", "trans_timeout"))]
    timeouts: Field<u64>,
}

#[derive(Load)]
#[load(type = "Qdisc")]
struct RawQdisc {
    #[load(address)]
    at: VirtAddr,
    flags: Field<u32>,
    ops: Field<VirtAddr>,
    handle: Field<u32>,
    parent: Field<u32>,
    #[load(any("q.qlen"))]
    length: Field<u32>,
    #[load(any("qstats"))]
    stats: Field<MemberAddress>,
    cpu_qstats: Field<VirtAddr>,
    #[load(any("bstats.packets"))]
    sent: Field<u64>,
    cpu_bstats: Field<VirtAddr>,
}

#[derive(Load)]
#[load(type = "Qdisc_ops")]
struct Ops {
    id: Field<Text>,
}

#[derive(Load)]
#[load(type = "gnet_stats_queue")]
struct Stats {
    qlen: Field<u32>,
    backlog: Field<u32>,
    drops: Field<u32>,
    requeues: Field<u32>,
    overlimits: Field<u32>,
}

/// `TCQ_F_CPUSTATS`, include/net/sch_generic.h: each processor counts for itself.
const PER_CPU: u32 = 0x20;
/// `qdisc_hash` has 16 chains (`DECLARE_HASHTABLE(qdisc_hash, 4)`).
const CHAINS: u64 = 16;
const MOST_QUEUES: u32 = 1 << 14;
const MOST_NAPIS: usize = 1 << 16;

impl Sender {
    /// Whether the device is up, and whether it has a carrier.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn is_up_with_carrier(&self) -> Field<(bool, bool)> {
        let state = self.state.clone()?;
        // __LINK_STATE_START and __LINK_STATE_NOCARRIER.
        Ok((state & 1 != 0, state >> 2 & 1 == 0))
    }

    /// Its queues.
    ///
    /// # Errors
    /// They cannot be found.
    pub fn queues(&self, kernel: &Kernel, now: &Now) -> Field<Vec<DeviceQueue>> {
        let (first, count) = (self.queues.clone()?, self.queue_count.clone()?);
        let count = self.queues_in_use.clone().unwrap_or(count).min(count);
        if count > MOST_QUEUES {
            return Err(Lacks::implausible(format_args!("{count} queues")));
        }
        let loader = kernel.loader::<RawQueue>();
        let size = loader.size()?;
        let queue = |number: u32| {
            let raw = loader.load(first.add(u64::from(number).wrapping_mul(size)));
            let has = |bit: u32| raw.state.clone().map(|state| state >> bit & 1 != 0);
            let sent = raw.trans_start.clone().ok().filter(|at| *at != 0);
            DeviceQueue {
                at: raw.at,
                number,
                stopped: has(0),
                throttled: has(1),
                last_sent_ns: sent.and_then(|at| now.since_jiffies(at)),
                timeouts: raw.timeouts.clone(),
            }
        };
        Ok((0..count).map(queue).collect())
    }

    /// Its disciplines, the root first, and why some are lacking.
    #[must_use]
    pub fn disciplines(&self, kernel: &Kernel) -> (Vec<Discipline>, Vec<Lacks>) {
        let loader = kernel.loader::<RawQdisc>();
        let (mut all, mut lacking, mut seen) = (Vec::new(), Vec::new(), FxHashSet::default());
        match &self.root {
            Ok(at) if !at.is_null() && seen.insert(*at) => all.push(discipline(kernel, &loader.load(*at))),
            Ok(_) => {}
            Err(lacks) => lacking.push(lacks.clone()),
        }
        let (Ok(MemberAddress(table)), Ok(link)) = (&self.others, kernel.offset_of("Qdisc", "hash")) else {
            return (all, lacking);
        };
        for at in walk::hash_table(kernel.memory(), *table, CHAINS, 0) {
            match at.map(|at| at.sub(link)) {
                Ok(at) if seen.insert(at) => all.push(discipline(kernel, &loader.load(at))),
                Ok(_) => {}
                Err(broken) => lacking.push(broken.into()),
            }
        }
        (all, lacking)
    }

    /// Those of its pollers (`struct napi_struct`) that are to be polled now, and of how many.
    ///
    /// # Errors
    /// Their list cannot be read.
    pub fn scheduled_napis(&self, kernel: &Kernel) -> Field<(Vec<VirtAddr>, usize)> {
        let MemberAddress(head) = self.napi_list.clone()?;
        let link = kernel.offset_of("napi_struct", "dev_list")?;
        let loader = kernel.loader::<Napi>();
        let (mut scheduled, mut count) = (Vec::new(), 0_usize);
        for at in walk::list(kernel.memory(), head).take(MOST_NAPIS) {
            let napi = loader.load(at?.sub(link));
            count = count.saturating_add(1);
            // NAPI_STATE_SCHED alone; with NPSVC or DISABLE somebody keeps it from being polled.
            if napi.is_scheduled()? {
                scheduled.push(napi.at);
            }
        }
        Ok((scheduled, count))
    }
}

#[derive(Load)]
#[load(type = "napi_struct")]
struct Napi {
    #[load(address)]
    at: VirtAddr,
    state: Field<u64>,
    /// Points to itself while it is on no processor's list.
    poll_list: Field<MemberAddress>,
    #[load(any("poll_list.next"))]
    next: Field<VirtAddr>,
}

impl Napi {
    fn is_scheduled(&self) -> Field<bool> {
        let MemberAddress(link) = self.poll_list.clone()?;
        let next = self.next.clone()?;
        // A poller that was taken off a list keeps poison there.
        let is_listed = !next.is_null() && next != link && next.0 >> 48 != 0xdead;
        Ok(self.state.clone()? & 1 != 0 && is_listed)
    }
}

fn discipline(kernel: &Kernel, raw: &RawQdisc) -> Discipline {
    let kind = raw.ops.clone().and_then(|at| Ok(kernel.load::<Ops>(at).id?.0));
    let per_cpu = raw.flags.as_ref().is_ok_and(|flags| flags & PER_CPU != 0);
    let stats = |part: fn(&Stats) -> &Field<u32>| -> Field<u64> {
        let MemberAddress(own) = raw.stats.clone()?;
        let mut sum = u64::from(part(&kernel.load(own)).clone()?);
        if per_cpu {
            let (at, cpus) = (raw.cpu_qstats.clone()?, kernel.cpus()?);
            for cpu in cpus.possible.iter() {
                // A packet may come on one processor and go on another: single counts go below zero.
                let count = part(&kernel.load(cpus.per_cpu(at, cpu)?)).clone()?.cast_signed();
                sum = sum.saturating_add_signed(count.into());
            }
        }
        Ok(sum)
    };
    // `qdisc_qlen_sum`.
    let packets = stats(|stats| &stats.qlen).and_then(|sum| match per_cpu {
        true => Ok(sum),
        false => Ok(sum.saturating_add(raw.length.clone()?.into())),
    });
    let sent = || -> Field<u64> {
        let mut sum = raw.sent.clone()?;
        if per_cpu {
            let (at, cpus) = (raw.cpu_bstats.clone()?, kernel.cpus()?);
            let inside = kernel.member("gnet_stats_basic_sync", &["packets"]).map(|member| member.offset);
            let inside = inside.or_else(|_| kernel.offset_of("gnet_stats_basic_cpu", "bstats.packets"))?;
            for cpu in cpus.possible.iter() {
                sum = sum.saturating_add(kernel.memory().u64(cpus.per_cpu(at, cpu)?.add(inside))?);
            }
        }
        Ok(sum)
    };
    Discipline {
        at: raw.at,
        kind,
        handle: raw.handle.clone(),
        parent: raw.parent.clone(),
        packets,
        backlog: stats(|stats| &stats.backlog),
        sent: sent(),
        drops: stats(|stats| &stats.drops),
        requeues: stats(|stats| &stats.requeues),
        overlimits: stats(|stats| &stats.overlimits),
    }
}

/// What a processor has received and not looked at (`struct softnet_data`, include/linux/netdevice.h).
#[derive(Clone, Debug, Load)]
#[load(type = "softnet_data")]
pub struct Softnet {
    /// Its address.
    #[load(address)]
    pub at: VirtAddr,
    /// Packets that it took, ever.
    pub processed: Field<u32>,
    #[load(any("dropped.counter", "dropped", "drop_counters.drops0.counter"))]
    dropped: Field<u32>,
    /// The other half of the drops, for processors of odd nodes (6.18).
    #[load(any("drop_counters.drops1.counter"))]
    dropped_too: Field<u32>,
    /// How often its time was up before all packets were.
    pub time_squeeze: Field<u32>,
    /// How often another processor gave it packets.
    pub received_rps: Field<u32>,
    /// Packets in its backlog.
    #[load(any("input_pkt_queue.qlen"))]
    pub backlog: Field<u32>,
    /// Packets of the backlog that it is at.
    #[load(any("process_queue.qlen"))]
    pub at_hand: Field<u32>,
    poll_list: Field<MemberAddress>,
}

impl Softnet {
    /// That of a processor.
    ///
    /// # Errors
    /// The processor has none.
    pub fn of(kernel: &Kernel, cpu: u32) -> Field<Self> {
        Ok(kernel.load(kernel.per_cpu("softnet_data", cpu)?))
    }

    /// Packets that it had no room for, ever.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn dropped(&self) -> Field<u32> {
        Ok(self.dropped.clone()?.saturating_add(self.dropped_too.clone().unwrap_or(0)))
    }

    /// The pollers (`struct napi_struct`) that wait for this processor.
    ///
    /// # Errors
    /// Their list cannot be read.
    pub fn polled(&self, kernel: &Kernel) -> Field<Vec<VirtAddr>> {
        let MemberAddress(head) = self.poll_list.clone()?;
        let link = kernel.offset_of("napi_struct", "poll_list")?;
        walk::list(kernel.memory(), head).take(MOST_NAPIS).map(|at| Ok(at?.sub(link))).collect()
    }
}
