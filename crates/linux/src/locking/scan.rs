//! What one sleeping task waits for.

use kdive_base::VirtAddr;
use kdive_target::{Field, Kernel, Load};
use serde::Serialize;

use super::kind::{LockKind, Mode, awaited, is_plumbing, rcu_flavour};
use super::waiter::{Layout, Waiters, Waiting};
use crate::tasks::{Call, LiveWords, Task, Tasks};

/// How it is known what a task waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Found {
    /// A waiter on the task's stack hangs in the lock's list.
    Waiter,
    /// `task_struct.pi_blocked_on` leads to the lock.
    PiBlockedOn,
    /// A word of the task's stack is the address of a lock that names the task as its waiter.
    StackWord,
    /// A processor spins on it: its registers or its stack hold the lock's address.
    Registers,
    /// Only the functions on the stack tell.
    Functions,
}

/// What a task waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Awaited {
    pub(super) kind: LockKind,
    pub(super) mode: Option<Mode>,
    pub(super) at: Option<VirtAddr>,
    /// The number of the bit, for those that wait for one.
    pub(super) bit: Option<u32>,
    pub(super) waiter: Option<VirtAddr>,
    pub(super) found: Found,
    /// Which flavour of RCU.
    pub(super) flavour: Option<&'static str>,
    /// The function that wanted it: the first that is not made for waiting.
    pub(super) function: Option<String>,
}

#[derive(Load)]
#[load(type = "task_struct")]
struct Blocked {
    /// The waiter of a real-time mutex that the task waits for.
    pi_blocked_on: Field<VirtAddr>,
    /// The lock that it waits for, its kind in the low bits (6.16, `CONFIG_DETECT_HUNG_TASK_BLOCKER`).
    blocker: Field<u64>,
    /// The mutex that it waits for (6.17; before that with `CONFIG_DEBUG_MUTEXES` its waiter).
    blocked_on: Field<VirtAddr>,
}

#[derive(Load)]
#[load(type = "rt_mutex_waiter")]
struct RtWaiter {
    task: Field<VirtAddr>,
    lock: Field<VirtAddr>,
}

#[derive(Load)]
#[load(type = "futex_q")]
struct FutexQ {
    /// The word's address, for a futex of one process; the low bits of the key's offset say which it is.
    #[load(any("key.private.address"))]
    address: Field<u64>,
    #[load(any("key.both.offset"))]
    offset: Field<u32>,
}

#[derive(Load)]
#[load(type = "wait_queue_entry")]
struct QueueEntry {
    func: Field<VirtAddr>,
}

#[derive(Load)]
#[load(type = "wait_bit_key")]
struct BitKey {
    flags: Field<VirtAddr>,
    bit_nr: Field<i32>,
}

#[derive(Load)]
#[load(type = "wait_page_queue")]
struct PageQueue {
    #[load(any("folio", "page"))]
    folio: Field<VirtAddr>,
    bit_nr: Field<i32>,
}

/// Looks at tasks one after another.
pub(super) struct Scan<'k> {
    kernel: &'k Kernel,
    pub(super) waiters: Waiters<'k>,
    mutex: Field<Layout>,
    rwsem: Field<Layout>,
    semaphore: Field<Layout>,
    simple: Field<Layout>,
    queue: Field<Layout>,
    /// Offset of the waiting writer in `percpu_rw_semaphore`.
    percpu_writer: Field<u64>,
    percpu_waiters: Field<u64>,
    completion: Field<u64>,
    page_queue: Field<u64>,
    bit_queue: Field<u64>,
    futex_task: Field<u64>,
}

impl<'k> Scan<'k> {
    pub(super) fn new(kernel: &'k Kernel, tasks: &'k Tasks) -> Self {
        Self {
            kernel,
            waiters: Waiters::new(kernel, tasks),
            mutex: Layout::list(kernel, "mutex_waiter", "mutex"),
            rwsem: Layout::list(kernel, "rwsem_waiter", "rw_semaphore"),
            semaphore: Layout::list(kernel, "semaphore_waiter", "semaphore"),
            simple: Layout::simple(kernel),
            queue: Layout::queue(kernel),
            percpu_writer: kernel.offset_of("percpu_rw_semaphore", "writer.task"),
            percpu_waiters: kernel.offset_of("percpu_rw_semaphore", "waiters"),
            completion: kernel.offset_of("completion", "wait"),
            page_queue: kernel.offset_of("wait_page_queue", "wait"),
            bit_queue: kernel.offset_of("wait_bit_queue_entry", "wq_entry"),
            futex_task: kernel.offset_of("futex_q", "task"),
        }
    }

    /// The layouts that this kernel does not have.
    pub(super) fn lacking(&self) -> impl Iterator<Item = (&'static str, &kdive_target::Lacks)> {
        let layouts = [
            ("waiters of mutexes", &self.mutex),
            ("waiters of rwsems", &self.rwsem),
            ("waiters of semaphores", &self.semaphore),
            ("waiters of completions", &self.simple),
            ("waiters of wait queues", &self.queue),
        ];
        layouts.into_iter().filter_map(|(what, layout)| Some((what, layout.as_ref().err()?)))
    }

    /// What a task waits for, by its stack.
    ///
    /// # Errors
    /// The stack cannot be read; then functions alone could not tell either.
    pub(super) fn task(&mut self, task: &Task, calls: &[Call]) -> Field<Awaited> {
        let kernel = self.kernel;
        let names: Vec<&str> = calls.iter().filter_map(|call| call.function(kernel)).collect();
        let blocked: Blocked = kernel.load(task.at);
        let (kind, mode) = awaited(names.iter().copied()).unwrap_or((LockKind::Unknown, None));
        let mut found = Awaited {
            kind,
            mode,
            at: None,
            bit: None,
            waiter: None,
            found: Found::Functions,
            flavour: names.iter().find_map(|name| rcu_flavour(name)),
            function: wanted_by(kernel, calls),
        };
        let words = LiveWords::of_sleeping(kernel, task)?;
        if self.rt_mutex(task, &blocked, &mut found) {
            if names.iter().any(|name| name.starts_with("futex_")) {
                found.kind = LockKind::Futex;
            }
            return Ok(found);
        }
        self.by_kind(task, &blocked, &words, &mut found);
        if found.flavour.is_some() && matches!(found.kind, LockKind::Completion | LockKind::Swaitqueue) {
            found.kind = LockKind::Rcu;
            // Each has a completion of its own; what they wait for is the same.
            found.at = None;
        }
        Ok(found)
    }

    /// Real-time mutexes, and the futexes that stand on them: the task itself says which.
    fn rt_mutex(&self, task: &Task, blocked: &Blocked, found: &mut Awaited) -> bool {
        let waiter = blocked.pi_blocked_on.as_ref().ok().copied().filter(|at| at.0 > 1);
        let Some(waiter) = waiter else { return false };
        let of: RtWaiter = self.kernel.load(waiter);
        let Ok(lock) = of.lock else { return false };
        if of.task != Ok(task.at) {
            return false;
        }
        found.kind = LockKind::RtMutex;
        found.at = Some(lock);
        found.waiter = Some(waiter);
        found.found = Found::PiBlockedOn;
        true
    }

    fn by_kind(&mut self, task: &Task, blocked: &Blocked, words: &LiveWords, found: &mut Awaited) {
        let hints: Vec<VirtAddr> = [
            blocked.blocker.as_ref().ok().map(|word| VirtAddr(word & !3)),
            blocked.blocked_on.as_ref().ok().copied(),
        ]
        .into_iter()
        .flatten()
        .filter(|at| !at.is_null())
        .collect();
        match found.kind {
            LockKind::Mutex | LockKind::WwMutex => {
                self.listed(task, words, self.mutex.clone(), &hints, found)
            }
            LockKind::Rwsem => self.listed(task, words, self.rwsem.clone(), &hints, found),
            LockKind::Semaphore => self.listed(task, words, self.semaphore.clone(), &hints, found),
            LockKind::Completion => self.completion(task, words, found),
            LockKind::Futex => self.futex(task, words, found),
            LockKind::PercpuRwsem => {
                self.queued(task, words, found);
                if found.at.is_none() {
                    self.percpu_writer(task, words, found);
                }
            }
            LockKind::Folio | LockKind::Bit => self.queued(task, words, found),
            LockKind::Unknown => {
                self.queued(task, words, found);
                if found.at.is_none() {
                    self.completion(task, words, found);
                    found.kind = match found.at {
                        Some(_) => LockKind::Swaitqueue,
                        None => LockKind::Unknown,
                    };
                }
            }
            _ => {}
        }
    }

    fn find(
        &mut self,
        task: &Task,
        words: &LiveWords,
        layout: Field<Layout>,
        hints: &[VirtAddr],
    ) -> Option<Waiting> {
        self.waiters.find(task.at, words, &layout.ok()?, hints)
    }

    fn listed(
        &mut self,
        task: &Task,
        words: &LiveWords,
        layout: Field<Layout>,
        hints: &[VirtAddr],
        found: &mut Awaited,
    ) {
        if let Some(waiting) = self.find(task, words, layout, hints) {
            found.take(waiting.lock, waiting.waiter);
        }
    }

    fn completion(&mut self, task: &Task, words: &LiveWords, found: &mut Awaited) {
        if let Some(waiting) = self.find(task, words, self.simple.clone(), &[]) {
            let before = match found.kind {
                LockKind::Completion => self.completion.clone().unwrap_or(0),
                _ => 0,
            };
            found.take(waiting.lock.sub(before), waiting.waiter);
        }
    }

    /// Entries of wait queues, by the function that wakes them (kernel/sched/wait_bit.c, mm/filemap.c).
    fn queued(&mut self, task: &Task, words: &LiveWords, found: &mut Awaited) {
        let Some(waiting) = self.find(task, words, self.queue.clone(), &[]) else { return };
        let entry: QueueEntry = self.kernel.load(waiting.waiter);
        let woken_by = entry.func.ok().and_then(|at| self.kernel.place(at)).map(|place| place.symbol.name);
        match woken_by {
            Some("wake_page_function") => {
                let key = self.page_queue.clone().map(|before| waiting.waiter.sub(before));
                let key = key.map(|at| self.kernel.load::<PageQueue>(at));
                if let Ok(PageQueue { folio: Ok(folio), bit_nr }) = key {
                    found.kind = LockKind::Folio;
                    found.take(folio, waiting.waiter);
                    found.bit = bit_nr.ok().and_then(|bit| u32::try_from(bit).ok());
                }
            }
            Some("wake_bit_function" | "var_wake_function") => {
                let key = self.bit_queue.clone().map(|before| waiting.waiter.sub(before));
                let key = key.map(|at| self.kernel.load::<BitKey>(at));
                if let Ok(BitKey { flags: Ok(word), bit_nr }) = key {
                    let buffer = found.function.as_deref().is_some_and(|name| name.contains("buffer"));
                    found.kind = if buffer { LockKind::Buffer } else { LockKind::Bit };
                    found.take(word, waiting.waiter);
                    found.bit = bit_nr.ok().and_then(|bit| u32::try_from(bit).ok());
                }
            }
            Some("percpu_rwsem_wake_function") => {
                found.kind = LockKind::PercpuRwsem;
                let before = self.percpu_waiters.clone().unwrap_or(0);
                found.take(waiting.lock.sub(before), waiting.waiter);
            }
            _ => {
                found.kind = LockKind::Waitqueue;
                found.take(waiting.lock, waiting.waiter);
            }
        }
    }

    /// A writer that has the semaphore but for its readers waits alone: the semaphore names it.
    fn percpu_writer(&self, task: &Task, words: &LiveWords, found: &mut Awaited) {
        let Ok(offset) = self.percpu_writer else { return };
        let names_it = |word: &VirtAddr| {
            word.0 >> 47 == (1 << 17) - 1 && self.kernel.memory().pointer(word.add(offset)) == Ok(task.at)
        };
        // The task itself may hold its own address at that distance.
        let outside = |word: &VirtAddr| !words.contains(*word) && word.since(task.at) > (64 << 10);
        if let Some(lock) = words.iter().map(|(_, word)| word).filter(outside).find(names_it) {
            found.at = Some(lock);
            found.found = Found::StackWord;
        }
    }

    fn futex(&self, task: &Task, words: &LiveWords, found: &mut Awaited) {
        let Ok(offset) = self.futex_task else { return };
        let own = words.iter().filter(|(_, word)| *word == task.at);
        for (at, _) in own {
            let queued = at.sub(offset);
            let of: FutexQ = self.kernel.load(queued);
            let (Ok(address), Ok(place)) = (of.address, of.offset) else { continue };
            // FUT_OFF_INODE 1, FUT_OFF_MMSHARED 2: the address is one of this process where neither is set, or the second.
            let is_user = address != 0 && address >> 47 == 0 && address & 0xfff == 0;
            if words.contains(queued) && is_user && place & 1 == 0 {
                found.take(VirtAddr(address.wrapping_add(u64::from(place & 0xffc))), queued);
                return;
            }
        }
    }
}

impl Awaited {
    fn take(&mut self, lock: VirtAddr, waiter: VirtAddr) {
        self.at = Some(lock);
        self.waiter = Some(waiter);
        self.found = Found::Waiter;
    }
}

/// The function that wanted to wait: the first on the stack that is not made for it.
pub(super) fn wanted_by(kernel: &Kernel, calls: &[Call]) -> Option<String> {
    calls.iter().filter_map(|call| call.function(kernel)).find(|name| !is_plumbing(name)).map(str::to_owned)
}
