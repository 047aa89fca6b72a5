//! Timers by ticks.

use std::fmt;

use kdive_base::VirtAddr;
use kdive_linux::time::jiffies;
use kdive_linux::time::wheel::{Timer, Wheel, wheels};
use kdive_target::Kernel;
use serde::Serialize;

use super::columns::{Function, digits};
use crate::command::CommandError;
use crate::cx::Cx;
use crate::render::Known;
use crate::sink::{Render, Sink, SinkExt};

#[derive(Serialize)]
struct Now {
    #[serde(skip_serializing_if = "Option::is_none")]
    jiffies: Option<u64>,
}

impl Render for Now {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let now = Known(self.jiffies).to_string();
        writeln!(out, "{:<1$}\n{now}\n", "JIFFIES", now.len())
    }
}

/// A wheel and its timers.
#[derive(Serialize)]
struct WheelRow {
    cpu: u32,
    name: &'static str,
    base: VirtAddr,
    timers: Vec<TimerRow>,
}

#[derive(Serialize)]
struct TimerRow {
    expires: u64,
    /// Jiffies from now on; negative where it is overdue.
    #[serde(skip_serializing_if = "Option::is_none")]
    tte: Option<i64>,
    timer: VirtAddr,
    #[serde(flatten)]
    function: Function,
}

impl TimerRow {
    fn new(kernel: &Kernel, timer: &Timer, now: Option<u64>) -> Self {
        Self {
            expires: timer.expires,
            tte: now.map(|now| timer.expires.wrapping_sub(now) as i64),
            timer: timer.at,
            function: Function::at(kernel, timer.function),
        }
    }
}

impl WheelRow {
    fn new(cx: &mut Cx, wheel: &Wheel, now: Option<u64>) -> Self {
        for lacks in &wheel.lacks {
            cx.lacks(lacks, "timers of a wheel", || wheel.at.to_string());
        }
        let kernel = cx.kernel.clone();
        let timers = wheel.timers.iter().map(|timer| TimerRow::new(&kernel, timer, now)).collect();
        Self { cpu: wheel.cpu, name: wheel.name, base: wheel.at, timers }
    }
}

impl Render for WheelRow {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "TIMER_BASES[{}][{}]: {}", self.cpu, self.name, self.base)?;
        if self.timers.is_empty() {
            return writeln!(out, "  (none)");
        }
        // One more than the digits of the largest, as if for a sign.
        let width = digits(self.timers.iter().filter_map(|timer| timer.tte).map(i128::from)).max(2) + 1;
        let due = digits(self.timers.iter().map(|timer| i128::from(timer.expires))).max("EXPIRES".len());
        let title = width + 3;
        let at = "   TIMER_LIST   ";
        writeln!(out, "  {:<due$}  {:<title$}  {at}  FUNCTION", "EXPIRES", "   TTE")?;
        for timer in &self.timers {
            let TimerRow { expires, timer, function, tte } = timer;
            writeln!(out, "  {expires:>due$}  {:>width$}  {timer}  {function}", Known(*tte))?;
        }
        Ok(())
    }
}

pub(super) fn show(cx: &mut Cx, cpus: &[u32], out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let now = cx.known(jiffies(&kernel), "JIFFIES", String::new);
    out.header(&Now { jiffies: now }, &())?;
    for (index, &cpu) in cpus.iter().enumerate() {
        cx.cancel.check()?;
        let Some(wheels) = cx.known(wheels(&kernel, cpu), "timer wheels", || format!("CPU {cpu}")) else {
            continue;
        };
        if index > 0 {
            out.heading("\n")?;
        }
        for wheel in &wheels {
            out.row(&WheelRow::new(cx, wheel, now), &())?;
        }
    }
    Ok(())
}
