//! Where registers lie in memory (`arch/x86/include/asm/ptrace.h`, `arch/x86/include/asm/switch_to.h`).

use kdive_base::Endian;
use kdive_evidence::{PT_REGS, Register, Registers};

/// Bytes of `struct pt_regs`.
pub const PT_REGS_BYTES: usize = PT_REGS.len() * 8;

/// Offset in `pt_regs` of the part that the processor pushes itself: `ip`, `cs`, `flags`, `sp`, `ss`.
pub const IRET_FRAME_OFFSET: usize = 16 * 8;
/// Bytes of that part.
pub const IRET_FRAME_BYTES: usize = 5 * 8;

/// Registers out of the bytes of a whole `pt_regs`.
#[must_use]
pub fn from_pt_regs(bytes: &[u8]) -> Option<Registers> {
    from_words(bytes, &PT_REGS)
}

/// Registers out of the five words that the processor pushes on an interrupt.
#[must_use]
pub fn from_iret_frame(bytes: &[u8]) -> Option<Registers> {
    from_words(bytes, PT_REGS.get(16..)?)
}

fn from_words(bytes: &[u8], order: &[Register]) -> Option<Registers> {
    let mut registers = Registers::default();
    for (index, &register) in order.iter().enumerate() {
        registers.set(register, Endian::Little.u64(bytes, index.checked_mul(8)?)?);
    }
    Some(registers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_come_from_their_words() {
        let bytes: Vec<u8> = (0..21_u64).flat_map(|word| (word + 0x100).to_le_bytes()).collect();
        let registers = from_pt_regs(&bytes).unwrap();
        assert_eq!(registers.get(Register::R15), Some(0x100));
        assert_eq!(registers.get(Register::Rip), Some(0x110));
        assert_eq!(registers.get(Register::Ss), Some(0x114));
        assert_eq!(from_iret_frame(&bytes[IRET_FRAME_OFFSET..]).unwrap().get(Register::Rsp), Some(0x113));
        assert!(from_pt_regs(&bytes[..100]).is_none());
    }
}
