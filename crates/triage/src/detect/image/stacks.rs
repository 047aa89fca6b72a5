//! Kernel stacks that were too short, or were written over.

use kdive_base::{PAGE_SIZE, VirtAddr};
use kdive_evidence::TraceFrame;
use kdive_linux::tasks::{Task, TaskName, Tasks};
use kdive_target::Kernel;
use rustc_hash::FxHashMap;

use super::{blamed, person, stack};
use crate::blame::{self, Guilty, Mode};
use crate::case::Case;
use crate::class::Class;
use crate::detect::Detector;
use crate::finding::{Culprit, Evidence, Finding};

/// Stacks.
pub(in crate::detect) const STACKS: Detector = Detector {
    name: "stack-in-memory",
    claim: "a kernel stack overflowed, or its end was overwritten",
    run: stacks,
};

/// What the kernel writes at the end of each task's stack (`STACK_END_MAGIC`, include/uapi/linux/magic.h).
const END_MAGIC: u64 = 0x57AC_6E9D;
/// A function that stands on a stack so often calls itself.
const RECURSION: usize = 8;
/// Tasks with a damaged stack that are told of.
const MOST: usize = 3;

fn stacks(case: &Case<'_>, findings: &mut Vec<Finding>) {
    let Some(kernel) = case.image else { return };
    if let Some(finding) = in_guard(kernel, case) {
        findings.push(finding);
        return;
    }
    let tasks = Tasks::find(kernel);
    let damaged = tasks.all().iter().filter_map(|task| Some((task, end(kernel, &tasks, task)?)));
    for (task, mark) in damaged.take(MOST) {
        findings.push(overwritten(kernel, case, task, mark));
    }
}

/// The end's mark of a task, where it is not what the kernel wrote there.
fn end(kernel: &Kernel, tasks: &Tasks, task: &Task) -> Option<VirtAddr> {
    let stack = kernel.task_stack(*task.stack.as_ref().ok().filter(|low| !low.is_null())?).ok()?;
    let mark = kernel.memory().pointer(stack.low).ok()?;
    // The first task's stack is made by the linker and may have no mark.
    (mark.0 != END_MAGIC && !(mark.is_null() && tasks.is_idle(task))).then_some(mark)
}

/// The task that died had its stack pointer in the page below its stack.
fn in_guard(kernel: &Kernel, case: &Case<'_>) -> Option<Finding> {
    let crashed = case.crashed.as_ref()?;
    let sp = crashed.registers.as_ref()?.sp()?;
    let task = Tasks::find(kernel).at(crashed.task?)?.clone();
    let stack = kernel.task_stack(*task.stack.as_ref().ok()?).ok()?;
    if sp >= stack.low || stack.low.since(sp) > PAGE_SIZE {
        return None;
    }
    let culprit = culprit(&crashed.frames, &task);
    let function = culprit.function.as_deref().unwrap_or("?");
    let below = stack.low.since(sp);
    Some(Finding {
        detector: STACKS.name,
        class: Class::StackOverflow,
        title: format!("BUG: stack guard page was hit in {function}"),
        claim: format!("the kernel stack of {} was too short for {function}", person(&TaskName::of(&task))),
        score: 95,
        supports: vec![Evidence::shown(
            format!("the stack pointer {sp} is {below} bytes below the stack, in its guard page"),
            "bt -v",
        )],
        culprit,
        against: Vec::new(),
        advice: Vec::new(),
        splat: None,
    })
}

fn overwritten(kernel: &Kernel, case: &Case<'_>, task: &Task, mark: VirtAddr) -> Finding {
    let is_crashed = case.crashed.as_ref().is_some_and(|crashed| crashed.task == Some(task.at));
    let frames = match case.crashed.as_ref().filter(|_| is_crashed) {
        Some(crashed) => crashed.frames.clone(),
        None => stack(kernel, task.at),
    };
    let culprit = culprit(&frames, task);
    let who = person(&TaskName::of(task));
    let function = culprit.function.as_deref().unwrap_or("?");
    Finding {
        detector: STACKS.name,
        class: Class::StackCorruption,
        title: format!("kernel panic: corrupted stack end in {function}"),
        claim: format!("the end of the kernel stack of {who} was overwritten"),
        score: if is_crashed { 93 } else { 70 },
        supports: vec![Evidence::shown(
            format!("the last word of its stack is {mark}, not the mark that the kernel put there"),
            "bt -v",
        )],
        culprit,
        against: Vec::new(),
        advice: Vec::new(),
        splat: None,
    }
}

/// A function that calls itself, else the one that is guilty of a fault.
fn culprit(frames: &[TraceFrame], task: &Task) -> Culprit {
    let guilty = recursive(frames).or_else(|| blame::guilty_of(frames, Mode::Fault));
    blamed(guilty, Culprit { task: Some(person(&TaskName::of(task))), ..Culprit::default() })
}

/// The function that stands on the stack most often.
fn recursive(frames: &[TraceFrame]) -> Option<Guilty> {
    let mut counts: FxHashMap<&str, (usize, Option<&str>)> = FxHashMap::default();
    for frame in frames {
        let Some(name) = frame.place.function.as_deref() else { continue };
        let entry = counts.entry(name).or_insert((0, frame.place.module.as_deref()));
        entry.0 = entry.0.saturating_add(1);
    }
    let (name, (count, module)) = counts.into_iter().max_by_key(|(_, (count, _))| *count)?;
    let function = blame::plain(name).to_owned();
    (count >= RECURSION).then(|| Guilty { function, module: module.map(str::to_owned), weak: false })
}

#[cfg(test)]
mod tests {
    use kdive_evidence::{FrameTrust, Place};

    use super::*;

    #[test]
    fn a_function_that_calls_itself_is_found() {
        let frame = |name: &str| TraceFrame {
            place: Place { function: Some(name.into()), ..Place::default() },
            trust: FrameTrust::Orc,
            stack: None,
            inlined: false,
            interrupted: false,
        };
        let mut frames = vec![frame("memset"); 2];
        assert_eq!(recursive(&frames), None);
        frames.extend(vec![frame("walk"); 9]);
        assert_eq!(recursive(&frames).map(|guilty| guilty.function), Some("walk".into()));
    }
}
