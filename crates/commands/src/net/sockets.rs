//! The sockets of tasks.

use kdive_base::VirtAddr;
use kdive_linux::fs::{Descriptor, File, FileKind, Inode};
use kdive_linux::net::SocketLoader;
use kdive_linux::tasks::Task;
use kdive_target::{Field, Kernel};

use super::row::{Row, View};
use crate::args::Args;
use crate::command::CommandError;
use crate::cx::Cx;
use crate::files;
use crate::render::{TaskLine, place};
use crate::sink::{Sink, SinkExt};
use crate::structure::{self, Shape, shape};

/// What `-R` looks for.
struct Reference {
    descriptor: Option<u32>,
    address: Option<VirtAddr>,
}

impl Reference {
    fn parse(word: &str) -> Self {
        let hexadecimal = u64::from_str_radix(word.strip_prefix("0x").unwrap_or(word), 16).ok();
        let small = hexadecimal.and_then(|number| u32::try_from(number).ok());
        // A number is decimal if it can be.
        Self { descriptor: word.parse().ok().or(small), address: hexadecimal.map(VirtAddr) }
    }

    fn holds(&self, row: &Row) -> bool {
        let at = |place: Option<VirtAddr>| place.is_some() && place == self.address;
        self.descriptor == Some(row.fd) || at(row.socket) || at(row.sock)
    }
}

pub(super) fn of_tasks(
    cx: &mut Cx,
    args: &Args,
    tasks: &[Task],
    out: &mut dyn Sink,
) -> Result<(), CommandError> {
    let mut shown = false;
    for task in tasks {
        cx.cancel.check()?;
        let (rows, complete) = sockets(cx, args, task);
        if rows.is_empty() && args.has("-R") {
            continue;
        }
        if std::mem::replace(&mut shown, true) {
            out.heading("\n")?;
        }
        show(cx, args, task, (&rows, complete), out)?;
        // As crash does.
        if args.has("-R") {
            out.heading("\n")?;
        }
    }
    Ok(())
}

/// Shows the sockets of a task that are asked for.
pub(super) fn of_task(cx: &mut Cx, args: &Args, task: &Task, out: &mut dyn Sink) -> Result<(), CommandError> {
    let (rows, complete) = sockets(cx, args, task);
    if rows.is_empty() && args.has("-R") { Ok(()) } else { show(cx, args, task, (&rows, complete), out) }
}

fn show(
    cx: &mut Cx,
    args: &Args,
    task: &Task,
    (rows, complete): (&[Row], bool),
    out: &mut dyn Sink,
) -> Result<(), CommandError> {
    let line = TaskLine::new(cx, task);
    out.header(&line, &())?;
    if rows.is_empty() {
        out.heading(if complete { "No open sockets.\n" } else { "Open sockets: ?\n" })?;
        return Ok(());
    }
    if args.has("-S") {
        return structures(cx, args, rows, out);
    }
    let view = if args.has("--state") { View::State } else { View::Line };
    out.heading(view.titles())?;
    for row in rows {
        out.row(row, &view)?;
    }
    Ok(())
}

/// The structure that begins with a `struct sock`, by the family.
fn record_of(family: Option<&str>) -> &'static str {
    match family {
        Some("INET" | "INET6") => "inet_sock",
        Some("UNIX") => "unix_sock",
        Some("NETLINK") => "netlink_sock",
        Some("PACKET") => "packet_sock",
        _ => "sock",
    }
}

fn structures(cx: &mut Cx, args: &Args, rows: &[Row], out: &mut dyn Sink) -> Result<(), CommandError> {
    let style = structure::style(cx, args);
    let socket = Shape::parse(cx, "net", shape::STRUCT, "socket")?;
    let mut blank = false;
    for row in rows {
        cx.cancel.check()?;
        if std::mem::replace(&mut blank, true) {
            out.heading("\n")?;
        }
        out.heading(View::Structures.titles())?;
        out.row(row, &View::Structures)?;
        if let Some(at) = row.socket {
            out.row(&socket.row(cx, at, &style)?, &style)?;
        }
        if let Some(at) = row.sock {
            let named = |name| Shape::parse(cx, "net", shape::STRUCT, name);
            // Of a module whose types are not known, what all sockets have.
            let sock = named(record_of(row.family.as_deref())).or_else(|_| named("sock"))?;
            out.row(&sock.row(cx, at, &style)?, &style)?;
        }
    }
    Ok(())
}

/// The sockets of a task that are asked for, and whether there are no more.
fn sockets(cx: &mut Cx, args: &Args, task: &Task) -> (Vec<Row>, bool) {
    let kernel = cx.kernel.clone();
    let (table, complete) = files::table(cx, task);
    let loader = SocketLoader::new(&kernel);
    let mut rows = Vec::new();
    for open in &table.open {
        let name = || format!("FD {} of {}", open.fd, place(task));
        let Some(Some(socket)) = cx.known(socket_of(&kernel, &loader, open), "sockets", name) else {
            continue;
        };
        let mut row = Row::new(open.fd, socket);
        let sock = cx.known(loader.sock_of(socket), "SOCK", name).filter(|at| !at.is_null());
        if let Some(at) = sock {
            row.fill(cx, &loader, &loader.load(at));
        }
        rows.push(row);
    }
    if let Some(word) = args.value("-R") {
        let reference = Reference::parse(word);
        rows.retain(|row| reference.holds(row));
    }
    (rows, complete)
}

/// The socket of a descriptor, if it is one.
fn socket_of(kernel: &Kernel, loader: &SocketLoader<'_>, open: &Descriptor) -> Field<Option<VirtAddr>> {
    let file: File = kernel.load(open.file.clone()?);
    let inode: Inode = kernel.load(file.inode?);
    match inode.kind()? {
        FileKind::Socket => loader.of_inode(inode.at).map(Some),
        _ => Ok(None),
    }
}
