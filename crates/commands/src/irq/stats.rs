//! How often interrupts came, and where they may go.

use std::fmt;

use kdive_linux::irq::Irqs;
use kdive_target::os::CpuMask;
use serde::Serialize;

use super::descs::{handled, handlers};
use crate::args::Args;
use crate::command::CommandError;
use crate::cx::Cx;
use crate::operand;
use crate::render::Known;
use crate::sink::{Render, Sink, SinkExt};

#[derive(Serialize)]
struct StatRow {
    irq: u64,
    counts: Vec<Count>,
    #[serde(skip_serializing_if = "Option::is_none")]
    chip: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    flow: Option<String>,
    handlers: Vec<String>,
}

#[derive(Serialize)]
struct Count {
    cpu: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u32>,
}

impl Render for StatRow {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        write!(out, "{:>3}:", self.irq)?;
        self.counts.iter().try_for_each(|of| write!(out, " {:>10}", Known(of.count)))?;
        write!(out, " {:>8}", self.chip.as_deref().unwrap_or_default())?;
        if let Some(flow) = &self.flow {
            write!(out, "-{flow:<8}")?;
        }
        writeln!(out, " {}", self.handlers.join(","))
    }
}

/// `-s`.
pub(super) fn show(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let irqs = Irqs::new(&kernel);
    let cpus = operand::cpus(cx, "irq", args.value("-c"))?;
    let titles: String = cpus.iter().map(|cpu| format!(" {:>10}", format!("CPU{cpu}"))).collect();
    out.heading(&format!("    {titles} \n"))?;
    for desc in handled(cx, args, &irqs)? {
        cx.cancel.check()?;
        let place = || format!("IRQ {}", desc.irq);
        let mut count = |cpu: u32| {
            let count = cx.known(irqs.times(&desc, cpu), "count of an interrupt", place);
            Count { cpu, count }
        };
        let counts = cpus.iter().map(|cpu| count(*cpu)).collect();
        let chip = cx.known(irqs.chip(&desc), "name of a chip", place).flatten();
        let flow = cx.known(irqs.flow(&desc), "name of an interrupt", place).flatten();
        let handlers = handlers(cx, &desc);
        out.row(&StatRow { irq: desc.irq, counts, chip, flow, handlers }, &())?;
    }
    Ok(())
}

#[derive(Serialize)]
struct AffinityRow {
    irq: u64,
    handlers: Vec<String>,
    /// Processors, as in `0-3,8`.
    #[serde(skip_serializing_if = "Option::is_none")]
    affinity: Option<String>,
}

impl Render for AffinityRow {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "{:>3} {:<20} {}", self.irq, self.handlers.join(","), Known(self.affinity.as_ref()))
    }
}

/// `-a`.
pub(super) fn affinity(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let irqs = Irqs::new(&kernel);
    let limit = kernel.cpus()?.limit;
    out.heading("IRQ NAME                 AFFINITY\n")?;
    for desc in handled(cx, args, &irqs)? {
        cx.cancel.check()?;
        let mask = cx.known(irqs.affinity(&desc), "AFFINITY", || format!("IRQ {}", desc.irq));
        let affinity = mask.map(|mask| list(&mask, limit));
        let handlers = handlers(cx, &desc);
        out.row(&AffinityRow { irq: desc.irq, handlers, affinity }, &())?;
    }
    Ok(())
}

/// The processors of a mask, as in `0-3,8`.
fn list(mask: &CpuMask, limit: u32) -> String {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for cpu in mask.iter().take_while(|cpu| *cpu < limit) {
        match runs.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(cpu) => *last = cpu,
            _ => runs.push((cpu, cpu)),
        }
    }
    let run = |(first, last): (u32, u32)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    runs.into_iter().map(run).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_listed_in_runs() {
        assert_eq!(list(&CpuMask::new(vec![0b1_0110_1111]), 64), "0-3,5-6,8");
        assert_eq!(list(&CpuMask::new(vec![u64::MAX]), 2), "0-1");
        assert_eq!(list(&CpuMask::new(vec![0]), 2), "");
    }
}
