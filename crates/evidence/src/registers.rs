//! Processor registers, each known or not.

use kdive_base::VirtAddr;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

macro_rules! registers {
    ($($(#[$doc:meta])* $variant:ident = $name:literal),* $(,)?) => {
        /// A register of x86, 64 or 32 bits wide (`Rax` stands for `eax` on 32-bit machines).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Register {
            $($(#[$doc])* $variant),*
        }

        impl Register {
            /// All of them, in the order of this list.
            pub const ALL: &'static [Register] = &[$(Register::$variant),*];

            /// The name in lower case, as assemblers write it.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Register::$variant => $name),* }
            }
        }

        const COUNT: usize = [$($name),*].len();
    };
}

registers! {
    /// Accumulator.
    Rax = "rax",
    /// Base.
    Rbx = "rbx",
    /// Counter; 4th argument of a function.
    Rcx = "rcx",
    /// Data; 3rd argument.
    Rdx = "rdx",
    /// Source index; 2nd argument.
    Rsi = "rsi",
    /// Destination index; 1st argument.
    Rdi = "rdi",
    /// Frame pointer, where the kernel keeps one.
    Rbp = "rbp",
    /// Stack pointer.
    Rsp = "rsp",
    /// 5th argument.
    R8 = "r8",
    /// 6th argument.
    R9 = "r9",
    /// Scratch; the DRAP register of some frames.
    R10 = "r10",
    /// Scratch.
    R11 = "r11",
    /// Saved by the callee.
    R12 = "r12",
    /// Saved by the callee; a DRAP register.
    R13 = "r13",
    /// Saved by the callee.
    R14 = "r14",
    /// Saved by the callee.
    R15 = "r15",
    /// Instruction pointer.
    Rip = "rip",
    /// Flags.
    Rflags = "rflags",
    /// Code segment: its low two bits are the privilege level.
    Cs = "cs",
    /// Stack segment.
    Ss = "ss",
    /// Data segment.
    Ds = "ds",
    /// Extra segment.
    Es = "es",
    /// Segment of thread-local data (32-bit kernels: per-CPU).
    Fs = "fs",
    /// Segment of per-CPU data.
    Gs = "gs",
    /// Base address of `fs`.
    FsBase = "fs_base",
    /// Base address of `gs`: the per-CPU area while in the kernel.
    GsBase = "gs_base",
    /// System call number, or the error code of an exception (`pt_regs.orig_ax`).
    OrigRax = "orig_rax",
}

impl Register {
    /// The registers that code computes with: neither the stack nor the instruction pointer, nor segments.
    pub const GENERAL: [Register; 15] = [
        Self::Rax,
        Self::Rbx,
        Self::Rcx,
        Self::Rdx,
        Self::Rsi,
        Self::Rdi,
        Self::Rbp,
        Self::R8,
        Self::R9,
        Self::R10,
        Self::R11,
        Self::R12,
        Self::R13,
        Self::R14,
        Self::R15,
    ];
}

/// Members of x86-64's `struct pt_regs` (`arch/x86/include/asm/ptrace.h`) in their order, 8 bytes each. Fixed ABI (`PTRACE_GETREGS`): the same in all kernels.
pub const PT_REGS: [Register; 21] = [
    Register::R15,
    Register::R14,
    Register::R13,
    Register::R12,
    Register::Rbp,
    Register::Rbx,
    Register::R11,
    Register::R10,
    Register::R9,
    Register::R8,
    Register::Rax,
    Register::Rcx,
    Register::Rdx,
    Register::Rsi,
    Register::Rdi,
    Register::OrigRax,
    Register::Rip,
    Register::Cs,
    Register::Rflags,
    Register::Rsp,
    Register::Ss,
];

/// A set of registers. A register that its source does not tell is `None`, not zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    values: [Option<u64>; COUNT],
}

impl Registers {
    /// The value of a register, where it is known.
    #[must_use]
    pub fn get(&self, register: Register) -> Option<u64> {
        self.values.get(register as usize).copied().flatten()
    }

    /// Sets or forgets a register.
    pub fn set(&mut self, register: Register, value: impl Into<Option<u64>>) {
        if let Some(slot) = self.values.get_mut(register as usize) {
            *slot = value.into();
        }
    }

    /// Builder form of [`Registers::set`].
    #[must_use]
    pub fn with(mut self, register: Register, value: u64) -> Self {
        self.set(register, value);
        self
    }

    /// Instruction pointer.
    #[must_use]
    pub fn ip(&self) -> Option<VirtAddr> {
        self.get(Register::Rip).map(VirtAddr)
    }

    /// Stack pointer.
    #[must_use]
    pub fn sp(&self) -> Option<VirtAddr> {
        self.get(Register::Rsp).map(VirtAddr)
    }

    /// Frame pointer.
    #[must_use]
    pub fn bp(&self) -> Option<VirtAddr> {
        self.get(Register::Rbp).map(VirtAddr)
    }

    /// Whether the processor ran user code: privilege level 3 in `cs`. `false` where `cs` is unknown.
    #[must_use]
    pub fn in_user_mode(&self) -> bool {
        self.get(Register::Cs).is_some_and(|cs| cs & 3 == 3)
    }

    /// The known registers, in the order of [`Register::ALL`].
    pub fn known(&self) -> impl Iterator<Item = (Register, u64)> + '_ {
        Register::ALL.iter().filter_map(|&register| Some((register, self.get(register)?)))
    }
}

impl Serialize for Registers {
    /// A map of the known registers; values are hexadecimal strings.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (register, value) in self.known() {
            map.serialize_entry(register.name(), &format_args!("{value:#x}"))?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_register_is_not_zero() {
        let registers = Registers::default().with(Register::Rip, 0x10).with(Register::Cs, 0x33);
        assert_eq!(registers.ip(), Some(VirtAddr(0x10)));
        assert_eq!(registers.sp(), None);
        assert!(registers.in_user_mode());
        assert_eq!(serde_json::to_string(&registers).unwrap(), r#"{"rip":"0x10","cs":"0x33"}"#);
    }
}
