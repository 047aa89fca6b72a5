//! `cgroup`: the trees of control groups.

use std::fmt;

use kdive_base::{PAGE_SIZE, VirtAddr};
use kdive_linux::cgroup::{self, Cgroups, Counter, Group as ControlGroup, Hierarchy};
use kdive_linux::tasks::Tasks;
use rustc_hash::FxHashMap;
use serde::Serialize;

use crate::args::{Args, Opt};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::render::{Known, TaskLine, in_unit};
use crate::sink::{Render, Sink, SinkExt};

/// Lists control groups.
pub(crate) static CGROUP: Command = Command {
    names: &["cgroup"],
    group: Group::Tasks,
    summary: "control groups of v1 and v2: memory, pids, limits, and which are dying",
    operands: "[path]...",
    options: &[
        Opt::flag("-d", "only groups that were removed and are still held"),
        Opt::flag("-l", "only groups at a limit of memory or pids, or with OOM kills"),
        Opt::flag("-t", "the tasks of each group too"),
        Opt::flag("-a", "hierarchies of v1 that have no group but the root too"),
    ],
    help: include_str!("cgroup.md"),
    run: Run::Once(run),
};

fn run(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let found = Cgroups::find(&kernel)?;
    if let Some(lacks) = &found.incomplete {
        cx.lacks(lacks, "hierarchies of control groups", String::new);
    }
    let tasks = Tasks::find(&kernel);
    let by_cset = cgroup::tasks_by_cset(&kernel, tasks.all().iter().map(|task| task.at));
    let view = View { with_tasks: args.has("-t") };
    let mut any = false;
    for hierarchy in &found.hierarchies {
        if let Some(lacks) = &hierarchy.incomplete {
            cx.lacks(lacks, "control groups", || hierarchy.at.to_string());
        }
        let is_bare = hierarchy.groups.len() < 2 && !hierarchy.is_unified;
        if is_bare && !args.has("-a") {
            continue;
        }
        let mut heading = Some(title(hierarchy));
        for group in &hierarchy.groups {
            cx.cancel.check()?;
            if !is_named(args, group) {
                continue;
            }
            let row = GroupRow::new(cx, hierarchy, group, &by_cset, &tasks, view.with_tasks);
            if args.has("-d") && row.dying != Some(true) || args.has("-l") && !row.is_limited() {
                continue;
            }
            if let Some(title) = heading.take() {
                out.heading(&title)?;
            }
            out.row(&row, &view)?;
            any = true;
        }
    }
    if !any {
        out.trailer(&Nothing::new(args), &())?;
    }
    Ok(())
}

/// Whether a group, or one above it, was named; without names all are.
fn is_named(args: &Args, group: &ControlGroup) -> bool {
    args.operands.is_empty()
        || args.operands.iter().any(|named| {
            let (named, path) = (named.trim_matches('/'), group.path.trim_matches('/'));
            path.strip_prefix(named)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || named.is_empty())
        })
}

fn title(of: &Hierarchy) -> String {
    let what = match (of.is_unified, of.name.as_str()) {
        (true, _) => "v2".to_owned(),
        (false, "") => format!("v1 {}", of.controllers.join(",")),
        (false, name) => format!("v1 name={name}"),
    };
    format!(
        "{what} (cgroup_root {})\n     CGROUP      TASKS   PIDS/MAX          MEMORY/MAX             SWAP  PATH\n",
        of.at
    )
}

#[derive(Debug, Serialize)]
struct Nothing {
    message: String,
}

impl Nothing {
    fn new(args: &Args) -> Self {
        let message = match (args.has("-d"), args.has("-l")) {
            (true, _) => "no control group is dying",
            (_, true) => "no control group is at a limit, and none had OOM kills",
            _ => "no such control group",
        };
        Self { message: message.to_owned() }
    }
}

impl Render for Nothing {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "{}", self.message)
    }
}

struct View {
    with_tasks: bool,
}

/// A limit: `null` in JSON is no limit.
#[derive(Debug, Serialize)]
struct Amount {
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<u64>,
    /// `null`: no limit.
    max: Option<u64>,
}

/// A group.
#[derive(Debug, Serialize)]
struct GroupRow {
    cgroup: VirtAddr,
    /// 2 for the unified hierarchy.
    version: u8,
    hierarchy: String,
    path: String,
    #[serde(skip)]
    depth: u32,
    /// Tasks in the group itself.
    tasks: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    mem_cgroup: Option<VirtAddr>,
    /// Tasks of the group and all below it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pids: Option<Amount>,
    /// Bytes, with groups below.
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<Amount>,
    /// Bytes of swap; in v1 of memory and swap together.
    #[serde(skip_serializing_if = "Option::is_none")]
    swap: Option<Amount>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_peak: Option<u64>,
    /// What `memory.events` says: how often the limit was hit, kills.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    events: Vec<Event>,
    at_memory_limit: bool,
    at_pids_limit: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    dying: Option<bool>,
    frozen: bool,
    /// Groups below it that were removed and are still held.
    #[serde(skip_serializing_if = "Option::is_none")]
    dying_descendants: Option<i32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    members: Vec<TaskLine>,
}

#[derive(Debug, Serialize)]
struct Event {
    name: String,
    count: u64,
}

impl GroupRow {
    fn new(
        cx: &mut Cx,
        hierarchy: &Hierarchy,
        group: &ControlGroup,
        by_cset: &FxHashMap<VirtAddr, Vec<VirtAddr>>,
        tasks: &Tasks,
        with_tasks: bool,
    ) -> Self {
        let place = || format!("cgroup {}", group.at);
        let csets = cx.known(group.csets.clone(), "tasks of a control group", place).unwrap_or_default();
        let members: Vec<VirtAddr> =
            csets.iter().filter_map(|at| by_cset.get(at)).flatten().copied().collect();
        let memory = group.memory.as_ref();
        let events = memory.into_iter().flat_map(|of| &of.events).filter(|(_, count)| *count > 0);
        let pids = group.pids.as_ref().map(|of| Amount {
            usage: cx.known(of.current.clone(), "PIDS of a control group", place),
            max: cx.known(of.max.clone(), "MAX of a control group", place).flatten(),
        });
        let shown = |at: &VirtAddr| tasks.at(*at);
        Self {
            cgroup: group.at,
            version: if hierarchy.is_unified { 2 } else { 1 },
            hierarchy: hierarchy.name.clone(),
            path: group.path.clone(),
            depth: group.depth,
            tasks: members.len() as u64,
            mem_cgroup: memory.map(|of| of.at),
            at_pids_limit: pids.as_ref().is_some_and(|of| of.max.is_some_and(|max| of.usage >= Some(max))),
            pids,
            memory: memory.map(|of| Amount::new(cx, &of.memory, place)),
            swap: memory.map(|of| Amount::new(cx, &of.swap, place)),
            memory_peak: memory.and_then(|of| of.memory.peak.clone().ok()).map(bytes),
            events: events.map(|(name, count)| Event { name: name.clone(), count: *count }).collect(),
            at_memory_limit: memory.is_some_and(|of| of.memory.is_at_limit() == Ok(true)),
            dying: cx.known(group.dying.clone(), "state of a control group", place),
            frozen: group.frozen,
            dying_descendants: group.dying_descendants.clone().ok(),
            members: match with_tasks {
                true => members.iter().filter_map(shown).map(|task| TaskLine::new(cx, task)).collect(),
                false => Vec::new(),
            },
        }
    }

    fn event(&self, name: &str) -> u64 {
        self.events.iter().find(|event| event.name == name).map_or(0, |event| event.count)
    }

    fn is_limited(&self) -> bool {
        self.at_memory_limit || self.at_pids_limit || self.event("oom_kill") > 0
    }

    /// What is unusual about the group.
    fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        let mut say = |said: bool, what: &str| {
            if said {
                remarks.push(what.to_owned());
            }
        };
        say(self.dying == Some(true), "dying");
        say(self.frozen, "frozen");
        say(self.at_memory_limit, "at its memory limit");
        say(self.at_pids_limit, "at its pids limit");
        for name in ["max", "oom_kill"] {
            match self.event(name) {
                0 => {}
                count => remarks.push(format!("{name} {count}")),
            }
        }
        if let Some(dying) = self.dying_descendants.filter(|dying| *dying > 0) {
            remarks.push(format!("{dying} dying below"));
        }
        remarks
    }
}

const fn bytes(pages: u64) -> u64 {
    pages.saturating_mul(PAGE_SIZE)
}

impl Amount {
    fn new(cx: &mut Cx, counter: &Counter, place: impl Fn() -> String) -> Self {
        Self {
            usage: cx.known(counter.usage.clone(), "MEMORY of a control group", &place).map(bytes),
            max: cx.known(counter.max.clone(), "MAX of a control group", &place).flatten().map(bytes),
        }
    }
}

impl Render for GroupRow {
    type View = View;

    fn render(&self, view: &View, out: &mut dyn fmt::Write) -> fmt::Result {
        let pids = self.pids.as_ref().map_or_else(String::new, |of| {
            let max = of.max.map_or_else(|| "-".to_owned(), |max| max.to_string());
            format!("{}/{max}", Known(of.usage))
        });
        let memory = self.memory.as_ref().map_or_else(String::new, |of| {
            let max = of.max.map_or_else(|| "-".to_owned(), in_unit);
            format!("{} / {max}", Known(of.usage.map(in_unit)))
        });
        let swap = self.swap.as_ref().filter(|_| self.version == 2);
        let swap = swap.map_or_else(String::new, |of| Known(of.usage.map(in_unit)).to_string());
        let indent = (self.depth as usize).saturating_mul(2).min(40);
        write!(
            out,
            "{}{:>7}{pids:>11}{memory:>20}{swap:>17}  {:indent$}{}",
            self.cgroup, self.tasks, "", self.path
        )?;
        match self.remarks() {
            remarks if remarks.is_empty() => writeln!(out)?,
            remarks => writeln!(out, "  ({})", remarks.join(", "))?,
        }
        if view.with_tasks {
            for member in &self.members {
                writeln!(out, "    {member}")?;
            }
        }
        Ok(())
    }
}
