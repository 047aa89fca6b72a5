//! Times: how long tasks have been there and how much they ran.

use std::fmt;

use kdive_linux::system::Clock;
use kdive_linux::tasks::Task;
use serde::Serialize;

use super::Blocks;
use crate::command::CommandError;
use crate::cx::Cx;
use crate::render::{Elapsed, Known, TaskLine};
use crate::sink::{Render, Sink, SinkExt};

const NANOS: u64 = 1_000_000_000;

#[derive(Serialize)]
struct Times {
    #[serde(flatten)]
    task: TaskLine,
    /// From its start to the death of the machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    run_time_ns: Option<u64>,
    /// As the kernel has it: nanoseconds since boot.
    #[serde(skip_serializing_if = "Option::is_none")]
    start_time: Option<u64>,
    /// As the kernel has it: nanoseconds since 4.11.
    #[serde(skip_serializing_if = "Option::is_none")]
    utime: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stime: Option<u64>,
}

impl Render for Times {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let run_time = self.run_time_ns.map(|ns| Elapsed { seconds: ns / NANOS });
        writeln!(out, "{}", self.task)?;
        writeln!(out, "    RUN TIME: {}", Known(run_time))?;
        writeln!(out, "  START TIME: {}", Known(self.start_time))?;
        writeln!(out, "       UTIME: {}", Known(self.utime))?;
        writeln!(out, "       STIME: {}", Known(self.stime))
    }
}

pub(super) fn show(cx: &mut Cx, chosen: &[&Task], out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let uptime = cx.known(Clock::find(&kernel), "RUN TIME", String::new).map(|clock| clock.uptime_ns());
    let mut blocks = Blocks::default();
    for task in chosen {
        let place = || format!("task {}", task.at);
        let start_time = cx.known(task.start_time.clone(), "START TIME", place);
        // The uptime counts sleep, and so does the start on the boot clock.
        let started = task.start_boottime.clone().ok().or(start_time);
        let times = Times {
            task: TaskLine::new(cx, task),
            run_time_ns: uptime.zip(started).map(|(now, start)| now.saturating_sub(start)),
            start_time,
            utime: cx.known(task.utime.clone(), "UTIME", place),
            stime: cx.known(task.stime.clone(), "STIME", place),
        };
        blocks.next(out)?;
        out.row(&times, &())?;
    }
    Ok(())
}
