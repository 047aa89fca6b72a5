//! Registers in the group `cpu`: each a tag with the processor's number as its first index. Control registers have their own
//! number as the second.

use kdive_base::PhysAddr;
use kdive_evidence::Register;

use super::tags::Tag;
use crate::notes::{ControlRegisters, CpuNote};

/// More than VMware gives a machine.
const MOST_CPUS: usize = 8192;
const CR64: &[u8] = b"CR64";

static NAMES: &[(&[u8], Register)] = &[
    (b"rax", Register::Rax),
    (b"rbx", Register::Rbx),
    (b"rcx", Register::Rcx),
    (b"rdx", Register::Rdx),
    (b"rsi", Register::Rsi),
    (b"rdi", Register::Rdi),
    (b"rbp", Register::Rbp),
    (b"rsp", Register::Rsp),
    (b"r8", Register::R8),
    (b"r9", Register::R9),
    (b"r10", Register::R10),
    (b"r11", Register::R11),
    (b"r12", Register::R12),
    (b"r13", Register::R13),
    (b"r14", Register::R14),
    (b"r15", Register::R15),
    (b"rip", Register::Rip),
    (b"rflags", Register::Rflags),
];

/// The processors, as far as their tags came.
#[derive(Default)]
pub(super) struct Cpus {
    cpus: Vec<Cpu>,
}

#[derive(Clone, Default)]
struct Cpu {
    note: CpuNote,
    control: [Option<u64>; 5],
}

impl Cpus {
    pub(super) fn take(&mut self, tag: &Tag) {
        let [cpu, rest @ ..] = tag.indices.as_slice() else { return };
        let cpu = *cpu as usize;
        let register = NAMES.iter().find(|(name, _)| *name == tag.name).map(|(_, register)| *register);
        if cpu >= MOST_CPUS || (register.is_none() && tag.name != CR64) {
            return;
        }
        let Some(value) = tag.number() else { return };
        if self.cpus.len() <= cpu {
            self.cpus.resize(cpu.saturating_add(1), Cpu::default());
        }
        let Some(slot) = self.cpus.get_mut(cpu) else { return };
        match (register, rest) {
            (Some(register), _) => slot.note.registers.set(register, value),
            (None, [number, ..]) => {
                if let Some(control) = slot.control.get_mut(*number as usize) {
                    *control = Some(value);
                }
            }
            _ => {}
        }
    }

    pub(super) fn notes(self) -> Vec<CpuNote> {
        let notes = self.cpus.into_iter().enumerate().map(|(number, cpu)| {
            let control = match cpu.control {
                [Some(cr0), _, cr2, Some(cr3), Some(cr4)] => Some(ControlRegisters {
                    cr0,
                    cr2: cr2.unwrap_or(0),
                    cr3: PhysAddr(cr3),
                    cr4,
                    gs_base: cpu.note.registers.get(Register::GsBase).unwrap_or(0),
                    kernel_gs_base: None,
                }),
                _ => None,
            };
            CpuNote { cpu: number, control, ..cpu.note }
        });
        notes.collect()
    }
}
