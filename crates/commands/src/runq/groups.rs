//! The queues of each processor as the tree of task groups.

use std::fmt;

use serde::Serialize;

use super::queues::{CpuRow, each, line};
use super::row::{Entry, QueueRow};
use crate::command::CommandError;
use crate::cx::Cx;
use crate::render::Known;
use crate::sink::{Render, Sink};

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
    each(cx, cpus, out, Tree)
}

#[cfg(test)]
mod tests {
    use kdive_base::VirtAddr;

    use super::*;
    use crate::runq::row::Name;

    fn task(pid: i32) -> Entry {
        let name = Name { pid: Some(pid), task: VirtAddr(pid as u64), command: Some("sh".into()) };
        Entry::Task { priority: Some(120), name, delayed: false }
    }

    fn queue(at: u64, name: &str, queued: Vec<Entry>) -> QueueRow {
        QueueRow {
            queue: VirtAddr(at),
            head: VirtAddr(at),
            task_group: Some(VirtAddr(at + 1)),
            group_name: name.to_owned(),
            groups: true,
            throttled: false,
            current: None,
            queued,
            off: Vec::new(),
        }
    }

    fn text(queue: &QueueRow, current: u64) -> String {
        let mut text = String::new();
        let lines = Lines { title: "CFS_RQ", current: Some(VirtAddr(current)) };
        lines.below(queue, 5, &mut text).unwrap();
        text
    }

    #[test]
    fn groups_stand_where_they_are_queued_and_throttled_ones_behind() {
        let inner = Entry::Group { priority: None, queue: queue(0x30, "inner", vec![task(3)]) };
        let mut root = queue(0x10, "", vec![inner, task(2)]);
        root.current = Some(Box::new(task(1)));
        root.off = vec![QueueRow { throttled: true, ..queue(0x50, "", vec![]) }];
        let expected = "     \
[120] PID: 1      TASK: 0000000000000001  COMMAND: \"sh\" [CURRENT]
     TASK_GROUP: 0000000000000031  CFS_RQ: 0000000000000030  <inner>
        [120] PID: 3      TASK: 0000000000000003  COMMAND: \"sh\"
     [120] PID: 2      TASK: 0000000000000002  COMMAND: \"sh\"
     TASK_GROUP: 0000000000000051  CFS_RQ: 0000000000000050 (THROTTLED)
        [no tasks queued]
";
        assert_eq!(text(&root, 1), expected);
    }

    #[test]
    fn an_empty_queue_says_so() {
        assert_eq!(text(&queue(0x10, "", vec![]), 1), "     [no tasks queued]\n");
    }
}
