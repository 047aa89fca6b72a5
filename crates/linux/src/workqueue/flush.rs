//! Whoever waits for an item to end leaves a barrier behind it: an item of its own, on its own stack, that completes.

use kdive_base::VirtAddr;
use kdive_target::{Field, Kernel, Load};

use super::Workqueues;
use crate::tasks::{TaskName, Tasks};

/// What a barrier waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flushed {
    /// The item before the barrier, where it is found.
    pub work: Option<VirtAddr>,
    /// What that item calls.
    pub function: Option<String>,
    /// The thread that works on it.
    pub worker: Option<TaskName>,
}

#[derive(Load)]
#[load(type = "work_struct")]
struct Barrier {
    func: Field<VirtAddr>,
}

/// What is waited for by a task whose completion lies at an address; `None` where that is no barrier (`struct wq_barrier`).
#[must_use]
pub fn flushed(kernel: &Kernel, completion: VirtAddr) -> Option<Flushed> {
    let barrier = completion.sub(kernel.offset_of("wq_barrier", "done").ok()?);
    let barrier_function = kernel.symbol("wq_barrier_func").ok()?;
    if kernel.load::<Barrier>(barrier).func != Ok(barrier_function) {
        return None;
    }
    let queues = Workqueues::find(kernel);
    let tasks = Tasks::find(kernel);
    for pool in &queues.pools {
        for worker in &pool.workers {
            if worker.scheduled.iter().any(|work| work.work == barrier) {
                let name = worker.task.as_ref().ok().and_then(|at| TaskName::at(&tasks, *at));
                let (work, function) = worker
                    .current
                    .as_ref()
                    .map_or((None, None), |work| (Some(work.work), work.function.clone()));
                return Some(Flushed { work, function, worker: name });
            }
        }
        // Behind an item that has not begun, the barrier follows it in the pool's list.
        if let Some(place) = pool.pending.iter().position(|work| work.work == barrier) {
            let before = pool.pending.iter().take(place).rev();
            let mut real = before.filter(|work| work.function.as_deref() != Some("wq_barrier_func"));
            let work = real.next();
            let function = work.and_then(|work| work.function.clone());
            return Some(Flushed { work: work.map(|work| work.work), function, worker: None });
        }
    }
    Some(Flushed { work: None, function: None, worker: None })
}
