//! The class that BPF programs schedule: a list of tasks (`struct scx_dispatch_q`, include/linux/sched/ext.h).

use kdive_base::VirtAddr;
use kdive_target::{Field, Kernel, Lacks, Load, MemberAddress, walk};

use super::{Queue, Queued, What};

#[derive(Load)]
#[load(type = "scx_dispatch_q")]
struct DispatchQueue {
    list: Field<MemberAddress>,
}

/// The queue at `at`, a `struct scx_dispatch_q`, and what waits in it.
pub(super) fn queue(kernel: &Kernel, at: VirtAddr) -> Field<Queue> {
    let MemberAddress(head) = kernel.load::<DispatchQueue>(at).list?;
    let mut queue = Queue::new(at, head);
    let link = kernel.member("task_struct", &["scx.dsq_list.node", "scx.dsq_node.list"])?.offset;
    for item in walk::list(kernel.memory(), head) {
        match item {
            Ok(at) => {
                let what = What::Task { at: at.sub(link), delayed: false };
                queue.queued.push(Queued { level: None, what });
            }
            Err(broken) => queue.lacks.push(Lacks::from(broken)),
        }
    }
    Ok(queue)
}
