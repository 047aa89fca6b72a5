//! `runq`: what waits for the processors.

mod clocks;
mod groups;
mod queues;
mod row;

use crate::args::{Args, Opt, UsageError};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::operand;
use crate::sink::Sink;

/// Shows run queues.
pub(crate) static RUNQ: Command = Command {
    names: &["runq"],
    group: Group::Tasks,
    summary: "what waits for the processors",
    operands: "",
    options: &[
        Opt::flag("-t", "the clock of each run queue, and when its current task came onto the processor"),
        Opt::flag("-T", "how far each processor's clock is behind the latest"),
        Opt::flag("-m", "how long each current task has been running"),
        Opt::flag("-g", "by task group"),
        Opt::value("-c", "cpus", "these processors only, as in 0,2-4"),
    ],
    help: include_str!("runq.md"),
    run: Run::Once(run),
};

fn run(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    if let Some(word) = args.operands.first() {
        return Err(UsageError::new("runq", format!("{word}: runq takes no operands")).into());
    }
    let cpus = operand::cpus(cx, "runq", args.value("-c"))?;
    match VIEWS.iter().find(|(name, _)| args.has(name)) {
        Some((_, view)) => view(cx, &cpus, out),
        None => queues::show(cx, &cpus, out),
    }
}

/// What shows the queues of processors in one way.
type View = fn(&mut Cx, &[u32], &mut dyn Sink) -> Result<(), CommandError>;

/// Of several, the first of these: crash's order.
const VIEWS: [(&str, View); 4] =
    [("-t", clocks::stamps), ("-T", clocks::lags), ("-m", clocks::running), ("-g", groups::show)];
