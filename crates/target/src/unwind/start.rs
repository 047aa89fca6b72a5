//! The innermost frame of a task.

use kdive_arch::x86_64::stacks::Stack;
use kdive_base::{PAGE_SIZE, VirtAddr};
use kdive_evidence::{Frame, FrameTrust};

use super::registers::RegistersSource;
use super::step::{State, World};
use super::walk::{First, walk};
use super::world::{CodeRules, KernelWorld};
use super::{End, Frames};
use crate::kernel::Kernel;
use crate::lacks::{Field, Lacks};
use crate::load::Load;

/// Where to begin a walk.
#[derive(Clone, Debug)]
pub struct Start {
    first: First,
    /// The innermost frame came from a note that a dying kernel wrote of the code it had interrupted: what it called
    /// after that lies deeper.
    dying: bool,
    task: Option<VirtAddr>,
    task_stack: Option<Stack>,
    cpu: Option<u32>,
}

impl Start {
    /// The instruction pointer that the walk begins with.
    #[must_use]
    pub fn ip(&self) -> VirtAddr {
        self.first.state.ip()
    }

    /// The stack pointer that the walk begins with.
    #[must_use]
    pub fn sp(&self) -> VirtAddr {
        self.first.slot.unwrap_or(self.first.state.sp())
    }
}

#[derive(Load)]
#[load(type = "task_struct")]
struct TaskFields {
    stack: Field<VirtAddr>,
    #[load(any("thread.sp", "thread.rsp"))]
    sp: Field<VirtAddr>,
}

/// What a switch of tasks leaves on the stack (`arch/x86/include/asm/switch_to.h`).
#[derive(Load)]
#[load(type = "inactive_task_frame")]
struct SwitchFrame {
    bp: Field<VirtAddr>,
    ret_addr: Field<VirtAddr>,
}

/// Functions in which a processor of a dying kernel ends, the innermost first: a walk from a return into one of them
/// that arrives where the processor's note says it was tells what happened in between.
const LAST_FUNCTIONS: [&str; 6] =
    ["machine_kexec", "__crash_kexec", "crash_kexec", "crash_nmi_callback", "stop_this_cpu", "panic"];
/// No function of [`LAST_FUNCTIONS`] is longer, in bytes.
const LONGEST_FUNCTION: u64 = 0x2000;

impl Kernel {
    /// The frames from a start on.
    #[must_use]
    pub fn unwind(&self, start: &Start) -> Frames {
        let world = KernelWorld::new(self, start.task, start.task_stack);
        let frames = walk(&world, start.first.clone());
        if !start.dying {
            return frames;
        }
        let arrives = |deeper: &Frames| join(deeper, &frames);
        let deeper = start.cpu.and_then(|cpu| self.deeper(&world, start, cpu, &arrives));
        deeper.unwrap_or(frames)
    }

    /// The frames of a task: from its processor's registers if it ran, else from where it was switched out.
    pub fn unwind_task(&self, task: VirtAddr) -> Field<Frames> {
        let Some(cpu) = self.cpu_running(task) else {
            return Ok(self.unwind(&self.start_of_sleeping(task)?));
        };
        match self.start_of_running(task, cpu) {
            Ok(start) => Ok(self.unwind(&start)),
            Err(lacks) => self.without_registers(task, cpu).ok_or(lacks),
        }
    }

    /// Where a task stood: the registers of the processor that ran it, or where it was switched out.
    pub fn start_of(&self, task: VirtAddr) -> Field<Start> {
        match self.cpu_running(task) {
            Some(cpu) => self.start_of_running(task, cpu),
            None => self.start_of_sleeping(task),
        }
    }

    /// Whether an address lies in code: of the kernel, of a module, or generated.
    #[must_use]
    pub fn is_code(&self, ip: VirtAddr) -> bool {
        self.code_rules().is_code(ip)
    }

    /// Where a task that does not run was switched out.
    pub fn start_of_sleeping(&self, task: VirtAddr) -> Field<Start> {
        let fields: TaskFields = self.load(task);
        let at = fields.sp?;
        let loader = self.loader::<SwitchFrame>();
        let frame = loader.load(at);
        let ip = frame.ret_addr?;
        let slot = at.add(self.offset_of("inactive_task_frame", "ret_addr")?);
        // A new task was never switched out: it stands at the first instruction of the code that starts it.
        let fresh = ["ret_from_fork_asm", "ret_from_fork"].iter().any(|name| self.symbol(name) == Ok(ip));
        let state = State::new(ip, at.add(loader.size()?), frame.bp.ok(), fresh);
        Ok(Start {
            first: First { state, slot: Some(slot), trust: FrameTrust::Registers },
            dying: false,
            task: Some(task),
            task_stack: self.task_stack(fields.stack?).ok(),
            cpu: None,
        })
    }

    /// The registers of the processor that runs a task.
    pub fn start_of_running(&self, task: VirtAddr, cpu: u32) -> Field<Start> {
        let found = self.cpu_registers(cpu)?;
        let state = State { registers: found.registers.clone(), interrupted: true };
        if found.registers.ip().is_none() || found.registers.sp().is_none() {
            return Err(Lacks::unavailable(format_args!("the note of CPU {cpu} lacks its stack pointer")));
        }
        Ok(Start {
            first: First { state, slot: None, trust: FrameTrust::Registers },
            dying: found.source != RegistersSource::Hypervisor,
            task: Some(task),
            task_stack: self.stack_of(task),
            cpu: Some(cpu),
        })
    }

    /// A place that the user names: `ip` is a return address if a word above `sp` holds it, else where code stood.
    #[must_use]
    pub fn start_at(&self, ip: VirtAddr, sp: VirtAddr, task: Option<VirtAddr>) -> Start {
        let first = match self.memory().pointer(sp) {
            Ok(word) if word == ip => First {
                state: State::new(ip, sp.add(8), None, false),
                slot: Some(sp),
                trust: FrameTrust::Registers,
            },
            _ => First { state: State::new(ip, sp, None, true), slot: None, trust: FrameTrust::Registers },
        };
        Start { first, dying: false, task, task_stack: task.and_then(|task| self.stack_of(task)), cpu: None }
    }

    /// The processor that runs a task, by the processors' run queues.
    #[must_use]
    pub fn cpu_running(&self, task: VirtAddr) -> Option<u32> {
        self.running_tasks().iter().find(|(_, running)| *running == task).map(|(cpu, _)| *cpu)
    }

    /// Each processor and the task that it runs.
    #[must_use]
    pub fn running_tasks(&self) -> &[(u32, VirtAddr)] {
        &self.once(|kernel| Running(running(kernel).unwrap_or_default())).0
    }

    pub(crate) fn code_rules(&self) -> &CodeRules {
        self.once(CodeRules::find)
    }

    fn stack_of(&self, task: VirtAddr) -> Option<Stack> {
        let fields: TaskFields = self.load(task);
        self.task_stack(fields.stack.ok()?).ok()
    }

    /// The frames of a running task of which no registers were left: from the innermost return into a function that a
    /// dying kernel ends in, if a walk from there comes to a proper end.
    fn without_registers(&self, task: VirtAddr, cpu: u32) -> Option<Frames> {
        let world = KernelWorld::new(self, Some(task), self.stack_of(task));
        let start = Start {
            first: First {
                state: State::new(VirtAddr(0), VirtAddr(0), None, false),
                slot: None,
                trust: FrameTrust::Scan,
            },
            dying: false,
            task: Some(task),
            task_stack: self.stack_of(task),
            cpu: Some(cpu),
        };
        self.deeper(&world, &start, cpu, &|found: &Frames| found.is_whole().then(|| found.clone()))
    }

    /// The walk from the lowest return into one of [`LAST_FUNCTIONS`] on the stacks of a task and its processor that
    /// `accept` takes.
    fn deeper(
        &self,
        world: &KernelWorld<'_>,
        start: &Start,
        cpu: u32,
        accept: &dyn Fn(&Frames) -> Option<Frames>,
    ) -> Option<Frames> {
        let functions: Vec<_> = LAST_FUNCTIONS.iter().filter_map(|name| self.symbol(name).ok()).collect();
        let is_last = |ip: VirtAddr| {
            functions.iter().any(|function| {
                let near = ip > *function && ip.since(*function) < LONGEST_FUNCTION;
                near && self.place(ip).is_some_and(|place| place.symbol.address == *function)
            })
        };
        let trust = if start.dying { FrameTrust::Orc } else { FrameTrust::Scan };
        let stacks = self.cpu_stacks().of(cpu).map(|of| of.stack).chain(start.task_stack);
        for stack in stacks {
            for (slot, ip) in self.stack_words(&stack) {
                if !is_last(ip) || !world.is_return_address(ip) {
                    continue;
                }
                let state = State::new(ip, slot.add(8), None, false);
                let found = walk(world, First { state, slot: Some(slot), trust });
                if let Some(accepted) = accept(&found) {
                    return Some(accepted);
                }
            }
        }
        None
    }

    /// The words of a stack with their places. Pages that the dump lacks are passed over: deep in a stack there is often a
    /// page of zeros, which a filter leaves out.
    fn stack_words(&self, stack: &Stack) -> Vec<(VirtAddr, VirtAddr)> {
        let mut words = Vec::new();
        let mut at = stack.low;
        while at < stack.high {
            let end = at.page_start().add(PAGE_SIZE).min(stack.high);
            let mut bytes = vec![0; end.since(at) as usize];
            let (count, _) = self.memory().read(at, &mut bytes);
            let whole = bytes.get(..count).unwrap_or_default().chunks_exact(8);
            for (index, word) in (0_u64..).zip(whole) {
                let word = word.try_into().map_or(0, u64::from_le_bytes);
                words.push((at.add(index.wrapping_mul(8)), VirtAddr(word)));
            }
            at = end;
        }
        words
    }
}

/// The deeper walk up to where the noted one begins, then the noted one, which knows more registers. `None` if the two do
/// not meet, or if the deeper one had to guess before.
fn join(deeper: &Frames, noted: &Frames) -> Option<Frames> {
    let place = |frame: &Frame| (frame.ip, frame.sp);
    let met = |wanted: Option<&Frame>| {
        let wanted = place(wanted?);
        deeper.frames.iter().position(|frame| place(frame) == wanted)
    };
    // Either the note's own frame is met (it is an interrupted one), or the caller of it (the note was taken inside a
    // function that then called on: the instruction pointer differs, the frame is the same).
    let own = met(noted.frames.first()).map(|met| met.saturating_add(1));
    let (before, end) = match (own.or_else(|| met(noted.frames.get(1))), &deeper.end, &noted.end) {
        (Some(before), ..) => (deeper.frames.get(..before)?, &noted.end),
        // The processor was caught in user code.
        (None, End::User { registers: met, .. }, End::User { at: None, registers })
            if met.ip() == registers.ip() =>
        {
            (deeper.frames.as_slice(), &deeper.end)
        }
        _ => return None,
    };
    if before.iter().any(|frame| frame.trust == FrameTrust::Scan) {
        return None;
    }
    let frames = before.iter().chain(noted.frames.get(1..).unwrap_or_default()).cloned().collect();
    Some(Frames { frames, end: end.clone() })
}

/// Each processor and the task that it runs.
struct Running(Vec<(u32, VirtAddr)>);

#[derive(Load)]
#[load(type = "rq")]
struct RunQueue {
    curr: Field<VirtAddr>,
}

/// `rq.curr` of each processor, else the per-CPU variable that `current` reads.
fn running(kernel: &Kernel) -> Field<Vec<(u32, VirtAddr)>> {
    let cpus = kernel.cpus()?;
    let queues = kernel.symbol("runqueues");
    let variable = current_task(kernel);
    let loader = kernel.loader::<RunQueue>();
    let of_queue = |cpu| loader.load(cpus.per_cpu(queues.clone()?, cpu)?).curr;
    let of_variable =
        |cpu| -> Field<VirtAddr> { Ok(kernel.memory().pointer(cpus.per_cpu(variable.clone()?, cpu)?)?) };
    let of = |cpu| of_queue(cpu).or_else(|_| of_variable(cpu)).ok().filter(|task| !task.is_null());
    let possible = cpus.possible.iter().filter(|&cpu| cpu < cpus.limit);
    Ok(possible.filter_map(|cpu| Some((cpu, of(cpu)?))).collect())
}

/// The per-CPU variable `current_task`; between 6.2 and 6.14 it is a member of `pcpu_hot`.
fn current_task(kernel: &Kernel) -> Field<VirtAddr> {
    if let Ok(at) = kernel.symbol("current_task") {
        return Ok(at);
    }
    Ok(kernel.symbol("pcpu_hot")?.add(kernel.offset_of("pcpu_hot", "current_task")?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use kdive_evidence::{Registers, StackKind};

    fn frames(places: &[(u64, u64, FrameTrust)]) -> Frames {
        let frame = |&(ip, sp, trust): &(u64, u64, FrameTrust)| Frame {
            ip: VirtAddr(ip),
            sp: VirtAddr(sp),
            trust,
            stack: StackKind::Task,
            interrupted: false,
            registers: Registers::default(),
            pt_regs: None,
        };
        Frames { frames: places.iter().map(frame).collect(), end: End::Stack }
    }

    fn joined(deeper: &Frames, noted: &Frames) -> Option<Vec<u64>> {
        Some(join(deeper, noted)?.frames.iter().map(|frame| frame.ip.0).collect())
    }

    #[test]
    fn a_deeper_walk_counts_if_it_arrives_at_the_note() {
        use FrameTrust::{Orc, PtRegs, Registers, Scan};
        let noted = frames(&[(5, 0x50, Registers), (6, 0x60, Orc), (7, 0x70, Orc)]);
        // Through the exception that the note is about.
        let deeper = frames(&[(1, 0x10, Orc), (2, 0x20, Orc), (5, 0x50, PtRegs), (6, 0x60, Orc)]);
        assert_eq!(joined(&deeper, &noted), Some(vec![1, 2, 5, 6, 7]));
        // Through the function that took the note, at another of its instructions.
        let deeper = frames(&[(1, 0x10, Orc), (4, 0x48, Orc), (6, 0x60, Orc)]);
        assert_eq!(joined(&deeper, &noted), Some(vec![1, 4, 6, 7]));
        // Elsewhere, and by guessing.
        let deeper = frames(&[(1, 0x10, Orc), (6, 0x68, Orc)]);
        assert_eq!(joined(&deeper, &noted), None);
        let deeper = frames(&[(1, 0x10, Orc), (2, 0x20, Scan), (5, 0x50, PtRegs)]);
        assert_eq!(joined(&deeper, &noted), None);
    }
}
