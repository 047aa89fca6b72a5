//! `locks`: who waits for which lock, and who holds it.

pub(crate) mod graph;
mod row;

use kdive_linux::locking::{Cycle, Locks, Wait};
use serde::Serialize;

use crate::args::{Args, Opt};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::sink::{Sink, SinkExt};
pub(crate) use row::{Deadlock, Titled};

/// Shows locks that are waited for.
pub(crate) static LOCKS: Command = Command {
    names: &["locks"],
    group: Group::Tasks,
    summary: "tasks that wait for locks, who holds them, and deadlocks",
    operands: "",
    options: &[
        Opt::flag("-a", "everything that tasks wait for: futexes and sleepers that signals could wake too"),
        Opt::flag("--dot", "the graph of who waits for whom, for Graphviz"),
        Opt::flag("--svg", "the graph of who waits for whom, as a picture"),
    ],
    help: include_str!("../locks.md"),
    run: Run::Once(run),
};

/// What is said before the locks.
#[derive(Serialize)]
struct Summary {
    /// Tasks that wait.
    waiters: usize,
    /// What they wait for.
    locks: usize,
    /// Circles among them.
    deadlocks: Vec<Cycle>,
}

fn run(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let found = Locks::find(&kernel);
    note_lacking(cx, found);
    let all = args.has("-a");
    let chosen = |wait: &Wait| all || wait.is_blocked();
    if args.has("--dot") || args.has("--svg") {
        let graph = graph::Graph::new(found, &chosen);
        return Ok(out.text(&if args.has("--dot") { graph.dot() } else { graph.svg() })?);
    }
    let locks = found.grouped(chosen);
    let waiters = locks.iter().map(|lock| lock.waiters.len()).sum();
    out.header(&Summary { waiters, locks: locks.len(), deadlocks: found.cycles.clone() }, &())?;
    for lock in locks {
        cx.cancel.check()?;
        out.row(&lock, &())?;
    }
    Ok(())
}

/// Notes what of the waits could not be told.
pub(crate) fn note_lacking(cx: &mut Cx, locks: &Locks) {
    for (what, lacks) in &locks.lacks {
        cx.lacks(lacks, what, String::new);
    }
}
