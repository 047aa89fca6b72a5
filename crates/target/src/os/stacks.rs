//! The kernel's stacks: each task's, and those of each processor for interrupts, exceptions and entries.

use kdive_arch::x86_64::stacks::Stack;
use kdive_base::{PAGE_SIZE, VirtAddr};
use kdive_evidence::StackKind;

use crate::kernel::Kernel;
use crate::lacks::{Field, Lacks};

/// Kernel stacks are 4 to 64 KiB (`THREAD_SIZE` with KASAN, `IRQ_STACK_SIZE`).
const STACK_BYTES: std::ops::RangeInclusive<u64> = PAGE_SIZE..=64 * 1024;

/// A stack that belongs to a processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuStack {
    /// The processor.
    pub cpu: u32,
    /// Its bounds and what it is for.
    pub stack: Stack,
}

/// The stacks of the processors, by address.
#[derive(Debug, Default)]
pub struct CpuStacks {
    stacks: Vec<CpuStack>,
    /// Why some kinds are lacking; empty where all were found.
    pub incomplete: Vec<Lacks>,
}

impl CpuStacks {
    pub(super) fn find(kernel: &Kernel) -> Self {
        let mut found = Self::default();
        let cpus = match kernel.cpus() {
            Ok(cpus) => cpus.possible.iter().filter(|&cpu| cpu < cpus.limit).collect(),
            Err(lacks) => {
                found.incomplete.push(lacks);
                Vec::new()
            }
        };
        for finder in [irq_stacks, exception_stacks, entry_stacks] {
            if let Err(lacks) = finder(kernel, &cpus, &mut found.stacks) {
                found.incomplete.push(lacks);
            }
        }
        found.stacks.retain(|of| of.stack.low < of.stack.high);
        found.stacks.sort_by_key(|of| of.stack.low);
        found
    }

    /// The stack that an address lies on. The end of a stack counts as inside: an empty stack's pointer stands there.
    #[must_use]
    pub fn at(&self, address: VirtAddr) -> Option<&CpuStack> {
        // Two stacks can touch: the one that ends at the address comes second.
        let end = self.stacks.partition_point(|of| of.stack.low <= address);
        let below = self.stacks.get(..end)?.iter().rev();
        below.take(2).find(|of| of.stack.contains(address))
    }

    /// The stacks of one processor, by address.
    pub fn of(&self, cpu: u32) -> impl Iterator<Item = &CpuStack> {
        self.stacks.iter().filter(move |of| of.cpu == cpu)
    }

    /// All of them, by address.
    pub fn iter(&self) -> impl Iterator<Item = &CpuStack> {
        self.stacks.iter()
    }
}

/// `hardirq_stack_ptr` (arch/x86/kernel/irq_64.c): a per-CPU variable, or between 6.2 and 6.14 a member of `pcpu_hot`. It
/// points at the top, or (5.12) at the last word below the top.
fn irq_stacks(kernel: &Kernel, cpus: &[u32], into: &mut Vec<CpuStack>) -> Field<()> {
    let variable = match kernel.symbol("hardirq_stack_ptr") {
        Ok(at) => at,
        Err(lacks) => kernel
            .symbol("pcpu_hot")
            .and_then(|at| Ok(at.add(kernel.offset_of("pcpu_hot", "hardirq_stack_ptr")?)))
            .map_err(|_| lacks)?,
    };
    // IRQ_STACK_SIZE is the size of this type; a kernel without it has had 16 KiB since 2.6.
    let bytes = plausible(kernel.size_of("irq_stack")).unwrap_or(16 << 10);
    for &cpu in cpus {
        let top = kernel.memory().u64(kernel.cpus()?.per_cpu(variable, cpu)?)?;
        if top != 0 {
            let high = VirtAddr(top.wrapping_add(PAGE_SIZE - 1) & !(PAGE_SIZE - 1));
            let stack = Stack { kind: StackKind::Irq, low: high.sub(bytes), high };
            into.push(CpuStack { cpu, stack });
        }
    }
    Ok(())
}

/// `struct cea_exception_stacks` (arch/x86/include/asm/cpu_entry_area.h): the stacks lie in it one after another, each
/// behind a guard page, under these names. A kernel that has no such member has no such stack.
const EXCEPTION_STACKS: [(&str, StackKind); 6] = [
    ("DF_stack", StackKind::DoubleFault),
    ("NMI_stack", StackKind::Nmi),
    ("DB_stack", StackKind::Debug),
    ("MCE_stack", StackKind::MachineCheck),
    ("VC_stack", StackKind::VmmCommunication),
    ("VC2_stack", StackKind::VmmCommunication),
];

fn exception_stacks(kernel: &Kernel, cpus: &[u32], into: &mut Vec<CpuStack>) -> Field<()> {
    let pointer = kernel.symbol("cea_exception_stacks")?;
    kernel.record("cea_exception_stacks")?;
    let members: Vec<_> = EXCEPTION_STACKS
        .iter()
        .filter_map(|(name, kind)| Some((kernel.member("cea_exception_stacks", &[name]).ok()?, *kind)))
        .filter(|(member, _)| STACK_BYTES.contains(&member.bytes))
        .collect();
    for &cpu in cpus {
        let base = kernel.memory().pointer(kernel.cpus()?.per_cpu(pointer, cpu)?)?;
        // Null until the processor is brought up.
        for (member, kind) in members.iter().filter(|_| !base.is_null()) {
            let low = base.add(member.offset);
            into.push(CpuStack { cpu, stack: Stack { kind: *kind, low, high: low.add(member.bytes) } });
        }
    }
    Ok(())
}

/// The stack that entries from user space start on: its top is `sp0` of the processor's task state segment.
fn entry_stacks(kernel: &Kernel, cpus: &[u32], into: &mut Vec<CpuStack>) -> Field<()> {
    let segment = kernel.symbol("cpu_tss_rw")?;
    let sp0 = kernel.offset_of("tss_struct", "x86_tss.sp0")?;
    let bytes = kernel.size_of("entry_stack")?;
    for &cpu in cpus {
        let high = kernel.memory().pointer(kernel.cpus()?.per_cpu(segment, cpu)?.add(sp0))?;
        if !high.is_null() && bytes <= PAGE_SIZE {
            into.push(CpuStack { cpu, stack: Stack { kind: StackKind::Entry, low: high.sub(bytes), high } });
        }
    }
    Ok(())
}

fn plausible(bytes: Field<u64>) -> Option<u64> {
    bytes.ok().filter(|bytes| STACK_BYTES.contains(bytes) && bytes.is_power_of_two())
}

/// `THREAD_SIZE`.
struct TaskStackBytes(Field<u64>);

impl TaskStackBytes {
    fn find(kernel: &Kernel) -> Self {
        Self(task_stack_bytes(kernel))
    }
}

/// From what the kernel itself says of it: the union that holds a stack, or the room that the linker script leaves for
/// the first task's stack.
fn task_stack_bytes(kernel: &Kernel) -> Field<u64> {
    if let Some(bytes) = plausible(kernel.size_of("thread_union")) {
        return Ok(bytes);
    }
    let marks = [
        ("__start_init_stack", "__end_init_stack"),
        ("__start_init_task", "__end_init_task"),
        ("init_thread_union", "__end_init_task"),
        ("init_stack", "__end_init_task"),
    ];
    for (start, end) in marks {
        if let (Ok(start), Ok(end)) = (kernel.symbol(start), kernel.symbol(end))
            && let Some(bytes) = plausible(Ok(end.since(start)))
        {
            return Ok(bytes);
        }
    }
    Err(Lacks::unavailable(
        "the size of task stacks: neither union thread_union nor init_stack's bounds tell it",
    ))
}

impl Kernel {
    /// The stacks of the processors: interrupts, exceptions, entry.
    #[must_use]
    pub fn cpu_stacks(&self) -> &CpuStacks {
        self.once(CpuStacks::find)
    }

    /// Bytes of a task's kernel stack (`THREAD_SIZE`).
    pub fn task_stack_bytes(&self) -> Field<u64> {
        self.once(TaskStackBytes::find).0.clone()
    }

    /// The stack that begins at `low`, which is `task_struct.stack`.
    pub fn task_stack(&self, low: VirtAddr) -> Field<Stack> {
        Ok(Stack { kind: StackKind::Task, low, high: low.add(self.task_stack_bytes()?) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn touching_stacks_are_told_apart() {
        let stack = |low, high| CpuStack {
            cpu: 0,
            stack: Stack { kind: StackKind::Nmi, low: VirtAddr(low), high: VirtAddr(high) },
        };
        let stacks =
            CpuStacks { stacks: vec![stack(0x1000, 0x2000), stack(0x2000, 0x3000)], incomplete: Vec::new() };
        let low = |address| stacks.at(VirtAddr(address)).map(|of| of.stack.low.0);
        assert_eq!(low(0xfff), None);
        assert_eq!(low(0x1ff8), Some(0x1000));
        assert_eq!(low(0x2000), Some(0x2000));
        assert_eq!(low(0x3000), Some(0x2000), "the end counts as inside");
        assert_eq!(low(0x3008), None);
    }
}
