//! What an instruction does to memory and to registers.

use iced_x86::{Decoder, DecoderOptions, InstructionInfoFactory, OpAccess, OpKind};
use kdive_base::VirtAddr;
use kdive_evidence::{Register, Registers};

use super::Width;

/// What an instruction does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Memory that it reads or writes: what its operands name first, then the stack of a push, pop or call.
    pub memory: Vec<MemoryOperand>,
    /// Registers that it sets, their whole 64 bits meant where it sets a part.
    pub written: Vec<Register>,
    /// It only copies or loads: what it sets is what it read.
    pub moves: bool,
}

/// An operand in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryOperand {
    /// The register that the address begins with.
    pub base: Option<Register>,
    /// The register that is multiplied and added.
    pub index: Option<Register>,
    /// What the index is multiplied with.
    pub scale: u32,
    /// What is added; with neither base nor index the address itself.
    pub displacement: u64,
    /// `fs` or `gs`: the address is relative to its base.
    pub segment: Option<Register>,
    /// Bytes.
    pub size: u32,
    /// Whether it is written.
    pub writes: bool,
    /// Whether it is read.
    pub reads: bool,
}

impl MemoryOperand {
    /// The address, where the registers that it needs are known.
    #[must_use]
    pub fn address(&self, registers: &Registers, width: Width) -> Option<VirtAddr> {
        let value = |register: Option<Register>| match register {
            Some(register) => registers.get(register),
            None => Some(0),
        };
        let base = match self.segment {
            Some(Register::Fs) => registers.get(Register::FsBase)?,
            Some(Register::Gs) => registers.get(Register::GsBase)?,
            _ => 0,
        };
        let scaled = value(self.index)?.wrapping_mul(u64::from(self.scale));
        let address =
            base.wrapping_add(value(self.base)?).wrapping_add(scaled).wrapping_add(self.displacement);
        Some(VirtAddr(match width {
            Width::Bits64 => address,
            Width::Bits32 => address & u64::from(u32::MAX),
        }))
    }
}

impl Effects {
    /// What the instruction at the start of `bytes` does; `None` when they are none.
    #[must_use]
    pub fn of(bytes: &[u8], at: VirtAddr, width: Width) -> Option<Self> {
        let mut decoder = Decoder::with_ip(width.bits(), bytes, at.0, DecoderOptions::NONE);
        let decoded = decoder.decode();
        if decoded.is_invalid() {
            return None;
        }
        let mut factory = InstructionInfoFactory::new();
        let info = factory.info(&decoded);
        let explicit = (0..decoded.op_count()).any(|operand| decoded.op_kind(operand) == OpKind::Memory);
        let (base, index) = (decoded.memory_base(), decoded.memory_index());
        let mut memory: Vec<_> = info.used_memory().iter().collect();
        // Named operands first.
        memory.sort_by_key(|used| !(explicit && used.base() == base && used.index() == index));
        let memory = memory
            .into_iter()
            .filter(|used| used.access() != OpAccess::NoMemAccess)
            .map(|used| MemoryOperand {
                base: register(used.base()),
                index: register(used.index()),
                scale: used.scale(),
                displacement: used.displacement(),
                segment: register(used.segment())
                    .filter(|segment| matches!(segment, Register::Fs | Register::Gs)),
                size: u32::try_from(used.memory_size().size()).unwrap_or_default(),
                writes: writes(used.access()),
                reads: reads(used.access()),
            })
            .collect();
        let written = info.used_registers().iter().filter(|used| writes(used.access()));
        let mut written: Vec<_> = written.filter_map(|used| register(used.register())).collect();
        written.dedup();
        let moves = matches!(
            decoded.mnemonic(),
            iced_x86::Mnemonic::Mov
                | iced_x86::Mnemonic::Movzx
                | iced_x86::Mnemonic::Movsx
                | iced_x86::Mnemonic::Movsxd
        );
        Some(Self { memory, written, moves })
    }
}

fn writes(access: OpAccess) -> bool {
    matches!(access, OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite)
}

fn reads(access: OpAccess) -> bool {
    matches!(access, OpAccess::Read | OpAccess::CondRead | OpAccess::ReadWrite | OpAccess::ReadCondWrite)
}

/// The register by the names of this project; parts of a register are the whole one.
fn register(register: iced_x86::Register) -> Option<Register> {
    use iced_x86::Register as Iced;
    Some(match register.full_register() {
        Iced::RAX => Register::Rax,
        Iced::RBX => Register::Rbx,
        Iced::RCX => Register::Rcx,
        Iced::RDX => Register::Rdx,
        Iced::RSI => Register::Rsi,
        Iced::RDI => Register::Rdi,
        Iced::RBP => Register::Rbp,
        Iced::RSP => Register::Rsp,
        Iced::R8 => Register::R8,
        Iced::R9 => Register::R9,
        Iced::R10 => Register::R10,
        Iced::R11 => Register::R11,
        Iced::R12 => Register::R12,
        Iced::R13 => Register::R13,
        Iced::R14 => Register::R14,
        Iced::R15 => Register::R15,
        Iced::FS => Register::Fs,
        Iced::GS => Register::Gs,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_of_32_bits_names_its_operand() {
        // mov %edx,0x4(%eax)
        let effects = Effects::of(&[0x89, 0x50, 0x04], VirtAddr(0xc027_e357), Width::Bits32).unwrap();
        let [operand] = &*effects.memory else { panic!("{effects:?}") };
        assert_eq!(
            (operand.base, operand.displacement, operand.size, operand.writes, operand.reads),
            (Some(Register::Rax), 4, 4, true, false)
        );
        let registers = Registers::default().with(Register::Rax, 0x10_0100);
        assert_eq!(operand.address(&registers, Width::Bits32), Some(VirtAddr(0x10_0104)));
    }

    #[test]
    fn a_load_sets_its_register() {
        // mov 0x10(%rdi,%rcx,8),%rax
        let effects = Effects::of(&[0x48, 0x8b, 0x44, 0xcf, 0x10], VirtAddr(0), Width::Bits64).unwrap();
        assert_eq!((effects.written.as_slice(), effects.moves), (&[Register::Rax][..], true));
        let [operand] = &*effects.memory else { panic!("{effects:?}") };
        assert_eq!(
            (operand.index, operand.scale, operand.size, operand.reads),
            (Some(Register::Rcx), 8, 8, true)
        );
    }

    #[test]
    fn lea_touches_no_memory_and_push_touches_the_stack() {
        assert!(
            Effects::of(&[0x48, 0x8d, 0x47, 0x08], VirtAddr(0), Width::Bits64).unwrap().memory.is_empty()
        );
        let push = Effects::of(&[0xff, 0x30], VirtAddr(0), Width::Bits64).unwrap();
        assert_eq!(
            push.memory.iter().map(|operand| operand.base).collect::<Vec<_>>(),
            [Some(Register::Rax), Some(Register::Rsp)]
        );
        assert_eq!(Effects::of(&[0x06], VirtAddr(0), Width::Bits64), None);
    }

    #[test]
    fn a_subtracted_displacement_wraps() {
        // mov -0x18(%rax),%rcx
        let effects = Effects::of(&[0x48, 0x8b, 0x48, 0xe8], VirtAddr(0), Width::Bits64).unwrap();
        let registers = Registers::default().with(Register::Rax, 0x18);
        assert_eq!(effects.memory[0].address(&registers, Width::Bits64), Some(VirtAddr(0)));
    }
}
