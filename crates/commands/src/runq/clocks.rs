//! The clocks of the run queues.

use std::fmt;

use kdive_linux::tasks::{Processor, Tasks};
use serde::Serialize;

use super::row::Name;
use crate::command::CommandError;
use crate::cx::Cx;
use crate::render::{Ago, Known, UNKNOWN};
use crate::sink::{Render, Sink, SinkExt};

/// A processor's clock, and the task that it ran.
#[derive(Debug, Serialize)]
struct Clock {
    cpu: u32,
    /// Nanoseconds, as of the last update.
    #[serde(skip_serializing_if = "Option::is_none")]
    clock: Option<u64>,
    #[serde(flatten)]
    current: Option<Name>,
    /// When the task came onto the processor, by the same clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_run: Option<u64>,
}

impl Clock {
    fn of(cx: &mut Cx, tasks: &Tasks, processor: &Processor) -> Self {
        let cpu = processor.cpu;
        let place = || format!("CPU {cpu}");
        let clock = processor.queue.clone().and_then(|queue| queue.clock);
        let clock = cx.known(clock, "clock of a processor", place);
        let current = cx.known(processor.current.clone(), "what a processor ran", place);
        let current = current.and_then(|at| tasks.at(at));
        let last_run =
            current.and_then(|task| cx.known(task.last_run.clone(), "time of the last run", place));
        Self { cpu, clock, current: current.map(Name::of), last_run }
    }

    fn name(&self) -> String {
        self.current.as_ref().map_or_else(|| UNKNOWN.to_owned(), Name::to_string)
    }
}

/// The clocks of these processors.
fn clocks(cx: &mut Cx, cpus: &[u32]) -> Vec<Clock> {
    let tasks = Tasks::find(&cx.kernel);
    let chosen = tasks.processors().iter().filter(|processor| cpus.contains(&processor.cpu));
    chosen.map(|processor| Clock::of(cx, &tasks, processor)).collect()
}

/// Numbers of processors align on their right, up to the width that crash allows for them.
fn label_width(cpu: u32, most: usize) -> usize {
    most.saturating_sub(cpu.to_string().len().saturating_sub(1)).max("CPU".len())
}

/// `-t`.
pub(super) fn stamps(cx: &mut Cx, cpus: &[u32], out: &mut dyn Sink) -> Result<(), CommandError> {
    clocks(cx, cpus).into_iter().try_for_each(|clock| Ok(out.row(&Stamps(clock), &())?))
}

#[derive(Serialize)]
#[serde(transparent)]
struct Stamps(Clock);

impl Render for Stamps {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let Self(clock) = self;
        let label = format!("{:>1$} {2}: ", "CPU", label_width(clock.cpu, 4), clock.cpu);
        let now = Known(clock.clock).to_string();
        // As many digits as the clock has.
        let then = clock.last_run.map(|then| format!("{:0>1$}", then, now.len()));
        writeln!(out, "{label}{now}")?;
        writeln!(out, "{:1$}{2}  {3}", "", label.len(), Known(then), clock.name())
    }
}

/// `-m`.
pub(super) fn running(cx: &mut Cx, cpus: &[u32], out: &mut dyn Sink) -> Result<(), CommandError> {
    clocks(cx, cpus).into_iter().try_for_each(|clock| Ok(out.row(&Running::of(clock), &())?))
}

#[derive(Serialize)]
struct Running {
    #[serde(flatten)]
    clock: Clock,
    #[serde(skip_serializing_if = "Option::is_none")]
    running_ns: Option<u64>,
}

impl Running {
    fn of(clock: Clock) -> Self {
        let running_ns = clock.clock.zip(clock.last_run).map(|(now, then)| now.saturating_sub(then));
        Self { clock, running_ns }
    }
}

impl Render for Running {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let time = Known(self.running_ns.map(Ago));
        let (cpu, name) = (self.clock.cpu, self.clock.name());
        writeln!(out, "{:>1$} {cpu}: [{time}]  {name}", "CPU", label_width(cpu, 4))
    }
}

/// `-T`: the latest clock first.
pub(super) fn lags(cx: &mut Cx, cpus: &[u32], out: &mut dyn Sink) -> Result<(), CommandError> {
    let mut clocks = clocks(cx, cpus);
    let latest = clocks.iter().filter_map(|clock| clock.clock).max();
    clocks.sort_by_key(|clock| std::cmp::Reverse(clock.clock));
    for clock in clocks {
        let lag_ns = latest.zip(clock.clock).map(|(latest, clock)| latest.saturating_sub(clock));
        out.row(&Lag { cpu: clock.cpu, clock: clock.clock, lag_ns }, &())?;
    }
    Ok(())
}

#[derive(Serialize)]
struct Lag {
    cpu: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    clock: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lag_ns: Option<u64>,
}

impl Render for Lag {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let lag = self.lag_ns.map(|ns| format!("{:.2}", ns as f64 / 1e9));
        writeln!(out, "{:>1$} {2}: {3} secs", "CPU", label_width(self.cpu, 5), self.cpu, Known(lag))
    }
}

#[cfg(test)]
mod tests {
    use kdive_base::VirtAddr;

    use super::*;

    fn clock(cpu: u32, last_run: u64) -> Clock {
        let current = Name { pid: Some(0), task: VirtAddr(0x10), command: Some("swapper".into()) };
        Clock { cpu, clock: Some(21_217_189_771), current: Some(current), last_run: Some(last_run) }
    }

    fn text<R: Render<View = ()>>(row: &R) -> String {
        let mut text = String::new();
        row.render(&(), &mut text).unwrap();
        text
    }

    #[test]
    fn clocks_align_as_crashs_do() {
        let task = "PID: 0      TASK: 0000000000000010  COMMAND: \"swapper\"";
        let stamps = text(&Stamps(clock(1, 5)));
        assert_eq!(stamps, format!(" CPU 1: 21217189771\n        00000000005  {task}\n"));
        let stamps = text(&Stamps(clock(10, 5)));
        assert_eq!(stamps, format!("CPU 10: 21217189771\n        00000000005  {task}\n"));
        let running = text(&Running::of(clock(0, 21_198_189_771)));
        assert_eq!(running, format!(" CPU 0: [0 00:00:00.019]  {task}\n"));
        let lag = Lag { cpu: 0, clock: None, lag_ns: Some(960_000_000) };
        assert_eq!(text(&lag), "  CPU 0: 0.96 secs\n");
    }
}
