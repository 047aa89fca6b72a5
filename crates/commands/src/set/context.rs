//! The current task as a record.

use std::fmt;

use kdive_base::VirtAddr;
use kdive_linux::system::panic_message;
use kdive_linux::tasks::{Task, TaskLoader, Tasks};
use kdive_target::Text;
use serde::Serialize;

use crate::cx::Cx;
use crate::render::{Known, UNKNOWN};
use crate::sink::Render;

/// A task, and what it has to do with the crash.
#[derive(Debug, Serialize)]
pub(crate) struct Context {
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<String>,
    task: VirtAddr,
    /// For an idle task: which of how many.
    #[serde(skip_serializing_if = "Option::is_none")]
    idle: Option<(u64, u64)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thread_info: Option<VirtAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<Role>,
}

/// What a task was doing when the machine died.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Role {
    /// It panicked.
    Panic,
    /// It asked for the crash through sysrq.
    Sysrq,
    /// A processor ran it.
    Active,
}

impl Context {
    /// Where `set` aligns the labels.
    pub(crate) const WIDTH_OF_SET: usize = 7;
    /// Where the banner of a session aligns them.
    pub(crate) const WIDTH_OF_BANNER: usize = 12;

    pub(crate) fn of(cx: &mut Cx, task: &Task) -> Self {
        let kernel = cx.kernel.clone();
        let tasks = Tasks::find(&kernel);
        let place = || format!("task {}", task.at);
        let idle = tasks.idle().iter().position(|idle| idle.at == task.at);
        let idle = idle.map(|index| (index as u64 + 1, tasks.idle().len() as u64));
        let exit_state = task.exit_state.clone().unwrap_or(0);
        let state = cx.known(task.state.clone(), "STATE", place);
        Self {
            pid: cx.known(task.pid.clone(), "PID", place),
            command: cx.known(task.comm.clone(), "COMMAND", place).map(|Text(name)| name),
            task: task.at,
            idle: idle.filter(|(_, count)| *count > 1),
            thread_info: cx.known(TaskLoader::new(&kernel).thread_info(task), "THREAD_INFO", place),
            cpu: cx.known(task.cpu.clone(), "CPU", place),
            state: state.map(|state| tasks.bits.names(state, exit_state)),
            role: role(cx, &tasks, task),
        }
    }
}

fn role(cx: &Cx, tasks: &Tasks, task: &Task) -> Option<Role> {
    if tasks.panic.as_ref().is_ok_and(|panic| panic.task == task.at) {
        let asked =
            matches!(panic_message(&cx.kernel), Ok(Some(said)) if said.text.to_lowercase().contains("sysrq"));
        return Some(if asked { Role::Sysrq } else { Role::Panic });
    }
    cx.is_active(tasks, task).then_some(Role::Active)
}

impl Render for Context {
    /// Column where the labels end.
    type View = usize;

    fn render(&self, width: &usize, out: &mut dyn fmt::Write) -> fmt::Result {
        let width = *width;
        writeln!(out, "{:>width$}: {}", "PID", Known(self.pid))?;
        writeln!(out, "{:>width$}: \"{}\"", "COMMAND", self.command.as_deref().unwrap_or(UNKNOWN))?;
        write!(out, "{:>width$}: {}", "TASK", self.task)?;
        if let Some((index, count)) = self.idle {
            write!(out, "  ({index} of {count})")?;
        }
        writeln!(out, "  [THREAD_INFO: {}]", Known(self.thread_info))?;
        writeln!(out, "{:>width$}: {}", "CPU", Known(self.cpu))?;
        let role = match self.role {
            Some(Role::Panic) => "(PANIC)",
            Some(Role::Sysrq) => "(SYSRQ)",
            Some(Role::Active) => "(ACTIVE)",
            None => "",
        };
        writeln!(out, "{:>width$}: {} {role}", "STATE", self.state.as_deref().unwrap_or(UNKNOWN))
    }
}
