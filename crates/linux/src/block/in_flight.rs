//! Requests that a disk is busy with (block/blk-mq-tag.c, block/genhd.c).

use kdive_base::VirtAddr;
use kdive_target::walk::{XArrayLayout, xarray};
use kdive_target::{Field, Kernel, Lacks, Load, Loader};
use rustc_hash::FxHashSet;

use super::disk::Disk;
use crate::sbitmap::SbitmapQueue;

/// Requests that a driver has and did not complete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InFlight {
    /// Those that read.
    pub reads: u64,
    /// Those that write.
    pub writes: u64,
}

#[derive(Load)]
#[load(type = "request_queue")]
struct Queue {
    mq_ops: Field<VirtAddr>,
    nr_hw_queues: Field<u32>,
    /// `struct blk_mq_hw_ctx *[]` (to 5.19, and again since 6.18).
    queue_hw_ctx: Field<VirtAddr>,
}

#[derive(Load)]
#[load(type = "blk_mq_hw_ctx")]
struct HardwareQueue {
    tags: Field<VirtAddr>,
}

#[derive(Load)]
#[load(type = "blk_mq_tags")]
struct Tags {
    rqs: Field<VirtAddr>,
    nr_reserved_tags: Field<u32>,
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
/// More hardware queues than processors are none.
const MOST_QUEUES: u32 = 1 << 16;

/// What a disk is busy with.
///
/// # Errors
/// Something on the way to its requests is lacking.
pub fn in_flight(kernel: &Kernel, disk: &Disk) -> Field<InFlight> {
    let at = disk.queue.clone()?;
    let queue: Queue = kernel.load(at);
    // A driver without requests (zram, device-mapper) has no such operations, and counts for itself.
    if queue.mq_ops.as_ref().is_ok_and(|operations| operations.is_null()) {
        return counted(kernel, disk);
    }
    let mut count = InFlight::default();
    let mut seen = FxHashSet::default();
    let requests = kernel.loader::<Request>();
    for hardware in hardware_queues(kernel, at, &queue)? {
        // Hardware queues may share their tags.
        let tags = kernel.load::<HardwareQueue>(hardware).tags?;
        if !tags.is_null() && seen.insert(tags) {
            add_tags(kernel, &requests, at, tags, &mut count)?;
        }
    }
    Ok(count)
}

fn hardware_queues(kernel: &Kernel, at: VirtAddr, queue: &Queue) -> Field<Vec<VirtAddr>> {
    let memory = kernel.memory();
    if let Ok(table) = kernel.offset_of("request_queue", "hctx_table") {
        let layout = XArrayLayout::find(kernel)?;
        let head = layout.head(memory, at.add(table))?;
        let entries = xarray(memory, layout, head);
        return entries.map(|found| Ok(VirtAddr(found?.entry))).collect();
    }
    let (array, count) = (queue.queue_hw_ctx.clone()?, queue.nr_hw_queues.clone()?);
    if count > MOST_QUEUES {
        return Err(Lacks::implausible(format_args!("{count} hardware queues")));
    }
    let queue = |index: u32| Ok(memory.pointer(array.add(u64::from(index).wrapping_mul(8)))?);
    (0..count).map(queue).collect()
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
    let (array, reserved) = (tags.rqs?, tags.nr_reserved_tags?);
    for (member, first) in [("breserved_tags", 0), ("bitmap_tags", reserved)] {
        for number in busy(kernel, at, member)? {
            let tag = u64::from(first).saturating_add(number.into());
            let request = memory.pointer(array.add(tag.wrapping_mul(8)))?;
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
    }
    Ok(())
}

/// The tags that are taken, of a bitmap inside `struct blk_mq_tags`; it pointed to them from 5.10 to 5.15.
fn busy(kernel: &Kernel, tags: VirtAddr, member: &str) -> Field<Vec<u32>> {
    let member = kernel.member("blk_mq_tags", &[member])?;
    let at = tags.add(member.offset);
    let at = if member.bytes == 8 { kernel.memory().pointer(at)? } else { at };
    let mut numbers = Vec::new();
    for word in SbitmapQueue::load(kernel, at).words? {
        numbers.extend(word.numbers()?);
    }
    Ok(numbers)
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
