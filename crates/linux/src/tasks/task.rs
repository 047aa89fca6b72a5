//! One task (`include/linux/sched.h`).

use kdive_base::VirtAddr;
use kdive_target::{Bytes, Field, Kernel, Lacks, Load, Loader, MemberAddress, Text};

/// `PF_KTHREAD`: a thread of the kernel. The bit has not moved since 2.6.27.
const PF_KTHREAD: u32 = 0x0020_0000;

/// The part of `task_struct` that kdive understands.
#[derive(Clone, Debug, Load)]
#[load(type = "task_struct")]
pub struct Task {
    /// Address of the `task_struct`.
    #[load(address)]
    pub at: VirtAddr,
    /// Thread number in the initial namespace (what user space calls a TID).
    pub pid: Field<i32>,
    /// Process number: the pid of the thread group's leader.
    pub tgid: Field<i32>,
    /// Command name, up to 15 bytes.
    pub comm: Field<Text>,
    /// Scheduling state bits: see [`StateBits`](super::StateBits). `state` was a `long` before 5.14.
    #[load(any("__state", "state"))]
    pub state: Field<u64>,
    /// State bits of a task that has exited; 0 while it lives.
    pub exit_state: Field<u32>,
    /// `PF_*` flags.
    pub flags: Field<u32>,
    /// Lowest address of the kernel stack.
    pub stack: Field<VirtAddr>,
    /// Kernel stack pointer saved when the task last left a processor; stale while it runs.
    #[load(any("thread.sp", "thread.rsp"))]
    pub sp: Field<VirtAddr>,
    /// The task's user memory (`mm_struct`); null for threads of the kernel and exited tasks.
    pub mm: Field<VirtAddr>,
    /// Pages that it has not added to its process's counters yet, an `int` for each kind (2.6.34 to 6.1).
    #[load(any("rss_stat.count"))]
    pub rss_not_added: Field<Bytes>,
    /// The `mm_struct` in use; a thread of the kernel borrows one.
    pub active_mm: Field<VirtAddr>,
    /// The process that started it, whoever traces it now.
    pub real_parent: Field<VirtAddr>,
    /// Who gets its SIGCHLD: the tracer while it is traced.
    pub parent: Field<VirtAddr>,
    /// The first thread of the group.
    pub group_leader: Field<VirtAddr>,
    /// The processor it runs on or ran on last.
    #[load(any("thread_info.cpu", "cpu"))]
    pub cpu: Field<u32>,
    /// Whether a processor runs it now.
    #[load(any("on_cpu", "oncpu"))]
    pub on_cpu: Field<i32>,
    /// Scheduling policy (`SCHED_NORMAL` 0, `FIFO` 1, `RR` 2, `BATCH` 3, `IDLE` 5, `DEADLINE` 6, `EXT` 7).
    pub policy: Field<u32>,
    /// Effective priority, 0 (highest) to 139; -1 for deadline tasks.
    pub prio: Field<i32>,
    /// Priority of the nice value, 100 to 139.
    pub static_prio: Field<i32>,
    /// Real-time priority, 0 for normal tasks.
    pub rt_priority: Field<u32>,
    /// `signal_struct`, shared by the thread group.
    pub signal: Field<VirtAddr>,
    /// Handlers (`sighand_struct`).
    pub sighand: Field<VirtAddr>,
    /// Effective credentials (`struct cred`).
    pub cred: Field<VirtAddr>,
    /// Namespaces (`struct nsproxy`).
    pub nsproxy: Field<VirtAddr>,
    /// Open files (`files_struct`).
    pub files: Field<VirtAddr>,
    /// Root and working directory (`fs_struct`).
    pub fs: Field<VirtAddr>,
    /// Time in user mode; nanoseconds since 4.11, else the unit of `cputime_t`.
    pub utime: Field<u64>,
    /// Time in the kernel, in the same unit.
    pub stime: Field<u64>,
    /// Monotonic time of its start: nanoseconds since boot without suspend.
    pub start_time: Field<u64>,
    /// Time of its start, nanoseconds since boot with suspend.
    #[load(any("start_boottime", "real_start_time"))]
    pub start_boottime: Field<u64>,
    /// When it last came onto a processor, by that processor's scheduler clock, in nanoseconds.
    #[load(any("sched_info.last_arrival", "last_run", "timestamp"))]
    pub last_run: Field<u64>,
    /// When the scheduler last charged it for running, in nanoseconds.
    #[load(any("se.exec_start"))]
    pub exec_start: Field<u64>,
    /// Switches that it asked for.
    pub nvcsw: Field<u64>,
    /// Switches that were forced upon it.
    pub nivcsw: Field<u64>,
    /// Head of the list of its children.
    pub children: Field<MemberAddress>,
    /// Its place among its parent's children.
    pub sibling: Field<MemberAddress>,
    /// Its place in the list of all processes.
    pub tasks: Field<MemberAddress>,
}

impl Task {
    /// Whether it is a thread of the kernel; `None` where neither its flags nor its memory are known.
    #[must_use]
    pub fn is_kernel_thread(&self) -> Option<bool> {
        match (&self.flags, &self.mm) {
            (Ok(flags), _) => Some(flags & PF_KTHREAD != 0),
            (Err(_), Ok(mm)) => Some(mm.is_null()),
            (Err(_), Err(_)) => None,
        }
    }

    /// Whether it leads its thread group; `None` where that is not known.
    #[must_use]
    pub fn is_group_leader(&self) -> Option<bool> {
        match (&self.pid, &self.tgid, &self.group_leader) {
            (Ok(pid), Ok(tgid), _) => Some(pid == tgid),
            (_, _, Ok(leader)) => Some(*leader == self.at),
            _ => None,
        }
    }

    /// The command name; `?` where it is not in the dump.
    #[must_use]
    pub fn name(&self) -> &str {
        self.comm.as_ref().map_or("?", |Text(name)| name)
    }
}

/// The part of `struct thread_info` that kdive understands (`arch/x86/include/asm/thread_info.h`).
#[derive(Clone, Debug, Load)]
#[load(type = "thread_info")]
pub struct ThreadInfo {
    /// Its address.
    #[load(address)]
    pub at: VirtAddr,
    /// The processor, where `task_struct` does not hold it (before 4.9 on x86).
    pub cpu: Field<u32>,
    /// `TIF_*` flags.
    pub flags: Field<u64>,
}

/// Loads tasks; cheap to clone, so that threads can share the work.
#[derive(Clone)]
pub struct TaskLoader<'k> {
    task: Loader<'k, Task>,
    thread_info: InfoPlace<'k>,
}

/// Where `thread_info` lies.
#[derive(Clone)]
enum InfoPlace<'k> {
    /// First in the task (`CONFIG_THREAD_INFO_IN_TASK`, 4.9 on x86): the two share an address.
    Task,
    /// At the foot of the stack, with a pointer back to the task.
    Stack(Loader<'k, ThreadInfo>),
    /// Neither can be told.
    Unknown(Lacks),
}

impl<'k> TaskLoader<'k> {
    /// A loader bound to this kernel's layout.
    #[must_use]
    pub fn new(kernel: &'k Kernel) -> Self {
        let inside = kernel.offset_of("task_struct", "thread_info");
        let thread_info = match (inside, kernel.offset_of("thread_info", "task")) {
            (Ok(_), _) => InfoPlace::Task,
            (Err(_), Ok(_)) => InfoPlace::Stack(kernel.loader()),
            (Err(lacks), Err(_)) => InfoPlace::Unknown(lacks),
        };
        Self { task: kernel.loader(), thread_info }
    }

    /// The task at `at`. What the dump or the kernel lacks is a field that says so.
    #[must_use]
    pub fn load(&self, at: VirtAddr) -> Task {
        let mut task = self.task.load(at);
        if let (Err(_), InfoPlace::Stack(loader), Ok(stack)) = (&task.cpu, &self.thread_info, &task.stack) {
            task.cpu = loader.load(*stack).cpu;
        }
        task
    }

    /// Address of the task's `thread_info`.
    pub fn thread_info(&self, task: &Task) -> Field<VirtAddr> {
        match &self.thread_info {
            InfoPlace::Task => Ok(task.at),
            InfoPlace::Stack(_) => task.stack.clone(),
            InfoPlace::Unknown(lacks) => Err(lacks.clone()),
        }
    }
}
