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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_crashs() {
        let timer = |expires: u64, tte| TimerRow {
            expires,
            tte: Some(tte),
            timer: VirtAddr(0xff),
            function: Function::named(VirtAddr(0x1), "f"),
        };
        let timers = vec![timer(4_294_895_434, -7), timer(4_294_967_796, 72_355)];
        let wheel = WheelRow { cpu: 0, name: "BASE_DEF", base: VirtAddr(0x2), timers };
        let mut text = String::new();
        wheel.render(&(), &mut text).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "TIMER_BASES[0][BASE_DEF]: 0000000000000002");
        assert_eq!(lines[1], "  EXPIRES        TTE        TIMER_LIST     FUNCTION");
        assert_eq!(lines[2], "  4294895434      -7  00000000000000ff  0000000000000001  <f>");
        assert_eq!(lines[3], "  4294967796   72355  00000000000000ff  0000000000000001  <f>");
    }
}
