//! The facts of one death, before any judgement.

use kdive_base::VirtAddr;
use kdive_evidence::{Registers, Splat, TraceFrame};
use kdive_target::Kernel;
use serde::Serialize;

/// Everything that is known of one dead kernel. A fact that its source does not tell is `None` or empty, and where that
/// could decide the verdict, [`gaps`](Self::gaps) says so.
#[derive(Default)]
pub struct Case<'k> {
    /// The machine and its kernel.
    pub system: System,
    /// What the kernel complained about, in the order of the log. The first is the cause of later ones until shown otherwise.
    pub splats: Vec<Splat>,
    /// Single lines of the log that tell something without being a splat: I/O errors, clock trouble, link changes.
    pub events: Vec<Event>,
    /// What ended the kernel, as far as its source tells it.
    pub trigger: Option<Trigger>,
    /// The task that died or asked for the dump.
    pub crashed: Option<Crashed>,
    /// Modules that were loaded.
    pub modules: Vec<Module>,
    /// Words found in memory that was printed or read around the damage, with where they stood: text where pointers belong.
    pub stray_text: Vec<StrayText>,
    /// Modules that were unloaded last, as the kernel lists them.
    pub unloaded: Vec<String>,
    /// Instructions that a pasted session disassembled.
    pub instructions: Vec<ShownInstruction>,
    /// Stacks of further tasks, where the source shows them (`foreach bt`, SysRq `t` and `w`).
    pub stacks: Vec<TaskStack>,
    /// How memory stood at the end (`Mem-Info:` of the last OOM report, `kmem -i` and `kmem -f` of a pasted session).
    pub memory: MemoryFacts,
    /// A memory image to ask further. `None` for text.
    pub image: Option<&'k Kernel>,
    /// What could not be read and might have decided.
    pub gaps: Vec<CaseGap>,
}

/// The machine and its kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct System {
    /// The kernel's release (`uname -r`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// The kernel's version (`uname -v`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The architecture (`x86_64`, `i686`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// The machine's vendor and model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hardware: Option<String>,
    /// The host's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodename: Option<String>,
    /// How long it ran, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uptime_s: Option<u64>,
    /// Processors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<u32>,
    /// Memory in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Letters of the kernel's taint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub taint: Option<String>,
    /// The kernel's command line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command_line: Option<String>,
    /// The hypervisor that it runs under, where it says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hypervisor: Option<String>,
}

impl System {
    /// Whether addresses are 32 bits wide.
    #[must_use]
    pub fn is_32_bit(&self) -> bool {
        self.machine.as_deref().is_some_and(|machine| {
            machine.len() == 4 && machine.starts_with('i') && machine.ends_with("86")
                || machine.starts_with("arm")
        })
    }
}

/// A line of the log that tells something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    /// What it is about.
    pub kind: EventKind,
    /// The first such line.
    pub text: String,
    /// When that was, in nanoseconds since boot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_ns: Option<u64>,
    /// How many such lines there are.
    pub count: u64,
}

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum EventKind {
    /// A block device or its transport failed (`I/O error`, `blk_update_request`, `nvme ... timeout`, SCSI aborts).
    BlockError,
    /// A path of a multipath device failed.
    MultipathFailure,
    /// A filesystem found itself damaged or shut down.
    FilesystemError,
    /// An NFS server did not answer.
    NfsServer,
    /// A corrected or uncorrected hardware error (MCE, EDAC, GHES, AER).
    HardwareError,
    /// `Memory failure:`, a poisoned page.
    PoisonedPage,
    /// An IOMMU reported a fault.
    IommuFault,
    /// A clock source was found unstable, ticks were lost.
    ClockTrouble,
    /// The hypervisor paused the machine, or time jumped.
    MachinePaused,
    /// A network device's link or queue.
    NetworkDevice,
    /// `unregister_netdevice: waiting for`.
    NetdevReference,
    /// A table or limit is full (`nf_conntrack: table full`, `file-max limit`, `fork rejected`, `tcp_mem`).
    LimitReached,
    /// Firmware misbehaved.
    Firmware,
    /// A cluster manager fenced this node.
    Fencing,
    /// Suspend or hibernation failed.
    PowerManagement,
    /// A graphics engine hung.
    GpuHang,
    /// No root filesystem, no init.
    Boot,
    /// A module does not fit the kernel (`version magic`, `disagrees about version of symbol`, its BTF).
    ModuleMismatch,
    /// A live patch: its transition begins, ends, fails.
    LivePatch,
    /// Code that the kernel patches itself was not what it should have been (ftrace, jump labels, static calls).
    CodePatching,
    /// kmemleak found objects that nothing points to.
    MemoryLeak,
    /// A pool of memory could not be filled or served from (huge pages, CMA).
    MemoryPool,
    /// A processor does not come or go.
    CpuHotplug,
    /// A guest of a confidential hypervisor could not have something done (`#VC`, `#VE`, memory not accepted).
    ConfidentialGuest,
    /// Code of the firmware failed that the kernel had called.
    EfiRuntime,
    /// A filesystem went while its inodes were in use.
    BusyInodes,
    /// The unwinder did not believe what it found on a stack.
    Unwinder,
    /// An interrupt came that nobody has.
    LostInterrupt,
    /// Something of the audit or security layer that is only noise, kept for its count.
    Noise,
}

/// What ended the kernel, apart from why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Trigger {
    /// The kind of end.
    pub kind: TriggerKind,
    /// The line or fact that tells it.
    pub text: String,
}

/// Kinds of end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum TriggerKind {
    /// An oops in interrupt context, in the idle task or in init: always fatal.
    FatalOops,
    /// `panic_on_oops`.
    PanicOnOops,
    /// `panic()` called directly.
    Panic,
    /// `hung_task_panic`.
    HungTaskPanic,
    /// `softlockup_panic`.
    SoftLockupPanic,
    /// `hardlockup_panic`, or the NMI watchdog.
    HardLockupPanic,
    /// `panic_on_rcu_stall`.
    RcuStallPanic,
    /// `panic_on_warn`.
    PanicOnWarn,
    /// `panic_on_oom`, or nothing left to kill.
    OutOfMemoryPanic,
    /// Another `panic_on_...` switch (taint, I/O NMI, unrecovered NMI, corrected errors).
    PanicSwitch,
    /// SysRq `c`, or a write of `c` to `/proc/sysrq-trigger`.
    Sysrq,
    /// An NMI from outside: a button, IPMI, a hypervisor, a watchdog device.
    NmiButton,
    /// A machine check.
    MachineCheck,
    /// The hypervisor or an operator took the image from outside; the kernel ran on or stood still.
    Snapshot,
    /// init died.
    InitKilled,
}

/// The task that died.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Crashed {
    /// Its number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// Its command name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comm: Option<String>,
    /// Its `task_struct`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<VirtAddr>,
    /// Its processor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<u32>,
    /// Its whole backtrace, innermost frame first, functions of the crash path included.
    pub frames: Vec<TraceFrame>,
    /// Registers at the exception on that backtrace.
    #[serde(skip)]
    pub registers: Option<Registers>,
}

/// The stack of a task that did not die.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TaskStack {
    /// Its number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// Its command name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comm: Option<String>,
    /// Its `task_struct`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<VirtAddr>,
    /// Its processor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<u32>,
    /// The letter of its state (`D`, `R`, `S`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<char>,
    /// Its frames, innermost first.
    pub frames: Vec<TraceFrame>,
}

/// How memory stood. In bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MemoryFacts {
    /// Zones, of all nodes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub zones: Vec<ZoneFacts>,
    /// All memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// Free memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub free: Option<u64>,
    /// Memory that a 32-bit kernel can address directly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub low_total: Option<u64>,
    /// Of that, free.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub low_free: Option<u64>,
    /// The slab allocator's memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slab: Option<u64>,
    /// tmpfs and other shared memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shmem: Option<u64>,
    /// Swap, and what of it is free.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap: Option<(u64, u64)>,
    /// High memory of a 32-bit kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub high_total: Option<u64>,
    /// Of that, free.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub high_free: Option<u64>,
    /// Anonymous pages of processes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anonymous: Option<u64>,
    /// Pages of files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<u64>,
    /// Slab that can be reclaimed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slab_reclaimable: Option<u64>,
    /// Slab that cannot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slab_unreclaimable: Option<u64>,
    /// Page tables.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page_tables: Option<u64>,
    /// Kernel stacks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel_stacks: Option<u64>,
    /// Pages that reclaim must leave alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unevictable: Option<u64>,
    /// Slab caches.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub caches: Vec<CacheFacts>,
    /// Tasks, as the OOM killer lists them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<TaskMemory>,
    /// What was asked for in vain, the first time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<MemoryRequest>,
    /// Whom the OOM killer killed, in that order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub killed: Vec<TaskMemory>,
}

/// A zone of memory. In bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ZoneFacts {
    /// Its name (`DMA32`, `Normal`, `HighMem`).
    pub name: String,
    /// Its node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<u32>,
    /// Its size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// What is free.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub free: Option<u64>,
    /// The watermark below which only emergencies are served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<u64>,
    /// Free blocks, by order: of 1 page, of 2, of 4...
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub blocks: Vec<u64>,
    /// The watermark below which reclaim begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub low: Option<u64>,
    /// Reclaim gave it up (`all_unreclaimable? yes`).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unreclaimable: bool,
}

/// A slab cache.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CacheFacts {
    /// Its name.
    pub name: String,
    /// Bytes of an object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object_size: Option<u64>,
    /// Objects in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allocated: Option<u64>,
    /// Objects that there is room for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// Bytes of its slabs.
    pub bytes: u64,
}

/// The memory of a task.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TaskMemory {
    /// Its number.
    pub pid: i32,
    /// Its command name.
    pub comm: String,
    /// Resident bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rss: Option<u64>,
    /// Swapped bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap: Option<u64>,
    /// `oom_score_adj`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i32>,
}

/// A request for memory that was not met.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MemoryRequest {
    /// Who asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comm: Option<String>,
    /// The order of the block.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<i32>,
    /// The flags, as printed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gfp: Option<String>,
    /// What bounds it (`CONSTRAINT_MEMCG`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub constraint: Option<String>,
    /// The memory cgroup at its limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// The limit of that cgroup in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}

/// An instruction as a pasted session shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ShownInstruction {
    /// Where it is.
    pub address: VirtAddr,
    /// Its function.
    pub function: String,
    /// Bytes from the function's beginning.
    pub offset: u64,
    /// The instruction in AT&T's syntax, as it is shown (`mov    (%rax),%rdx`).
    pub text: String,
}

/// A loaded module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Module {
    /// Its name.
    pub name: String,
    /// Letters of taint (`P`, `O`, `E`, or `U` of old Red Hat kernels).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub taint: String,
    /// Its version, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

impl Module {
    /// Whether it was built outside of the kernel's tree, or is not free software.
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        self.taint.chars().any(|letter| matches!(letter, 'P' | 'O' | 'U' | 'X' | 'F'))
    }
}

/// Text where a pointer or another word of data belongs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StrayText {
    /// Where it stood: a register, an address, a member of a structure.
    pub place: String,
    /// The text.
    pub text: String,
}

/// Something that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CaseGap {
    /// What is lacking.
    pub what: String,
    /// Why.
    pub why: String,
    /// How to have it next time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_time: Option<String>,
}
