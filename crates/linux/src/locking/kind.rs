//! Kinds of locks, and the functions that wait for them.

use std::fmt;

use serde::Serialize;

/// What a task can wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LockKind {
    /// `struct mutex`.
    Mutex,
    /// `struct ww_mutex`, which backs off from deadlocks.
    WwMutex,
    /// `struct rt_mutex`, with priority inheritance.
    RtMutex,
    /// `struct rw_semaphore`.
    Rwsem,
    /// `struct percpu_rw_semaphore`.
    PercpuRwsem,
    /// `struct semaphore`.
    Semaphore,
    /// `spinlock_t`.
    Spinlock,
    /// `struct completion`: something that another task or an interrupt reports as done.
    Completion,
    /// `wait_queue_head_t`: an event.
    Waitqueue,
    /// `struct swait_queue_head`: an event.
    Swaitqueue,
    /// A bit of a folio's flags: its lock, its writeback.
    Folio,
    /// A bit of a buffer's state: its lock, its I/O.
    Buffer,
    /// A bit or a variable that another task changes.
    Bit,
    /// A word of user memory.
    Futex,
    /// A grace period of RCU or SRCU.
    Rcu,
    /// A server, to answer a remote procedure call.
    Rpc,
    /// A work item, to end.
    Work,
    /// A child, to leave the memory that it borrowed with `vfork`.
    Vfork,
    /// A time.
    Timer,
    /// It could not be told.
    Unknown,
}

impl LockKind {
    /// The word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Mutex => "mutex",
            Self::WwMutex => "ww_mutex",
            Self::RtMutex => "rt_mutex",
            Self::Rwsem => "rwsem",
            Self::PercpuRwsem => "percpu_rwsem",
            Self::Semaphore => "semaphore",
            Self::Spinlock => "spinlock",
            Self::Completion => "completion",
            Self::Waitqueue => "waitqueue",
            Self::Swaitqueue => "swaitqueue",
            Self::Folio => "folio",
            Self::Buffer => "buffer",
            Self::Bit => "bit",
            Self::Futex => "futex",
            Self::Rcu => "rcu",
            Self::Rpc => "rpc",
            Self::Work => "work",
            Self::Vfork => "vfork",
            Self::Timer => "timer",
            Self::Unknown => "unknown",
        }
    }

    /// Whether it is a lock in the narrow sense: a task takes it, and gives it back.
    #[must_use]
    pub fn has_holder(self) -> bool {
        use LockKind::{Mutex, PercpuRwsem, RtMutex, Rwsem, Semaphore, Spinlock, WwMutex};
        matches!(self, Mutex | WwMutex | RtMutex | Rwsem | PercpuRwsem | Semaphore | Spinlock)
    }
}

impl fmt::Display for LockKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// How a lock with readers is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Shared.
    Read,
    /// Alone.
    Write,
}

impl Mode {
    /// The word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// What a function on a stack waits for: tried innermost first. A name with a star stands for all that begin so.
const WAITERS: &[(&str, LockKind, Option<Mode>)] = &[
    // kernel/locking/mutex.c
    ("__ww_mutex_lock*", LockKind::WwMutex, None),
    ("ww_mutex_lock*", LockKind::WwMutex, None),
    ("__mutex_lock*", LockKind::Mutex, None),
    ("mutex_lock*", LockKind::Mutex, None),
    // kernel/locking/percpu-rwsem.c
    ("__percpu_down_read*", LockKind::PercpuRwsem, Some(Mode::Read)),
    ("percpu_down_read*", LockKind::PercpuRwsem, Some(Mode::Read)),
    ("percpu_down_write", LockKind::PercpuRwsem, Some(Mode::Write)),
    // kernel/locking/rwsem.c
    ("rwsem_down_read_slowpath", LockKind::Rwsem, Some(Mode::Read)),
    ("rwsem_down_write_slowpath", LockKind::Rwsem, Some(Mode::Write)),
    ("__down_read*", LockKind::Rwsem, Some(Mode::Read)),
    ("__down_write*", LockKind::Rwsem, Some(Mode::Write)),
    ("down_read*", LockKind::Rwsem, Some(Mode::Read)),
    ("down_write*", LockKind::Rwsem, Some(Mode::Write)),
    // kernel/locking/semaphore.c
    ("__down_common", LockKind::Semaphore, None),
    ("___down_common", LockKind::Semaphore, None),
    ("__down", LockKind::Semaphore, None),
    ("__down_interruptible", LockKind::Semaphore, None),
    ("__down_killable", LockKind::Semaphore, None),
    ("__down_timeout", LockKind::Semaphore, None),
    ("down", LockKind::Semaphore, None),
    // kernel/futex
    ("futex_lock_pi*", LockKind::Futex, None),
    ("futex_wait*", LockKind::Futex, None),
    ("__futex_wait", LockKind::Futex, None),
    // kernel/locking/rtmutex.c
    ("__rt_mutex_slowlock*", LockKind::RtMutex, None),
    ("rt_mutex_slowlock*", LockKind::RtMutex, None),
    ("rt_mutex_lock*", LockKind::RtMutex, None),
    ("rtlock_slowlock*", LockKind::RtMutex, None),
    // kernel/sched/completion.c
    ("wait_for_completion*", LockKind::Completion, None),
    ("wait_for_common*", LockKind::Completion, None),
    ("__wait_for_common", LockKind::Completion, None),
    // mm/filemap.c
    ("folio_wait_bit*", LockKind::Folio, None),
    ("__folio_lock*", LockKind::Folio, None),
    ("wait_on_page_bit*", LockKind::Folio, None),
    ("__lock_page*", LockKind::Folio, None),
    ("migration_entry_wait_on_locked", LockKind::Folio, None),
    // kernel/sched/wait_bit.c
    ("__wait_on_bit*", LockKind::Bit, None),
    ("out_of_line_wait_on_bit*", LockKind::Bit, None),
    // kernel/time
    ("msleep*", LockKind::Timer, None),
    ("schedule_timeout_*", LockKind::Timer, None),
    ("usleep_range*", LockKind::Timer, None),
    ("do_nanosleep", LockKind::Timer, None),
];

/// Functions that wait on behalf of others, besides those of [`WAITERS`]: who wants the lock called them.
const PLUMBING: &[&str] = &[
    "__schedule",
    "schedule*",
    "io_schedule*",
    "preempt_schedule*",
    "bit_wait*",
    "do_wait_for_common",
    "down_*",
    "rwsem_*",
    "rt_mutex_*",
    "__rt_mutex_*",
    "task_blocks_on_rt_mutex",
    "percpu_rwsem_wait",
    "_raw_*",
    "__raw_*",
    "native_queued_spin_lock_slowpath",
    "__pv_queued_spin_lock_slowpath",
    "queued_read_lock_slowpath",
    "queued_write_lock_slowpath",
    "__wait_rcu_gp",
    "wait_rcu_gp",
    "wait_woken",
    "asm_*",
    "futex_*",
    "do_futex",
    "__flush_work",
    "flush_work",
    "rcu_sync_enter",
    "wait_for_vfork_done",
];

fn is_like(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    }
}

/// What the first waiting function of a stack waits for; names are the innermost first, as in the source.
#[must_use]
pub(super) fn awaited<'n>(names: impl Iterator<Item = &'n str>) -> Option<(LockKind, Option<Mode>)> {
    let waits = |name: &'n str| WAITERS.iter().find(|(pattern, ..)| is_like(pattern, name));
    names.into_iter().find_map(waits).map(|(_, kind, mode)| (*kind, *mode))
}

/// Whether a function only waits on behalf of its caller.
#[must_use]
pub fn is_plumbing(name: &str) -> bool {
    PLUMBING.iter().any(|pattern| is_like(pattern, name))
        || rcu_flavour(name).is_some()
        || WAITERS.iter().any(|(pattern, ..)| is_like(pattern, name))
}

/// The flavour of RCU whose grace period a function waits for.
#[must_use]
pub(super) fn rcu_flavour(name: &str) -> Option<&'static str> {
    const FLAVOURS: [(&str, &str); 8] = [
        ("synchronize_rcu_tasks_rude*", "rcu_tasks_rude"),
        ("synchronize_rcu_tasks_trace*", "rcu_tasks_trace"),
        ("synchronize_rcu_tasks*", "rcu_tasks"),
        ("synchronize_rcu_expedited*", "rcu (expedited)"),
        ("synchronize_rcu*", "rcu"),
        ("__synchronize_srcu", "srcu"),
        ("synchronize_srcu*", "srcu"),
        ("rcu_barrier*", "rcu_barrier"),
    ];
    FLAVOURS.iter().find(|(pattern, _)| is_like(pattern, name)).map(|(_, flavour)| *flavour)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_waiting_function_tells() {
        let told = |names: &[&'static str]| awaited(names.iter().copied());
        assert_eq!(told(&["__schedule", "schedule", "__mutex_lock", "x"]), Some((LockKind::Mutex, None)));
        assert_eq!(
            told(&["__schedule", "schedule", "rwsem_down_write_slowpath", "down_write"]),
            Some((LockKind::Rwsem, Some(Mode::Write)))
        );
        // A page fault inside a futex call waits for the page.
        assert_eq!(told(&["folio_wait_bit_common", "do_futex"]), Some((LockKind::Folio, None)));
        // `schedule_timeout` alone says nothing: completions and semaphores call it.
        assert_eq!(told(&["schedule_timeout", "__down_common"]), Some((LockKind::Semaphore, None)));
        assert_eq!(told(&["schedule_timeout", "kcompactd"]), None);
        assert_eq!(told(&["down_interruptible"]), None, "inlined callers are told by what they call");
    }

    #[test]
    fn callers_are_told_from_plumbing() {
        assert!(is_plumbing("schedule_preempt_disabled") && is_plumbing("__mutex_lock_slowpath"));
        assert!(!is_plumbing("take_both") && !is_plumbing("rtnetlink_rcv_msg"));
        assert_eq!(rcu_flavour("synchronize_rcu_normal"), Some("rcu"));
        assert_eq!(rcu_flavour("synchronize_rcu_tasks_rude"), Some("rcu_tasks_rude"));
        assert_eq!(rcu_flavour("schedule"), None);
    }
}
