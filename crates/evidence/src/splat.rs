//! A complaint that the kernel printed, or would have printed: what it is, where, and with which registers.

use kdive_base::VirtAddr;
use serde::Serialize;

use crate::{FrameTrust, Registers, StackKind};

/// One complaint of a kernel, with what belongs to it. A part that its source does not tell is `None` or empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Splat {
    /// What it complains about.
    pub kind: SplatKind,
    /// Its first line, as the kernel prints it.
    pub message: String,
    /// The number in brackets of an oops (`Oops: 0002 [#1]`): above 1 it happened after another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<u32>,
    /// When, in nanoseconds since boot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_ns: Option<u64>,
    /// The processor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<u32>,
    /// The task that ran there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// Its command name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comm: Option<String>,
    /// The letters after `Tainted:`, or empty for `Not tainted`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub taint: Option<String>,
    /// The kernel release that the splat itself names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// The machine (`Hardware name:`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// The address that was accessed in vain, or jumped to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<VirtAddr>,
    /// What was done there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access: Option<Access>,
    /// The error code of the exception.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_code: Option<u64>,
    /// Where the instruction pointer stood: the frame that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip: Option<Place>,
    /// The registers at that instruction.
    #[serde(skip_serializing_if = "is_empty")]
    pub registers: Registers,
    /// Bytes of code around the instruction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<CodeBytes>,
    /// The call trace, innermost frame first, without the frame of `ip`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub frames: Vec<TraceFrame>,
    /// Further stacks that the splat shows (who allocated, who freed, what another CPU or task does), with their headings.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub other_stacks: Vec<OtherStack>,
    /// Source file and line, where the splat names them (`kernel BUG at mm/filemap.c:568!`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceLine>,
    /// Further lines that belong to it and are of no other part.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
    /// Lines of it are lacking or mixed up with others: why it is not to be trusted whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub damage: Option<String>,
}

fn is_empty(registers: &Registers) -> bool {
    registers.known().next().is_none()
}

/// What a splat is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum SplatKind {
    /// A page fault that nothing handles (`Unable to handle kernel ...`, `BUG: unable to handle page fault`).
    PageFault,
    /// A general protection fault, of a non-canonical address for the most part.
    GeneralProtection,
    /// An instruction that the processor does not have, outside of `BUG()`.
    InvalidOpcode,
    /// `BUG()` or `BUG_ON()` (`kernel BUG at FILE:LINE!`).
    Bug,
    /// `WARN()` and its kind.
    Warning,
    /// Division by zero or overflow.
    DivideError,
    /// A double fault.
    DoubleFault,
    /// The stack's guard page was hit.
    StackGuard,
    /// The end of the stack is overwritten (`corrupted stack end detected`).
    StackEnd,
    /// The compiler's stack protector (`stack-protector: Kernel stack is corrupted in`).
    StackProtector,
    /// Another exception of the processor (`int3`, segment, alignment, FPU).
    Exception,
    /// A machine check.
    MachineCheck,
    /// A processor did not schedule (`soft lockup`).
    SoftLockup,
    /// A processor took no interrupt (`hard LOCKUP`, `NMI Watchdog detected LOCKUP`).
    HardLockup,
    /// A grace period of RCU does not end.
    RcuStall,
    /// A task blocked in state D (`blocked for more than`).
    HungTask,
    /// A work pool does not come on.
    WorkqueueLockup,
    /// A processor does not answer a call (`CSD lock`).
    CsdLock,
    /// Lockdep's report.
    Lockdep,
    /// `scheduling while atomic`, `sleeping function called from invalid context` and their kind.
    AtomicSchedule,
    /// A spinlock's debug check (magic, owner, lockup).
    SpinlockDebug,
    /// `list_add corruption`, `list_del corruption`.
    ListCorruption,
    /// `refcount_t:`.
    Refcount,
    /// SLUB's or SLAB's own consistency report.
    Slab,
    /// KASAN.
    Kasan,
    /// KFENCE.
    Kfence,
    /// KMSAN.
    Kmsan,
    /// KCSAN.
    Kcsan,
    /// UBSAN.
    Ubsan,
    /// `Bad page state`, `Bad page map`, `Bad rss-counter`.
    BadPage,
    /// The OOM killer was called, or killed.
    OutOfMemory,
    /// `page allocation failure`.
    AllocationFailure,
    /// A network device's queue did not send (`NETDEV WATCHDOG`).
    NetdevWatchdog,
    /// `irq N: nobody cared`.
    IrqNobodyCared,
    /// `unknown NMI`, `IOCK`, `SERR`.
    Nmi,
    /// `panic()`: what it said, where no other splat says why.
    Panic,
    /// An operator asked for it (`sysrq: Trigger a crash`).
    Sysrq,
    /// A Rust `panic!` in the kernel.
    RustPanic,
    /// Something else that printed a call trace.
    #[default]
    Other,
}

/// What an instruction did to memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// It read.
    Read,
    /// It wrote.
    Write,
    /// It was fetched for execution.
    Execute,
}

/// A place in code: an address, or a name with an offset, or both.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Place {
    /// The address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<VirtAddr>,
    /// The function, as it is printed: suffixes of the compiler (`.isra.0`, `.constprop.0`, `.cold`) are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// Bytes from its beginning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// The function's length in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// The module that it is in; `None` is the kernel itself, or not told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
}

/// One line of a call trace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TraceFrame {
    /// Where.
    #[serde(flatten)]
    pub place: Place,
    /// How far to trust it.
    pub trust: FrameTrust,
    /// The stack it is on, where that is told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stack: Option<StackKind>,
    /// The compiler copied this function's body into the next frame's function.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub inlined: bool,
    /// An exception or interrupt came between this frame and the one inside it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub interrupted: bool,
}

/// A further stack of a splat.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OtherStack {
    /// The line above it (`Allocated by task 123:`, `NMI backtrace for cpu 3`).
    pub heading: String,
    /// Its frames, innermost first.
    pub frames: Vec<TraceFrame>,
}

/// Bytes of code.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CodeBytes {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Index among them of the first byte of the instruction that failed.
    pub at: usize,
}

/// A line of a source file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct SourceLine {
    /// The file, as it is printed.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
}
