//! Waiters: what a sleeping task left on its own stack, linked into the lock that it waits for.
//!
//! Every kind holds the address of its task, and hangs in a list whose neighbours point back at it. A word of the stack that
//! is the task's own address, inside of such a structure, is no accident.

use kdive_base::VirtAddr;
use kdive_target::{Field, Kernel, walk};
use rustc_hash::FxHashMap;

use crate::tasks::{LiveWords, Tasks};

/// Where the parts of one kind of waiter lie.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    /// Offset of the list's link in the waiter.
    link: u64,
    /// Offset of the task in the waiter.
    task: u64,
    /// How the lock is found.
    lock: Place,
    /// Whether a word before the link is the function that wakes (`wait_queue_entry.func`): then other things than tasks
    /// hang in the list too.
    woken_by: Option<u64>,
}

/// How a lock keeps its waiters.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// It holds the list's head, at this offset.
    Head(u64),
    /// It points at the first waiter, from this offset; the list has no head (7.1).
    First(u64),
}

impl Layout {
    /// `mutex_waiter` (kernel/locking/mutex.h) in `mutex`, and alike: the list of waiters is `head` of `lock`.
    pub(super) fn list(kernel: &Kernel, waiter: &str, lock: &str) -> Field<Self> {
        let place = match kernel.offset_of(lock, "wait_list") {
            Ok(offset) => Place::Head(offset),
            Err(lacks) => Place::First(kernel.offset_of(lock, "first_waiter").map_err(|_| lacks)?),
        };
        let (link, task) = (kernel.offset_of(waiter, "list")?, kernel.offset_of(waiter, "task")?);
        Ok(Self { link, task, lock: place, woken_by: None })
    }

    /// `swait_queue` (include/linux/swait.h); the lock is its queue.
    pub(super) fn simple(kernel: &Kernel) -> Field<Self> {
        Ok(Self {
            link: kernel.offset_of("swait_queue", "task_list")?,
            task: kernel.offset_of("swait_queue", "task")?,
            lock: Place::Head(kernel.offset_of("swait_queue_head", "task_list")?),
            woken_by: None,
        })
    }

    /// `wait_queue_entry` (include/linux/wait.h); the lock is its queue.
    pub(super) fn queue(kernel: &Kernel) -> Field<Self> {
        let link = kernel.offset_of("wait_queue_entry", "entry")?;
        Ok(Self {
            link,
            task: kernel.offset_of("wait_queue_entry", "private")?,
            lock: Place::Head(kernel.offset_of("wait_queue_head", "head")?),
            woken_by: Some(kernel.offset_of("wait_queue_entry", "func")?),
        })
    }
}

/// A waiter, and the lock that it hangs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    /// The waiter.
    pub(super) waiter: VirtAddr,
    /// The lock.
    pub(super) lock: VirtAddr,
}

/// No kernel has more tasks than this (`PID_MAX_LIMIT`), and hence no lock more waiters.
const MOST_WAITERS: usize = 1 << 22;

/// Finds waiters and their locks.
pub(super) struct Waiters<'k> {
    kernel: &'k Kernel,
    tasks: &'k Tasks,
    stack_bytes: u64,
    /// Locks of waiters that were met, and lists that lead to none: one with ten thousand waiters is walked once.
    known: FxHashMap<VirtAddr, Option<VirtAddr>>,
}

impl<'k> Waiters<'k> {
    pub(super) fn new(kernel: &'k Kernel, tasks: &'k Tasks) -> Self {
        let stack_bytes = kernel.task_stack_bytes().unwrap_or(0);
        Self { kernel, tasks, stack_bytes, known: FxHashMap::default() }
    }

    /// The waiter of `task` among the words of its stack, and its lock. `hints` are addresses of locks that the kernel names
    /// itself (`task.blocker`): they are believed if the waiter hangs in them.
    pub(super) fn find(
        &mut self,
        task: VirtAddr,
        words: &LiveWords,
        layout: &Layout,
        hints: &[VirtAddr],
    ) -> Option<Waiting> {
        let own = words.iter().filter(|(_, word)| *word == task).map(|(at, _)| at.sub(layout.task));
        let linked: Vec<VirtAddr> =
            own.filter(|waiter| words.contains(*waiter) && self.is_linked(*waiter, layout)).collect();
        linked.into_iter().find_map(|waiter| {
            let lock = self.lock_of(waiter, words, layout, hints)?;
            Some(Waiting { waiter, lock })
        })
    }

    /// Whether the waiter's neighbours in its list point back at it.
    fn is_linked(&self, waiter: VirtAddr, layout: &Layout) -> bool {
        let memory = self.kernel.memory();
        let link = waiter.add(layout.link);
        let points_back = || {
            let (next, prev) = (memory.pointer(link).ok()?, memory.pointer(link.add(8)).ok()?);
            let alone = next == link && prev == link;
            let back = memory.pointer(next.add(8)).ok()? == link && memory.pointer(prev).ok()? == link;
            Some(back && (!alone || matches!(layout.lock, Place::First(_))))
        };
        points_back().unwrap_or(false)
    }

    fn lock_of(
        &mut self,
        waiter: VirtAddr,
        words: &LiveWords,
        layout: &Layout,
        hints: &[VirtAddr],
    ) -> Option<VirtAddr> {
        if let Some(lock) = self.known.get(&waiter) {
            return *lock;
        }
        let memory = self.kernel.memory();
        let others = walk::list(memory, waiter.add(layout.link)).take(MOST_WAITERS).map_while(Result::ok);
        let mut ring = vec![waiter];
        let mut head = None;
        for link in others {
            let other = link.sub(layout.link);
            match self.is_waiter(other, layout) {
                true => ring.push(other),
                false => head = head.or(Some(link)),
            }
        }
        let lock = match layout.lock {
            Place::Head(offset) => head.map(|head| head.sub(offset)),
            Place::First(offset) => {
                let named = hints.iter().copied();
                let kept = words.iter().map(|(_, word)| word).filter(|word| word.0 >> 47 == (1 << 17) - 1);
                let leads_here = |lock: &VirtAddr| {
                    memory.pointer(lock.add(offset)).is_ok_and(|first| ring.contains(&first))
                };
                // Another waiter's stack may have what this one's has not.
                Some(named.chain(kept).find(leads_here)?)
            }
        };
        self.known.extend(ring.into_iter().map(|waiter| (waiter, lock)));
        lock
    }

    fn is_waiter(&self, at: VirtAddr, layout: &Layout) -> bool {
        let memory = self.kernel.memory();
        if let Some(function) = layout.woken_by {
            return memory.pointer(at.add(function)).is_ok_and(|function| self.kernel.is_code(function));
        }
        let task = memory.pointer(at.add(layout.task)).ok().and_then(|task| self.tasks.at(task));
        let stack = task.and_then(|task| task.stack.as_ref().ok());
        stack.is_some_and(|low| at.since(*low) < self.stack_bytes)
    }
}
