//! `overdue`: timers that should have run.

use std::fmt;

use kdive_linux::time::overdue::{Overdue, overdue};

use crate::args::{Args, Opt, UsageError};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::render::{Age, UNKNOWN};
use crate::sink::{Render, Sink, SinkExt};

/// Shows late timers.
pub(crate) static OVERDUE: Command = Command {
    names: &["overdue"],
    group: Group::System,
    summary: "timers whose time has come and that have not run",
    operands: "",
    options: &[
        Opt::value("-m", "milliseconds", "those that are late by at least this much; 1000 without it"),
        Opt::flag("-a", "timers too that may wait for as long as their processor idles"),
    ],
    help: include_str!("overdue.md"),
    run: Run::Once(run),
};

/// A tick that comes late, and the time that it takes to die, are no trouble.
const LEAST_MS: u64 = 1000;

fn run(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    let wrong = |word: &str| UsageError::new("overdue", format!("-m {word}: expected a number"));
    let least = args.value("-m").map(|word| word.parse::<u64>().map_err(|_| wrong(word))).transpose()?;
    let kernel = cx.kernel.clone();
    let (timers, lacks) = overdue(&kernel, least.unwrap_or(LEAST_MS).saturating_mul(1_000_000));
    for why in &lacks {
        cx.lacks(why, "timers", String::new);
    }
    let mut any = false;
    for timer in timers.iter().filter(|timer| args.has("-a") || !timer.deferrable) {
        cx.cancel.check()?;
        if !any {
            out.heading(" CPU     LATE  TIMER             KIND        FUNCTION\n")?;
        }
        any = true;
        out.row(timer, &())?;
    }
    if !any {
        out.heading("no timer is overdue\n")?;
    }
    Ok(())
}

impl Render for Overdue {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let kind = match (self.high_resolution, self.deferrable) {
            (true, _) => "hrtimer",
            (false, true) => "deferrable",
            (false, false) => "timer",
        };
        let function = self.function.as_deref().unwrap_or(UNKNOWN);
        writeln!(out, " {:>3}  {:>7}  {}  {kind:<10}  {function}", self.cpu, Age(self.late_ns), self.timer)
    }
}
