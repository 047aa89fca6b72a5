//! `irq`: interrupts.

mod descs;
mod stats;
mod vectors;

use crate::args::{Args, Opt, UsageError};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::operand;
use crate::sink::Sink;

/// Shows interrupts.
pub(crate) static IRQ: Command = Command {
    names: &["irq"],
    group: Group::System,
    summary: "interrupts: who handles them, where they may go, how often they came",
    operands: "[number]...",
    options: &[
        Opt::flag("-u", "those that have a descriptor only"),
        Opt::flag("-d", "the interrupt descriptor table"),
        Opt::flag("-b", "the handlers of soft interrupts"),
        Opt::flag("-a", "the processors that each may come to"),
        Opt::flag("-s", "how often each came to each processor"),
        Opt::value("-c", "cpus", "with -s: these processors only, as in 0,2-4 or all"),
    ],
    help: include_str!("irq.md"),
    run: Run::Once(run),
};

/// What shows interrupts in one way.
type View = fn(&mut Cx, &Args, &mut dyn Sink) -> Result<(), CommandError>;

/// Of several, the first of these: crash's order.
const VIEWS: [(&str, View); 5] = [
    ("-d", vectors::idt),
    ("-b", vectors::softirqs),
    ("-a", stats::affinity),
    ("-s", stats::show),
    ("-u", descs::show),
];

fn run(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    let view = VIEWS.iter().find(|(name, _)| args.has(name));
    if args.has("-c") && !args.has("-s") {
        return Err(UsageError::new("irq", "-c goes with -s").into());
    }
    match view {
        Some((name @ ("-d" | "-b"), _)) if !args.operands.is_empty() => {
            Err(UsageError::new("irq", format!("{name} takes no numbers of interrupts")).into())
        }
        Some((_, view)) => view(cx, args, out),
        None => descs::show(cx, args, out),
    }
}

/// The number of an interrupt, below their count.
fn number(word: &str, count: u64) -> Result<u64, CommandError> {
    let number = operand::count("irq", word)?;
    if number < count {
        return Ok(number);
    }
    Err(CommandError::not_found(format!(
        "irq: there is no interrupt {word}: the highest is {}",
        count.saturating_sub(1)
    )))
}
