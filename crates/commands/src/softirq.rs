//! `softirq`: soft interrupts that were raised and have not run.

use std::fmt;

use kdive_linux::softirq::{SoftIrqs, all};
use kdive_linux::tasks::State;

use crate::args::{Args, Opt};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::render::UNKNOWN;
use crate::sink::{Render, Sink, SinkExt};

/// Shows soft interrupts.
pub(crate) static SOFTIRQ: Command = Command {
    names: &["softirq"],
    group: Group::System,
    summary: "soft interrupts and tasklets that were raised and have not run",
    operands: "",
    options: &[Opt::flag("-a", "all processors")],
    help: include_str!("softirq.md"),
    run: Run::Once(run),
};

fn run(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let mut any = false;
    for row in all(&kernel) {
        cx.cancel.check()?;
        for lacks in &row.lacks {
            cx.lacks(lacks, "soft interrupts", || format!("CPU {}", row.cpu));
        }
        if args.has("-a") || row.is_pending() {
            any = true;
            out.row(&row, &())?;
        }
    }
    if !any {
        out.heading("no soft interrupt is pending\n")?;
    }
    Ok(())
}

impl Render for SoftIrqs {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let pending = if self.pending.is_empty() { "nothing".to_owned() } else { self.pending.join(", ") };
        write!(out, "CPU {}: {pending} pending", self.cpu)?;
        if let Some(thread) = &self.thread {
            write!(out, "; {thread} is {}", self.thread_state.map_or(UNKNOWN, State::letters))?;
        }
        out.write_char('\n')?;
        for tasklet in &self.tasklets {
            let kind = if tasklet.high { "high tasklet" } else { "tasklet" };
            write!(out, "  {kind} {}  {}", tasklet.tasklet, tasklet.function.as_deref().unwrap_or(UNKNOWN))?;
            match tasklet.disabled {
                Some(times @ 1..) => writeln!(out, "  (disabled {times} times)")?,
                _ => out.write_char('\n')?,
            }
        }
        Ok(())
    }
}
