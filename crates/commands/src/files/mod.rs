//! `files`: what each task has open, and what of a file is in memory.

mod inode;
mod row;

use kdive_linux::tasks::Task;

use crate::args::{Args, Opt, UsageError};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::select;
use crate::sink::{Sink, SinkExt};
pub(crate) use row::{Columns, OpenFiles, Reference, open_files, table};

/// Lists open files.
pub(crate) static FILES: Command = Command {
    names: &["files"],
    group: Group::Devices,
    summary: "open files of tasks, and the pages of a file that are in memory",
    operands: "[pid | task | command]...",
    options: &[
        Opt::flag(
            "-c",
            "the pages of each file that are in memory, instead of its file structure and dentry",
        ),
        Opt::value(
            "-R",
            "reference",
            "only what refers to it: a descriptor, a part of a path, or the address of a file, dentry, inode or mapping",
        ),
        Opt::value("-d", "dentry", "what a dentry names"),
        Opt::value("-p", "inode", "the pages of an inode that are in memory"),
        Opt::value("-n", "inode", "how many pages of an inode each node of memory has"),
    ],
    help: include_str!("../files.md"),
    run: Run::Both { once, per_task },
};

fn once(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    let forms = [("-d", inode::dentry as Form), ("-p", inode::pages), ("-n", inode::nodes)];
    let mut given = forms.iter().filter_map(|(letter, form)| Some((letter, form, args.value(letter)?)));
    match (given.next(), given.next()) {
        (Some((first, ..)), Some((second, ..))) => {
            let why = format!("{first} and {second} show different things: give one");
            Err(UsageError::new("files", why).into())
        }
        (Some((_, form, word)), None) => form(cx, word, out),
        (None, _) => of_tasks(cx, args, out),
    }
}

/// Shows what a word names.
type Form = fn(&mut Cx, &str, &mut dyn Sink) -> Result<(), CommandError>;

fn of_tasks(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    let mut shown = false;
    for task in select::operands(cx, "files", &args.operands)? {
        cx.cancel.check()?;
        if let Some(files) = chosen(cx, args, &task) {
            if std::mem::replace(&mut shown, true) {
                out.heading("\n")?;
            }
            show(&files, args, out)?;
            if args.has("-R") {
                out.heading("\n")?;
            }
        }
        // crash ends what each operand named, found or not, with a line of its own.
        if !args.operands.is_empty() {
            out.heading("\n")?;
        }
    }
    Ok(())
}

fn per_task(cx: &mut Cx, args: &Args, task: &Task, out: &mut dyn Sink) -> Result<(), CommandError> {
    match chosen(cx, args, task) {
        Some(files) => show(&files, args, out),
        None => Ok(()),
    }
}

/// The open files of a task that are asked for; `None` where none is.
fn chosen(cx: &mut Cx, args: &Args, task: &Task) -> Option<OpenFiles> {
    let files = open_files(cx, task, columns(args));
    match args.value("-R") {
        Some(word) => files.referring(&Reference::parse(word)),
        None => Some(files),
    }
}

fn columns(args: &Args) -> Columns {
    if args.has("-c") { Columns::Pages } else { Columns::Files }
}

fn show(files: &OpenFiles, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    let columns = columns(args);
    out.header(&files.header, &())?;
    if files.rows.is_empty() {
        if !args.has("-R") {
            out.heading(if files.complete { "No open files\n" } else { "Open files: ?\n" })?;
        }
        return Ok(());
    }
    out.heading(columns.titles())?;
    for row in &files.rows {
        out.row(row, &columns)?;
    }
    Ok(())
}
