//! `task`: the structures of a task.

use std::fmt;

use kdive_linux::tasks::{Task, TaskLoader, Tasks};
use kdive_target::show::Style;
use serde::Serialize;

use crate::args::{Args, Opt, UsageError};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::render::TaskLine;
use crate::select::{self, Selector};
use crate::sink::{Render, Sink, SinkExt};
use crate::structure::{self, Row, Shape, shape};

/// Shows the structures of tasks.
pub(crate) static TASK: Command = Command {
    names: &["task"],
    group: Group::Tasks,
    summary: "a task's task_struct and thread_info, or members of them",
    operands: "[pid | task | name | member[,member]...]...",
    options: &[
        Opt::value("-R", "members", "these members of the two only, as in comm,se.on_rq,pids[2]"),
        Opt::flag("-x", "integers in hexadecimal"),
        Opt::flag("-d", "integers in decimal"),
    ],
    help: include_str!("task.md"),
    run: Run::Both { once, per_task },
};

fn once(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    let mut members: Vec<String> = named(args);
    let mut chosen: Vec<Task> = Vec::new();
    let tasks = Tasks::find(&cx.kernel);
    for word in &args.operands {
        // A member needs no -R; a name that is both is the member's, as in crash.
        match Selector::parse("task", word)? {
            Selector::Name(name)
                if !word.starts_with('\\') && word.split(',').all(|word| is_member(cx, word)) =>
            {
                members.extend(name.split(',').map(str::to_owned));
            }
            selector => match selector.find(&tasks) {
                found if found.is_empty() => return Err(neither(cx, word)),
                found => chosen.extend(found.into_iter().cloned()),
            },
        }
    }
    if chosen.is_empty() {
        chosen.push(select::current(cx)?);
    }
    for (index, task) in chosen.iter().enumerate() {
        cx.cancel.check()?;
        if index > 0 {
            out.heading("\n")?;
        }
        show(cx, args, &members, task, out)?;
    }
    Ok(())
}

fn per_task(cx: &mut Cx, args: &Args, task: &Task, out: &mut dyn Sink) -> Result<(), CommandError> {
    if let Some(word) = args.operands.first() {
        return Err(UsageError::new("task", format!("{word}: members follow -R under foreach")).into());
    }
    show(cx, args, &named(args), task, out)
}

/// The members behind each `-R`.
fn named(args: &Args) -> Vec<String> {
    args.values(&["-R"]).flat_map(|list| list.split(',')).map(str::to_owned).collect()
}

/// The two structures, in the order in which a member is looked for.
const STRUCTURES: [&str; 2] = ["task_struct", "thread_info"];

fn is_member(cx: &Cx, word: &str) -> bool {
    member(cx, word).is_ok()
}

/// The structures that have a member: `flags` is of both.
fn member(cx: &Cx, path: &str) -> Result<Vec<(&'static str, Shape)>, CommandError> {
    let find = |structure| {
        let shape = Shape::parse(cx, "task", shape::STRUCT, &format!("{structure}.{path}"));
        shape.map(|shape| (structure, shape))
    };
    let [first, second] = STRUCTURES.map(find);
    let (hint, found) = match first {
        Ok(first) => (None, vec![first]),
        Err(error) => (error.hint(), Vec::new()),
    };
    let found: Vec<_> = found.into_iter().chain(second).collect();
    match found.is_empty() {
        false => Ok(found),
        true => Err(CommandError::NotFound {
            what: format!("task: {path}: not a task_struct or thread_info member"),
            hint,
        }),
    }
}

fn neither(cx: &Cx, word: &str) -> CommandError {
    match word.split(',').find_map(|word| member(cx, word).err()) {
        Some(CommandError::NotFound { hint, .. }) => CommandError::NotFound {
            what: format!(
                "task: {word} is no pid, task address, command name or member of task_struct or thread_info"
            ),
            hint: hint.or_else(|| Some("`ps` lists the tasks".into())),
        },
        _ => CommandError::not_found(format!("task: {word} is no task")),
    }
}

/// A task and what was read of its structures.
#[derive(Serialize)]
struct TaskRow {
    #[serde(flatten)]
    task: TaskLine,
    structures: Vec<Row>,
    /// Whole structures have a blank line between them.
    #[serde(skip)]
    whole: bool,
}

fn show(
    cx: &mut Cx,
    args: &Args,
    members: &[String],
    task: &Task,
    out: &mut dyn Sink,
) -> Result<(), CommandError> {
    if args.has("-x") && args.has("-d") {
        return Err(UsageError::new("task", "-x and -d exclude each other").into());
    }
    let style = structure::style(cx, args);
    let shapes: Vec<(&str, Shape)> = match members {
        [] => STRUCTURES
            .into_iter()
            .map(|name| Ok((name, Shape::parse(cx, "task", shape::STRUCT, name)?)))
            .collect::<Result<_, CommandError>>()?,
        members => {
            let found = members.iter().map(|path| member(cx, path)).collect::<Result<Vec<_>, _>>()?;
            found.into_iter().flatten().collect()
        }
    };
    let line = TaskLine::new(cx, task);
    let thread_info = TaskLoader::new(&cx.kernel).thread_info(task);
    let mut structures = Vec::new();
    for (structure, shape) in &shapes {
        let at = match *structure {
            "task_struct" => Some(task.at),
            _ => cx.known(thread_info.clone(), "thread_info", || task.at.to_string()),
        };
        if let Some(at) = at {
            structures.push(shape.row(cx, at, &style)?);
        }
    }
    let row = TaskRow { task: line, structures, whole: members.is_empty() };
    Ok(out.row(&row, &style)?)
}

impl Render for TaskRow {
    type View = Style;

    fn render(&self, style: &Style, out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "{}", self.task)?;
        for (index, structure) in self.structures.iter().enumerate() {
            if index > 0 && self.whole {
                writeln!(out)?;
            }
            structure.render(style, out)?;
        }
        Ok(())
    }
}
