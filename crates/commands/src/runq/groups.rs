//! The queues of each processor as the tree of task groups.

use std::fmt;

use serde::Serialize;

use super::queues::{CpuRow, line};
use super::row::{Entry, QueueRow};
use crate::command::CommandError;
use crate::cx::Cx;
use crate::render::Known;
use crate::sink::{Render, Sink, SinkExt};

/// The same record as without `-g`, another view.
#[derive(Serialize)]
#[serde(transparent)]
struct Tree(CpuRow);

impl Render for Tree {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let Self(row) = self;
        writeln!(out, "CPU {}", row.cpu)?;
        row.current_line(out)?;
        // A kernel without real-time groups has one queue of them: of no group, and mostly empty.
        let rt = row.rt.as_ref().filter(|rt| rt.groups || !rt.queued.is_empty());
        let queues = [("RT_RQ", rt), ("CFS_RQ", row.fair.as_ref())];
        for (title, queue) in
            queues.into_iter().filter(|(title, queue)| *title == "CFS_RQ" || queue.is_some())
        {
            // Without real-time groups all its tasks are of the root.
            let own = queue.and_then(|queue| queue.task_group);
            let group = own.or_else(|| row.fair.as_ref().and_then(|fair| fair.task_group));
            let at = queue.map(|queue| queue.queue);
            writeln!(out, "  ROOT_TASK_GROUP: {}  {title}: {}", Known(group), Known(at))?;
            if let Some(queue) = queue {
                let current = row.current.as_ref().map(|current| current.task);
                Lines { title, current }.below(queue, 5, out)?;
            }
        }
        Ok(())
    }
}

/// Writes the entries of a queue.
struct Lines {
    title: &'static str,
    current: Option<kdive_base::VirtAddr>,
}

impl Lines {
    fn below(&self, queue: &QueueRow, margin: usize, out: &mut dyn fmt::Write) -> fmt::Result {
        let mut any = false;
        for entry in queue.current.as_deref().into_iter().chain(&queue.queued) {
            any = true;
            match entry {
                Entry::Group { priority: None, queue } => {
                    write!(out, "{:margin$}", "")?;
                    self.group(queue, margin.saturating_add(3), out)?;
                }
                // Groups of a real-time queue have a level as tasks do.
                Entry::Group { priority: Some(level), queue } => {
                    write!(out, "{:margin$}[{level:>3}] ", "")?;
                    self.group(queue, margin.saturating_add(6), out)?;
                }
                entry => {
                    line(entry, margin, out)?;
                    let runs = matches!(entry, Entry::Task { name, .. } if Some(name.task) == self.current);
                    out.write_str(if runs { " [CURRENT]\n" } else { "\n" })?;
                }
            }
        }
        for group in &queue.off {
            any = true;
            write!(out, "{:margin$}", "")?;
            self.group(group, margin.saturating_add(3), out)?;
        }
        if any { Ok(()) } else { writeln!(out, "{:margin$}[no tasks queued]", "") }
    }

    fn group(&self, queue: &QueueRow, margin: usize, out: &mut dyn fmt::Write) -> fmt::Result {
        write!(out, "TASK_GROUP: {}  {}: {}", Known(queue.task_group), self.title, queue.queue)?;
        if !queue.group_name.is_empty() {
            write!(out, "  <{}>", queue.group_name)?;
        }
        out.write_str(if queue.throttled { " (THROTTLED)\n" } else { "\n" })?;
        self.below(queue, margin, out)
    }
}

pub(super) fn show(cx: &mut Cx, cpus: &[u32], out: &mut dyn Sink) -> Result<(), CommandError> {
    for (index, &cpu) in cpus.iter().enumerate() {
        cx.cancel.check()?;
        let Some(row) = CpuRow::find(cx, cpu) else { continue };
        if index > 0 {
            out.heading("\n")?;
        }
        out.row(&Tree(row), &())?;
    }
    Ok(())
}
