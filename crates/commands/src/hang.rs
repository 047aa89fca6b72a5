//! `hang`: tasks that hang, by what they hang on.

use std::fmt;

use kdive_linux::locking::{Cause, Hang, LockKind, Locks, Member, hangs};
use kdive_linux::tasks::State;

use crate::args::Args;
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::locks::{Deadlock, Titled, note_lacking};
use crate::render::{Age, Known, UNKNOWN};
use crate::sink::{Render, Sink, SinkExt};

/// Shows what hangs.
pub(crate) static HANG: Command = Command {
    names: &["hang"],
    group: Group::Tasks,
    summary: "tasks that hang, grouped by what they hang on",
    operands: "",
    options: &[],
    help: include_str!("hang.md"),
    run: Run::Once(run),
};

fn run(cx: &mut Cx, _args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    note_lacking(cx, Locks::find(&kernel));
    let found = hangs(&kernel);
    if found.is_empty() {
        out.heading("no task hangs\n")?;
    }
    for (index, hang) in found.iter().enumerate() {
        cx.cancel.check()?;
        if index > 0 {
            out.heading("\n")?;
        }
        out.row(hang, &())?;
    }
    Ok(())
}

impl Render for Hang {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let tasks = if self.count == 1 { "task hangs" } else { "tasks hang" };
        write!(out, "{} {tasks}", self.count)?;
        if let Some(oldest) = self.oldest_ns {
            write!(out, " for up to {}", Age(oldest))?;
        }
        writeln!(out, " on {}", On(&self.cause))?;
        let wide = |member: &Member| indent(member).saturating_add(member_name(member).len());
        let width = self.tasks.iter().map(wide).max().unwrap_or(0).max("COMMAND".len());
        writeln!(out, "      PID  TASK              ST      AGE  {:<width$}  WAITS FOR", "COMMAND")?;
        // What all of them wait for was said above.
        let is_said = |member: &Member| matches!(self.cause, Cause::Event { .. }) && member.depth == 0;
        self.tasks.iter().try_for_each(|member| line(member, width, is_said(member), out))
    }
}

/// The deepest that a name moves to the right: a chain of thousands must not leave the screen.
const DEEPEST: u32 = 12;

fn indent(member: &Member) -> usize {
    member.depth.min(DEEPEST) as usize
}

fn member_name(member: &Member) -> &str {
    member.wait.task.command.as_deref().unwrap_or(UNKNOWN)
}

fn line(member: &Member, width: usize, is_said: bool, out: &mut dyn fmt::Write) -> fmt::Result {
    let wait = &member.wait;
    let (pid, age) = (Known(wait.task.pid), Known(wait.age_ns.map(Age)));
    let state = wait.state.map_or(UNKNOWN, State::letters);
    let name = format!("{:1$}{2}", "", indent(member), member_name(member));
    write!(out, "  {pid:>7}  {}  {state:<2}  {age:>7}  {name:<width$}  ", wait.task.task)?;
    if is_said {
        write!(out, "in {}", wait.function.as_deref().unwrap_or(UNKNOWN))?;
        return match &wait.operation {
            Some(operation) => writeln!(out, ", {operation}"),
            None => out.write_char('\n'),
        };
    }
    write!(out, "{}", Titled { kind: wait.kind, lock: wait.lock, name: wait.name.as_deref() })?;
    if let Some(holder) = wait.holders.first() {
        write!(out, ", {} {}", if holder.sure { "held by" } else { "perhaps held by" }, holder.task)?;
    }
    out.write_char('\n')
}

/// A cause in words.
struct On<'c>(&'c Cause);

impl fmt::Display for On<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Cause::Deadlock { cycle } => write!(f, "a {}", Deadlock(cycle)),
            Cause::Holder { task, state, running_on, sure } => {
                write!(f, "what {task} {}", if *sure { "holds" } else { "perhaps holds" })?;
                match (running_on, state) {
                    (Some(cpu), _) => write!(f, "; it runs on CPU {cpu}"),
                    (None, Some(state)) => write!(f, "; it is {}", state.name()),
                    (None, None) => Ok(()),
                }
            }
            Cause::Event { kind: LockKind::Unknown, function: Some(function), .. } => {
                write!(f, "something unknown in {function}")
            }
            Cause::Event { kind, lock, name, .. } => {
                write!(f, "{}", Titled { kind: *kind, lock: *lock, name: name.as_deref() })
            }
        }
    }
}
