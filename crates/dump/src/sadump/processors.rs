//! The processors, as system management mode saved them: behind u32 bytes of a state and 16 bytes of each one's APIC, the
//! states, each a save map of Intel 64 (Intel's manual, volume 3, "SMRAM state save map").

use kdive_base::{Endian, PhysAddr, ReadAt};
use kdive_evidence::Register;

use super::header::Dump;
use crate::notes::{ControlRegisters, CpuNote};
use crate::window::read_up_to;

/// Where the map ends: it is described by offsets from the base of system management memory.
const MAP_END: u64 = 0x8000;
const MAP_BYTES: u64 = 1024;
const APIC_BYTES: u64 = 16;
const MOST_CPUS: u32 = 8192;

/// Offsets of 64-bit registers in the map.
static PLACES: &[(Register, u64)] = &[
    (Register::Rflags, 0x7fe8),
    (Register::Rip, 0x7fd8),
    (Register::Rdi, 0x7f94),
    (Register::Rsi, 0x7f8c),
    (Register::Rbp, 0x7f84),
    (Register::Rsp, 0x7f7c),
    (Register::Rbx, 0x7f74),
    (Register::Rdx, 0x7f6c),
    (Register::Rcx, 0x7f64),
    (Register::Rax, 0x7f5c),
    (Register::R8, 0x7f54),
    (Register::R9, 0x7f4c),
    (Register::R10, 0x7f44),
    (Register::R11, 0x7f3c),
    (Register::R12, 0x7f34),
    (Register::R13, 0x7f2c),
    (Register::R14, 0x7f24),
    (Register::R15, 0x7f1c),
];
const CR0: u64 = 0x7ff8;
const CR3: u64 = 0x7ff0;
const CR4: u64 = 0x7e40;

/// The processors; none if what is there cannot be their states.
pub(super) fn read(file: &dyn ReadAt, dump: &Dump) -> Vec<CpuNote> {
    let bytes = dump.ram_at.saturating_sub(dump.processors_at);
    let cpus = u64::from(dump.cpus.min(MOST_CPUS));
    let states = APIC_BYTES.saturating_mul(cpus).saturating_add(4);
    let size = read_up_to(file, dump.processors_at, 4).ok().and_then(|bytes| Endian::Little.u32(&bytes, 0));
    let Some(size) = size.map(u64::from).filter(|size| (MAP_BYTES..=1 << 16).contains(size)) else {
        return Vec::new();
    };
    let held = bytes.saturating_sub(states).checked_div(size).unwrap_or(0).min(cpus);
    let state = |cpu: u64| dump.processors_at.saturating_add(states).saturating_add(cpu.saturating_mul(size));
    let notes = (0..held).map_while(|cpu| {
        let map =
            read_up_to(file, state(cpu).saturating_add(size.saturating_sub(MAP_BYTES)), MAP_BYTES).ok()?;
        note(usize::try_from(cpu).ok()?, &map)
    });
    notes.collect()
}

fn note(cpu: usize, map: &[u8]) -> Option<CpuNote> {
    let place = |offset: u64| usize::try_from(offset.checked_sub(MAP_END.checked_sub(MAP_BYTES)?)?).ok();
    let value = |offset: u64| Endian::Little.u64(map, place(offset)?);
    let mut note = CpuNote { cpu, ..CpuNote::default() };
    for (register, offset) in PLACES {
        note.registers.set(*register, Some(value(*offset)?));
    }
    let cr4 = Endian::Little.u32(map, place(CR4)?)?;
    let (cr0, cr3) = (value(CR0)?, value(CR3)?);
    note.control = (cr3 != 0).then_some(ControlRegisters {
        cr0,
        cr2: 0,
        cr3: PhysAddr(cr3),
        cr4: cr4.into(),
        gs_base: 0,
        kernel_gs_base: None,
    });
    Some(note)
}
