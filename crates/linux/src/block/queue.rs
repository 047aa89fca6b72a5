//! Request queues (`struct request_queue`, include/linux/blkdev.h), their hardware queues (`struct blk_mq_hw_ctx`,
//! include/linux/blk-mq.h) and tags (block/blk-mq.h): what holds requests back.

use kdive_base::{VirtAddr, printable};
use kdive_target::walk::{self, XArrayLayout, xarray};
use kdive_target::{Field, Kernel, Lacks, Load, MemberAddress};

use crate::sbitmap::SbitmapQueue;

/// The part of `struct request_queue` that kdive understands.
#[derive(Clone, Debug, Load)]
#[load(type = "request_queue")]
pub struct Queue {
    /// Its address.
    #[load(address)]
    pub at: VirtAddr,
    /// The driver's functions; null where the driver takes bios, without requests (device mapper, md, zram).
    pub mq_ops: Field<VirtAddr>,
    nr_hw_queues: Field<u32>,
    /// `struct blk_mq_hw_ctx *[]` (to 5.19, and again since 6.18).
    queue_hw_ctx: Field<VirtAddr>,
    /// `QUEUE_FLAG_*`, bits of a word.
    #[load(any("queue_flags"))]
    pub flags: Field<u64>,
    /// How many hold the queue frozen: no request may enter (`blk_freeze_queue_start`).
    #[load(any("mq_freeze_depth"))]
    pub freeze_depth: Field<i32>,
    /// How many hold it quiesced: no request reaches the driver (5.16).
    pub quiesce_depth: Field<i32>,
    /// Requests that may be allocated.
    pub nr_requests: Field<u32>,
    /// Ticks after which a request has timed out.
    #[load(any("rq_timeout"))]
    pub timeout: Field<u32>,
    /// `struct elevator_queue`; null without a scheduler.
    pub elevator: Field<VirtAddr>,
    /// Requests that are to be sent again.
    requeue_list: Field<MemberAddress>,
    /// Flushes that are to be sent (6.5).
    flush_list: Field<MemberAddress>,
    /// Whose queue it is: a driver's structure.
    pub queuedata: Field<VirtAddr>,
    /// Largest request in sectors of 512 bytes.
    #[load(any("limits.max_sectors"))]
    pub max_sectors: Field<u32>,
    /// Most segments of a request.
    #[load(any("limits.max_segments"))]
    pub max_segments: Field<u16>,
    /// Bytes of a logical block.
    #[load(any("limits.logical_block_size"))]
    pub logical_block_size: Field<u32>,
    /// Those who wait for the queue to be thawed (`wait_queue_head_t`).
    #[load(any("mq_freeze_wq"))]
    pub freeze_waiters: Field<MemberAddress>,
    /// What its hardware queues share (`struct blk_mq_tag_set`).
    pub tag_set: Field<VirtAddr>,
}

/// The part of `struct blk_mq_hw_ctx` that kdive understands.
#[derive(Clone, Debug, Load)]
#[load(type = "blk_mq_hw_ctx")]
pub struct HardwareQueue {
    /// Its address.
    #[load(address)]
    pub at: VirtAddr,
    /// Its number in its queue.
    #[load(any("queue_num"))]
    pub number: Field<u32>,
    /// `BLK_MQ_S_*`, bits of a word.
    pub state: Field<u64>,
    /// Tags that the driver's requests have (`struct blk_mq_tags`).
    pub tags: Field<VirtAddr>,
    /// Tags that the scheduler's requests have; null without a scheduler.
    pub sched_tags: Field<VirtAddr>,
    /// Requests that the driver had no room for.
    dispatch: Field<MemberAddress>,
    /// The machine that puts flushes around requests (`struct blk_flush_queue`).
    fq: Field<VirtAddr>,
    /// What the driver keeps with it.
    pub driver_data: Field<VirtAddr>,
    /// The processors that it serves, a bit for each, where the mask is inside.
    #[load(any("nr_ctx"))]
    pub processors: Field<u16>,
    #[load(any("run_work.work.data.counter"))]
    run_work: Field<u64>,
}

#[derive(Load)]
#[load(type = "blk_flush_queue")]
struct FlushQueue {
    flush_rq: Field<VirtAddr>,
    #[load(any("flush_queue"))]
    queues: Field<MemberAddress>,
}

/// `struct blk_mq_tags`, block/blk-mq.h until 5.16, include/linux/blk-mq.h since.
#[derive(Clone, Debug, Load)]
#[load(type = "blk_mq_tags")]
pub struct Tags {
    #[load(address)]
    at: VirtAddr,
    /// The request that had a tag last (`struct request *[]`).
    #[load(any("rqs"))]
    pub requests: Field<VirtAddr>,
    /// The request that was made for a tag.
    #[load(any("static_rqs"))]
    pub made: Field<VirtAddr>,
    /// How many there are.
    #[load(any("nr_tags"))]
    pub count: Field<u32>,
    #[load(any("nr_reserved_tags"))]
    reserved: Field<u32>,
}

#[derive(Load)]
#[load(type = "elevator_queue")]
struct Elevator {
    #[load(any("type"))]
    kind: Field<VirtAddr>,
}

#[derive(Load)]
#[load(type = "elevator_type")]
struct ElevatorType {
    #[load(any("elevator_name"))]
    name: Field<VirtAddr>,
}

/// More hardware queues than processors are none.
const MOST_QUEUES: u32 = 1 << 16;
/// A scheduler's name.
const MOST_NAME_BYTES: usize = 32;
/// Two lists of pending flushes.
const FLUSH_QUEUES: u64 = 2;

impl Queue {
    /// Whether its driver takes bios as they are.
    #[must_use]
    pub fn has_no_requests(&self) -> bool {
        self.mq_ops.as_ref().is_ok_and(|operations| operations.is_null())
    }

    /// Its hardware queues (`struct blk_mq_hw_ctx`).
    ///
    /// # Errors
    /// Their table cannot be read.
    pub fn hardware_queues(&self, kernel: &Kernel) -> Field<Vec<VirtAddr>> {
        let memory = kernel.memory();
        if let Ok(table) = kernel.offset_of("request_queue", "hctx_table") {
            let layout = XArrayLayout::find(kernel)?;
            let head = layout.head(memory, self.at.add(table))?;
            let entries = xarray(memory, layout, head);
            return entries.map(|found| Ok(VirtAddr(found?.entry))).collect();
        }
        let (array, count) = (self.queue_hw_ctx.clone()?, self.nr_hw_queues.clone()?);
        if count > MOST_QUEUES {
            return Err(Lacks::implausible(format_args!("{count} hardware queues")));
        }
        let queue = |index: u32| Ok(memory.pointer(array.add(u64::from(index).wrapping_mul(8)))?);
        (0..count).map(queue).collect()
    }

    /// Whether no request reaches the driver.
    ///
    /// # Errors
    /// The queue cannot be read.
    pub fn is_quiesced(&self, kernel: &Kernel) -> Field<bool> {
        match &self.quiesce_depth {
            Ok(depth) => Ok(*depth > 0),
            // 5.10: only the flag tells.
            Err(_) => Ok(self.flags.clone()? >> bit(kernel, "QUEUE_FLAG_QUIESCED", 24) & 1 != 0),
        }
    }

    /// Whether it is being torn down.
    ///
    /// # Errors
    /// The queue cannot be read.
    pub fn is_dying(&self, kernel: &Kernel) -> Field<bool> {
        Ok(self.flags.clone()? >> bit(kernel, "QUEUE_FLAG_DYING", 1) & 1 != 0)
    }

    /// The scheduler's name; `None` without one.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn scheduler(&self, kernel: &Kernel) -> Field<Option<String>> {
        let elevator = self.elevator.clone()?;
        if elevator.is_null() {
            return Ok(None);
        }
        let kind = kernel.load::<Elevator>(elevator).kind?;
        let name = kernel.load::<ElevatorType>(kind).name?;
        Ok(Some(printable(&kernel.memory().c_string(name, MOST_NAME_BYTES)?)))
    }

    /// Requests that wait to be sent again, flushes among them.
    pub fn requeued(&self, kernel: &Kernel) -> Field<Vec<VirtAddr>> {
        let MemberAddress(head) = self.requeue_list.clone()?;
        let mut all = requests_of_list(kernel, head)?;
        if let Ok(MemberAddress(head)) = self.flush_list {
            all.extend(requests_of_list(kernel, head)?);
        }
        Ok(all)
    }
}

/// The requests of a list through `request.queuelist`.
fn requests_of_list(kernel: &Kernel, head: VirtAddr) -> Field<Vec<VirtAddr>> {
    let link = kernel.offset_of("request", "queuelist")?;
    walk::list(kernel.memory(), head).map(|at| Ok(at?.sub(link))).collect()
}

impl HardwareQueue {
    /// Whether the driver stopped it (`BLK_MQ_S_STOPPED`): it takes no requests until it is started again.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn is_stopped(&self) -> Field<bool> {
        Ok(self.state.clone()? & 1 != 0)
    }

    /// Requests that the driver had no room for, and that nobody has sent again yet.
    pub fn dispatched(&self, kernel: &Kernel) -> Field<Vec<VirtAddr>> {
        let MemberAddress(head) = self.dispatch.clone()?;
        requests_of_list(kernel, head)
    }

    /// The request that the machine for flushes sends for others.
    pub fn flush_request(&self, kernel: &Kernel) -> Field<VirtAddr> {
        kernel.load::<FlushQueue>(self.fq.clone()?).flush_rq
    }

    /// Requests that wait for a flush to begin or to end.
    pub fn awaiting_flush(&self, kernel: &Kernel) -> Field<Vec<VirtAddr>> {
        let queue: FlushQueue = kernel.load(self.fq.clone()?);
        let MemberAddress(heads) = queue.queues?;
        // They are linked by `queuelist` (6.7), before that by a list of their own.
        let own = kernel.offset_of("request", "flush.list");
        let link = own.or_else(|_| kernel.offset_of("request", "queuelist"))?;
        let mut all = Vec::new();
        for index in 0..FLUSH_QUEUES {
            let head = heads.add(index.wrapping_mul(16));
            for at in walk::list(kernel.memory(), head) {
                all.push(at?.sub(link));
            }
        }
        Ok(all)
    }

    /// Whether its work (`blk_mq_run_work_fn`) is queued or waits for its time.
    #[must_use]
    pub fn will_run(&self) -> Option<bool> {
        // WORK_STRUCT_PENDING, include/linux/workqueue.h.
        self.run_work.as_ref().ok().map(|data| data & 1 != 0)
    }
}

impl Tags {
    /// The numbers of the tags that are taken.
    ///
    /// # Errors
    /// A bitmap cannot be read.
    pub fn taken(&self, kernel: &Kernel) -> Field<Vec<u32>> {
        let reserved = self.reserved.clone()?;
        let mut numbers = Vec::new();
        for (member, first) in [("breserved_tags", 0), ("bitmap_tags", reserved)] {
            numbers.extend(taken(kernel, self.at, member)?.into_iter().map(|tag| tag.saturating_add(first)));
        }
        Ok(numbers)
    }
}

/// The tags of a bitmap inside `struct blk_mq_tags` that are taken; it pointed to them from 5.10 to 5.15.
fn taken(kernel: &Kernel, tags: VirtAddr, member: &str) -> Field<Vec<u32>> {
    let member = kernel.member("blk_mq_tags", &[member])?;
    let at = tags.add(member.offset);
    let at = if member.bytes == 8 { kernel.memory().pointer(at)? } else { at };
    let mut numbers = Vec::new();
    for word in SbitmapQueue::load(kernel, at).words? {
        numbers.extend(word.numbers()?);
    }
    Ok(numbers)
}

/// The number of a flag: an enumerator since 6.10, before that a macro with this value.
fn bit(kernel: &Kernel, name: &str, macro_value: u32) -> u32 {
    kernel.enumerator(name).ok().and_then(|value| u32::try_from(value).ok()).unwrap_or(macro_value).min(63)
}
