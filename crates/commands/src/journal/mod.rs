//! `journal`: what changes of file systems wait for: the journals of ext4, the logs of xfs, the transactions of btrfs.

mod btrfs;
mod jbd2;
mod xfs;

use std::fmt;

use kdive_base::VirtAddr;
use kdive_linux::block::Now;
use kdive_linux::fs::{self, Mounts, SuperBlock};
use kdive_linux::path;
use kdive_linux::tasks::{TaskLoader, Tasks};
use kdive_target::{Field, Kernel, Text};
use serde::Serialize;

use crate::args::{Args, Opt};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::render::TaskLine;
use crate::sink::{Render, Sink, SinkExt};

/// Shows journals.
pub(crate) static JOURNAL: Command = Command {
    names: &["journal"],
    group: Group::Devices,
    summary: "journals of ext4, logs of xfs, transactions of btrfs: who waits for them",
    operands: "",
    options: &[Opt::flag("-w", "only those that somebody waits for")],
    help: include_str!("../journal.md"),
    run: Run::Once(journal),
};

/// Which file system it is of.
#[derive(Clone, Debug, Serialize)]
struct Place {
    /// `ext4`, `xfs`, `btrfs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    file_system: Option<String>,
    /// What the file system calls itself: mostly its disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    disk: Option<String>,
    /// Where it is mounted, as the first task sees it.
    #[serde(skip_serializing_if = "Option::is_none")]
    mounted_on: Option<String>,
    /// Its `struct super_block`.
    super_block: VirtAddr,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.mounted_on {
            Some(directory) => write!(f, "  on {directory}"),
            None => Ok(()),
        }
    }
}

/// What somebody may wait for.
trait Waiters {
    fn has_waiters(&self) -> bool;
}

/// What was shown so far.
#[derive(Default)]
struct Shown {
    only_awaited: bool,
    found: bool,
    any: bool,
}

impl Shown {
    fn row<R>(&mut self, row: &R, out: &mut dyn Sink) -> Result<(), CommandError>
    where
        R: Waiters + Serialize + Render<View = ()>,
    {
        self.found = true;
        if row.has_waiters() || !self.only_awaited {
            self.any = true;
            out.row(row, &())?;
        }
        Ok(())
    }
}

fn journal(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let (now, directories) = (Now::find(&kernel), directories(&kernel));
    let mut shown = Shown { only_awaited: args.has("-w"), ..Shown::default() };
    for super_block in fs::super_blocks(&kernel)? {
        cx.cancel.check()?;
        let Some(super_block) = cx.known(super_block, "file systems", String::new) else { break };
        one(cx, &super_block, &now, &directories, &mut shown, out)?;
    }
    match (shown.found, shown.any) {
        (false, _) => out.heading("No file system with a journal is mounted.\n")?,
        (true, false) => out.heading("Nobody waits for a journal.\n")?,
        _ => {}
    }
    Ok(())
}

fn one(
    cx: &mut Cx,
    super_block: &SuperBlock,
    now: &Now,
    directories: &[(VirtAddr, String)],
    shown: &mut Shown,
    out: &mut dyn Sink,
) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let directory = directories.iter().find(|(at, _)| *at == super_block.at);
    let place = Place {
        file_system: super_block.type_name(&kernel).ok(),
        disk: super_block.id.clone().ok().map(|Text(id)| id),
        mounted_on: directory.map(|(_, path)| path.clone()),
        super_block: super_block.at,
    };
    let at = || format!("super_block {:#}", super_block.at);
    // A type that cannot be read is noted once: each of these asks for it.
    let ext4 = jbd2_of(&kernel, super_block);
    if let Some(journal) = cx.known(ext4, "journals", at).flatten() {
        let row = jbd2::row(cx, &journal, now, place);
        return shown.row(&row, out);
    }
    match place.file_system.as_deref() {
        Some("xfs") => {
            let log = kdive_linux::xfs::of_super_block(&kernel, super_block);
            if let Some((mounted, log)) = cx.known(log, "logs of xfs", at).flatten() {
                let row = xfs::row(cx, &mounted, &log, place);
                shown.row(&row, out)?;
            }
        }
        Some("btrfs") => {
            let info = kdive_linux::btrfs::of_super_block(&kernel, super_block);
            if let Some(info) = cx.known(info, "transactions of btrfs", at).flatten() {
                let row = btrfs::row(cx, &info, now, place);
                shown.row(&row, out)?;
            }
        }
        _ => {}
    }
    Ok(())
}

fn jbd2_of(kernel: &Kernel, super_block: &SuperBlock) -> Field<Option<kdive_linux::jbd2::Journal>> {
    kdive_linux::jbd2::of_super_block(kernel, super_block)
}

/// File systems and the directories they are mounted on, as the first task sees them.
fn directories(kernel: &Kernel) -> Vec<(VirtAddr, String)> {
    let tasks = Tasks::find(kernel);
    let Some(proxy) = tasks.with_pid(1).find_map(|task| task.nsproxy.clone().ok()) else { return Vec::new() };
    let mounts = Mounts::of_proxy(kernel, proxy).unwrap_or_default();
    let named = mounts
        .all
        .iter()
        .filter_map(|mount| Some((mount.super_block.clone().ok()?, path::of_mount(kernel, mount).ok()?)));
    named.collect()
}

/// The line that names a task.
fn task_line(cx: &mut Cx, at: VirtAddr) -> TaskLine {
    let kernel = cx.kernel.clone();
    let task = TaskLoader::new(&kernel).load(at);
    TaskLine::new(cx, &task)
}
