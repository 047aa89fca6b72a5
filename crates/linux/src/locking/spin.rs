//! Spinlocks: which processors spin, on what, and who may hold it.
//!
//! A spinlock names no owner (include/asm-generic/qspinlock_types.h). What is left are the registers and the stacks of the
//! processors: one that spins has the lock's address in a register; one that holds it has come through a function that took
//! it, or keeps its address on the stack.

use kdive_base::VirtAddr;
use kdive_evidence::{Frame, Register, StackKind};
use kdive_target::Kernel;
use serde::Serialize;

use super::holder::{Evidence, Holder};
use super::kind::{LockKind, is_plumbing};
use super::scan::Found;
use super::{Wait, code};
use crate::tasks::{LiveWords, Task, TaskName, Tasks, plain_name};

/// The word of a queued spinlock (kernel/locking/qspinlock.c), as kernels for fewer than 16,384 processors have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct LockWord {
    /// The whole word.
    pub value: u32,
    /// Whether it is held.
    pub locked: bool,
    /// Whether one processor waits for it without a place in the queue.
    pub pending: bool,
    /// The last processor of the queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tail: Option<u32>,
}

impl LockWord {
    /// The parts of a word; `None` for one that no held lock has.
    #[must_use]
    pub fn new(value: u32) -> Option<Self> {
        let (locked, pending) = (value & 0xff, value >> 8 & 0xff);
        // The pending byte has one bit; paravirtual locks put 3 into the locked byte.
        if value == 0 || locked > 3 || pending > 1 {
            return None;
        }
        let tail = (value >> 18).checked_sub(1);
        Some(Self { value, locked: locked != 0, pending: pending != 0, tail })
    }
}

/// A processor that spins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spin {
    /// The processor.
    pub cpu: u32,
    /// The task on it.
    pub task: VirtAddr,
    /// The lock, where a register or its stack tells.
    pub lock: Option<VirtAddr>,
    /// Its word.
    pub word: Option<LockWord>,
    /// The function that wanted it.
    pub function: Option<String>,
    /// Who may hold it.
    pub holders: Vec<Holder>,
}

impl Spin {
    pub(super) fn wait(&self, tasks: &Tasks) -> Wait {
        let task = tasks.at(self.task);
        let unknown = || TaskName { pid: None, task: self.task, command: None };
        Wait {
            task: task.map_or_else(unknown, TaskName::of),
            state: task.and_then(|task| tasks.bits.state(task)),
            cpu: Some(self.cpu),
            age_ns: None,
            kind: LockKind::Spinlock,
            mode: None,
            lock: self.lock,
            name: None,
            bit: None,
            word: self.word,
            waiter: None,
            found: Found::Registers,
            function: self.function.clone(),
            holders: self.holders.clone(),
            call: None,
            operation: None,
            readers: None,
        }
    }
}

/// Functions that spin until they have a lock (kernel/locking/qspinlock.c, qrwlock.c).
const SPINNERS: [&str; 5] = [
    "native_queued_spin_lock_slowpath",
    "queued_spin_lock_slowpath",
    "__pv_queued_spin_lock_slowpath",
    "queued_read_lock_slowpath",
    "queued_write_lock_slowpath",
];

/// What runs on a processor.
struct OnCpu<'t> {
    cpu: u32,
    task: &'t Task,
    frames: Vec<Frame>,
    /// The words of the task's stack from its innermost frame there.
    words: Option<LiveWords>,
}

impl OnCpu<'_> {
    fn name<'k>(kernel: &'k Kernel, frame: &Frame) -> Option<&'k str> {
        let at = if frame.interrupted { frame.ip } else { frame.ip.sub(1) };
        kernel.place(at).map(|place| plain_name(place.symbol.name))
    }
}

/// The processors that spin on a lock.
pub(super) fn find(kernel: &Kernel, tasks: &Tasks) -> Vec<Spin> {
    let running = tasks.processors().iter().filter_map(|of| {
        let task = tasks.on_cpu(of.cpu).filter(|task| !tasks.is_idle(task))?;
        let frames = kernel.unwind_task(task.at).ok()?.frames;
        let low = frames.iter().find(|frame| frame.stack == StackKind::Task).map(|frame| frame.sp);
        let words = low.and_then(|low| LiveWords::from(kernel, task, low).ok());
        Some(OnCpu { cpu: of.cpu, task, frames, words })
    });
    let running: Vec<OnCpu<'_>> = running.collect();
    let mut spins: Vec<(Spin, usize)> = running.iter().filter_map(|on| spin(kernel, on)).collect();
    let places: Vec<(u32, VirtAddr, usize)> =
        spins.iter().filter_map(|(spin, frame)| Some((spin.cpu, spin.lock?, *frame))).collect();
    for (spin, _) in &mut spins {
        if let Some(lock) = spin.lock {
            spin.holders = running.iter().filter_map(|on| holder(kernel, on, lock, &places)).collect();
        }
    }
    spins.into_iter().map(|(spin, _)| spin).collect()
}

/// The lock that a processor spins on, and the number of the frame that spins.
fn spin(kernel: &Kernel, on: &OnCpu<'_>) -> Option<(Spin, usize)> {
    let spins = |frame: &Frame| OnCpu::name(kernel, frame).is_some_and(|name| SPINNERS.contains(&name));
    let index = on.frames.iter().position(spins)?;
    let rest = on.frames.get(index..)?;
    let frame = rest.first()?;
    let is_held =
        |at: &VirtAddr| at.0 >> 47 == (1 << 17) - 1 && at.0.is_multiple_of(4) && word(kernel, *at).is_some();
    // The first argument of the function first: as long as it spins it needs the lock's address.
    let of_registers = [Register::Rdi, Register::Rbx, Register::Rbp, Register::R12, Register::R13];
    let registers = of_registers.iter().filter_map(|register| frame.registers.get(*register)).map(VirtAddr);
    let own_stack = |at: &VirtAddr| on.words.as_ref().is_some_and(|words| words.contains(*at));
    let lock = registers.filter(|at| !own_stack(at)).find(is_held);
    let function = rest.iter().filter_map(|frame| OnCpu::name(kernel, frame)).find(|name| !is_plumbing(name));
    let spin = Spin {
        cpu: on.cpu,
        task: on.task.at,
        lock,
        word: lock.and_then(|at| word(kernel, at)),
        function: function.map(str::to_owned),
        holders: Vec::new(),
    };
    Some((spin, index))
}

fn word(kernel: &Kernel, at: VirtAddr) -> Option<LockWord> {
    LockWord::new(kernel.memory().u32(at).ok()?)
}

/// The task of a processor as a holder of the lock, with what speaks for it. Of one that spins on this very lock only the
/// frames count that called the one that wanted it.
fn holder(
    kernel: &Kernel,
    on: &OnCpu<'_>,
    lock: VirtAddr,
    spins: &[(u32, VirtAddr, usize)],
) -> Option<Holder> {
    let spinning = spins.iter().find(|(cpu, of, _)| *cpu == on.cpu && *of == lock).map(|(.., frame)| *frame);
    let outer = on.frames.get(spinning.map_or(0, |frame| frame.saturating_add(1))..)?;
    let mut evidence = Vec::new();
    if outer.iter().any(|frame| code::took_before(kernel, frame, lock)) {
        evidence.push(Evidence::TookIt);
    }
    // The functions that lead to the spinning have been given the lock's address, and may keep it.
    let wanting =
        outer.iter().position(|frame| OnCpu::name(kernel, frame).is_some_and(|name| !is_plumbing(name)));
    let kept_from = match spinning {
        Some(_) => wanting.and_then(|index| outer.get(index.saturating_add(1))).map(|frame| frame.sp),
        None => outer.first().map(|frame| frame.sp),
    };
    let keeps = |low: VirtAddr| {
        let mut words = on.words.as_ref()?.iter();
        words.find(|(at, word)| *at > low && *word == lock)
    };
    if kept_from.and_then(keeps).is_some() {
        evidence.push(Evidence::OnStack);
    }
    (!evidence.is_empty()).then(|| Holder::new(TaskName::of(on.task), evidence))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_held_locks_are_told_from_others() {
        let held = LockWord::new(1).unwrap();
        assert!(held.locked && !held.pending && held.tail.is_none());
        let queued = LockWord::new(1 | 1 << 8 | (3 + 1) << 18).unwrap();
        assert!(queued.pending);
        assert_eq!(queued.tail, Some(3));
        assert_eq!(LockWord::new(0), None);
        assert_eq!(LockWord::new(0x2d), None);
        assert_eq!(LockWord::new(0x0201), None);
    }
}
