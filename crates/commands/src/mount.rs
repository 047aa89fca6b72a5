//! `mount`: the mounted file systems.

use std::fmt;

use kdive_base::VirtAddr;
use kdive_linux::fs::{Dentry, Inode, Mount, Mounts, SuperBlock};
use kdive_linux::path;
use kdive_linux::tasks::{Task, Tasks};
use kdive_target::{Kernel, Lacks};
use serde::Serialize;

use crate::args::{Args, Opt};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::operand;
use crate::render::{Known, UNKNOWN};
use crate::select;
use crate::sink::{Render, Sink, SinkExt};

/// Lists mounts.
pub(crate) static MOUNT: Command = Command {
    names: &["mount"],
    group: Group::Devices,
    summary: "the mounted file systems",
    operands: "[mount | vfsmount | superblock | device | directory | dentry | inode]...",
    options: &[
        Opt::value("-n", "pid | task", "what this task sees: the mounts of its namespace"),
        Opt::flag("-f", "open files of each file system: kernels before 3.13 could tell"),
        Opt::flag("-i", "dirty inodes of each file system: kernels before 2.6.32 could tell"),
    ],
    help: include_str!("mount.md"),
    run: Run::Once(mount),
};

/// A mount.
#[derive(Debug, Serialize)]
struct Row {
    mount: VirtAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    super_block: Option<VirtAddr>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    directory: Option<String>,
    /// The number that /proc/PID/mountinfo shows.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<i32>,
    /// The mount that it is mounted on; none at the root.
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<VirtAddr>,
}

impl Render for Row {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let super_block = self.super_block.map_or(format!("{UNKNOWN:^16}"), |at| at.to_string());
        let (kind, device) = (Known(self.kind.as_deref()), Known(self.device.as_deref()));
        let directory = Known(self.directory.as_deref());
        // A long type takes room from the device: directories stay in their column.
        let names = format!("{kind:<6} {device}");
        writeln!(out, "{} {super_block} {names:<16} {directory:<10}", self.mount)
    }
}

const TITLES: &str = "     MOUNT           SUPERBLK     TYPE   DEVNAME   DIRNAME\n";

fn mount(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    for letter in ["-f", "-i"] {
        if args.has(letter) {
            let what = "option not supported or applicable on this architecture or kernel";
            return Err(CommandError::not_found(format!("mount: {letter} {what}")));
        }
    }
    let task = seen_by(cx, args)?;
    let kernel = cx.kernel.clone();
    let mounts = Mounts::of_proxy(&kernel, task.nsproxy?)?;
    for lacks in &mounts.incomplete {
        cx.lacks(lacks, "mounts", String::new);
    }
    if args.operands.is_empty() {
        return show(cx, mounts.all.iter(), out);
    }
    for word in &args.operands {
        let chosen = choose(cx, &mounts, word)?;
        if chosen.is_empty() {
            return Err(CommandError::NotFound {
                what: format!("mount: no mounted file system has {word}"),
                hint: Some("`mount` without operands lists the mounts".into()),
            });
        }
        show(cx, chosen.into_iter(), out)?;
    }
    Ok(())
}

/// The task whose mounts are meant: without `-n` process 1, whichever the current task is.
fn seen_by(cx: &Cx, args: &Args) -> Result<Task, CommandError> {
    if let Some(word) = args.value("-n") {
        let named = select::operands(cx, "mount", &[word.to_owned()])?;
        return named.into_iter().next().map_or_else(|| select::current(cx), Ok);
    }
    let first = Tasks::find(&cx.kernel).with_pid(1).next().cloned();
    first.map_or_else(|| select::current(cx), Ok)
}

fn show<'m>(
    cx: &mut Cx,
    mounts: impl Iterator<Item = &'m Mount>,
    out: &mut dyn Sink,
) -> Result<(), CommandError> {
    out.heading(TITLES)?;
    for mount in mounts {
        cx.cancel.check()?;
        let row = row(cx, mount);
        out.row(&row, &())?;
    }
    Ok(())
}

fn row(cx: &mut Cx, mount: &Mount) -> Row {
    let kernel = cx.kernel.clone();
    let place = || format!("mount {:#}", mount.at);
    let super_block = cx.known(mount.super_block.clone(), "SUPERBLK", place);
    let kind = super_block.map(|at| kernel.load::<SuperBlock>(at).type_name(&kernel));
    Row {
        mount: mount.at,
        super_block,
        kind: kind.and_then(|kind| cx.known(kind, "TYPE", place)),
        device: cx.known(mount.device_name(&kernel), "DEVNAME", place),
        directory: cx.known(path::of_mount(&kernel, mount), "DIRNAME", place),
        id: mount.id.clone().ok(),
        parent: mount.parent.clone().ok().filter(|parent| *parent != mount.at),
    }
}

/// The mounts that a word names: by device or directory, or by the address of something of theirs.
fn choose<'m>(cx: &Cx, mounts: &'m Mounts, word: &str) -> Result<Vec<&'m Mount>, CommandError> {
    let kernel = &*cx.kernel;
    let named = |mount: &&Mount| {
        mount.device_name(kernel).is_ok_and(|name| name == word)
            || path::of_mount(kernel, mount).is_ok_and(|path| path == word)
    };
    let by_name: Vec<_> = mounts.all.iter().filter(named).collect();
    if !by_name.is_empty() || word.starts_with('/') {
        return Ok(by_name);
    }
    let at = operand::address(cx, "mount", word)?;
    let inside = kernel.offset_of("mount", "mnt")?;
    let by_address: Vec<_> =
        mounts.all.iter().filter(|mount| at == mount.at || at == mount.at.add(inside)).collect();
    if !by_address.is_empty() {
        return Ok(by_address);
    }
    let super_block = super_block_of(kernel, mounts, at);
    Ok(mounts
        .all
        .iter()
        .filter(|mount| super_block.is_some() && mount.super_block.as_ref().ok() == super_block.as_ref())
        .collect())
}

/// The super block at an address, or that of the dentry or inode there.
fn super_block_of(kernel: &Kernel, mounts: &Mounts, at: VirtAddr) -> Option<VirtAddr> {
    let is_one = |at: &VirtAddr| mounts.all.iter().any(|mount| mount.super_block == Ok(*at));
    let inode = |at: VirtAddr| kernel.load::<Inode>(at).super_block;
    let dentry: Dentry = kernel.load(at);
    let of_dentry = || -> Result<VirtAddr, Lacks> {
        let (named, own) = (dentry.inode.clone()?, dentry.super_block.clone()?);
        // A dentry and its inode agree; a name of nothing has none.
        let agree = named.is_null() || inode(named)? == own;
        if agree { Ok(own) } else { Err(Lacks::implausible("no dentry")) }
    };
    let candidates = [Some(at), of_dentry().ok(), inode(at).ok()];
    candidates.into_iter().flatten().find(is_one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_crashs() {
        let data = Row {
            mount: VirtAddr(0xff27_0289_1ef4_3200),
            super_block: Some(VirtAddr(0xff27_0289_0194_3000)),
            kind: Some("ext4".into()),
            device: Some("/dev/vdb".into()),
            directory: Some("/data".into()),
            id: None,
            parent: None,
        };
        let mut text = TITLES.to_owned();
        data.render(&(), &mut text).unwrap();
        let dev = Row { kind: Some("devtmpfs".into()), device: Some("dev".into()), ..data };
        dev.render(&(), &mut text).unwrap();
        assert_eq!(
            text,
            "     MOUNT           SUPERBLK     TYPE   DEVNAME   DIRNAME\n\
             ff2702891ef43200 ff27028901943000 ext4   /dev/vdb  /data     \n\
             ff2702891ef43200 ff27028901943000 devtmpfs dev     /data     \n"
        );
    }
}
