//! `frame`, `up`, `down`: the frame of the current task whose variables and registers are meant.

use std::fmt;

use kdive_base::VirtAddr;
use kdive_evidence::Frame;
use kdive_linux::tasks::Task;
use serde::Serialize;

use crate::args::{Args, UsageError};
use crate::bt;
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::select;
use crate::sink::{Render, Sink, SinkExt};

/// Selects a frame.
pub(crate) static FRAME: Command = Command {
    names: &["frame"],
    group: Group::Tasks,
    summary: "the stack frame whose variables and registers are meant",
    operands: "[number]",
    options: &[],
    help: include_str!("frame.md"),
    run: Run::Once(|cx, args, out| run(cx, args, out, "frame", Move::To)),
};

/// Selects a caller.
pub(crate) static UP: Command = Command {
    names: &["up"],
    group: Group::Tasks,
    summary: "select the frame that called the selected one",
    operands: "[count]",
    options: &[],
    help: include_str!("up.md"),
    run: Run::Once(|cx, args, out| run(cx, args, out, "up", Move::Up)),
};

/// Selects what was called.
pub(crate) static DOWN: Command = Command {
    names: &["down"],
    group: Group::Tasks,
    summary: "select the frame that the selected one called",
    operands: "[count]",
    options: &[],
    help: include_str!("down.md"),
    run: Run::Once(|cx, args, out| run(cx, args, out, "down", Move::Down)),
};

#[derive(Clone, Copy)]
enum Move {
    To,
    Up,
    Down,
}

/// A frame that was selected. It holds as long as the task is the current one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SelectedFrame {
    /// The `task_struct` whose stack it is on.
    pub task: VirtAddr,
    /// Its place on the stack, from the innermost frame on.
    pub index: usize,
}

/// The stack of the current task, and the frame that is selected on it.
pub(crate) struct Selected {
    /// The frames, with all registers that could be recovered.
    pub(crate) frames: Vec<Frame>,
    /// Which of them is selected: the innermost, if none was.
    pub(crate) index: usize,
    task: Task,
}

impl Selected {
    /// The selected frame.
    pub(crate) fn frame(&self) -> Option<&Frame> {
        self.frames.get(self.index)
    }
}

/// The selected frame of the current task.
///
/// # Errors
/// There is no task, or its stack cannot be unwound.
pub(crate) fn selected_frame(cx: &Cx) -> Result<Selected, CommandError> {
    let task = select::current(cx)?;
    let mut frames = cx.kernel.unwind_task(task.at)?.frames;
    recover(cx, &mut frames);
    let kept = cx.frame.filter(|kept| kept.task == task.at && kept.index < frames.len());
    Ok(Selected { frames, index: kept.map_or(0, |kept| kept.index), task })
}

#[cfg(feature = "dwarf")]
fn recover(cx: &Cx, frames: &mut [Frame]) {
    cx.kernel.recover_registers(frames);
}

#[cfg(not(feature = "dwarf"))]
fn recover(_cx: &Cx, _frames: &mut [Frame]) {}

fn run(cx: &mut Cx, args: &Args, out: &mut dyn Sink, command: &str, way: Move) -> Result<(), CommandError> {
    let wrong = |word: &str| UsageError::new(command, format!("{word} is not a number"));
    let number = match args.operands.as_slice() {
        [] => None,
        [word] => Some(word.parse::<usize>().map_err(|_| wrong(word))?),
        [_, more, ..] => return Err(UsageError::new(command, format!("{more} is too many")).into()),
    };
    let stack = selected_frame(cx)?;
    let levels = bt::levels(&cx.kernel, &stack.frames);
    let last = stack.frames.len().saturating_sub(1);
    let steps = number.unwrap_or(1);
    let index = match (way, number) {
        (Move::To, None) => stack.index,
        (Move::To, Some(number)) => levels
            .iter()
            .position(|level| *level == Some(number))
            .ok_or_else(|| no_frame(command, &format!("there is no frame #{number}")))?,
        (Move::Up, _) if stack.index == last => return Err(no_frame(command, "this is the outermost frame")),
        (Move::Down, _) if stack.index == 0 => return Err(no_frame(command, "this is the innermost frame")),
        (Move::Up, _) => stack.index.saturating_add(steps).min(last),
        (Move::Down, _) => stack.index.saturating_sub(steps),
    };
    cx.frame = Some(SelectedFrame { task: stack.task.at, index });
    let stack = Selected { index, ..stack };
    let level = levels.get(index).copied().flatten();
    let Some(record) = Record::of(cx, &stack, level) else {
        return Err(CommandError::not_found(format!("{command}: the task has no frames")));
    };
    out.row(&record, &())?;
    Ok(())
}

fn no_frame(command: &str, what: &str) -> CommandError {
    CommandError::NotFound {
        what: format!("{command}: {what}"),
        hint: Some("`bt` shows the frames with their numbers".into()),
    }
}

/// A frame in gdb's words.
#[derive(Serialize)]
struct Record {
    #[serde(skip_serializing_if = "Option::is_none")]
    level: Option<usize>,
    ip: VirtAddr,
    sp: VirtAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    function: Option<String>,
    /// Its arguments, as far as they are known.
    arguments: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    location: Option<String>,
}

impl Record {
    fn of(cx: &Cx, stack: &Selected, level: Option<usize>) -> Option<Self> {
        let frame = stack.frame()?;
        // A return address may be another function's already.
        let at = if frame.interrupted { frame.ip } else { frame.ip.sub(1) };
        let locals = bt::locals_of_stack(&cx.kernel, &stack.frames).into_iter().nth(stack.index);
        let own = |locals: &[bt::BtLocal]| locals.iter().map(|local| local.function).max();
        let arguments = locals.and_then(Result::ok).map(|locals| {
            // The function itself is the outermost of those inlined there.
            let function = own(&locals);
            let arguments = locals.iter().filter(|local| local.argument && Some(local.function) == function);
            arguments.map(bt::BtLocal::assignment).collect()
        });
        Some(Self {
            level,
            ip: frame.ip,
            sp: frame.sp,
            function: cx.kernel.place(at).map(|place| place.symbol.name.to_owned()),
            arguments: arguments.unwrap_or_default(),
            location: bt::location_of(&cx.kernel, frame),
        })
    }
}

impl Render for Record {
    type View = ();

    /// `#2  0xffffffffaf4c4ff7 in panic (fmt=0xffffffffb08678ed "Fatal exception") at kernel/panic.c:530`
    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let number = self.level.map_or("#-".to_owned(), |level| format!("#{level}"));
        let function = self.function.as_deref().unwrap_or("??");
        let arguments = self.arguments.join(", ").replace(" = ", "=");
        write!(out, "{number:<3} 0x{:x} in {function} ({arguments})", self.ip.0)?;
        if let Some(location) = &self.location {
            write!(out, " at {}", location.replacen(": ", ":", 1))?;
        }
        out.write_char('\n')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_gdbs() {
        let record = Record {
            level: Some(2),
            ip: VirtAddr(0xffff_ffff_af4c_4ff7),
            sp: VirtAddr(0),
            function: Some("panic".into()),
            arguments: vec!["fmt = 0xffffffffb08678ed \"Fatal exception\"".into()],
            location: Some("kernel/panic.c: 530".into()),
        };
        let mut text = String::new();
        record.render(&(), &mut text).unwrap();
        assert_eq!(
            text,
            "#2  0xffffffffaf4c4ff7 in panic (fmt=0xffffffffb08678ed \"Fatal exception\") at kernel/panic.c:530\n"
        );
    }
}
