//! The queues of each processor, class by class.

use std::fmt;

use kdive_base::VirtAddr;
use kdive_linux::sched::{CpuQueues, Queue};
use kdive_target::{Field, Lacks};
use serde::Serialize;

use super::row::{Entry, Name, QueueRow, Rows};
use crate::command::CommandError;
use crate::cx::Cx;
use crate::render::{Known, UNKNOWN};
use crate::sink::{Render, Sink, SinkExt};

/// One processor.
#[derive(Debug, Serialize)]
pub(super) struct CpuRow {
    pub(super) cpu: u32,
    runqueue: VirtAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    nr_running: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) current: Option<Name>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rt: Option<QueueRow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) fair: Option<QueueRow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) deadline: Option<QueueRow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ext: Option<QueueRow>,
}

impl CpuRow {
    pub(super) fn find(cx: &mut Cx, cpu: u32) -> Option<Self> {
        let kernel = cx.kernel.clone();
        let found = cx.known(CpuQueues::find(&kernel, cpu), "run queue", || format!("CPU {cpu}"))?;
        let place = || format!("CPU {cpu}");
        let nr_running = cx.known(found.nr_running.clone(), "tasks that are runnable", place);
        let mut queue = |queue: Field<Queue>, what: &str| match queue {
            Ok(queue) => Some(Rows::new(cx).queue(&queue)),
            // A kernel without the class has no queue of it: that is no gap.
            Err(Lacks::Member { .. }) if matches!(what, "deadline queue" | "queue of BPF schedulers") => None,
            Err(lacks) => {
                cx.lacks(&lacks, what, place);
                None
            }
        };
        Some(Self {
            cpu,
            runqueue: found.at,
            nr_running,
            rt: queue(found.rt, "real-time queue"),
            fair: queue(found.fair, "fair queue"),
            deadline: queue(found.deadline, "deadline queue"),
            ext: queue(found.ext, "queue of BPF schedulers"),
            current: Rows::new(cx).current(cpu),
        })
    }

    /// The line about what runs.
    pub(super) fn current_line(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        match &self.current {
            Some(current) => writeln!(out, "  CURRENT: {current}"),
            None => writeln!(out, "  CURRENT: {UNKNOWN}"),
        }
    }
}

impl Render for CpuRow {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "CPU {} RUNQUEUE: {}", self.cpu, self.runqueue)?;
        self.current_line(out)?;
        for (title, queue) in [("RT PRIO_ARRAY", &self.rt), ("CFS RB_ROOT", &self.fair)] {
            writeln!(out, "  {title}: {}", Known(queue.as_ref().map(|queue| queue.head)))?;
            if let Some(queue) = queue {
                entries(queue, out)?;
            }
        }
        // crash knows none of these: they take lines only where they have something to say.
        for (title, queue) in [("DL RB_ROOT", &self.deadline), ("SCX LOCAL_DSQ", &self.ext)] {
            if let Some(queue) = queue.as_ref().filter(|queue| !queue.queued.is_empty()) {
                writeln!(out, "  {title}: {}", queue.head)?;
                entries(queue, out)?;
            }
        }
        Ok(())
    }
}

fn entries(queue: &QueueRow, out: &mut dyn fmt::Write) -> fmt::Result {
    let mut any = false;
    queue.walk(&mut |entry| {
        any = true;
        line(entry, 5, out)?;
        out.write_str("\n")
    })?;
    if any { Ok(()) } else { writeln!(out, "     [no tasks queued]") }
}

/// An entry's line without its end.
pub(super) fn line(entry: &Entry, margin: usize, out: &mut dyn fmt::Write) -> fmt::Result {
    match entry {
        Entry::Task { priority, name, delayed } => {
            write!(out, "{:margin$}[{:>3}] {name}", "", Known(*priority))?;
            if *delayed { out.write_str(" [DELAYED]") } else { Ok(()) }
        }
        Entry::Server(at) => write!(out, "{:margin$}[  -] SERVER: {at}", ""),
        Entry::Group { queue, .. } => write!(out, "{:margin$}GROUP: {}", "", queue.queue),
    }
}

pub(super) fn show(cx: &mut Cx, cpus: &[u32], out: &mut dyn Sink) -> Result<(), CommandError> {
    each(cx, cpus, out, |row| row)
}

/// The queues of each processor, in the form that `form` gives them.
pub(super) fn each<R: Render<View = ()> + Serialize>(
    cx: &mut Cx,
    cpus: &[u32],
    out: &mut dyn Sink,
    form: impl Fn(CpuRow) -> R,
) -> Result<(), CommandError> {
    for (index, &cpu) in cpus.iter().enumerate() {
        cx.cancel.check()?;
        let Some(row) = CpuRow::find(cx, cpu) else { continue };
        if index > 0 {
            out.heading("\n")?;
        }
        out.row(&form(row), &())?;
    }
    Ok(())
}
