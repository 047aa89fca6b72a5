//! When tasks last came onto a processor.

use std::fmt;

use kdive_linux::tasks::{State, Task, Tasks};
use serde::Serialize;

use super::Blocks;
use crate::args::{Args, number_list};
use crate::command::CommandError;
use crate::cx::Cx;
use crate::render::{Ago, TaskLine, UNKNOWN};
use crate::settings::Radix;
use crate::sink::{Render, Sink, SinkExt};

#[derive(Serialize)]
struct LastRun {
    #[serde(flatten)]
    task: TaskLine,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<State>,
    /// Nanoseconds of the processor's scheduler clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_run: Option<u64>,
    /// From then to the last update of that clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    ago_ns: Option<u64>,
}

/// How the time is shown, and how wide.
#[derive(Clone, Copy, Debug)]
struct View {
    ago: bool,
    radix: Radix,
    width: usize,
}

impl View {
    fn time(&self, row: &LastRun) -> String {
        match (self.ago, row.last_run, row.ago_ns) {
            (false, Some(time), _) if self.radix == Radix::Hexadecimal => format!("{time:x}"),
            (false, Some(time), _) => time.to_string(),
            (true, _, Some(ago)) => Ago(ago).to_string(),
            _ => UNKNOWN.to_owned(),
        }
    }
}

impl Render for LastRun {
    type View = View;

    fn render(&self, view: &View, out: &mut dyn fmt::Write) -> fmt::Result {
        let (time, width) = (view.time(self), view.width);
        writeln!(out, "[{time:>width$}] [{}]  {}", self.state.map_or(UNKNOWN, State::letters), self.task)
    }
}

pub(super) fn show(
    cx: &mut Cx,
    args: &Args,
    tasks: &Tasks,
    chosen: &[&Task],
    out: &mut dyn Sink,
) -> Result<(), CommandError> {
    let mut rows: Vec<LastRun> = chosen.iter().map(|task| row(cx, tasks, task)).collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.last_run));
    let mut view = View { ago: args.has("-m"), radix: cx.settings.radix, width: 0 };
    view.width = rows.iter().map(|row| view.time(row).len()).max().unwrap_or(0);
    let Some(list) = args.value("-C") else {
        return rows.iter().try_for_each(|row| Ok(out.row(row, &view)?));
    };
    let mut blocks = Blocks::default();
    for cpu in number_list("ps", list, cx.kernel.cpus()?.limit)? {
        blocks.next(out)?;
        out.heading(&format!("CPU: {cpu}\n"))?;
        for row in rows.iter().filter(|row| row.task.cpu == Some(cpu)) {
            out.row(row, &view)?;
        }
    }
    Ok(())
}

fn row(cx: &mut Cx, tasks: &Tasks, task: &Task) -> LastRun {
    let last_run = cx.known(task.last_run.clone(), "time of the last run", || format!("task {}", task.at));
    let processor = |cpu: u32| tasks.processors().iter().find(|processor| processor.cpu == cpu);
    let clock = task.cpu.as_ref().ok().and_then(|cpu| processor(*cpu)).and_then(|processor| {
        let clock = processor.queue.clone().and_then(|queue| queue.clock);
        cx.known(clock, "clock of a processor", || format!("CPU {}", processor.cpu))
    });
    let state = tasks.bits.state(task);
    if let (None, Err(lacks)) = (state, &task.state) {
        cx.lacks(lacks, "ST", || format!("task {}", task.at));
    }
    let ago_ns = last_run.zip(clock).map(|(time, now)| now.saturating_sub(time));
    LastRun { task: TaskLine::new(cx, task), state, last_run, ago_ns }
}

#[cfg(test)]
mod tests {
    use kdive_base::VirtAddr;

    use super::*;

    const NANOS: u64 = 1_000_000_000;

    #[test]
    fn times_are_shown_as_crash_shows_them() {
        let task =
            TaskLine { pid: Some(18), task: VirtAddr(0x10), cpu: Some(0), command: Some("rcu".into()) };
        let row = LastRun {
            task,
            state: Some(State::Idle),
            last_run: Some(1_000),
            ago_ns: Some(90_061 * NANOS + 3_400_000),
        };
        let text = |view: View| {
            let mut text = String::new();
            row.render(&view, &mut text).unwrap();
            text
        };
        let view = View { ago: false, radix: Radix::Decimal, width: 6 };
        assert!(text(view).starts_with("[  1000] [ID]  PID: 18       TASK: 0000000000000010  CPU: 0  "));
        assert!(text(View { ago: true, ..view }).starts_with("[1 01:01:01.003] [ID]  PID"));
        assert!(text(View { radix: Radix::Hexadecimal, ..view }).starts_with("[   3e8] "));
    }
}
