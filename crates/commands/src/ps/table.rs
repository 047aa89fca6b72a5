//! The table of tasks, and how many are in each state.

use std::collections::BTreeMap;
use std::fmt;

use kdive_base::VirtAddr;
use kdive_linux::mm::MmLoader;
use kdive_linux::system::present_pages;
use kdive_linux::tasks::{State, Task, Tasks};
use kdive_target::os::CpuMask;
use kdive_target::{Field, Kernel, Lacks, Text};
use rayon::prelude::*;
use rustc_hash::FxHashMap;
use serde::Serialize;

use super::choose::policy_name;
use crate::args::Args;
use crate::command::CommandError;
use crate::cx::Cx;
use crate::render::{Known, UNKNOWN};
use crate::sink::{Render, Sink, SinkExt};

/// Kibibytes of a page.
const PAGE_KB: u64 = kdive_base::PAGE_SIZE / 1024;

/// What a process's memory amounts to, in pages.
struct Usage {
    mapped: Field<u64>,
    resident: Field<u64>,
}

/// The memory of each process among the chosen tasks, by its `mm_struct`: threads share it.
fn usage(kernel: &Kernel, tasks: &Tasks, chosen: &[&Task]) -> FxHashMap<VirtAddr, Usage> {
    let loader = MmLoader::new(kernel);
    let mut users: FxHashMap<VirtAddr, Vec<&Task>> = FxHashMap::default();
    for task in tasks.all() {
        if let Some(mm) = user_memory(task) {
            users.entry(mm).or_default().push(task);
        }
    }
    let mut all: Vec<VirtAddr> = chosen.iter().filter_map(|task| user_memory(task)).collect();
    all.sort_unstable();
    all.dedup();
    let of = |at: VirtAddr| {
        let mm = loader.load(at);
        let users = users.get(&at).map(Vec::as_slice).unwrap_or_default();
        (at, Usage { resident: loader.resident_pages(&mm, users), mapped: mm.total_vm })
    };
    all.into_par_iter().map(of).collect()
}

fn user_memory(task: &Task) -> Option<VirtAddr> {
    task.mm.as_ref().ok().copied().filter(|mm| !mm.is_null())
}

/// One task.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    /// Whether a processor ran it.
    active: bool,
    /// It is active on a processor that was offline, and those are to be hidden (`set offline hide`).
    #[serde(skip)]
    hidden: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ppid: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu: Option<u32>,
    task: VirtAddr,
    /// The saved kernel stack pointer; none while it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    stack_pointer: Option<VirtAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<State>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<i32>,
    /// Share of the machine's memory, in percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_percent: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    virtual_kb: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resident_kb: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kernel_thread: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<String>,
}

/// Which columns are shown.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Columns {
    stack_pointer: bool,
    policy: bool,
}

impl Columns {
    fn titles(self) -> String {
        let task = if self.stack_pointer { "     KSTACKP    " } else { "      TASK      " };
        let policy = if self.policy { "  POLICY    PRIO" } else { "" };
        format!("      PID    PPID  CPU {task}  ST{policy}  %MEM      VSZ      RSS  COMM\n")
    }
}

impl Render for Row {
    type View = Columns;

    fn render(&self, columns: &Columns, out: &mut dyn fmt::Write) -> fmt::Result {
        let mark = match (self.active, self.hidden) {
            (true, true) => '-',
            (true, false) => '>',
            (false, _) => ' ',
        };
        let (pid, ppid, cpu) = (Known(self.pid), Known(self.ppid), Known(self.cpu));
        write!(out, "{mark}{pid:>8} {ppid:>7} {cpu:>3}  ")?;
        match (columns.stack_pointer, self.stack_pointer) {
            (true, Some(sp)) => write!(out, "{sp}")?,
            (true, None) if self.active => write!(out, "{:^16}", "--")?,
            (true, None) => write!(out, "{UNKNOWN:^16}")?,
            (false, _) => write!(out, "{}", self.task)?,
        }
        write!(out, "  {:>2}", self.state.map_or(UNKNOWN, State::letters))?;
        if columns.policy {
            let name = self.policy.map_or(UNKNOWN, |policy| policy_name(policy).unwrap_or(UNKNOWN));
            write!(out, "  {name:<8}  {:>4}", Known(self.priority))?;
        }
        match self.memory_percent {
            Some(percent) => write!(out, " {percent:5.1}")?,
            None => write!(out, " {UNKNOWN:>5}")?,
        }
        write!(out, " {:>8} {:>8}  ", Known(self.virtual_kb), Known(self.resident_kb))?;
        match (&self.command, self.kernel_thread) {
            (Some(command), Some(true)) => writeln!(out, "[{command}]"),
            (Some(command), _) => writeln!(out, "{command}"),
            (None, _) => writeln!(out, "{UNKNOWN}"),
        }
    }
}

/// What goes into the rows and is the same for all of them.
struct Machine {
    usage: FxHashMap<VirtAddr, Usage>,
    pages: Option<u64>,
    /// The processors that were running, where tasks of the others are marked apart.
    online: Option<CpuMask>,
}

/// Lists tasks, a line each.
pub(super) fn show(
    cx: &mut Cx,
    args: &Args,
    tasks: &Tasks,
    chosen: &[&Task],
    out: &mut dyn Sink,
) -> Result<(), CommandError> {
    let columns = Columns { stack_pointer: args.has("-s"), policy: args.has("-Y") };
    if !args.has("-H") {
        out.heading(&columns.titles())?;
    }
    let kernel = cx.kernel.clone();
    let pages = cx.known(present_pages(&kernel), "%MEM", String::new);
    let hide = cx.settings.variables.get("offline").is_some_and(|value| value == "hide");
    let online = kernel.cpus().ok().filter(|_| hide).and_then(|cpus| cpus.online.clone().ok());
    let machine = Machine { usage: usage(&kernel, tasks, chosen), pages, online };
    for (index, task) in chosen.iter().enumerate() {
        if index % 256 == 0 {
            cx.cancel.check()?;
        }
        let row = row(cx, columns, tasks, task, &machine);
        out.row(&row, &columns)?;
    }
    Ok(())
}

fn row(cx: &mut Cx, columns: Columns, tasks: &Tasks, task: &Task, machine: &Machine) -> Row {
    let active = cx.is_active(tasks, task);
    let mut lacking: Vec<(&str, Lacks)> = Vec::new();
    let mut shown = |what: &'static str, field: Field<()>| lacking.extend(field.err().map(|why| (what, why)));
    shown("PID", task.pid.clone().map(drop));
    shown("CPU", task.cpu.clone().map(drop));
    shown("COMM", task.comm.clone().map(drop));
    shown("ST", task.state.clone().map(drop));
    if columns.policy {
        shown("POLICY", task.policy.clone().map(drop));
        shown("PRIO", task.prio.clone().map(drop));
    }
    if columns.stack_pointer && !active {
        shown("KSTACKP", task.sp.clone().map(drop));
    }
    let ppid = match &task.parent {
        Ok(at) => tasks.at(*at).and_then(|parent| parent.pid.clone().ok()),
        Err(lacks) => {
            shown("PPID", Err(lacks.clone()));
            None
        }
    };
    let (virtual_kb, resident_kb) = match &task.mm {
        Ok(mm) if mm.is_null() => (Some(0), Some(0)),
        Ok(mm) => {
            let usage = machine.usage.get(mm);
            let mut kilobytes = |what: &'static str, field: Option<&Field<u64>>| match field {
                Some(Ok(pages)) => Some(pages.saturating_mul(PAGE_KB)),
                Some(Err(lacks)) => {
                    shown(what, Err(lacks.clone()));
                    None
                }
                None => None,
            };
            let mapped = kilobytes("VSZ", usage.map(|usage| &usage.mapped));
            (mapped, kilobytes("RSS", usage.map(|usage| &usage.resident)))
        }
        Err(lacks) => {
            shown("VSZ", Err(lacks.clone()));
            shown("RSS", Err(lacks.clone()));
            (None, None)
        }
    };
    cx.lacks_together(&lacking, || format!("task {}", task.at));
    let percent =
        |(resident, pages): (u64, u64)| resident as f64 * 100.0 / pages.saturating_mul(PAGE_KB) as f64;
    Row {
        active,
        hidden: active
            && machine
                .online
                .as_ref()
                .is_some_and(|online| task.cpu.as_ref().is_ok_and(|cpu| !online.contains(*cpu))),
        pid: task.pid.clone().ok(),
        ppid,
        cpu: task.cpu.clone().ok(),
        task: task.at,
        stack_pointer: task.sp.clone().ok().filter(|_| columns.stack_pointer && !active),
        state: tasks.bits.state(task),
        policy: task.policy.clone().ok().filter(|_| columns.policy),
        priority: task.prio.clone().ok().filter(|_| columns.policy),
        memory_percent: resident_kb.zip(machine.pages).map(percent),
        virtual_kb,
        resident_kb,
        kernel_thread: task.is_kernel_thread(),
        command: task.comm.as_ref().ok().map(|Text(name)| name.clone()),
    }
}

/// How many tasks are in a state.
#[derive(Serialize)]
struct Count {
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<State>,
    tasks: u64,
}

impl Render for Count {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "  {}: {}", self.state.map_or(UNKNOWN, State::letters), self.tasks)
    }
}

/// Counts tasks by state.
pub(super) fn summary(
    cx: &mut Cx,
    tasks: &Tasks,
    chosen: &[&Task],
    out: &mut dyn Sink,
) -> Result<(), CommandError> {
    let mut counts: BTreeMap<Option<State>, u64> = BTreeMap::new();
    for task in chosen {
        let state = tasks.bits.state(task);
        if let (None, Err(lacks)) = (state, &task.state) {
            cx.lacks(lacks, "ST", || format!("task {}", task.at));
        }
        let count = counts.entry(state).or_default();
        *count = count.saturating_add(1);
    }
    let order = State::ALL.into_iter().map(Some).chain([None]);
    for state in order {
        if let Some(tasks) = counts.get(&state) {
            out.row(&Count { state, tasks: *tasks }, &())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        Row {
            active: true,
            hidden: false,
            pid: Some(125),
            ppid: Some(1),
            cpu: Some(0),
            task: VirtAddr(0xff11_52e5_503d_8000),
            stack_pointer: None,
            state: Some(State::Running),
            policy: Some(0),
            priority: Some(120),
            memory_percent: Some(0.2),
            virtual_kb: Some(2260),
            resident_kb: Some(1100),
            kernel_thread: Some(false),
            command: Some("insmod".into()),
        }
    }

    fn text(row: &Row, columns: Columns) -> String {
        let mut text = String::new();
        row.render(&columns, &mut text).unwrap();
        text
    }

    #[test]
    fn rows_and_titles_are_crashs() {
        let plain = Columns::default();
        assert_eq!(
            plain.titles(),
            "      PID    PPID  CPU       TASK        ST  %MEM      VSZ      RSS  COMM\n"
        );
        assert_eq!(
            text(&row(), plain),
            ">     125       1   0  ff1152e5503d8000  RU   0.2     2260     1100  insmod\n"
        );
        let stack = Columns { stack_pointer: true, policy: false };
        assert_eq!(
            stack.titles(),
            "      PID    PPID  CPU      KSTACKP      ST  %MEM      VSZ      RSS  COMM\n"
        );
        assert_eq!(
            text(&row(), stack),
            ">     125       1   0         --         RU   0.2     2260     1100  insmod\n"
        );
    }

    #[test]
    fn columns_stay_in_place_where_values_are_not_known() {
        let unknown = Row {
            active: false,
            pid: None,
            ppid: None,
            cpu: None,
            state: None,
            memory_percent: None,
            virtual_kb: None,
            resident_kb: None,
            command: None,
            ..row()
        };
        let shown = text(&unknown, Columns::default());
        assert_eq!(shown, "        ?       ?   ?  ff1152e5503d8000   ?     ?        ?        ?  ?\n");
    }
}
