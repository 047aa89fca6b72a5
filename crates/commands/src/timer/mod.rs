//! `timer`: what the kernel means to do later.

mod columns;
mod high;
mod wheels;

use crate::args::{Args, Opt, UsageError};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::operand;
use crate::sink::Sink;

/// Shows timers.
pub(crate) static TIMER: Command = Command {
    names: &["timer"],
    group: Group::System,
    summary: "the timers that wait, by the time at which they are due",
    operands: "",
    options: &[
        Opt::flag("-r", "high-resolution timers, by clock"),
        Opt::value("-C", "cpus", "those of these processors only, as in 0,2-4"),
    ],
    help: include_str!("timer.md"),
    run: Run::Once(run),
};

fn run(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    if let Some(word) = args.operands.first() {
        return Err(UsageError::new("timer", format!("{word}: timer takes no operands")).into());
    }
    let cpus = operand::cpus(cx, "timer", args.value("-C"))?;
    if args.has("-r") { high::show(cx, &cpus, out) } else { wheels::show(cx, &cpus, out) }
}
