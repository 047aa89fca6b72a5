//! Numbers of registers in DWARF (System V ABI, AMD64 supplement, figure 3.36).

use kdive_evidence::Register;

/// By their numbers. 16 is the column of the return address.
const REGISTERS: [Register; 17] = [
    Register::Rax,
    Register::Rdx,
    Register::Rcx,
    Register::Rbx,
    Register::Rsi,
    Register::Rdi,
    Register::Rbp,
    Register::Rsp,
    Register::R8,
    Register::R9,
    Register::R10,
    Register::R11,
    Register::R12,
    Register::R13,
    Register::R14,
    Register::R15,
    Register::Rip,
];

/// The register with a DWARF number; `None` for those that the kernel's code does not keep values in.
#[must_use]
pub fn register(number: u16) -> Option<Register> {
    REGISTERS.get(usize::from(number)).copied()
}

/// Numbers of the registers that a function leaves as they were: `rbx`, `rbp`, `r12` to `r15`. The stack pointer follows
/// from the frame.
pub const PRESERVED: [u16; 6] = [3, 6, 12, 13, 14, 15];
