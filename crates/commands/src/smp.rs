//! `smp`: what processors ask of one another.

use std::fmt;

use kdive_linux::smp::{CpuCalls, calls};

use crate::args::{Args, Opt};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::render::UNKNOWN;
use crate::sink::{Render, Sink, SinkExt};

/// Shows pending calls.
pub(crate) static SMP: Command = Command {
    names: &["smp"],
    group: Group::System,
    summary: "processors that do not answer: calls that are pending, and who waits for them",
    operands: "",
    options: &[Opt::flag("-a", "all processors")],
    help: include_str!("smp.md"),
    run: Run::Once(run),
};

fn run(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let mut any = false;
    for row in calls(&kernel) {
        cx.cancel.check()?;
        for lacks in &row.lacks {
            cx.lacks(lacks, "pending calls", || format!("CPU {}", row.cpu));
        }
        if args.has("-a") || row.is_noteworthy() {
            any = true;
            out.row(&row, &())?;
        }
    }
    if !any {
        out.heading("no processor waits for another\n")?;
    }
    Ok(())
}

impl Render for CpuCalls {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        write!(out, "CPU {} ran ", self.cpu)?;
        match &self.task {
            Some(task) => write!(out, "{task}")?,
            None => out.write_str(UNKNOWN)?,
        }
        if let Some(function) = &self.function {
            write!(out, " in {function}")?;
        }
        match (self.interrupts_off, self.idle) {
            (Some(true), false) => out.write_str(", interrupts off")?,
            (Some(false), false) => out.write_str(", interrupts on")?,
            _ => {}
        }
        match &self.waits_in {
            Some(function) if self.function.as_ref() != Some(function) => {
                writeln!(out, "; waits for others in {function}")?;
            }
            Some(_) => writeln!(out, "; waits for others")?,
            None => out.write_char('\n')?,
        }
        for call in &self.pending {
            write!(out, "  has not made: {}", call.kind.name())?;
            if let Some(function) = &call.function {
                write!(out, " of {function}")?;
            }
            match (call.from_cpu, &call.from) {
                (Some(cpu), Some(task)) => writeln!(out, ", asked by CPU {cpu}, {task} ({})", call.call)?,
                (Some(cpu), None) => writeln!(out, ", asked by CPU {cpu} ({})", call.call)?,
                _ => writeln!(out, " ({})", call.call)?,
            }
        }
        Ok(())
    }
}
