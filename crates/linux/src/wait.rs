//! Wait queues: who waits for something to happen (include/linux/wait.h, include/linux/swait.h).

use kdive_base::VirtAddr;
use kdive_target::{Field, Kernel, Lacks, Load, MemberAddress, walk};
use rustc_hash::FxHashSet;

use crate::tasks::Tasks;

/// No kernel has more tasks than this (`PID_MAX_LIMIT`).
const MOST_WAITERS: usize = 1 << 22;

/// An entry of a wait queue.
#[derive(Clone, Debug)]
pub struct Waiter {
    /// Its `struct wait_queue_entry` (`__wait_queue` before 4.13, `swait_queue`).
    pub at: VirtAddr,
    /// What the waker is told: a `task_struct`, unless the function says otherwise (poll, epoll, io_uring).
    pub private: Field<VirtAddr>,
    /// What wakes it; a simple queue wakes tasks and has none.
    pub function: Option<Field<VirtAddr>>,
}

#[derive(Load)]
#[load(type = "wait_queue_head", type = "__wait_queue_head")]
struct Head {
    #[load(any("head", "task_list"))]
    list: Field<MemberAddress>,
}

#[derive(Load)]
#[load(type = "wait_queue_entry", type = "__wait_queue")]
struct Entry {
    private: Field<VirtAddr>,
    func: Field<VirtAddr>,
}

#[derive(Load)]
#[load(type = "swait_queue_head")]
struct SimpleHead {
    task_list: Field<MemberAddress>,
}

#[derive(Load)]
#[load(type = "swait_queue")]
struct SimpleEntry {
    task: Field<VirtAddr>,
}

/// `struct poll_wqueues` (include/linux/poll.h), which `poll` and `select` wait with.
#[derive(Load)]
#[load(type = "poll_wqueues")]
struct PollQueues {
    polling_task: Field<VirtAddr>,
}

impl Waiter {
    /// The task that is woken in the end; `None` where the function wakes no task of its own (epoll, io_uring).
    #[must_use]
    pub fn task(&self, kernel: &Kernel, tasks: &Tasks) -> Option<VirtAddr> {
        let private = self.private.as_ref().ok().copied()?;
        let function = self.function.as_ref().and_then(|function| function.as_ref().ok().copied());
        let polls = function.is_some_and(|at| kernel.symbol("pollwake") == Ok(at));
        let at = if polls { kernel.load::<PollQueues>(private).polling_task.ok()? } else { private };
        tasks.at(at).map(|task| task.at)
    }
}

/// Whether the queue at `head` is a simple one, of which nothing but its address is known: both kinds begin alike, but
/// only there the word before the first link leads to a task.
#[must_use]
pub fn is_simple(kernel: &Kernel, head: VirtAddr, tasks: &Tasks) -> bool {
    let before = || {
        let MemberAddress(list) = kernel.load::<SimpleHead>(head).task_list.ok()?;
        let first = kernel.memory().pointer(list).ok()?;
        let entry = first.sub(kernel.offset_of("swait_queue", "task_list").ok()?);
        kernel.loader::<SimpleEntry>().load(entry).task.ok()
    };
    before().is_some_and(|at| tasks.at(at).is_some())
}

/// The waiters of the queue at `head`, a `wait_queue_head`.
///
/// # Errors
/// This kernel's wait queues are not known. What breaks the list is its last item.
pub fn waiters(kernel: &Kernel, head: VirtAddr) -> Field<impl Iterator<Item = Field<Waiter>> + use<'_>> {
    let MemberAddress(list) = kernel.load::<Head>(head).list?;
    let link = match kernel.offset_of("wait_queue_entry", "entry") {
        Ok(link) => link,
        Err(lacks) => kernel.offset_of("__wait_queue", "task_list").map_err(|_| lacks)?,
    };
    let entries = kernel.loader::<Entry>();
    Ok(walk::list(kernel.memory(), list).map(move |item| {
        let at = item.map_err(Lacks::from)?.sub(link);
        let entry = entries.load(at);
        Ok(Waiter { at, private: entry.private, function: Some(entry.func) })
    }))
}

/// The tasks on several queues (`wait_queue_head`), each once, with what the first queue that has it stands for.
///
/// # Errors
/// A queue cannot be read.
pub fn tasks_of<W: Copy>(
    kernel: &Kernel,
    queues: impl IntoIterator<Item = (VirtAddr, W)>,
) -> Field<Vec<(VirtAddr, W)>> {
    let tasks = Tasks::find(kernel);
    let (mut all, mut seen) = (Vec::new(), FxHashSet::default());
    for (head, what) in queues {
        for waiter in waiters(kernel, head)?.take(MOST_WAITERS) {
            let task = waiter?.task(kernel, &tasks);
            all.extend(task.filter(|task| seen.insert(*task)).map(|task| (task, what)));
        }
    }
    Ok(all)
}

/// The waiters of the simple queue at `head`, a `swait_queue_head`.
///
/// # Errors
/// As [`waiters`].
pub fn simple_waiters(
    kernel: &Kernel,
    head: VirtAddr,
) -> Field<impl Iterator<Item = Field<Waiter>> + use<'_>> {
    let MemberAddress(list) = kernel.load::<SimpleHead>(head).task_list?;
    let link = kernel.offset_of("swait_queue", "task_list")?;
    let entries = kernel.loader::<SimpleEntry>();
    Ok(walk::list(kernel.memory(), list).map(move |item| {
        let at = item.map_err(Lacks::from)?.sub(link);
        Ok(Waiter { at, private: entries.load(at).task, function: None })
    }))
}
