//! What a record says of a task that it refers to.

use std::fmt;

use kdive_base::VirtAddr;
use kdive_target::Text;
use serde::Serialize;

use super::list::Tasks;
use super::task::Task;

/// A task as records refer to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TaskName {
    /// Its number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// Its `task_struct`.
    pub task: VirtAddr,
    /// Its command name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}

impl TaskName {
    /// The name of a task.
    #[must_use]
    pub fn of(task: &Task) -> Self {
        let command = task.comm.clone().ok().map(|Text(name)| name);
        Self { pid: task.pid.clone().ok(), task: task.at, command }
    }

    /// The name of the task at an address; `None` where none of the kernel's tasks lies there.
    #[must_use]
    pub fn at(tasks: &Tasks, at: VirtAddr) -> Option<Self> {
        tasks.at(at).map(Self::of)
    }
}

impl fmt::Display for TaskName {
    /// `206 abba_one`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            Some(pid) => write!(f, "{pid}")?,
            None => write!(f, "{}", self.task)?,
        }
        write!(f, " {}", self.command.as_deref().unwrap_or("?"))
    }
}
