//! `fuser`: the tasks that use a file.

use std::fmt;

use kdive_base::{GapLedger, VirtAddr};
use kdive_linux::fs::File;
use kdive_linux::path;
use kdive_linux::tasks::{Task, Tasks};
use kdive_linux::vma;
use kdive_target::{Lacks, Text};
use rayon::prelude::*;
use serde::Serialize;

use crate::args::{Args, UsageError};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::files::{Columns, open_files};
use crate::memory::is_user;
use crate::operand;
use crate::render::{Known, place};
use crate::sink::{Render, Sink, SinkExt};

/// Finds the users of files.
pub(crate) static FUSER: Command = Command {
    names: &["fuser"],
    group: Group::Devices,
    summary: "the tasks that use a file: as root, working directory, open or mapped",
    operands: "path | inode...",
    options: &[],
    help: include_str!("fuser.md"),
    run: Run::Once(fuser),
};

/// How a task uses a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Use {
    Root,
    Cwd,
    Fd,
    Mmap,
}

impl Use {
    fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Cwd => "cwd",
            Self::Fd => "fd",
            Self::Mmap => "mmap",
        }
    }
}

/// A task that uses the file.
#[derive(Debug, Serialize)]
struct Row {
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
    task: VirtAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<String>,
    uses: Vec<Use>,
}

const TITLES: &str = " PID         TASK        COMM             USAGE\n";

impl Render for Row {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let name = format!("\"{}\"", Known(self.command.as_deref()));
        write!(out, "{:>5}  {}  {name:<16} ", Known(self.pid), self.task)?;
        for way in &self.uses {
            write!(out, "{} ", way.name())?;
        }
        writeln!(out)
    }
}

/// The file that is meant.
enum Target {
    Path(String),
    Inode(VirtAddr),
}

impl Target {
    fn parse(cx: &Cx, word: &str) -> Result<Self, CommandError> {
        if word.starts_with('/') {
            return Ok(Self::Path(word.to_owned()));
        }
        let wrong = || UsageError::new("fuser", format!("{word} is no full path and no address of an inode"));
        match operand::address(cx, "fuser", word) {
            Ok(at) if !is_user(at.0) => Ok(Self::Inode(at)),
            _ => Err(wrong().into()),
        }
    }

    fn is(&self, path: Option<&String>, inode: Option<VirtAddr>) -> bool {
        match self {
            Self::Path(wanted) => path == Some(wanted),
            Self::Inode(wanted) => inode == Some(*wanted),
        }
    }
}

fn fuser(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    if args.operands.is_empty() {
        return Err(UsageError::new("fuser", "which file?").into());
    }
    let tasks = Tasks::find(&cx.kernel);
    for lacks in &tasks.incomplete {
        cx.lacks(lacks, "list of tasks", String::new);
    }
    for word in &args.operands {
        let target = Target::parse(cx, word)?;
        let shared: &Cx = cx;
        let found: Vec<(Vec<Use>, GapLedger)> =
            tasks.all().par_iter().map(|task| uses(shared, task, &target)).collect::<Result<_, _>>()?;
        let mut titles = Some(TITLES);
        for (task, (uses, gaps)) in tasks.all().iter().zip(found) {
            cx.gaps.absorb(gaps);
            if uses.is_empty() {
                continue;
            }
            if let Some(titles) = titles.take() {
                out.heading(titles)?;
            }
            let command = task.comm.as_ref().ok().map(|Text(name)| name.clone());
            out.row(&Row { pid: task.pid.clone().ok(), task: task.at, command, uses }, &())?;
        }
        if titles.is_some() {
            out.heading(&format!("No users of {word} found\n"))?;
        }
    }
    Ok(())
}

fn uses(cx: &Cx, task: &Task, target: &Target) -> Result<(Vec<Use>, GapLedger), CommandError> {
    cx.cancel.check()?;
    let mut cx = cx.fork();
    let files = open_files(&mut cx, task, Columns::Files);
    let header = &files.header;
    let mut uses = Vec::new();
    let directories =
        [(Use::Root, &header.root, header.root_inode), (Use::Cwd, &header.cwd, header.cwd_inode)];
    for (way, path, inode) in directories {
        uses.extend(target.is(path.as_ref(), inode).then_some(way));
    }
    uses.extend(files.rows.iter().any(|row| target.is(row.path.as_ref(), row.inode)).then_some(Use::Fd));
    uses.extend(maps(&mut cx, task, target).then_some(Use::Mmap));
    Ok((uses, cx.gaps))
}

fn maps(cx: &mut Cx, task: &Task, target: &Target) -> bool {
    let kernel = cx.kernel.clone();
    let Some(mm) = task.mm.clone().ok().filter(|mm| !mm.is_null()) else { return false };
    let Some((areas, broken)) = cx.known(vma::all(&kernel, mm), "mapped files", || place(task)) else {
        return false;
    };
    if let Some(lacks) = broken {
        cx.lacks(&lacks, "mapped files", || place(task));
    }
    let loader = kernel.loader::<File>();
    let mut is_target = |at: VirtAddr| {
        let file = loader.load(at);
        let found = match target {
            Target::Inode(wanted) => file.inode.map(|inode| inode == *wanted),
            Target::Path(wanted) => {
                let path = |mount: Result<VirtAddr, Lacks>| path::of_dentry(&kernel, mount?, file.dentry?);
                path(file.mount).map(|path| path == *wanted)
            }
        };
        cx.known(found, "mapped files", || place(task)).unwrap_or(false)
    };
    // Areas of one file follow one another.
    let mut last = VirtAddr(0);
    areas.iter().filter_map(|area| area.file.clone().ok()).any(|file| {
        let is_new = !file.is_null() && std::mem::replace(&mut last, file) != file;
        is_new && is_target(file)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_crashs() {
        let task = VirtAddr(0xff27_0289_01d9_4200);
        let row = Row { pid: Some(175), task, command: Some("nc".into()), uses: vec![Use::Root, Use::Fd] };
        let mut text = TITLES.to_owned();
        row.render(&(), &mut text).unwrap();
        assert_eq!(
            text,
            " PID         TASK        COMM             USAGE\n\
             \x20 175  ff27028901d94200  \"nc\"             root fd \n"
        );
    }
}
