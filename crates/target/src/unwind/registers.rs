//! Which registers each processor had when the machine stopped.

use kdive_arch::x86_64::pt_regs::{self, PT_REGS_BYTES};
use kdive_base::VirtAddr;
use kdive_dump::CpuNote;
use kdive_evidence::{Register, Registers};
use serde::Serialize;

use crate::kernel::Kernel;
use crate::lacks::{Field, Lacks};

/// Where a processor's registers were found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RegistersSource {
    /// A note that the hypervisor wrote: the registers at the moment of the dump.
    Hypervisor,
    /// A note that the dying kernel wrote: the registers of the code that it interrupted to die.
    Kernel,
    /// The same note, found in the kernel's memory (`crash_notes`).
    Memory,
}

/// The registers of one processor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CpuRegisters {
    /// The processor.
    pub cpu: u32,
    /// Its registers.
    pub registers: Registers,
    /// Where they were found.
    pub source: RegistersSource,
}

/// All that were found, by processor.
pub(crate) fn find(kernel: &Kernel) -> Vec<CpuRegisters> {
    let cpus: Vec<u32> = match kernel.cpus() {
        Ok(cpus) => cpus.possible.iter().filter(|&cpu| cpu < cpus.limit).collect(),
        Err(_) => Vec::new(),
    };
    let in_memory: Vec<_> = cpus.iter().map(|&cpu| (cpu, crash_note(kernel, cpu).ok())).collect();
    let mut found: Vec<CpuRegisters> = Vec::new();
    for note in &kernel.notes().cpus {
        let source =
            if note.control.is_some() { RegistersSource::Hypervisor } else { RegistersSource::Kernel };
        let cpu = cpu_of(kernel, note, &cpus, &in_memory);
        if note.registers.ip().is_some() && !found.iter().any(|of| of.cpu == cpu) {
            let mut registers = note.registers.clone();
            if source == RegistersSource::Hypervisor {
                // No entry path saved these: the field that the note has for it means nothing.
                registers.set(Register::OrigRax, None);
            }
            found.push(CpuRegisters { cpu, registers, source });
        }
    }
    for (cpu, registers) in in_memory {
        if let Some(registers) = registers
            && !found.iter().any(|of| of.cpu == cpu)
        {
            found.push(CpuRegisters { cpu, registers, source: RegistersSource::Memory });
        }
    }
    found.sort_by_key(|of| of.cpu);
    found
}

/// The processor that a note is of. Notes are in the order of processors, but those that were offline left none.
fn cpu_of(kernel: &Kernel, note: &CpuNote, cpus: &[u32], in_memory: &[(u32, Option<Registers>)]) -> u32 {
    let by_base = || {
        let control = note.control.as_ref()?;
        // In the kernel `gs` is the base of the processor's per-CPU area; in user space the other base is.
        let bases = [Some(control.gs_base), control.kernel_gs_base];
        let is_base = |cpu: u32| {
            let offset = kernel.cpus().and_then(|all| all.per_cpu(VirtAddr(0), cpu)).ok();
            offset.is_some_and(|offset| bases.contains(&Some(offset.0)))
        };
        cpus.iter().copied().find(|&cpu| is_base(cpu))
    };
    let by_memory = || {
        let same = |kept: &Registers| kept.ip() == note.registers.ip() && kept.sp() == note.registers.sp();
        let found = in_memory.iter().find(|(_, kept)| kept.as_ref().is_some_and(same));
        found.map(|(cpu, _)| *cpu)
    };
    let by_order = || {
        let all = kernel.cpus().ok()?;
        let online = all.online.as_ref().ok()?;
        // The kernel writes one for each processor that was online; a hypervisor for each that there is.
        let listed: Vec<u32> = online.iter().collect();
        let all_online = note.control.is_none() && kernel.notes().cpus.len() == listed.len();
        all_online.then(|| listed.get(note.cpu).copied()).flatten()
    };
    by_base().or_else(by_memory).or_else(by_order).unwrap_or(note.cpu as u32)
}

/// The note that the kernel left of a processor in `crash_notes` (kernel/crash_core.c): an ELF note header, `CORE`, and
/// `struct elf_prstatus` with its registers in the order of `pt_regs`.
fn crash_note(kernel: &Kernel, cpu: u32) -> Field<Registers> {
    const NT_PRSTATUS: u32 = 1;
    const NAME_BYTES: u32 = 5;
    const DESCRIPTOR: u64 = 20;
    const REGISTERS: u64 = 112;
    let memory = kernel.memory();
    let base = memory.pointer(kernel.symbol("crash_notes")?)?;
    let at = kernel.cpus()?.per_cpu(base, cpu)?;
    let (name, kind) = (memory.u32(at)?, memory.u32(at.add(8))?);
    if base.is_null() || (name, kind) != (NAME_BYTES, NT_PRSTATUS) {
        return Err(Lacks::unavailable(format_args!("CPU {cpu} left no note")));
    }
    let raw = memory.bytes(at.add(DESCRIPTOR + REGISTERS), PT_REGS_BYTES)?;
    pt_regs::from_pt_regs(&raw).ok_or_else(|| Lacks::implausible("a register note that is too short"))
}

/// The registers that processors left, by their numbers.
struct SavedRegisters(Vec<CpuRegisters>);

impl Kernel {
    /// The registers of every processor that left some, by number.
    #[must_use]
    pub fn all_cpu_registers(&self) -> &[CpuRegisters] {
        &self.once(|kernel| SavedRegisters(find(kernel))).0
    }

    /// The registers of one processor.
    pub fn cpu_registers(&self, cpu: u32) -> Field<&CpuRegisters> {
        let found = self.all_cpu_registers().iter().find(|of| of.cpu == cpu);
        found.ok_or_else(|| Lacks::unavailable(format_args!("the dump has no registers of CPU {cpu}")))
    }
}
