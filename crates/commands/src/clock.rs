//! `clock`: what time it was, by which clock, and whether clocks can be trusted.

use std::fmt;

use kdive_base::VirtAddr;
use kdive_linux::system::{Clock, ticks_per_second};
use kdive_linux::tasks::Tasks;
use kdive_linux::time;
use kdive_linux::time::clocksource::{self, ClockSource};
use kdive_linux::time::pauses::{self, Pause};
use serde::Serialize;

use crate::args::Args;
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::render::{Age, Known, date};
use crate::sink::{Render, Sink, SinkExt};

/// Shows clocks.
pub(crate) static CLOCK: Command = Command {
    names: &["clock"],
    group: Group::System,
    summary: "what time it was, clock sources, stolen time, clocks that jumped",
    operands: "",
    options: &[],
    help: include_str!("clock.md"),
    run: Run::Once(run),
};

const NANOS: u64 = 1_000_000_000;

fn run(cx: &mut Cx, _: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let clock = cx.known(Clock::find(&kernel), "the time", String::new);
    out.header(&Times::new(cx, clock.as_ref()), &())?;
    let sources =
        cx.known(clocksource::clock_sources(&kernel), "clock sources", String::new).unwrap_or_default();
    let watchdog = clocksource::watchdog(&sources).map(|source| source.at);
    for source in &sources {
        out.row(&SourceRow::new(source, watchdog), &())?;
    }
    let tasks = Tasks::find(&kernel);
    for processor in tasks.processors() {
        cx.cancel.check()?;
        let stolen = clocksource::stolen(&kernel, processor.cpu);
        let queue = processor.queue.as_ref().ok();
        let row = CpuRow {
            cpu: processor.cpu,
            scheduler_ns: queue.and_then(|queue| queue.clock.clone().ok()),
            ahead_ns: queue
                .and_then(|queue| queue.clock.clone().ok())
                .zip(clock)
                .and_then(|(at, clock)| i64::try_from(i128::from(at) - i128::from(clock.monotonic_ns)).ok()),
            stolen_ns: cx.known(stolen, "stolen time", || format!("CPU {}", processor.cpu)),
        };
        out.row(&row, &())?;
    }
    for record in
        cx.known(clocksource::suspicious_records(&kernel), "the log", String::new).unwrap_or_default()
    {
        out.row(&LogRow { time_ns: record.time_ns, text: record.text }, &())?;
    }
    let steps = cx.known(clocksource::steps_back(&kernel), "the log", String::new).unwrap_or_default();
    for (before_ns, after_ns) in steps {
        out.row(&StepRow { before_ns, after_ns }, &())?;
    }
    let pauses = cx.known(pauses::pauses(&kernel), "pauses of the machine", String::new).unwrap_or_default();
    for pause in &pauses {
        out.row(&PauseRow::new(pause), &())?;
    }
    Ok(())
}

/// Seconds with three decimals.
fn seconds(ns: u64) -> String {
    format!("{}.{:03}", ns / NANOS, ns % NANOS / 1_000_000)
}

/// The times of the system.
#[derive(Debug, Serialize)]
struct Times {
    /// Nanoseconds since 1970, as of the last tick.
    #[serde(skip_serializing_if = "Option::is_none")]
    wall_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    boot_ns: Option<u64>,
    /// Nanoseconds since boot, time asleep left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    monotonic_ns: Option<u64>,
    /// Nanoseconds asleep.
    #[serde(skip_serializing_if = "Option::is_none")]
    suspended_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jiffies: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ticks_per_second: Option<u64>,
}

impl Times {
    fn new(cx: &mut Cx, clock: Option<&Clock>) -> Self {
        let kernel = cx.kernel.clone();
        Self {
            wall_ns: clock.map(|clock| clock.wall_ns),
            boot_ns: clock.map(|clock| clock.boot_ns),
            monotonic_ns: clock.map(|clock| clock.monotonic_ns),
            suspended_ns: clock.map(|clock| clock.uptime_ns().saturating_sub(clock.monotonic_ns)),
            jiffies: cx.known(time::jiffies(&kernel), "jiffies", String::new),
            ticks_per_second: cx.known(ticks_per_second(&kernel), "ticks per second", String::new),
        }
    }
}

impl Render for Times {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "wall time    {}", Known(self.wall_ns.and_then(date)))?;
        writeln!(out, "boot time    {}", Known(self.boot_ns.and_then(date)))?;
        writeln!(out, "monotonic    {} s since boot", Known(self.monotonic_ns.map(seconds)))?;
        if let Some(asleep) = self.suspended_ns.filter(|ns| *ns > 0) {
            writeln!(out, "suspended    {} s", seconds(asleep))?;
        }
        writeln!(out, "jiffies      {}, {} a second", Known(self.jiffies), Known(self.ticks_per_second))
    }
}

/// A clock source.
#[derive(Debug, Serialize)]
struct SourceRow {
    clocksource: VirtAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rating: Option<i32>,
    current: bool,
    /// It watches those that must be verified.
    watchdog: bool,
    must_verify: bool,
    unstable: bool,
}

impl SourceRow {
    fn new(of: &ClockSource, watchdog: Option<VirtAddr>) -> Self {
        Self {
            clocksource: of.at,
            name: of.name.clone().ok(),
            rating: of.rating.clone().ok(),
            current: of.is_current,
            watchdog: watchdog == Some(of.at),
            must_verify: of.must_verify,
            unstable: of.is_unstable,
        }
    }
}

impl Render for SourceRow {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        write!(out, "clocksource  {} {:<12}", self.clocksource, Known(self.name.as_deref()))?;
        write!(out, " rating {:>3}", Known(self.rating))?;
        let marks = [
            (self.current, "in use"),
            (self.watchdog, "the watchdog"),
            (self.must_verify, "watched"),
            (self.unstable, "UNSTABLE"),
        ];
        let marks: Vec<&str> = marks.into_iter().filter_map(|(is, mark)| is.then_some(mark)).collect();
        match marks.is_empty() {
            true => writeln!(out),
            false => writeln!(out, "  {}", marks.join(", ")),
        }
    }
}

/// A processor's clocks.
#[derive(Debug, Serialize)]
struct CpuRow {
    cpu: u32,
    /// The scheduler's clock, as of its last update.
    #[serde(skip_serializing_if = "Option::is_none")]
    scheduler_ns: Option<u64>,
    /// How far it is ahead of the monotonic clock's last tick: below zero for a processor that slept.
    #[serde(skip_serializing_if = "Option::is_none")]
    ahead_ns: Option<i64>,
    /// Time that a hypervisor took.
    #[serde(skip_serializing_if = "Option::is_none")]
    stolen_ns: Option<u64>,
}

impl Render for CpuRow {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let ahead = self.ahead_ns.map(|ns| {
            let side = if ns < 0 { "behind" } else { "ahead of" };
            format!("{} s {side} the monotonic clock", seconds(ns.unsigned_abs()))
        });
        write!(
            out,
            "CPU {:<8} scheduler clock {} s, {}",
            self.cpu,
            Known(self.scheduler_ns.map(seconds)),
            Known(ahead)
        )?;
        writeln!(out, "; {} s stolen", Known(self.stolen_ns.map(seconds)))
    }
}

/// A record of the log about a clock.
#[derive(Debug, Serialize)]
struct LogRow {
    #[serde(skip_serializing_if = "Option::is_none")]
    time_ns: Option<u64>,
    text: String,
}

impl Render for LogRow {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "log          [{:>12}] {}", Known(self.time_ns.map(seconds)), self.text)
    }
}

/// The log's own clock ran backwards.
#[derive(Debug, Serialize)]
struct StepRow {
    before_ns: u64,
    after_ns: u64,
}

impl Render for StepRow {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(
            out,
            "log          time ran backwards: {} s, then {} s",
            seconds(self.before_ns),
            seconds(self.after_ns)
        )
    }
}

/// A time in which no processor ran.
#[derive(Debug, Serialize)]
struct PauseRow {
    /// When it began at the earliest, by the clock of the log.
    paused_from_ns: u64,
    /// When the first sign of it was logged.
    paused_to_ns: u64,
    /// Records that tell of it.
    signs: usize,
}

impl PauseRow {
    fn new(of: &Pause) -> Self {
        Self { paused_from_ns: of.from_ns, paused_to_ns: of.to_ns, signs: of.signs.len() }
    }
}

impl Render for PauseRow {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let (from, to) = (self.paused_from_ns, self.paused_to_ns);
        let lasted = Age(to.saturating_sub(from));
        writeln!(
            out,
            "PAUSED       no processor ran for {lasted}, from about {} s to {} s: the machine was stopped from outside",
            seconds(from),
            seconds(to)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_says_what_it_is_for() {
        let row = SourceRow {
            clocksource: VirtAddr(0xffff_ffff_8a00_0000),
            name: Some("tsc".into()),
            rating: Some(300),
            current: true,
            watchdog: false,
            must_verify: true,
            unstable: false,
        };
        let mut text = String::new();
        row.render(&(), &mut text).unwrap();
        assert_eq!(text, "clocksource  ffffffff8a000000 tsc          rating 300  in use, watched\n");
    }
}
