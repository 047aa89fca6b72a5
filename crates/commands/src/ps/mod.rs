//! `ps`: the tasks.

mod choose;
mod families;
mod last_run;
mod limits;
mod strings;
mod table;
mod times;

use kdive_linux::tasks::{Task, Tasks};

use crate::args::{Args, Opt, UsageError};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::sink::{Sink, SinkExt};
use choose::Filter;

/// Lists tasks.
pub static PS: Command = Command {
    names: &["ps"],
    group: Group::Tasks,
    summary: "the tasks: what they are, what they do, what they use",
    operands: "[pid | task | name | 'regex']...",
    options: &[
        Opt::flag("-k", "threads of the kernel only"),
        Opt::flag("-u", "user tasks only"),
        Opt::flag("-G", "leaders of thread groups only"),
        Opt::flag("-I", "no idle tasks"),
        Opt::value(
            "-y",
            "policies",
            "tasks of these scheduling policies only: numbers or names, as in 1,2 or FIFO,RR",
        ),
        Opt::flag("-A", "only what the processors ran"),
        Opt::flag("-H", "no line of column titles"),
        Opt::flag("-s", "the kernel stack pointer instead of the task's address"),
        Opt::flag("-Y", "the scheduling policy and the priority as columns too"),
        Opt::flag("-p", "each task's line of parents"),
        Opt::flag("-c", "each task's children"),
        Opt::flag("-t", "how long each ran, when it started, its user and system time"),
        Opt::flag("-l", "when each last came onto a processor, in nanoseconds of its clock, latest first"),
        Opt::flag("-m", "the same as the time since then"),
        Opt::value("-C", "cpus", "with -l and -m: a block for each of these processors, as in 0,2-4 or all"),
        Opt::flag("-a", "arguments and environment of user tasks"),
        Opt::flag("-g", "the threads of each group"),
        Opt::flag("-r", "resource limits"),
        Opt::flag("-S", "how many tasks are in each state"),
    ],
    help: include_str!("../ps.md"),
    run: Run::Both { once, per_task },
};

/// What is shown of the tasks; one at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Show {
    Table,
    Parents,
    Children,
    Times,
    LastRun,
    Strings,
    Groups,
    Limits,
    Summary,
}

const SHOWS: [(&str, Show); 9] = [
    ("-p", Show::Parents),
    ("-c", Show::Children),
    ("-t", Show::Times),
    ("-l", Show::LastRun),
    ("-m", Show::LastRun),
    ("-a", Show::Strings),
    ("-g", Show::Groups),
    ("-r", Show::Limits),
    ("-S", Show::Summary),
];

impl Show {
    fn parse(args: &Args) -> Result<Self, UsageError> {
        let mut given = SHOWS.iter().filter(|(name, _)| args.has(name));
        let show = given.next();
        if let (Some((first, _)), Some((second, _))) = (show, given.next()) {
            return Err(UsageError::new(
                "ps",
                format!("{first} and {second} are two different views: give one"),
            ));
        }
        let show = show.map_or(Self::Table, |(_, show)| *show);
        if args.has("-C") && show != Self::LastRun {
            return Err(UsageError::new("ps", "-C goes with -l or -m"));
        }
        Ok(show)
    }
}

fn once(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    let show = Show::parse(args)?;
    let filter = Filter::parse(args)?;
    let tasks = Tasks::find(&cx.kernel);
    for lacks in &tasks.incomplete {
        cx.lacks(lacks, "list of tasks", String::new);
    }
    for processor in tasks.processors() {
        if let Err(lacks) = &processor.current {
            cx.lacks(lacks, "what a processor ran", || format!("CPU {}", processor.cpu));
        }
    }
    let (chosen, unknown) = choose::named(&tasks, &args.operands)?;
    let chosen: Vec<&Task> = chosen.into_iter().filter(|task| filter.holds(cx, &tasks, task)).collect();
    self::show(cx, args, show, &tasks, &chosen, out)?;
    match unknown {
        Some(word) => Err(CommandError::NotFound {
            what: format!("ps: {word} is no pid, task address or command name in this dump"),
            hint: Some("`ps` without operands lists the tasks".into()),
        }),
        None => Ok(()),
    }
}

fn per_task(cx: &mut Cx, args: &Args, task: &Task, out: &mut dyn Sink) -> Result<(), CommandError> {
    let show = Show::parse(args)?;
    let filter = Filter::parse(args)?;
    let tasks = Tasks::find(&cx.kernel);
    if !filter.holds(cx, &tasks, task) {
        return Ok(());
    }
    self::show(cx, args, show, &tasks, &[task], out)
}

fn show(
    cx: &mut Cx,
    args: &Args,
    show: Show,
    tasks: &Tasks,
    chosen: &[&Task],
    out: &mut dyn Sink,
) -> Result<(), CommandError> {
    match show {
        Show::Table => table::show(cx, args, tasks, chosen, out),
        Show::Parents => families::parents(cx, tasks, chosen, out),
        Show::Children => families::children(cx, tasks, chosen, out),
        Show::Groups => families::groups(cx, tasks, chosen, out),
        Show::Times => times::show(cx, chosen, out),
        Show::LastRun => last_run::show(cx, args, tasks, chosen, out),
        Show::Strings => strings::show(cx, chosen, out),
        Show::Limits => limits::show(cx, chosen, out),
        Show::Summary => table::summary(cx, tasks, chosen, out),
    }
}

/// Emits a blank line before every block but the first.
#[derive(Default)]
struct Blocks {
    started: bool,
}

impl Blocks {
    fn next(&mut self, out: &mut dyn Sink) -> Result<(), CommandError> {
        if std::mem::replace(&mut self.started, true) {
            out.heading("\n")?;
        }
        Ok(())
    }
}
