//! Unwinding of kernel stacks.
//!
//! Design constraints:
//! - Memory reads only: no disassembler, no DWARF. The kernel's own ORC tables tell how to step; code that the kernel
//!   wrote at run time is stepped by what is known of its writer.
//! - Every frame says how it was found. Where the tables say nothing the walk goes on by frame pointer, then by scanning,
//!   and says so.
//! - The walk is bounded: the stack pointer must move up a stack or on to one that was not seen before.
//!
//! `step` knows the rules and nothing of a kernel; `walk` repeats it; `world` answers from a [`Kernel`](crate::Kernel);
//! `start` finds the innermost frame of a task or a processor.

mod registers;
mod returns;
mod start;
mod step;
#[cfg(test)]
mod tests;
mod walk;
mod world;

use kdive_base::VirtAddr;
use kdive_evidence::{Frame, Registers};
use serde::Serialize;

pub use registers::{CpuRegisters, RegistersSource};
pub use start::Start;
pub use step::Lost;

/// The frames of a stack, the innermost first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Frames {
    /// The frames. Empty where the processor ran user code.
    pub frames: Vec<Frame>,
    /// What lies before the last of them.
    pub end: End,
}

/// What lies before the last frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// User code.
    User {
        /// Address of the `pt_regs` that holds its registers; `None` where a processor's own registers tell them.
        #[serde(skip_serializing_if = "Option::is_none")]
        at: Option<VirtAddr>,
        /// Its registers.
        registers: Box<Registers>,
    },
    /// Nothing: the stack begins there, as that of a kernel thread or an idle task does.
    Stack,
    /// It could not be found.
    Lost(Lost),
}

impl Frames {
    /// Whether the walk came to a proper end.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        !matches!(self.end, End::Lost(_))
    }
}
