//! Signals: what handles them, which are blocked, which are pending (include/linux/sched/signal.h, kernel/signal.c).

use kdive_base::{Endian, VirtAddr};
use kdive_target::{Bytes, Field, Kernel, Lacks, Load, Loader, MemberAddress, walk};

use crate::tasks::Task;

/// `_NSIG`: signals are numbered from 1 to this.
pub const SIGNALS: u32 = 64;
/// The first real-time signal, as the kernel counts.
const FIRST_REAL_TIME: u32 = 32;

/// The names of the signals before the real-time ones on x86 and the generic ABI, by number
/// (include/uapi/asm-generic/signal.h); the second is an older name of the same.
const NAMES: [(&str, Option<&str>); 31] = [
    ("SIGHUP", None),
    ("SIGINT", None),
    ("SIGQUIT", None),
    ("SIGILL", None),
    ("SIGTRAP", None),
    ("SIGABRT", Some("SIGIOT")),
    ("SIGBUS", None),
    ("SIGFPE", None),
    ("SIGKILL", None),
    ("SIGUSR1", None),
    ("SIGSEGV", None),
    ("SIGUSR2", None),
    ("SIGPIPE", None),
    ("SIGALRM", None),
    ("SIGTERM", None),
    ("SIGSTKFLT", None),
    ("SIGCHLD", Some("SIGCLD")),
    ("SIGCONT", None),
    ("SIGSTOP", None),
    ("SIGTSTP", None),
    ("SIGTTIN", None),
    ("SIGTTOU", None),
    ("SIGURG", None),
    ("SIGXCPU", None),
    ("SIGXFSZ", None),
    ("SIGVTALRM", None),
    ("SIGPROF", None),
    ("SIGWINCH", None),
    ("SIGIO", Some("SIGPOLL")),
    ("SIGPWR", None),
    ("SIGSYS", Some("SIGUNUSED")),
];

/// The name of a signal; real-time ones count up from `SIGRTMIN` and down from `SIGRTMAX`.
#[must_use]
pub fn name(signal: u32) -> Option<String> {
    match signal {
        1..FIRST_REAL_TIME => NAMES.get(signal as usize - 1).map(|(name, _)| (*name).to_owned()),
        FIRST_REAL_TIME => Some("SIGRTMIN".to_owned()),
        33..=48 => Some(format!("SIGRTMIN+{}", signal - FIRST_REAL_TIME)),
        49..SIGNALS => Some(format!("SIGRTMAX-{}", SIGNALS - signal)),
        SIGNALS => Some("SIGRTMAX".to_owned()),
        _ => None,
    }
}

/// An older name of the same signal.
#[must_use]
pub fn other_name(signal: u32) -> Option<&'static str> {
    NAMES.get(signal.checked_sub(1)? as usize)?.1
}

/// The signals in a set (`sigset_t`: bit `n - 1` for signal `n`).
pub fn members(set: u64) -> impl Iterator<Item = u32> {
    (1..=SIGNALS).filter(move |signal| set >> (signal - 1) & 1 == 1)
}

/// Flags of a handler (include/uapi/asm-generic/signal-defs.h): `SA_RESTORER`, which
/// the C library sets, then the lowest bit first.
pub const FLAGS: [(u64, &str); 11] = [
    (0x0400_0000, "SA_RESTORER"),
    (0x1, "SA_NOCLDSTOP"),
    (0x2, "SA_NOCLDWAIT"),
    (0x4, "SA_SIGINFO"),
    (0x400, "SA_UNSUPPORTED"),
    (0x800, "SA_EXPOSE_TAGBITS"),
    (0x0800_0000, "SA_ONSTACK"),
    (0x1000_0000, "SA_RESTART"),
    (0x2000_0000, "SA_INTERRUPT"),
    (0x4000_0000, "SA_NODEFER"),
    (0x8000_0000, "SA_RESETHAND"),
];

/// What happens on a signal (`struct k_sigaction`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Action {
    /// Where it lies.
    pub at: VirtAddr,
    /// The handler: 0 is `SIG_DFL`, 1 `SIG_IGN`, else an address of user space.
    pub handler: u64,
    /// Signals that are blocked while the handler runs.
    pub mask: u64,
    /// `SA_*`.
    pub flags: u64,
}

#[derive(Load)]
#[load(type = "k_sigaction")]
struct RawAction {
    #[load(address)]
    at: VirtAddr,
    #[load(any("sa.sa_handler", "sa._u._sa_handler"))]
    handler: Field<u64>,
    #[load(any("sa.sa_mask.sig"))]
    mask: Field<Bytes>,
    #[load(any("sa.sa_flags"))]
    flags: Field<u64>,
}

#[derive(Load)]
#[load(type = "sighand_struct")]
struct Handlers {
    action: Field<MemberAddress>,
}

/// What a thread group shares (`struct signal_struct`).
#[derive(Load)]
#[load(type = "signal_struct")]
struct Shared {
    /// Threads of the group (2.6.34).
    nr_threads: Field<i32>,
    /// References.
    #[load(any("sigcnt.refs.counter", "sigcnt.counter", "count.counter"))]
    count: Field<i32>,
    #[load(any("shared_pending.signal.sig"))]
    pending: Field<Bytes>,
    #[load(any("shared_pending.list"))]
    queue: Field<MemberAddress>,
}

#[derive(Load)]
#[load(type = "task_struct")]
struct Own {
    #[load(any("blocked.sig"))]
    blocked: Field<Bytes>,
    #[load(any("pending.signal.sig"))]
    pending: Field<Bytes>,
    #[load(any("pending.list"))]
    queue: Field<MemberAddress>,
}

/// Signals that wait: those of one task, or of its thread group.
#[derive(Clone, Debug)]
pub struct Pending {
    /// Their set.
    pub set: Field<u64>,
    /// Those with more to say, in the order in which they came.
    pub queue: Vec<Waiting>,
    /// Why some of the queue are lacking.
    pub lacks: Option<Lacks>,
}

/// A queued signal (`struct sigqueue`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Its number.
    pub signal: Field<i32>,
    /// Its `siginfo`.
    pub info: VirtAddr,
}

/// A word of a `sigset_t`, which is as long as the signals need.
fn set(bytes: Field<Bytes>) -> Field<u64> {
    let Bytes(bytes) = bytes?;
    Endian::Little.u64(&bytes, 0).ok_or_else(|| Lacks::implausible("a sigset_t of less than 64 signals"))
}

/// Reads what tasks do about signals.
pub struct Signals<'k> {
    kernel: &'k Kernel,
    own: Loader<'k, Own>,
    shared: Loader<'k, Shared>,
    action: Loader<'k, RawAction>,
    /// Offsets in `struct sigqueue`: the link, the information, the number.
    queued: Field<(u64, u64, u64)>,
}

impl<'k> Signals<'k> {
    /// A reader bound to this kernel's layout.
    #[must_use]
    pub fn new(kernel: &'k Kernel) -> Self {
        let queued = || {
            Ok((
                kernel.offset_of("sigqueue", "list")?,
                kernel.offset_of("sigqueue", "info")?,
                kernel.offset_of("sigqueue", "info.si_signo")?,
            ))
        };
        Self {
            kernel,
            own: kernel.loader(),
            shared: kernel.loader(),
            action: kernel.loader(),
            queued: queued(),
        }
    }

    /// The threads of a group, by its `signal_struct`; before 2.6.34 the references to it.
    pub fn threads(&self, signal: VirtAddr) -> Field<i32> {
        let shared = self.shared.load(signal);
        shared.nr_threads.or(shared.count)
    }

    /// The actions of a task, by signal from 1 on.
    ///
    /// # Errors
    /// Where they lie is not known: the task has exited, or its structures are not in the dump.
    pub fn actions(&self, task: &Task) -> Field<Vec<Field<Action>>> {
        let sighand = task.sighand.clone()?;
        if sighand.is_null() {
            return Err(Lacks::unavailable("the task has exited: it has no signal handlers"));
        }
        let MemberAddress(first) = self.kernel.load::<Handlers>(sighand).action?;
        let bytes = self.action.size()?;
        let all = (0..u64::from(SIGNALS)).map(|index| first.add(index.wrapping_mul(bytes)));
        Ok(all.map(|at| self.action(at)).collect())
    }

    fn action(&self, at: VirtAddr) -> Field<Action> {
        let raw = self.action.load(at);
        Ok(Action { at: raw.at, handler: raw.handler?, mask: set(raw.mask)?, flags: raw.flags? })
    }

    /// The signals that a task blocks.
    pub fn blocked(&self, task: VirtAddr) -> Field<u64> {
        set(self.own.load(task).blocked)
    }

    /// What waits for one task.
    #[must_use]
    pub fn private(&self, task: VirtAddr) -> Pending {
        let own = self.own.load(task);
        self.pending(own.pending, own.queue)
    }

    /// What waits for any task of a thread group, by its `signal_struct`.
    #[must_use]
    pub fn shared(&self, signal: VirtAddr) -> Pending {
        let shared = self.shared.load(signal);
        self.pending(shared.pending, shared.queue)
    }

    fn pending(&self, signals: Field<Bytes>, queue: Field<MemberAddress>) -> Pending {
        let mut pending = Pending { set: set(signals), queue: Vec::new(), lacks: None };
        let walked = queue.and_then(|MemberAddress(head)| {
            let (link, info, number) = self.queued.clone()?;
            let memory = self.kernel.memory();
            for item in walk::list(memory, head) {
                let at = item?.sub(link);
                let signal = memory.u32(at.add(number)).map(|number| number as i32).map_err(Lacks::from);
                pending.queue.push(Waiting { signal, info: at.add(info) });
            }
            Ok(())
        });
        pending.lacks = walked.err();
        pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names() {
        let names: Vec<_> = [1, 31, 32, 33, 48, 49, 63, 64].into_iter().filter_map(name).collect();
        assert_eq!(
            names,
            [
                "SIGHUP",
                "SIGSYS",
                "SIGRTMIN",
                "SIGRTMIN+1",
                "SIGRTMIN+16",
                "SIGRTMAX-15",
                "SIGRTMAX-1",
                "SIGRTMAX"
            ]
        );
        assert_eq!((name(0), name(65), name(u32::MAX)), (None, None, None));
        assert_eq!((other_name(6), other_name(9), other_name(0)), (Some("SIGIOT"), None, None));
    }

    #[test]
    fn a_set_has_its_members() {
        let signals: Vec<_> = members(0x800A_0000_0000_0201).collect();
        assert_eq!(signals, [1, 10, 50, 52, 64]);
    }
}
