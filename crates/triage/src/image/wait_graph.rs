//! Who waits for whom: the waits that `locks` shows, as a graph.

use kdive_base::VirtAddr;
use kdive_linux::locking::{Locks, Wait};
use kdive_linux::tasks::TaskName;
use kdive_target::Kernel;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::report::{WaitEdge, WaitGraph, WaitNode};

/// Waits that a reader can still take in. Circles are always whole.
const MOST_EDGES: usize = 40;

/// The graph of what is blocked. `None` where nothing is.
#[must_use]
pub fn wait_graph(kernel: &Kernel) -> Option<WaitGraph> {
    let locks = Locks::find(kernel);
    let blocked: Vec<&Wait> = locks.waits.iter().filter(|wait| is_shown(wait)).collect();
    if blocked.is_empty() {
        return None;
    }
    let in_circle: FxHashSet<VirtAddr> =
        locks.cycles.iter().flat_map(|cycle| cycle.tasks.iter().map(|task| task.task)).collect();
    let mut builder = Builder::default();
    // Circles first, then those with a holder, then the longest.
    let mut order = blocked;
    order.sort_by_key(|wait| {
        let circle = in_circle.contains(&wait.task.task);
        (!circle, wait.holders.is_empty(), std::cmp::Reverse(wait.age_ns))
    });
    for (index, wait) in order.iter().enumerate() {
        if index < MOST_EDGES || in_circle.contains(&wait.task.task) {
            builder.wait(wait);
        } else {
            builder.graph.left_out = builder.graph.left_out.saturating_add(1);
        }
    }
    for cycle in &locks.cycles {
        let members = cycle.tasks.iter().map(|task| builder.node(task)).collect();
        builder.graph.cycles.push(members);
    }
    Some(builder.graph)
}

/// Waits that another task or processor must end. Waits of no holder are shown where the task is deaf to signals.
fn is_shown(wait: &Wait) -> bool {
    wait.is_blocked() && (!wait.holders.is_empty() || wait.kind.has_holder() || wait.age_ns > Some(LONG_NS))
}

/// A wait that nobody is known to hold up is of interest from here on, in nanoseconds.
const LONG_NS: u64 = 5_000_000_000;

#[derive(Default)]
struct Builder {
    graph: WaitGraph,
    index: FxHashMap<VirtAddr, usize>,
}

impl Builder {
    fn node(&mut self, task: &TaskName) -> usize {
        *self.index.entry(task.task).or_insert_with(|| {
            let command = task.command.as_deref().unwrap_or("?");
            let name = match task.pid {
                Some(pid) => format!("{command} (PID {pid})"),
                None => command.to_owned(),
            };
            self.graph.nodes.push(WaitNode { name, task: Some(task.task), age_ns: None });
            self.graph.nodes.len().saturating_sub(1)
        })
    }

    fn wait(&mut self, wait: &Wait) {
        let from = self.node(&wait.task);
        if let Some(node) = self.graph.nodes.get_mut(from) {
            node.age_ns = wait.age_ns;
        }
        let edge = |to, sure| WaitEdge {
            from,
            to,
            lock: lock_name(wait),
            at: wait.lock,
            function: wait.function.clone(),
            sure,
        };
        if wait.holders.is_empty() {
            self.graph.edges.push(edge(None, false));
        }
        for holder in &wait.holders {
            let to = self.node(&holder.task);
            self.graph.edges.push(edge(Some(to), holder.sure));
        }
    }
}

/// The lock as people speak of it: its kind, and its name or address.
pub(crate) fn lock_name(wait: &Wait) -> String {
    match (&wait.name, wait.lock) {
        (Some(name), _) => format!("{} {name}", wait.kind),
        (None, Some(at)) => format!("{} at {at}", wait.kind),
        (None, None) => wait.kind.to_string(),
    }
}
