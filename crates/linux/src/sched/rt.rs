//! The real-time class: a list for each priority (kernel/sched/rt.c).

use kdive_base::VirtAddr;
use kdive_target::{Field, Lacks, Load, MemberAddress, walk};

use super::{Queue, Queued, Walk, What};

/// The part of `struct rt_rq` that kdive understands.
#[derive(Load)]
#[load(type = "rt_rq")]
struct RtRq {
    active: Field<MemberAddress>,
    /// A list head for each priority.
    #[load(any("active.queue"))]
    lists: Field<MemberAddress>,
    /// `CONFIG_RT_GROUP_SCHED`.
    tg: Field<VirtAddr>,
    rt_throttled: Field<i32>,
}

/// `MAX_RT_PRIO`: has never been another number.
const PRIORITIES: u64 = 100;
/// Size of a `struct list_head`.
const LINK: u64 = 16;

/// The queue at `at`, a `struct rt_rq`, and what waits in it.
pub(super) fn queue(walk: &mut Walk<'_>, at: VirtAddr, depth: usize) -> Field<Queue> {
    walk.enter(at, depth)?;
    let kernel = walk.kernel;
    let raw: RtRq = kernel.load(at);
    let (MemberAddress(head), MemberAddress(lists)) = (raw.active?, raw.lists?);
    let mut queue = Queue::new(at, head);
    queue.group = raw.tg.ok().filter(|group| !group.is_null());
    queue.groups = kernel.offset_of("sched_rt_entity", "my_q").is_ok();
    queue.throttled = raw.rt_throttled.is_ok_and(|throttled| throttled != 0);
    let in_entity = kernel.offset_of("sched_rt_entity", "run_list")?;
    for level in 0..PRIORITIES {
        for link in walk::list(kernel.memory(), lists.add(level.wrapping_mul(LINK))) {
            let what = link.map_err(Lacks::from).and_then(|link| what(walk, link.sub(in_entity), depth));
            match what {
                Ok(what) => queue.queued.push(Queued { level: Some(level as u32), what }),
                Err(lacks) => queue.lacks.push(lacks),
            }
        }
    }
    Ok(queue)
}

/// What an entity stands for.
fn what(walk: &mut Walk<'_>, entity: VirtAddr, depth: usize) -> Field<What> {
    let kernel = walk.kernel;
    // `CONFIG_RT_GROUP_SCHED`: a group's queue; null for a task.
    let below = match kernel.offset_of("sched_rt_entity", "my_q") {
        Ok(offset) => kernel.memory().pointer(entity.add(offset))?,
        Err(_) => VirtAddr(0),
    };
    match below.is_null() {
        false => queue(walk, below, depth.saturating_add(1)).map(What::Group),
        true => Ok(What::Task { at: entity.sub(kernel.offset_of("task_struct", "rt")?), delayed: false }),
    }
}
