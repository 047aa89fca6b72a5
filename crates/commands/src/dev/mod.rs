//! `dev`: character and block devices, I/O ports, PCI, what disks are busy with, dumps of devices.

mod disks;
mod dumps;
mod numbers;
mod pci;
mod ports;

use crate::args::{Args, Opt, UsageError};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::sink::Sink;

/// Shows devices.
pub(crate) static DEV: Command = Command {
    names: &["dev"],
    group: Group::Devices,
    summary: "devices: character and block, I/O ports, PCI, requests of disks",
    operands: "[file]",
    options: &[
        Opt::flag("-i", "I/O ports and I/O memory, and who has them"),
        Opt::flag("-p", "PCI buses and devices"),
        Opt::flag("-d", "disks, and how many requests each is busy with"),
        Opt::flag("-D", "only the disks that are busy"),
        Opt::flag("-V", "the dumps of devices that drivers put into the dump"),
        Opt::value("-v", "index", "one of them, by the index that -V shows; with a file, a copy of it"),
    ],
    help: include_str!("../dev.md"),
    run: Run::Once(dev),
};

fn dev(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    if let Some(index) = args.value("-v") {
        return dumps::show(cx, index, args.operands.first().map(String::as_str), out);
    }
    if let Some(word) = args.operands.first() {
        return Err(UsageError::new("dev", format!("what of {word}? only -v takes a file")).into());
    }
    // As in crash, of several the first of these holds.
    match () {
        () if args.has("-i") => ports::show(cx, out),
        () if args.has("-p") => pci::show(cx, out),
        () if args.has("-d") || args.has("-D") => disks::show(cx, args.has("-D"), out),
        () if args.has("-V") => dumps::list(cx, out),
        () => numbers::show(cx, out),
    }
}
