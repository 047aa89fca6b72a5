//! `blk`: I/O that is not done, who waits for it, and what holds it back; the drivers below and on top of disks.

mod arrays;
mod loops;
mod mapper;
mod nvme;
mod pending;
mod queues;
mod scsi;
mod virtio;

use kdive_linux::block::{Disk, Disks};
use kdive_target::Text;

use crate::args::{Args, Opt, UsageError};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::sink::Sink;

/// Shows I/O in flight.
pub(crate) static BLK: Command = Command {
    names: &["blk"],
    group: Group::Devices,
    summary: "I/O that is not done: its disk, sector and age, who waits for it, what holds it",
    operands: "[disk]...",
    options: &[
        Opt::value("--older", "seconds", "only I/O that is older, without what else holds disks"),
        Opt::flag("-a", "with all tasks that wait, and the bios of each request"),
        Opt::flag("-q", "the state of each queue: frozen, quiesced, stopped, its scheduler, its limits"),
        Opt::flag("-m", "device mapper: devices, their state and tables, the paths of multipath devices"),
        Opt::flag("-r", "arrays (md): their members, what failed, how far a sync has come"),
        Opt::flag("-s", "SCSI: hosts and their error handling, devices, commands"),
        Opt::flag("-n", "NVMe: controllers, their state and queues"),
        Opt::flag("-v", "virtio: rings, and how much of them the hypervisor has not answered"),
        Opt::flag("-l", "loop devices and their files"),
    ],
    help: include_str!("../blk.md"),
    run: Run::Once(blk),
};

fn blk(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    let views = ["-q", "-m", "-r", "-s", "-n", "-v", "-l"];
    if let [one, other, ..] = views.into_iter().filter(|view| args.has(view)).collect::<Vec<_>>()[..] {
        return Err(UsageError::new("blk", format!("{one} and {other} are two views: ask for one")).into());
    }
    match () {
        () if args.has("-s") => scsi::show(cx, out),
        () if args.has("-n") => nvme::show(cx, out),
        () if args.has("-v") => virtio::show(cx, out),
        () => {
            let disks = disks(cx, &args.operands)?;
            match () {
                () if args.has("-q") => queues::show(cx, &disks, out),
                () if args.has("-m") => mapper::show(cx, &disks, out),
                () if args.has("-r") => arrays::show(cx, &disks, out),
                () if args.has("-l") => loops::show(cx, &disks, out),
                () => pending::show(cx, args, &disks, out),
            }
        }
    }
}

/// The disks that were named; all, where none was.
fn disks(cx: &mut Cx, names: &[String]) -> Result<Vec<Disk>, CommandError> {
    let found = Disks::find(&cx.kernel)?;
    for lacks in &found.incomplete {
        cx.lacks(lacks, "disks", String::new);
    }
    for name in names {
        if !found.all.iter().any(|disk| is_named(disk, name)) {
            return Err(UsageError::new("blk", format!("no disk is called {name}")).into());
        }
    }
    let wanted = |disk: &Disk| names.is_empty() || names.iter().any(|name| is_named(disk, name));
    Ok(found.all.into_iter().filter(wanted).collect())
}

fn is_named(disk: &Disk, name: &str) -> bool {
    disk.name.as_ref().is_ok_and(|Text(own)| own == name)
}

/// The name of a disk; what lacks is noted.
fn name_of(cx: &mut Cx, disk: &Disk) -> Option<String> {
    cx.known(disk.name.clone(), "names of disks", || format!("gendisk {:#}", disk.at)).map(|Text(name)| name)
}
