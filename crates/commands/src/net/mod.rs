//! `net`: network devices and their addresses, neighbours, sockets of tasks.

mod devices;
mod neighbours;
mod row;
mod sockets;

use std::net::Ipv4Addr;

use kdive_linux::tasks::Task;
use serde::Serialize;

use crate::args::{Args, Opt, UsageError};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::select;
use crate::sink::{Render, Sink, SinkExt};

/// Shows the network.
pub(crate) static NET: Command = Command {
    names: &["net"],
    group: Group::Devices,
    summary: "network devices and addresses, neighbours, sockets of tasks",
    operands: "[pid | task]...",
    options: &[
        Opt::flag("-s", "the open sockets of tasks: families, types, addresses and ports"),
        Opt::flag("-S", "the same, and the structures of each socket"),
        Opt::flag("--state", "with -s: the state of each socket, its queues, and the path or peer it has"),
        Opt::value(
            "-R",
            "reference",
            "with -s and -S: only this descriptor, or the socket or sock at this address",
        ),
        Opt::flag("-a", "the neighbours of IPv4 (the ARP cache)"),
        Opt::flag("--ipv6", "with -a: the neighbours of IPv6 instead"),
        Opt::optional(
            "-n",
            "pid | task",
            |word| !word.starts_with('-'),
            "the devices in the namespace of a task, or of the current one",
        ),
        Opt::value("-N", "address", "an IPv4 address as memory has it, in numbers and dots"),
        Opt::flag("-x", "integers in hexadecimal"),
        Opt::flag("-d", "integers in decimal"),
    ],
    help: include_str!("../net.md"),
    run: Run::Both { once, per_task },
};

fn once(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    let sockets = args.has("-s") || args.has("-S");
    if let Some((what, with)) = misplaced(args, sockets) {
        return Err(UsageError::new("net", format!("{what} goes with {with}")).into());
    }
    if let Some(word) = args.value("-N") {
        return dotted(word, out);
    }
    if sockets {
        let tasks = select::operands(cx, "net", &args.operands)?;
        return sockets::of_tasks(cx, args, &tasks, out);
    }
    if args.has("-a") && args.operands.is_empty() {
        return neighbours::show(cx, args.has("--ipv6"), out);
    }
    if args.has("-n") {
        let words: Vec<String> =
            args.values(&["-n"]).map(str::to_owned).chain(args.operands.iter().cloned()).collect();
        for task in select::operands(cx, "net", &words)? {
            devices::of_task(cx, &task, out)?;
        }
        return Ok(());
    }
    if let Some(word) = args.operands.first() {
        return Err(UsageError::new("net", format!("what of {word}? -s, -S and -n take tasks")).into());
    }
    devices::first(cx, out)
}

/// An option that needs another, without it.
fn misplaced(args: &Args, sockets: bool) -> Option<(&'static str, &'static str)> {
    let alone = |name, fine: bool| args.has(name) && !fine;
    match () {
        () if alone("-R", sockets) => Some(("-R", "-s or -S")),
        () if alone("--state", args.has("-s")) => Some(("--state", "-s")),
        () if alone("--ipv6", args.has("-a")) => Some(("--ipv6", "-a")),
        () => None,
    }
}

fn per_task(cx: &mut Cx, args: &Args, task: &Task, out: &mut dyn Sink) -> Result<(), CommandError> {
    sockets::of_task(cx, args, task, out).map(drop)
}

/// An IPv4 address.
#[derive(Serialize)]
struct Dotted {
    address: Ipv4Addr,
}

impl Render for Dotted {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn std::fmt::Write) -> std::fmt::Result {
        writeln!(out, "{}", self.address)
    }
}

/// A `__be32` as a little-endian machine prints it, decimal or hexadecimal.
fn dotted(word: &str, out: &mut dyn Sink) -> Result<(), CommandError> {
    let address = quad(word).ok_or_else(|| UsageError::new("net", format!("-N {word}: not a number")))?;
    out.row(&Dotted { address }, &())?;
    Ok(())
}

fn quad(word: &str) -> Option<Ipv4Addr> {
    let hexadecimal = || u64::from_str_radix(word.strip_prefix("0x").unwrap_or(word), 16).ok();
    let number: u64 = word.parse().ok().or_else(hexadecimal)?;
    // The low half, as crash takes it.
    Some(Ipv4Addr::from((number as u32).to_le_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_memory_has_them() {
        let quad = |word| quad(word).map(|address| address.to_string());
        assert_eq!(quad("1041236234").as_deref(), Some("10.1.16.62"));
        assert_eq!(quad("0a00020f").as_deref(), Some("15.2.0.10"));
        assert_eq!(quad("0x1041236234").as_deref(), Some("52.98.35.65"));
        assert_eq!(quad("zz"), None);
    }
}
