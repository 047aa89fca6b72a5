//! `rcu`: the grace period, and who holds it out.

use std::fmt;

use kdive_linux::locking::{Holder, Locks, Wait};
use kdive_linux::rcu::{Callbacks, GracePeriod, Rcu, RcuTasks, Srcu};
use kdive_linux::tasks::{State, TaskName, Tasks};
use kdive_target::Kernel;
use serde::Serialize;

use crate::args::Args;
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::render::{Age, Known, UNKNOWN};
use crate::sink::{Render, Sink, SinkExt};

/// Shows RCU.
pub(crate) static RCU: Command = Command {
    names: &["rcu"],
    group: Group::System,
    summary: "grace periods of RCU, SRCU and RCU Tasks, who holds them out, callbacks",
    operands: "",
    options: &[],
    help: include_str!("rcu.md"),
    run: Run::Once(run),
};

/// The grace period.
#[derive(Serialize)]
struct Period {
    #[serde(flatten)]
    period: GracePeriod,
    /// The state of its thread.
    #[serde(skip_serializing_if = "Option::is_none")]
    thread_state: Option<State>,
}

/// One processor.
#[derive(Serialize)]
struct CpuRow {
    #[serde(flatten)]
    callbacks: Callbacks,
    /// Whether the grace period waits for it.
    holds_out: bool,
    /// The task that it ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
    /// That task's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<String>,
}

/// A `struct srcu_struct` whose grace period tasks wait for.
#[derive(Serialize)]
struct SrcuRow {
    #[serde(flatten)]
    srcu: Srcu,
    /// Who is likely to be a reader in it.
    holders: Vec<Holder>,
    /// Who waits for its grace period.
    waiters: Vec<TaskName>,
}

/// A flavour of RCU Tasks whose grace period is under way.
#[derive(Serialize)]
struct TasksRow {
    #[serde(flatten)]
    tasks: RcuTasks,
    /// Who waits for its grace period.
    waiters: Vec<TaskName>,
}

/// The flavours that have grace periods of their own, where one is under way or waited for.
fn others(cx: &mut Cx, kernel: &Kernel, out: &mut dyn Sink) -> Result<(), CommandError> {
    let waits = &Locks::find(kernel).waits;
    for tasks in RcuTasks::find(kernel).into_iter().filter(|tasks| tasks.in_progress) {
        cx.cancel.check()?;
        let own = waits.iter().filter(|wait| wait.name.as_deref() == Some(tasks.flavour));
        let waiters = own.map(|wait| wait.task.clone()).collect();
        out.row(&TasksRow { tasks, waiters }, &())?;
    }
    let mut shown = Vec::new();
    let is_srcu = |wait: &&Wait| wait.name.as_deref().is_some_and(|name| name.starts_with("srcu"));
    for wait in waits.iter().filter(is_srcu) {
        cx.cancel.check()?;
        let Some(at) = wait.lock.filter(|at| !shown.contains(at)) else { continue };
        shown.push(at);
        let Some(srcu) = cx.known(Srcu::at(kernel, at), "SRCU", || format!("srcu_struct {at:#}")) else {
            continue;
        };
        let own = waits.iter().filter(|wait| wait.lock == Some(at));
        let waiters = own.map(|wait| wait.task.clone()).collect();
        out.row(&SrcuRow { srcu, holders: wait.holders.clone(), waiters }, &())?;
    }
    Ok(())
}

fn run(cx: &mut Cx, _args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let Rcu { period, callbacks, lacks } = Rcu::find(&kernel)?;
    for (what, why) in &lacks {
        cx.lacks(why, what, String::new);
    }
    let tasks = Tasks::find(&kernel);
    let thread = period.thread.as_ref().and_then(|thread| tasks.at(thread.task));
    let thread_state = thread.and_then(|task| tasks.bits.state(task));
    let held: Vec<u32> = period.holdouts.iter().filter_map(|holdout| holdout.cpu).collect();
    out.header(&Period { period, thread_state }, &())?;
    out.heading("\n CPU  WAITED FOR  TICKS  BEHIND  CALLBACKS  MOST OF THEM            RAN\n")?;
    for callbacks in callbacks {
        cx.cancel.check()?;
        let task = tasks.on_cpu(callbacks.cpu);
        let row = CpuRow {
            holds_out: held.contains(&callbacks.cpu),
            pid: task.and_then(|task| task.pid.clone().ok()),
            command: task.map(|task| task.name().to_owned()),
            callbacks,
        };
        out.row(&row, &())?;
    }
    others(cx, &kernel, out)
}

/// `, waited for by 260 srcu_waiter`
struct WaitedForBy<'t>(&'t [TaskName]);

impl fmt::Display for WaitedForBy<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, task) in self.0.iter().enumerate() {
            write!(f, "{} {task}", if index == 0 { ", waited for by" } else { "," })?;
        }
        Ok(())
    }
}

impl Render for SrcuRow {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let Srcu { srcu, name, number, in_progress, age_ns, readers } = &self.srcu;
        write!(out, "\nsrcu {srcu}")?;
        if let Some(name) = name {
            write!(out, " {name}")?;
        }
        match (in_progress, age_ns) {
            (true, Some(age)) => write!(out, ": grace period {} has lasted {}", Known(*number), Age(*age))?,
            (true, None) => write!(out, ": grace period {} is under way", Known(*number))?,
            (false, _) => write!(out, ": no grace period is under way, the last was {}", Known(*number))?,
        }
        let inside = if *readers == Some(1) { "reader" } else { "readers" };
        writeln!(out, ", {} {inside} inside{}", Known(*readers), WaitedForBy(&self.waiters))?;
        self.holders.iter().try_for_each(|holder| {
            write!(out, "  perhaps held out by {} (", holder.task)?;
            for (index, evidence) in holder.evidence.iter().enumerate() {
                write!(out, "{}{}", if index > 0 { ", " } else { "" }, evidence.words())?;
            }
            writeln!(out, ")")
        })
    }
}

impl Render for TasksRow {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let RcuTasks { flavour, number, age_ns, thread, holdouts, .. } = &self.tasks;
        write!(out, "\n{flavour}: grace period {} has lasted {}", Known(*number), Known(age_ns.map(Age)))?;
        if let Some(thread) = thread {
            write!(out, ", its thread is {thread}")?;
        }
        writeln!(out, "{}", WaitedForBy(&self.waiters))?;
        holdouts.iter().try_for_each(|task| writeln!(out, "  held out by {task}"))
    }
}

impl Render for Period {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let period = &self.period;
        let number = Known(period.number);
        match (period.in_progress, period.age_ns) {
            (true, Some(age)) => write!(out, "grace period {number} has lasted {}", Age(age))?,
            (true, None) => write!(out, "grace period {number} is under way")?,
            (false, _) => write!(out, "no grace period is under way, the last was {number}")?,
        }
        if period.stalled {
            write!(out, ": STALLED (the kernel says so after {} s)", Known(period.stall_timeout_s))?;
        }
        out.write_char('\n')?;
        if period.expedited {
            writeln!(out, "an expedited grace period is under way")?;
        }
        if let Some(thread) = &period.thread {
            write!(out, "its thread: {thread}, {}", self.thread_state.map_or(UNKNOWN, State::letters))?;
            if let Some(state) = &period.state {
                write!(out, ", {state}")?;
            }
            match period.idle_ns {
                Some(idle) => writeln!(out, ", last active {} ago", Age(idle))?,
                None => out.write_char('\n')?,
            }
        }
        for holdout in &period.holdouts {
            let which = if holdout.expedited { "the expedited one waits for" } else { "it waits for" };
            match (holdout.cpu, &holdout.task) {
                (Some(cpu), Some(task)) => writeln!(out, "{which} CPU {cpu}, which ran {task}")?,
                (Some(cpu), None) => writeln!(out, "{which} CPU {cpu}")?,
                (None, Some(task)) => writeln!(out, "{which} {task}, preempted in a reader")?,
                (None, None) => {}
            }
        }
        Ok(())
    }
}

impl Render for CpuRow {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let Callbacks { cpu, count, behind, ticks, functions } = &self.callbacks;
        let most = functions.first().map(|(name, count)| format!("{name} {count}")).unwrap_or_default();
        let holds_out = if self.holds_out { "yes" } else { "" };
        write!(out, " {cpu:>3}  {holds_out:<10}  {:>5}  {:>6}  ", Known(*ticks), Known(*behind))?;
        write!(out, "{:>9}  {most:<22}  ", Known(*count))?;
        writeln!(out, "{} {}", Known(self.pid), self.command.as_deref().unwrap_or(UNKNOWN))
    }
}
