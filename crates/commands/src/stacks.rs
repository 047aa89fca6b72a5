//! `stacks`: all tasks, grouped by what is on their stacks.

use std::cmp::Reverse;
use std::fmt;

use kdive_base::VirtAddr;
use kdive_linux::tasks::{Call, Stacks, State, Task, TaskName, Tasks};
use kdive_target::Kernel;
use rustc_hash::FxHashMap;
use serde::Serialize;

use crate::args::{Args, Opt, UsageError};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::render::{UNKNOWN, place};
use crate::sink::{Render, Sink, SinkExt};

/// Groups tasks by stack.
pub(crate) static STACKS: Command = Command {
    names: &["stacks"],
    group: Group::Tasks,
    summary: "all tasks grouped by identical kernel stacks, the most frequent first",
    operands: "",
    options: &[
        Opt::value("-s", "state", "only tasks in this state (RU, IN, UN, ...; several with commas)"),
        Opt::value("-f", "function", "only stacks with this function"),
        Opt::value("-m", "module", "only stacks with a function of this module"),
        Opt::value("-n", "count", "so many groups"),
        Opt::flag("-t", "every task of each group"),
    ],
    help: include_str!("stacks.md"),
    run: Run::Once(run),
};

/// Tasks with the same functions on their stacks.
#[derive(Serialize)]
struct StackGroup {
    /// How many they are.
    count: usize,
    /// How many of them are in each state.
    states: Vec<(State, usize)>,
    /// The tasks, in the order of the list of tasks.
    tasks: Vec<TaskName>,
    /// Functions, the innermost first.
    frames: Vec<StackCall>,
}

/// A function of a stack.
#[derive(Serialize)]
struct StackCall {
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    function: Option<String>,
    /// Its module.
    #[serde(skip_serializing_if = "Option::is_none")]
    module: Option<String>,
}

/// What is wanted.
struct Filter<'a> {
    states: Option<Vec<State>>,
    function: Option<&'a str>,
    module: Option<&'a str>,
}

fn run(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    let filter = Filter {
        states: args.value("-s").map(states).transpose()?,
        function: args.value("-f"),
        module: args.value("-m"),
    };
    let wrong = |word: &str| UsageError::new("stacks", format!("-n {word}: expected a number"));
    let most = args.value("-n").map(|word| word.parse().map_err(|_| wrong(word))).transpose()?;
    let kernel = cx.kernel.clone();
    let groups = groups(cx, &kernel, &filter)?;
    if groups.is_empty() {
        return Ok(out.heading("no task has such a stack\n")?);
    }
    for (index, group) in groups.iter().take(most.unwrap_or(usize::MAX)).enumerate() {
        cx.cancel.check()?;
        if index > 0 {
            out.heading("\n")?;
        }
        out.row(group, &args.has("-t"))?;
    }
    Ok(())
}

fn states(words: &str) -> Result<Vec<State>, UsageError> {
    let wrong =
        |word: &str| UsageError::new("stacks", format!("-s {word}: expected states as in UN or IN,UN"));
    words.split(',').map(|word| State::from_letters(word).ok_or_else(|| wrong(word))).collect()
}

fn groups(cx: &mut Cx, kernel: &Kernel, filter: &Filter<'_>) -> Result<Vec<StackGroup>, CommandError> {
    let tasks = Tasks::find(kernel);
    let mut index: FxHashMap<Vec<VirtAddr>, usize> = FxHashMap::default();
    let mut groups: Vec<(Vec<&Task>, &[Call])> = Vec::new();
    for (task, stack) in tasks.all().iter().zip(Stacks::find(kernel).all()) {
        cx.cancel.check()?;
        let state = tasks.bits.state(task);
        if filter.states.as_ref().is_some_and(|states| !state.is_some_and(|state| states.contains(&state))) {
            continue;
        }
        let calls = match &stack.calls {
            Ok(calls) => calls.as_slice(),
            Err(lacks) => {
                cx.lacks(lacks, "stack of a task", || place(task));
                continue;
            }
        };
        if !filter.takes(kernel, calls) {
            continue;
        }
        let functions = calls.iter().map(|call| call.place(kernel).map_or(call.at, |of| of.symbol.address));
        let group = *index.entry(functions.collect()).or_insert_with(|| {
            groups.push((Vec::new(), calls));
            groups.len().saturating_sub(1)
        });
        if let Some((members, _)) = groups.get_mut(group) {
            members.push(task);
        }
    }
    groups.sort_by_key(|(members, _)| Reverse(members.len()));
    Ok(groups.into_iter().map(|(members, calls)| StackGroup::new(kernel, &tasks, &members, calls)).collect())
}

impl Filter<'_> {
    fn takes(&self, kernel: &Kernel, calls: &[Call]) -> bool {
        let has = |matches: &dyn Fn(&Call) -> bool| calls.iter().any(matches);
        let function = self.function.is_none_or(|name| {
            has(&|call| {
                let place = call.place(kernel);
                place.is_some_and(|place| place.symbol.name == name) || call.function(kernel) == Some(name)
            })
        });
        let module = self.module.is_none_or(|name| {
            has(&|call| call.place(kernel).is_some_and(|place| place.symbol.module == Some(name)))
        });
        function && module
    }
}

impl StackGroup {
    fn new(kernel: &Kernel, tasks: &Tasks, members: &[&Task], calls: &[Call]) -> Self {
        let mut states: Vec<(State, usize)> = Vec::new();
        for state in members.iter().filter_map(|task| tasks.bits.state(task)) {
            match states.iter_mut().find(|(known, _)| *known == state) {
                Some((_, count)) => *count = count.saturating_add(1),
                None => states.push((state, 1)),
            }
        }
        let call = |call: &Call| {
            let place = call.place(kernel);
            StackCall {
                function: place.as_ref().map(|place| place.symbol.name.to_owned()),
                module: place.and_then(|place| place.symbol.module.map(str::to_owned)),
            }
        };
        Self {
            count: members.len(),
            states,
            tasks: members.iter().map(|task| TaskName::of(task)).collect(),
            frames: calls.iter().map(call).collect(),
        }
    }
}

/// Tasks that are named in the line of a group, unless all are asked for.
const NAMED: usize = 4;

impl Render for StackGroup {
    /// Whether every task is listed.
    type View = bool;

    fn render(&self, all: &bool, out: &mut dyn fmt::Write) -> fmt::Result {
        write!(out, "{} {}", self.count, if self.count == 1 { "task" } else { "tasks" })?;
        for (index, (state, count)) in self.states.iter().enumerate() {
            write!(out, "{}{} {count}", if index == 0 { " (" } else { ", " }, state.letters())?;
        }
        out.write_str(if self.states.is_empty() { ":" } else { "):" })?;
        let named = if *all { self.count } else { NAMED };
        for (index, task) in self.tasks.iter().take(named).enumerate() {
            write!(out, "{} {task}", if index == 0 { "" } else { "," })?;
        }
        match self.count.saturating_sub(named) {
            0 => out.write_char('\n')?,
            more => writeln!(out, ", and {more} more")?,
        }
        if self.frames.is_empty() {
            writeln!(out, "    (no frames: a processor was in user code)")?;
        }
        for frame in &self.frames {
            write!(out, "    {}", frame.function.as_deref().unwrap_or(UNKNOWN))?;
            match &frame.module {
                Some(module) => writeln!(out, " [{module}]")?,
                None => out.write_char('\n')?,
            }
        }
        Ok(())
    }
}
