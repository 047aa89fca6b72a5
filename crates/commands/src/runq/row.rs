//! Tasks and queues as records.

use std::fmt;

use kdive_base::VirtAddr;
use kdive_linux::sched::{Queue, Queued, TaskGroup, What};
use kdive_linux::tasks::{Task, TaskLoader, Tasks};
use kdive_target::Text;
use serde::Serialize;

use crate::cx::Cx;
use crate::render::{Known, UNKNOWN};

/// A task by its name.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Name {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pid: Option<i32>,
    pub(super) task: VirtAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) command: Option<String>,
}

impl Name {
    pub(super) fn of(task: &Task) -> Self {
        let command = task.comm.clone().ok().map(|Text(name)| name);
        Self { pid: task.pid.clone().ok(), task: task.at, command }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let command = self.command.as_deref().unwrap_or(UNKNOWN);
        write!(f, "PID: {:<5}  TASK: {}  COMMAND: \"{command}\"", Known(self.pid), self.task)
    }
}

/// A queue and what waits in it.
#[derive(Debug, Serialize)]
pub(super) struct QueueRow {
    pub(super) queue: VirtAddr,
    /// The root of its tree, or its array of lists.
    pub(super) head: VirtAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) task_group: Option<VirtAddr>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) group_name: String,
    /// Whether the kernel has task groups in this class.
    #[serde(skip)]
    pub(super) groups: bool,
    pub(super) throttled: bool,
    /// What runs, off the queue meanwhile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) current: Option<Box<Entry>>,
    pub(super) queued: Vec<Entry>,
    /// Throttled groups below, off the queue.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) off: Vec<QueueRow>,
}

/// One entry of a queue.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Entry {
    /// A task.
    Task {
        /// Its level in a real-time queue, else its effective priority.
        #[serde(skip_serializing_if = "Option::is_none")]
        priority: Option<i64>,
        /// Which task.
        #[serde(flatten)]
        name: Name,
        /// It sleeps and is dequeued later.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        delayed: bool,
    },
    /// A task group.
    Group {
        /// Its level in a real-time queue.
        #[serde(skip_serializing_if = "Option::is_none")]
        priority: Option<i64>,
        /// Its queue.
        #[serde(flatten)]
        queue: QueueRow,
    },
    /// A server of another class: its `sched_dl_entity`.
    Server(VirtAddr),
}

/// Makes records of what models found.
pub(super) struct Rows<'c> {
    cx: &'c mut Cx,
    tasks: std::sync::Arc<Tasks>,
}

impl<'c> Rows<'c> {
    pub(super) fn new(cx: &'c mut Cx) -> Self {
        let tasks = Tasks::find(&cx.kernel);
        Self { cx, tasks }
    }

    /// What a processor runs.
    pub(super) fn current(&mut self, cpu: u32) -> Option<Name> {
        let processor = self.tasks.processors().iter().find(|processor| processor.cpu == cpu);
        let current = processor.map(|processor| processor.current.clone())?;
        let at = self.cx.known(current, "what a processor ran", || format!("CPU {cpu}"))?;
        Some(Name::of(&self.task(at)))
    }

    fn task(&self, at: VirtAddr) -> Task {
        let load = || TaskLoader::new(&self.cx.kernel).load(at);
        self.tasks.at(at).cloned().unwrap_or_else(load)
    }

    pub(super) fn queue(&mut self, queue: &Queue) -> QueueRow {
        for lacks in &queue.lacks {
            self.cx.lacks(lacks, "run queue", || queue.at.to_string());
        }
        let group_name = match queue.group {
            Some(group) => {
                let name = self.cx.kernel.load::<TaskGroup>(group).name(&self.cx.kernel);
                self.cx.known(name, "name of a task group", || group.to_string()).unwrap_or_default()
            }
            None => String::new(),
        };
        QueueRow {
            queue: queue.at,
            head: queue.head,
            task_group: queue.group,
            group_name,
            groups: queue.groups,
            throttled: queue.throttled,
            current: queue.current.as_ref().map(|current| Box::new(self.entry(current))),
            queued: queue.queued.iter().map(|queued| self.entry(queued)).collect(),
            off: queue.off.iter().map(|queue| self.queue(queue)).collect(),
        }
    }

    fn entry(&mut self, queued: &Queued) -> Entry {
        let level = queued.level.map(i64::from);
        match &queued.what {
            What::Task { at, delayed } => {
                let task = self.task(*at);
                let own = || self.cx.known(task.prio.clone(), "priority", || at.to_string()).map(i64::from);
                Entry::Task { priority: level.or_else(own), name: Name::of(&task), delayed: *delayed }
            }
            What::Group(queue) => Entry::Group { priority: level, queue: self.queue(queue) },
            What::Server(at) => Entry::Server(*at),
        }
    }
}

impl QueueRow {
    /// The tasks that wait in it and in the groups in it, and in the group that runs.
    pub(super) fn walk<'q>(&'q self, visit: &mut dyn FnMut(&'q Entry) -> fmt::Result) -> fmt::Result {
        if let Some(Entry::Group { queue, .. }) = self.current.as_deref() {
            queue.walk(visit)?;
        }
        for entry in &self.queued {
            match entry {
                Entry::Group { queue, .. } => queue.walk(visit)?,
                entry => visit(entry)?,
            }
        }
        Ok(())
    }
}
