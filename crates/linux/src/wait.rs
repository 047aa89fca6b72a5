//! Wait queues: who waits for something to happen (include/linux/wait.h, include/linux/swait.h).

use kdive_base::VirtAddr;
use kdive_target::{Field, Kernel, Lacks, Load, MemberAddress, walk};

/// An entry of a wait queue.
#[derive(Clone, Debug)]
pub struct Waiter {
    /// Its `struct wait_queue_entry` (`__wait_queue` before 4.13, `swait_queue`).
    pub at: VirtAddr,
    /// What the waker is told: a `task_struct`, unless the function says otherwise (epoll, io_uring).
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
