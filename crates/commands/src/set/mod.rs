//! `set`: the current task, and the session's variables.

mod context;
mod variables;

use kdive_linux::tasks::{Task, Tasks};

use crate::args::{Args, Opt, UsageError};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::select::{self, Selector};
use crate::sink::{Sink, SinkExt};

pub(crate) use context::Context;
pub use variables::{Takes, Variable, variable, variables};

/// Shows or changes the current task and the variables.
pub(crate) static SET: Command = Command {
    names: &["set"],
    group: Group::Session,
    summary: "the task that commands are about, and the session's variables",
    operands: "[pid | task] | [variable [value]]...",
    options: &[
        Opt::flag("-a", "counts the task as what its processor ran"),
        Opt::value("-c", "cpu", "takes what this processor ran"),
        Opt::flag("-p", "takes the task that panicked"),
        Opt::flag("-v", "shows the variables"),
    ],
    help: include_str!("../set.md"),
    run: Run::Both { once, per_task },
};

fn once(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    if args.has("-v") {
        return variables::show_all(cx, out);
    }
    let tasks = Tasks::find(&cx.kernel);
    let words = args.operands.as_slice();
    if args.has("-p") {
        let panic = tasks.panic.as_ref().map_err(Clone::clone)?;
        cx.task = Some(panic.task);
        return show(cx, out);
    }
    if let Some(cpu) = args.value("-c") {
        cx.task = Some(on_cpu(cx, &tasks, cpu)?.at);
        return show(cx, out);
    }
    if args.has("-a") {
        let task = match words {
            [] => select::current(cx)?,
            [word] => one_task(&tasks, word)?.clone(),
            [_, more, ..] => {
                return Err(UsageError::new("set", format!("-a takes one task: {more} is too many")).into());
            }
        };
        return mark_active(cx, &task, out);
    }
    match words {
        [] => show(cx, out),
        [first, ..] if variable(first).is_some() || variables::is_bare(first) => {
            variables::assign(cx, words, out)
        }
        [word] => {
            cx.task = Some(one_task(&tasks, word)?.at);
            show(cx, out)
        }
        [word, ..] => Err(not_a_task(word)),
    }
}

fn per_task(cx: &mut Cx, _args: &Args, task: &Task, out: &mut dyn Sink) -> Result<(), CommandError> {
    let context = Context::of(cx, task);
    Ok(out.row(&context, &Context::WIDTH_OF_SET)?)
}

fn show(cx: &mut Cx, out: &mut dyn Sink) -> Result<(), CommandError> {
    let tasks = Tasks::find(&cx.kernel);
    // Which task panicked can only be told where it is known what the processors ran.
    let blind = tasks.processors().is_empty() || tasks.processors().iter().any(|of| of.current.is_err());
    if let (None, true, Err(lacks)) = (cx.task, blind, &tasks.panic) {
        cx.lacks(lacks, "the task that panicked", String::new);
    }
    let task = select::current(cx)?;
    per_task(cx, &Args::default(), &task, out)
}

/// The first task that a word names, by pid or address only: names may stand for many.
fn one_task<'t>(tasks: &'t Tasks, word: &str) -> Result<&'t Task, CommandError> {
    match Selector::parse("set", word)? {
        selector @ Selector::Number { .. } => {
            selector.find(tasks).first().copied().ok_or_else(|| not_a_task(word))
        }
        _ => Err(not_a_task(word)),
    }
}

fn not_a_task(word: &str) -> CommandError {
    CommandError::NotFound {
        what: format!("set: {word} is no pid, task address or variable"),
        hint: Some("`ps` lists the tasks, `set -v` the variables".into()),
    }
}

impl Cx {
    /// The task that a processor ran: what the user says with `set -a`, else what the kernel says.
    pub(crate) fn ran<'t>(&self, tasks: &'t Tasks, cpu: u32) -> Option<&'t Task> {
        let marked = self.settings.active.get(&cpu).and_then(|at| tasks.at(*at));
        marked.or_else(|| tasks.on_cpu(cpu))
    }

    /// Whether a processor ran the task.
    pub(crate) fn is_active(&self, tasks: &Tasks, task: &Task) -> bool {
        let marked = self.settings.active.values().any(|at| *at == task.at);
        let cpu = task.cpu.as_ref().ok().filter(|cpu| self.settings.active.contains_key(cpu));
        marked || cpu.is_none() && tasks.is_active(task)
    }
}

fn on_cpu<'t>(cx: &Cx, tasks: &'t Tasks, cpu: &str) -> Result<&'t Task, CommandError> {
    let number: u32 =
        cpu.parse().map_err(|_| UsageError::new("set", format!("{cpu} is not a processor's number")))?;
    cx.ran(tasks, number)
        .ok_or_else(|| CommandError::not_found(format!("set: what CPU {number} ran is not known")))
}

fn mark_active(cx: &mut Cx, task: &Task, out: &mut dyn Sink) -> Result<(), CommandError> {
    let cpu = task.cpu.clone()?;
    cx.settings.active.insert(cpu, task.at);
    out.text(&format!(
        "\"{}\" task {} has been marked as the active task on cpu {cpu}\n",
        task.name(),
        task.at
    ))?;
    Ok(())
}
