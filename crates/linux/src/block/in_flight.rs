//! Requests that a disk is busy with (block/blk-mq-tag.c, block/genhd.c).

use kdive_base::VirtAddr;
use kdive_target::{Field, Kernel, Load, Loader};
use rustc_hash::FxHashSet;

use super::disk::Disk;
use super::queue::{HardwareQueue, Queue, Tags};

/// Requests that a driver has and did not complete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InFlight {
    /// Those that read.
    pub reads: u64,
    /// Those that write.
    pub writes: u64,
}

#[derive(Load)]
#[load(type = "request")]
struct Request {
    q: Field<VirtAddr>,
    cmd_flags: Field<u32>,
    state: Field<u32>,
}

/// `MQ_RQ_IN_FLIGHT`: the driver has it.
const IN_FLIGHT: u32 = 1;
/// `op_is_write`: writes have odd numbers.
const WRITES: u32 = 1;

/// What a disk is busy with.
///
/// # Errors
/// Something on the way to its requests is lacking.
pub fn in_flight(kernel: &Kernel, disk: &Disk) -> Field<InFlight> {
    let at = disk.queue.clone()?;
    let queue: Queue = kernel.load(at);
    // A driver without requests (zram, device-mapper) has no such operations, and counts for itself.
    if queue.has_no_requests() {
        return counted(kernel, disk);
    }
    let mut count = InFlight::default();
    let mut seen = FxHashSet::default();
    let requests = kernel.loader::<Request>();
    for hardware in queue.hardware_queues(kernel)? {
        // Hardware queues may share their tags.
        let tags = kernel.load::<HardwareQueue>(hardware).tags?;
        if !tags.is_null() && seen.insert(tags) {
            add_tags(kernel, &requests, at, tags, &mut count)?;
        }
    }
    Ok(count)
}

/// Counts the requests of a queue among those that have tags.
fn add_tags(
    kernel: &Kernel,
    requests: &Loader<'_, Request>,
    queue: VirtAddr,
    at: VirtAddr,
    count: &mut InFlight,
) -> Field<()> {
    let memory = kernel.memory();
    let tags: Tags = kernel.load(at);
    let array = tags.requests.clone()?;
    for tag in tags.taken(kernel)? {
        let request = memory.pointer(array.add(u64::from(tag).wrapping_mul(8)))?;
        if request.is_null() {
            continue;
        }
        let request = requests.load(request);
        if request.q? != queue || request.state? != IN_FLIGHT {
            continue;
        }
        let kind = if request.cmd_flags? & WRITES == 0 { &mut count.reads } else { &mut count.writes };
        *kind = kind.saturating_add(1);
    }
    Ok(())
}

/// What a disk without requests counts: `disk_stats.in_flight`, reads and writes, summed over all processors.
fn counted(kernel: &Kernel, disk: &Disk) -> Field<InFlight> {
    let memory = kernel.memory();
    let stats = match kernel.member("gendisk", &["part0.dkstats"]) {
        Ok(member) => memory.pointer(disk.at.add(member.offset))?,
        Err(_) => {
            let whole = memory.pointer(disk.at.add(kernel.offset_of("gendisk", "part0")?))?;
            memory.pointer(whole.add(kernel.offset_of("block_device", "bd_stats")?))?
        }
    };
    let counters = kernel.offset_of("disk_stats", "in_flight")?;
    let cpus = kernel.cpus()?;
    let sum = |which: u64| -> Field<u64> {
        let mut sum = 0_i64;
        for cpu in cpus.possible.iter() {
            let at = cpus.per_cpu(stats, cpu)?.add(counters).add(which);
            sum = sum.saturating_add(memory.u64(at)?.cast_signed());
        }
        // A request may end on another processor than it began on; raced sums end below zero for a moment.
        Ok(u64::try_from(sum).unwrap_or(0))
    };
    Ok(InFlight { reads: sum(0)?, writes: sum(8)? })
}
