//! The fair class: entities in a tree, by their virtual run time or (6.6) their virtual deadline (kernel/sched/fair.c).

use kdive_base::VirtAddr;
use kdive_target::walk::{Order, RbLayout, rbtree};
use kdive_target::{Field, Lacks, Load, Loader, MemberAddress};

use super::{Queue, Queued, Walk, What, group};

/// The part of `struct cfs_rq` that kdive understands.
#[derive(Load)]
#[load(type = "cfs_rq")]
struct CfsRq {
    tasks_timeline: Field<MemberAddress>,
    /// The topmost node: behind a cache of the leftmost one since 4.14.
    #[load(any("tasks_timeline.rb_root.rb_node", "tasks_timeline.rb_node"))]
    root: Field<VirtAddr>,
    curr: Field<VirtAddr>,
    /// `CONFIG_FAIR_GROUP_SCHED`.
    tg: Field<VirtAddr>,
    /// `CONFIG_CFS_BANDWIDTH`.
    throttled: Field<i32>,
}

#[derive(Load)]
#[load(type = "sched_entity")]
struct Entity {
    #[load(address)]
    at: VirtAddr,
    /// The queue of a group; null for a task. `CONFIG_FAIR_GROUP_SCHED`.
    my_q: Field<VirtAddr>,
    /// It sleeps, and is dequeued later (6.12).
    sched_delayed: Field<bool>,
}

/// The queue at `at`, a `struct cfs_rq`, and what waits in it.
pub(super) fn queue(walk: &mut Walk<'_>, at: VirtAddr, depth: usize) -> Field<Queue> {
    walk.enter(at, depth)?;
    let kernel = walk.kernel;
    let raw: CfsRq = kernel.load(at);
    let MemberAddress(head) = raw.tasks_timeline?;
    let mut queue = Queue::new(at, head);
    queue.group = raw.tg.ok().filter(|group| !group.is_null());
    queue.groups = queue.group.is_some();
    queue.throttled = raw.throttled.is_ok_and(|throttled| throttled != 0);
    let entities = Entities {
        entity: kernel.loader(),
        in_task: kernel.offset_of("task_struct", "se")?,
        in_entity: kernel.offset_of("sched_entity", "run_node")?,
    };
    match raw.curr {
        Ok(curr) if curr.is_null() => {}
        Ok(curr) => match entities.what(walk, curr, depth) {
            Ok(what) => queue.current = Some(Box::new(Queued { level: None, what })),
            Err(lacks) => queue.lacks.push(lacks),
        },
        Err(lacks) => queue.lacks.push(lacks),
    }
    match raw.root {
        Ok(root) => entities.collect(walk, root, depth, &mut queue)?,
        Err(lacks) => queue.lacks.push(lacks),
    }
    queue.off = throttled_below(walk, &mut queue.lacks, queue.group, depth);
    Ok(queue)
}

/// Where entities lie in what they stand for.
struct Entities<'k> {
    entity: Loader<'k, Entity>,
    in_task: u64,
    in_entity: u64,
}

impl Entities<'_> {
    fn collect(&self, walk: &mut Walk<'_>, root: VirtAddr, depth: usize, queue: &mut Queue) -> Field<()> {
        let kernel = walk.kernel;
        for node in rbtree(kernel.memory(), RbLayout::find(kernel)?, root, Order::Sorted) {
            let what = node
                .map_err(Lacks::from)
                .and_then(|node| self.what(walk, node.at.sub(self.in_entity), depth));
            match what {
                Ok(what) => queue.queued.push(Queued { level: None, what }),
                Err(lacks) => queue.lacks.push(lacks),
            }
        }
        Ok(())
    }

    /// What an entity stands for.
    fn what(&self, walk: &mut Walk<'_>, at: VirtAddr, depth: usize) -> Field<What> {
        let entity = self.entity.load(at);
        match entity.my_q {
            Ok(below) if !below.is_null() => queue(walk, below, depth.saturating_add(1)).map(What::Group),
            // A kernel without groups has tasks only.
            Ok(_) | Err(Lacks::Member { .. }) => {
                let delayed = entity.sched_delayed.unwrap_or(false);
                Ok(What::Task { at: entity.at.sub(self.in_task), delayed })
            }
            Err(lacks) => Err(lacks),
        }
    }
}

/// Queues of the groups below one that no tree holds because they are throttled.
fn throttled_below(
    walk: &mut Walk<'_>,
    lacks: &mut Vec<Lacks>,
    above: Option<VirtAddr>,
    depth: usize,
) -> Vec<Queue> {
    let mut found = Vec::new();
    let Some(above) = above else { return found };
    // A kernel without bandwidth control throttles nothing.
    if walk.kernel.offset_of("cfs_rq", "throttled").is_err() {
        return found;
    }
    let loader = walk.kernel.loader::<CfsRq>();
    for below in group::children(walk.kernel, above) {
        let queue_of = below.and_then(|group| group::fair_queue(walk.kernel, group, walk.cpu));
        match queue_of {
            Ok(at) if at.is_null() || walk.seen.contains(&at) => {}
            Ok(at) if loader.load(at).throttled.is_ok_and(|throttled| throttled != 0) => {
                match queue(walk, at, depth.saturating_add(1)) {
                    Ok(queue) => found.push(queue),
                    Err(why) => lacks.push(why),
                }
            }
            Ok(_) => {}
            Err(why) => lacks.push(why),
        }
    }
    found
}
