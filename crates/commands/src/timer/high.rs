//! High-resolution timers.

use std::fmt;

use kdive_base::VirtAddr;
use kdive_linux::system::Clock;
use kdive_linux::time::hrtimer::{ClockBase, CpuBase, HrTimer, cpu_base};
use kdive_target::Kernel;
use serde::Serialize;

use super::columns::{Function, centred, digits};
use crate::command::CommandError;
use crate::cx::Cx;
use crate::render::{Known, UNKNOWN};
use crate::sink::{Render, Sink, SinkExt};

/// A processor and its clocks.
#[derive(Serialize)]
struct CpuRow {
    cpu: u32,
    base: VirtAddr,
    clocks: Vec<ClockRow>,
}

#[derive(Serialize)]
struct ClockRow {
    clock: u32,
    base: VirtAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    get_time: Option<String>,
    /// The clock's time when the machine died, in nanoseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    current_ns: Option<i128>,
    timers: Vec<TimerRow>,
}

#[derive(Serialize)]
struct TimerRow {
    soft_expires_ns: u64,
    expires_ns: u64,
    /// Nanoseconds from now on; negative where it is overdue.
    #[serde(skip_serializing_if = "Option::is_none")]
    tte_ns: Option<i128>,
    timer: VirtAddr,
    #[serde(flatten)]
    function: Function,
}

impl TimerRow {
    fn new(kernel: &Kernel, timer: &HrTimer, now: Option<i128>) -> Self {
        Self {
            soft_expires_ns: timer.soft_expires,
            expires_ns: timer.expires,
            tte_ns: now.map(|now| i128::from(timer.expires) - now),
            timer: timer.at,
            function: Function::at(kernel, timer.function),
        }
    }
}

impl ClockRow {
    fn new(cx: &mut Cx, clock: &ClockBase, monotonic: Option<u64>) -> Self {
        for lacks in &clock.lacks {
            cx.lacks(lacks, "timers of a clock", || clock.at.to_string());
        }
        let offset = cx.known(clock.offset.clone(), "time of a clock", || clock.at.to_string());
        let current_ns = monotonic.zip(offset).map(|(now, offset)| i128::from(now) + i128::from(offset));
        let kernel = cx.kernel.clone();
        let timers = clock.timers.iter().map(|timer| TimerRow::new(&kernel, timer, current_ns));
        let timers = timers.collect();
        Self { clock: clock.index, base: clock.at, get_time: clock.clock.clone(), current_ns, timers }
    }
}

impl CpuRow {
    fn new(cx: &mut Cx, base: &CpuBase, monotonic: Option<u64>) -> Self {
        let clocks = base.clocks.iter().map(|clock| ClockRow::new(cx, clock, monotonic)).collect();
        Self { cpu: base.cpu, base: base.at, clocks }
    }
}

impl Render for CpuRow {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "CPU: {}  HRTIMER_CPU_BASE: {}", self.cpu, self.base)?;
        self.clocks.iter().try_for_each(|clock| {
            clock.render(out)?;
            writeln!(out)
        })
    }
}

impl ClockRow {
    fn render(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let name = self.get_time.as_deref().unwrap_or(UNKNOWN);
        writeln!(out, "  CLOCK: {}  HRTIMER_CLOCK_BASE: {}  [{name}]", self.clock, self.base)?;
        if self.timers.is_empty() {
            return writeln!(out, "  (empty)");
        }
        let due = digits(self.timers.iter().map(|timer| i128::from(timer.expires_ns)));
        let width = due.max("SOFTEXPIRES".len());
        let tte = digits(self.timers.iter().filter_map(|timer| timer.tte_ns)).max("TTE".len());
        let current = Known(self.current_ns).to_string();
        writeln!(out, "  {}", centred("CURRENT", width))?;
        writeln!(out, "  {}", centred(&current, width).trim_end())?;
        let (soft, hard) = (centred("SOFTEXPIRES", width), centred("EXPIRES", width));
        let (title, timer, function) = (centred("TTE", tte), "    HRTIMER     ", "    FUNCTION    ");
        writeln!(out, "  {soft}  {hard}  {title}  {timer}  {function}")?;
        for row in &self.timers {
            let (soft, hard) = (row.soft_expires_ns.to_string(), row.expires_ns.to_string());
            let (soft, hard) = (centred(&soft, width), centred(&hard, width));
            let left = Known(row.tte_ns).to_string();
            writeln!(out, "  {soft}  {hard}  {left:>tte$}  {}  {}", row.timer, row.function)?;
        }
        Ok(())
    }
}

pub(super) fn show(cx: &mut Cx, cpus: &[u32], out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let now = cx.known(Clock::find(&kernel), "CURRENT", String::new).map(|clock| clock.monotonic_ns);
    for &cpu in cpus {
        cx.cancel.check()?;
        let base = cx.known(cpu_base(&kernel, cpu), "high-resolution timers", || format!("CPU {cpu}"));
        if let Some(base) = base {
            out.row(&CpuRow::new(cx, &base, now), &())?;
        }
    }
    Ok(())
}
