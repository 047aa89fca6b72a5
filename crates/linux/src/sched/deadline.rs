//! The deadline class: entities in a tree by their deadline (kernel/sched/deadline.c).

use kdive_base::VirtAddr;
use kdive_target::walk::{Order, RbLayout, rbtree};
use kdive_target::{Field, Kernel, Lacks, Load, MemberAddress};

use super::{Queue, Queued, What};

/// The part of `struct dl_rq` that kdive understands.
#[derive(Load)]
#[load(type = "dl_rq")]
struct DlRq {
    #[load(any("root", "rb_root"))]
    root: Field<MemberAddress>,
    #[load(any("root.rb_root.rb_node", "rb_root.rb_node"))]
    top: Field<VirtAddr>,
}

#[derive(Load)]
#[load(type = "sched_dl_entity")]
struct Entity {
    /// It stands for a server of another class (6.8).
    dl_server: Field<bool>,
}

/// The queue at `at`, a `struct dl_rq`, and what waits in it.
pub(super) fn queue(kernel: &Kernel, at: VirtAddr) -> Field<Queue> {
    let raw: DlRq = kernel.load(at);
    let MemberAddress(head) = raw.root?;
    let mut queue = Queue::new(at, head);
    let in_entity = kernel.offset_of("sched_dl_entity", "rb_node")?;
    let in_task = kernel.offset_of("task_struct", "dl")?;
    let entities = kernel.loader::<Entity>();
    for node in rbtree(kernel.memory(), RbLayout::find(kernel)?, raw.top?, Order::Sorted) {
        match node {
            Ok(node) => {
                let entity = node.at.sub(in_entity);
                let what = match entities.load(entity).dl_server {
                    Ok(true) => What::Server(entity),
                    _ => What::Task { at: entity.sub(in_task), delayed: false },
                };
                queue.queued.push(Queued { level: None, what });
            }
            Err(broken) => queue.lacks.push(Lacks::from(broken)),
        }
    }
    Ok(queue)
}
