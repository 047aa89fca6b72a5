//! Processors that call one another: what is asked of them, and who does not answer (kernel/smp.c).

use kdive_arch::x86_64::stacks::Stack;
use kdive_base::VirtAddr;
use kdive_evidence::{Frame, Register};
use kdive_target::{Field, Kernel, Lacks, Load, walk};
use serde::Serialize;

use crate::tasks::{Task, TaskName, Tasks, plain_name};

/// What kind of call it is (`CSD_TYPE_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CallKind {
    /// Nobody waits for it.
    Async,
    /// The caller waits until it was made.
    Sync,
    /// A piece of work for interrupt context (`irq_work`).
    IrqWork,
    /// A task to be woken.
    Wakeup,
}

impl CallKind {
    /// `CSD_FLAG_TYPE_MASK` (include/linux/smp_types.h).
    fn new(flags: u32) -> Self {
        match flags & 0xf0 {
            0x10 => Self::Sync,
            0x20 => Self::IrqWork,
            0x30 => Self::Wakeup,
            _ => Self::Async,
        }
    }

    /// The word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Async => "call",
            Self::Sync => "call with a waiting caller",
            Self::IrqWork => "irq_work",
            Self::Wakeup => "wakeup",
        }
    }
}

/// A call that its processor has not made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PendingCall {
    /// The `call_single_data`, `irq_work` or the `wake_entry` of a task.
    pub call: VirtAddr,
    /// What kind of call it is.
    pub kind: CallKind,
    /// What is to be called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// The processor that asked, where the call lies on its stack or in its own memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_cpu: Option<u32>,
    /// The task that asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<TaskName>,
}

/// One processor.
#[derive(Clone, Debug, Serialize)]
pub struct CpuCalls {
    /// Its number.
    pub cpu: u32,
    /// The task that it ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskName>,
    /// Whether that is its idle task.
    pub idle: bool,
    /// Where it was, before whatever stopped it in the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// Whether interrupts were off there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interrupts_off: Option<bool>,
    /// The function with which it asks others and waits for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits_in: Option<String>,
    /// What was asked of it, the latest first.
    pub pending: Vec<PendingCall>,
    /// Why calls may be lacking.
    #[serde(skip)]
    pub lacks: Vec<Lacks>,
}

impl CpuCalls {
    /// Whether there is anything to say of it.
    #[must_use]
    pub fn is_noteworthy(&self) -> bool {
        !self.pending.is_empty() || self.waits_in.is_some()
    }
}

#[derive(Load)]
#[load(type = "__call_single_data", type = "call_single_data")]
struct RawCall {
    #[load(any("node.u_flags", "flags"))]
    flags: Field<u32>,
    func: Field<VirtAddr>,
}

#[derive(Load)]
#[load(type = "irq_work")]
struct IrqWork {
    func: Field<VirtAddr>,
}

#[derive(Load)]
#[load(type = "call_function_data")]
struct CallFunctionData {
    /// A per-CPU pointer: one call for each processor that is asked.
    #[load(any("csd", "pcpu"))]
    calls: Field<VirtAddr>,
}

/// Functions that ask other processors and wait for them.
const WAITERS: [&str; 6] = [
    "smp_call_function_single",
    "smp_call_function_many_cond",
    "smp_call_function_many",
    "generic_exec_single",
    "smp_call_function_single_async",
    "csd_lock_wait",
];
/// Functions in which a processor of a dying machine ends: what counts is what it did before.
const DYING: [&str; 11] = [
    "panic",
    "vpanic",
    "nmi_panic",
    "panic_smp_self_stop",
    "nmi_panic_self_stop",
    "stop_this_cpu",
    "crash_nmi_callback",
    "native_stop_other_cpus",
    "machine_kexec",
    "__crash_kexec",
    "crash_kexec",
];
/// `X86_EFLAGS_IF`.
const INTERRUPTS_ON: u64 = 1 << 9;
/// Longest queue of calls that is read.
const MOST_CALLS: usize = 1 << 16;

/// What was asked of each processor.
#[must_use]
pub fn calls(kernel: &Kernel) -> Vec<CpuCalls> {
    let tasks = Tasks::find(kernel);
    let senders = Senders::new(kernel, &tasks);
    tasks.processors().iter().map(|of| cpu(kernel, &tasks, &senders, of.cpu)).collect()
}

fn cpu(kernel: &Kernel, tasks: &Tasks, senders: &Senders<'_>, cpu: u32) -> CpuCalls {
    let task = tasks.on_cpu(cpu);
    let frames = task.and_then(|task| kernel.unwind_task(task.at).ok()).map(|frames| frames.frames);
    let frames = frames.unwrap_or_default();
    let name = |frame: &Frame| {
        let at = if frame.interrupted { frame.ip } else { frame.ip.sub(1) };
        kernel.place(at).map(|place| plain_name(place.symbol.name))
    };
    let dying = frames.iter().rposition(|frame| name(frame).is_some_and(|name| DYING.contains(&name)));
    let before = frames.get(dying.map_or(0, |index| index.saturating_add(1))..).unwrap_or_default();
    let stood = before.iter().find(|frame| frame.interrupted);
    let flags = stood.and_then(|frame| frame.registers.get(Register::Rflags));
    let waits = before.iter().filter_map(name).find(|name| WAITERS.contains(name));
    let mut lacks = Vec::new();
    let pending = pending(kernel, senders, cpu, &mut lacks).unwrap_or_else(|why| {
        lacks.push(why);
        Vec::new()
    });
    CpuCalls {
        cpu,
        task: task.map(TaskName::of),
        idle: task.is_some_and(|task| tasks.is_idle(task)),
        function: stood.and_then(name).map(str::to_owned),
        interrupts_off: flags.map(|flags| flags & INTERRUPTS_ON == 0),
        waits_in: waits.map(str::to_owned),
        pending,
        lacks,
    }
}

/// `call_single_queue`, a list that grows at its front.
fn pending(
    kernel: &Kernel,
    senders: &Senders<'_>,
    cpu: u32,
    lacks: &mut Vec<Lacks>,
) -> Field<Vec<PendingCall>> {
    let first = kernel.memory().pointer(kernel.per_cpu("call_single_queue", cpu)?)?;
    let link = kernel.member("__call_single_data", &["node.llist", "llist"])?.offset;
    let loader = kernel.loader::<RawCall>();
    let mut found = Vec::new();
    for item in walk::null_terminated(kernel.memory(), first, 0).take(MOST_CALLS) {
        let at = match item {
            Ok(at) => at.sub(link),
            Err(broken) => {
                lacks.push(broken.into());
                break;
            }
        };
        let raw = loader.load(at);
        let kind = CallKind::new(raw.flags?);
        let function = match kind {
            CallKind::Wakeup => None,
            // Its node comes first in it, as in a call.
            CallKind::IrqWork => kernel.load::<IrqWork>(at).func.ok(),
            CallKind::Async | CallKind::Sync => raw.func.ok(),
        };
        let function =
            function.and_then(|at| kernel.place(at)).map(|place| plain_name(place.symbol.name).to_owned());
        let (from_cpu, from) = senders.of(kernel, at, cpu);
        found.push(PendingCall { call: at, kind, function, from_cpu, from });
    }
    Ok(found)
}

/// Whose memory a call can lie in.
struct Senders<'t> {
    running: Vec<(u32, &'t Task, Option<Stack>)>,
    /// Calls that a processor sends to several.
    many: Vec<(u32, VirtAddr)>,
}

impl<'t> Senders<'t> {
    fn new(kernel: &Kernel, tasks: &'t Tasks) -> Self {
        let running = tasks.processors().iter().filter_map(|of| {
            let task = tasks.on_cpu(of.cpu)?;
            let stack = task.stack.clone().ok().and_then(|low| kernel.task_stack(low).ok());
            Some((of.cpu, task, stack))
        });
        let many = tasks.processors().iter().filter_map(|of| {
            let data: CallFunctionData = kernel.load(kernel.per_cpu("cfd_data", of.cpu).ok()?);
            Some((of.cpu, data.calls.ok()?))
        });
        Self { running: running.collect(), many: many.collect() }
    }

    /// The processor and the task that asked.
    fn of(&self, kernel: &Kernel, call: VirtAddr, target: u32) -> (Option<u32>, Option<TaskName>) {
        let on_stack =
            self.running.iter().find(|(.., stack)| stack.is_some_and(|stack| stack.contains(call)));
        if let Some((cpu, task, _)) = on_stack {
            return (Some(*cpu), Some(TaskName::of(task)));
        }
        let is_it = |at: Field<VirtAddr>| at.is_ok_and(|at| at == call);
        let for_target = |calls: VirtAddr| kernel.cpus().and_then(|cpus| cpus.per_cpu(calls, target));
        let many = self.many.iter().find(|(_, calls)| is_it(for_target(*calls))).map(|(cpu, _)| *cpu);
        let single = || {
            let cpus = self.running.iter().map(|(cpu, ..)| *cpu);
            cpus.into_iter().find(|cpu| is_it(kernel.per_cpu("csd_data", *cpu)))
        };
        let cpu = many.or_else(single);
        let task = cpu.and_then(|cpu| self.running.iter().find(|(of, ..)| *of == cpu));
        (cpu, task.map(|(_, task, _)| TaskName::of(task)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_in_the_second_digit_of_the_flags() {
        assert_eq!(CallKind::new(0x01), CallKind::Async);
        assert_eq!(CallKind::new(0x11), CallKind::Sync);
        assert_eq!(CallKind::new(0x23), CallKind::IrqWork);
        assert_eq!(CallKind::new(0x30), CallKind::Wakeup);
    }
}
