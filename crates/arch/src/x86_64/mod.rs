//! x86-64.

pub mod calls;
#[cfg(feature = "disassemble")]
pub mod disassemble;
pub mod dwarf;
pub mod layout;
pub mod paging;
pub mod pt_regs;
pub mod stacks;
pub mod swap;
