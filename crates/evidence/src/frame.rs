//! Stack frames and how far to trust them.

use kdive_base::VirtAddr;
use serde::Serialize;

use crate::Registers;

/// How a frame was found, the surest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FrameTrust {
    /// The processor's own registers, from a note of the dump or the saved context of a task.
    Registers,
    /// A `pt_regs` that an entry path saved, at a place the unwinder was told of.
    PtRegs,
    /// The kernel's ORC table.
    Orc,
    /// DWARF call frame information.
    Cfi,
    /// The chain of frame pointers.
    FramePointer,
    /// A return address behind a call of the very function that the frame below it runs, near that frame. For the few
    /// functions that the tables leave out.
    CallSite,
    /// A word on the stack that looks like a return address: it may be stale.
    Scan,
    /// Read from a printed call trace.
    Printed,
    /// Read from a printed call trace, where the kernel itself put a `?` before it.
    PrintedUnsure,
}

impl FrameTrust {
    /// The word that `bt --trust` prints.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Registers => "registers",
            Self::PtRegs => "pt_regs",
            Self::Orc => "orc",
            Self::Cfi => "cfi",
            Self::FramePointer => "frame pointer",
            Self::CallSite => "call site",
            Self::Scan => "scan",
            Self::Printed => "printed",
            Self::PrintedUnsure => "printed, unsure",
        }
    }
}

/// Which of the kernel's stacks a frame lies on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StackKind {
    /// The task's own kernel stack.
    Task,
    /// The per-CPU stack of hardware interrupts.
    Irq,
    /// The per-CPU stack of soft interrupts, where it is apart (32-bit).
    SoftIrq,
    /// The trampoline stack that entries from user space start on.
    Entry,
    /// Double fault.
    DoubleFault,
    /// Non-maskable interrupt.
    Nmi,
    /// Debug exception.
    Debug,
    /// Machine check.
    MachineCheck,
    /// `#VC` of encrypted guests, and its fallback.
    VmmCommunication,
}

impl StackKind {
    /// The name crash prints between the arrows of a stack transition (`--- <IRQ stack> ---`).
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Task => "task stack",
            Self::Irq => "IRQ stack",
            Self::SoftIrq => "soft IRQ stack",
            Self::Entry => "entry trampoline",
            Self::DoubleFault => "DOUBLEFAULT exception stack",
            Self::Nmi => "NMI exception stack",
            Self::Debug => "DEBUG exception stack",
            Self::MachineCheck => "MCE exception stack",
            Self::VmmCommunication => "VC exception stack",
        }
    }
}

/// A function whose body the compiler copied into a frame's function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InlineFrame {
    /// Name of the inlined function.
    pub function: String,
    /// Source file and line of the call site inside it, where known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
}

/// One frame of a stack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Frame {
    /// Where execution stood in this frame: the return address, or the interrupted instruction.
    pub ip: VirtAddr,
    /// Stack pointer of the frame: the address of the word that holds `ip`, or the interrupted stack pointer.
    pub sp: VirtAddr,
    /// How it was found.
    pub trust: FrameTrust,
    /// The stack it lies on.
    pub stack: StackKind,
    /// `ip` is the interrupted instruction itself, not a return address: look it up as it is.
    pub interrupted: bool,
    /// All registers known at this frame; complete where a `pt_regs` was found.
    pub registers: Registers,
    /// Address of the `pt_regs` that interrupted code below this frame, when an entry path saved one here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pt_regs: Option<VirtAddr>,
}
