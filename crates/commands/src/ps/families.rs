//! Parents, children, thread groups.

use std::fmt;

use kdive_base::VirtAddr;
use kdive_linux::tasks::{Task, Tasks};
use rustc_hash::{FxHashMap, FxHashSet};
use serde::Serialize;

use super::Blocks;
use crate::command::CommandError;
use crate::cx::Cx;
use crate::render::TaskLine;
use crate::sink::{Render, Sink, SinkExt};

/// A task and its parents, the oldest first.
#[derive(Serialize)]
struct Ancestry {
    line: Vec<TaskLine>,
}

impl Render for Ancestry {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        self.line.iter().enumerate().try_for_each(|(depth, task)| writeln!(out, "{:depth$}{task}", ""))
    }
}

pub(super) fn parents(
    cx: &mut Cx,
    tasks: &Tasks,
    chosen: &[&Task],
    out: &mut dyn Sink,
) -> Result<(), CommandError> {
    let mut blocks = Blocks::default();
    for task in chosen {
        cx.cancel.check()?;
        let mut line = vec![TaskLine::new(cx, task)];
        let mut seen = FxHashSet::from_iter([task.at]);
        let mut of = *task;
        while let Some(parent) = tasks.parent(of).filter(|parent| seen.insert(parent.at)) {
            line.push(TaskLine::new(cx, parent));
            of = parent;
        }
        if let Err(lacks) = &of.parent {
            cx.lacks(lacks, "parent of a task", || format!("task {}", of.at));
        }
        line.reverse();
        blocks.next(out)?;
        out.row(&Ancestry { line }, &())?;
    }
    Ok(())
}

/// A task and others that belong to it.
#[derive(Serialize)]
struct Family {
    #[serde(flatten)]
    task: TaskLine,
    #[serde(skip_serializing_if = "Option::is_none")]
    children: Option<Vec<TaskLine>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    threads: Option<Vec<TaskLine>>,
}

impl Render for Family {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "{}", self.task)?;
        for (members, none) in [(&self.children, "(no children)"), (&self.threads, "(no threads)")] {
            let Some(members) = members else { continue };
            if members.is_empty() {
                writeln!(out, "  {none}")?;
            }
            members.iter().try_for_each(|member| writeln!(out, "  {member}"))?;
        }
        Ok(())
    }
}

pub(super) fn children(
    cx: &mut Cx,
    tasks: &Tasks,
    chosen: &[&Task],
    out: &mut dyn Sink,
) -> Result<(), CommandError> {
    let mut of: FxHashMap<VirtAddr, Vec<&Task>> = FxHashMap::default();
    for task in tasks.all() {
        match &task.parent {
            // The first idle task is its own parent.
            Ok(parent) if *parent == task.at => {}
            Ok(parent) => of.entry(*parent).or_default().push(task),
            Err(lacks) => cx.lacks(lacks, "parent of a task", || format!("task {}", task.at)),
        }
    }
    let mut blocks = Blocks::default();
    for task in chosen {
        cx.cancel.check()?;
        let children = of.get(&task.at).into_iter().flatten().map(|child| TaskLine::new(cx, child)).collect();
        blocks.next(out)?;
        let family = Family { task: TaskLine::new(cx, task), children: Some(children), threads: None };
        out.row(&family, &())?;
    }
    Ok(())
}

pub(super) fn groups(
    cx: &mut Cx,
    tasks: &Tasks,
    chosen: &[&Task],
    out: &mut dyn Sink,
) -> Result<(), CommandError> {
    let mut blocks = Blocks::default();
    let mut seen = FxHashSet::default();
    for task in chosen {
        cx.cancel.check()?;
        let leader = task.group_leader.as_ref().ok().and_then(|at| tasks.at(*at)).unwrap_or(task);
        // Several threads of one group may have been asked for.
        if !seen.insert(leader.at) {
            continue;
        }
        if let Err(lacks) = &leader.tgid {
            cx.lacks(lacks, "thread group of a task", || format!("task {}", leader.at));
        }
        let others = tasks.group(leader).filter(|thread| thread.at != leader.at);
        let threads = others.map(|thread| TaskLine::new(cx, thread)).collect();
        blocks.next(out)?;
        let family = Family { task: TaskLine::new(cx, leader), children: None, threads: Some(threads) };
        out.row(&family, &())?;
    }
    Ok(())
}
