//! Who panicked.

use kdive_base::VirtAddr;
use kdive_target::{Field, Kernel, Lacks};
use serde::Serialize;

use super::list::Tasks;
use super::task::Task;

/// How the panic task was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PanicHow {
    /// The kernel's `panic_cpu` names the processor (4.4).
    PanicCpu,
    /// The kernel's `crashing_cpu` names the processor that left for the capture kernel.
    CrashingCpu,
    /// Its stack holds a return into the functions that end in a panic.
    Stack,
}

/// The task that brought the kernel down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PanicTask {
    /// Its `task_struct`.
    pub task: VirtAddr,
    /// The processor that it ran on.
    pub cpu: u32,
    /// How it was told.
    pub how: PanicHow,
}

impl PanicTask {
    pub(super) fn find(kernel: &Kernel, tasks: &Tasks) -> Field<Self> {
        for (symbol, how) in [("panic_cpu", PanicHow::PanicCpu), ("crashing_cpu", PanicHow::CrashingCpu)] {
            let value = kernel.symbol(symbol).and_then(|at| Ok(kernel.memory().u32(at)?));
            // -1: nobody has panicked (PANIC_CPU_INVALID).
            if let Ok(cpu) = value
                && let Some(task) = tasks.on_cpu(cpu)
            {
                return Ok(Self { task: task.at, cpu, how });
            }
        }
        let running = tasks.processors().iter().filter_map(|of| Some((of.cpu, tasks.on_cpu(of.cpu)?)));
        running
            .filter(|(_, task)| stack_panics(kernel, task))
            .map(|(cpu, task)| Self { task: task.at, cpu, how: PanicHow::Stack })
            .next()
            .ok_or_else(|| nobody(tasks))
    }
}

/// Why no task panicked: nothing is known of the processors, or none of them was in a panic.
fn nobody(tasks: &Tasks) -> Lacks {
    let unknown = tasks.processors().iter().find_map(|processor| processor.current.clone().err());
    unknown.unwrap_or_else(|| match tasks.processors() {
        [] => Lacks::unavailable("what the processors ran is not known"),
        _ => Lacks::unavailable("no processor was in a panic"),
    })
}

/// Functions that only a dying kernel calls.
const FATAL: [&str; 8] = [
    "panic",
    "oops_end",
    "die",
    "__die",
    "crash_kexec",
    "__crash_kexec",
    "sysrq_handle_crash",
    "die_kernel_fault",
];

fn stack_panics(kernel: &Kernel, task: &Task) -> bool {
    let (Ok(stack), Ok(bytes)) = (&task.stack, kernel.task_stack_bytes()) else { return false };
    let mut words = vec![0; bytes as usize];
    let (count, _) = kernel.memory().read(*stack, &mut words);
    words.truncate(count);
    let fatal: Vec<VirtAddr> = FATAL.iter().filter_map(|name| kernel.symbol(name).ok()).collect();
    words.chunks_exact(8).filter_map(|word| word.try_into().ok().map(u64::from_le_bytes)).any(|word| {
        // Cheap first: the functions are a few KiB long at most.
        let near = fatal.iter().any(|start| VirtAddr(word).since(*start) < 0x1000);
        near && kernel.place(VirtAddr(word)).is_some_and(|place| FATAL.contains(&place.symbol.name))
    })
}
