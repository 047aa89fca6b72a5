//! Stacks without unwinding: their words, the code they point to, and whether they overflowed.

use std::fmt;

use kdive_arch::x86_64::stacks::Stack;
use kdive_base::{PAGE_SIZE, VirtAddr};
use kdive_linux::tasks::{Task, Tasks};
use kdive_target::unwind::End;
use kdive_target::{Field, Kernel};
use serde::Serialize;

use super::text;
use crate::command::CommandError;
use crate::cx::Cx;
use crate::render::{Known, TaskLine};
use crate::sink::{Render, Sink, SinkExt};
use crate::words::{Annotator, Mode, StackWord};

fn stack(kernel: &Kernel, task: &Task) -> Field<Stack> {
    kernel.task_stack(task.stack.clone()?)
}

/// A task and its stack, word by word.
#[derive(Serialize)]
struct RawStack {
    #[serde(flatten)]
    line: TaskLine,
    words: Vec<StackWord>,
}

impl Render for RawStack {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "{}", self.line)?;
        for pair in self.words.chunks(2) {
            write!(out, "{}:  ", Known(pair.first().map(|word| word.at)))?;
            for word in pair {
                write!(out, "{:<16} ", word.text(Mode::Symbols))?;
            }
            out.write_char('\n')?;
        }
        Ok(())
    }
}

/// `bt -r`: the whole stack as it is.
pub(super) fn raw(cx: &mut Cx, task: &Task, out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let read = stack(&kernel, task)
        .and_then(|stack| Annotator::new(&kernel, Mode::Symbols).words(stack.low, stack.high));
    let words = cx.known(read, "stack of a task", || crate::render::place(task)).unwrap_or_default();
    out.row(&RawStack { line: TaskLine::new(cx, task), words }, &())?;
    Ok(())
}

/// A task, and the words of its stack that point into code.
#[derive(Serialize)]
struct CodeWords {
    #[serde(flatten)]
    line: TaskLine,
    /// Where the task stood, when the words begin there.
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<CodeWord>,
    words: Vec<CodeWord>,
    /// Registers of the user code that entered the kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<kdive_evidence::Registers>,
}

/// A place in code that a word of a stack points to.
#[derive(Serialize)]
struct CodeWord {
    at: VirtAddr,
    value: VirtAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    function: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    module: Option<String>,
}

impl CodeWord {
    fn new(kernel: &Kernel, at: VirtAddr, value: VirtAddr) -> Self {
        let place = kernel.place(value);
        Self {
            at,
            value,
            function: place.as_ref().map(|place| place.symbol.name.to_owned()),
            module: place.and_then(|place| place.symbol.module.map(str::to_owned)),
        }
    }
}

impl fmt::Display for CodeWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.function.as_deref().unwrap_or("(unknown)"), self.value)?;
        match &self.module {
            Some(module) => write!(f, " [{module}]"),
            None => Ok(()),
        }
    }
}

impl Render for CodeWords {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "{}", self.line)?;
        if let Some(start) = &self.start {
            writeln!(out, "              START: {start}")?;
        }
        for word in &self.words {
            writeln!(out, "  [{}] {word}", word.at)?;
        }
        match &self.user {
            Some(registers) => text::block(registers, out),
            None => Ok(()),
        }
    }
}

/// `bt -t` and `bt -T`: words that point into code, from the stack pointer up or of the whole stack.
pub(super) fn code_words(
    cx: &mut Cx,
    task: &Task,
    whole: bool,
    out: &mut dyn Sink,
) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let line = TaskLine::new(cx, task);
    let Some(own) = cx.known(stack(&kernel, task), "stack of a task", || crate::render::place(task)) else {
        out.row(&CodeWords { line, start: None, words: Vec::new(), user: None }, &())?;
        return Ok(());
    };
    let innermost = kernel.start_of(task.at).ok().filter(|_| !whole);
    // The stack pointer of a running task can stand on another stack.
    let on = innermost
        .as_ref()
        .and_then(|start| super::record::stack_of(&kernel, task, start.sp()))
        .unwrap_or(own);
    let from = innermost.as_ref().map(|start| start.sp()).filter(|sp| on.contains(*sp)).unwrap_or(on.low);
    let read = Annotator::new(&kernel, Mode::Plain).words(VirtAddr(from.0 & !7), on.high);
    let words = cx.known(read, "stack of a task", || crate::render::place(task)).unwrap_or_default();
    let user = kernel.unwind_task(task.at).ok().and_then(|frames| match frames.end {
        End::User { registers, .. } => Some(*registers),
        _ => None,
    });
    let record = CodeWords {
        line,
        start: innermost.map(|start| CodeWord::new(&kernel, start.sp(), start.ip())),
        words: words
            .iter()
            .filter(|word| kernel.is_code(word.value))
            .map(|word| CodeWord::new(&kernel, word.at, word.value))
            .collect(),
        user,
    };
    out.row(&record, &())?;
    Ok(())
}

/// What the kernel writes at the end of each task's stack (`STACK_END_MAGIC`, include/uapi/linux/magic.h).
const END_MAGIC: u64 = 0x57AC_6E9D;

/// A task whose stack overflowed, or looks like it.
#[derive(Serialize)]
struct Overflow {
    #[serde(flatten)]
    line: TaskLine,
    /// The word that should be the end's mark.
    #[serde(skip_serializing_if = "Option::is_none")]
    end_mark: Option<VirtAddr>,
    /// The stack pointer that lies outside of the stack.
    #[serde(skip_serializing_if = "Option::is_none")]
    stack_pointer: Option<VirtAddr>,
}

impl Render for Overflow {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "{}", self.line)?;
        if let Some(mark) = self.end_mark {
            writeln!(
                out,
                "  possible stack overflow: the end of the stack holds {mark} instead of its mark"
            )?;
        }
        if let Some(sp) = self.stack_pointer {
            writeln!(out, "  possible stack overflow: the stack pointer {sp} lies outside of the stack")?;
        }
        Ok(())
    }
}

/// `bt -v`: looks at the end of every task's stack.
pub(super) fn overflows(cx: &mut Cx, out: &mut dyn Sink) -> Result<(), CommandError> {
    let tasks = Tasks::find(&cx.kernel);
    let mut found = 0_u64;
    for task in tasks.all() {
        cx.cancel.check()?;
        let Some(overflow) = overflow(cx, &tasks, task) else { continue };
        found = found.saturating_add(1);
        out.row(&overflow, &())?;
    }
    if found == 0 {
        out.text("No stack overflows detected\n")?;
    }
    Ok(())
}

fn overflow(cx: &mut Cx, tasks: &Tasks, task: &Task) -> Option<Overflow> {
    let kernel = cx.kernel.clone();
    let stack = cx.known(stack(&kernel, task), "stack of a task", || crate::render::place(task))?;
    let mark = kernel.memory().pointer(stack.low).map_err(Into::into);
    let mark =
        cx.known(mark, "end of a stack", || crate::render::place(task)).filter(|mark| mark.0 != END_MAGIC);
    // The first task's stack is made by the linker and may have no mark.
    let is_idle = tasks.is_idle(task);
    let sp = match tasks.is_active(task) {
        false => task.sp.clone().ok().filter(|sp| !stack.contains(*sp)),
        true => overflowed_into_guard(&kernel, task, &stack),
    };
    let mark = mark.filter(|mark| !(is_idle && mark.is_null()));
    (mark.is_some() || sp.is_some()).then(|| Overflow {
        line: TaskLine::new(cx, task),
        end_mark: mark,
        stack_pointer: sp,
    })
}

/// The stack pointer of a running task where it stands in the page below its stack.
fn overflowed_into_guard(kernel: &Kernel, task: &Task, stack: &Stack) -> Option<VirtAddr> {
    let frames = kernel.unwind_task(task.at).ok()?.frames;
    let below = |sp: &VirtAddr| *sp < stack.low && stack.low.since(*sp) <= PAGE_SIZE;
    frames.iter().filter_map(|frame| frame.registers.sp()).find(below)
}
