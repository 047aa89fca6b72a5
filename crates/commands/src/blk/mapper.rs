//! Device mapper.

use std::fmt;

use kdive_base::VirtAddr;
use kdive_linux::block::{self, Disk, Mapped, MappedState, Path, Target};
use kdive_target::Kernel;
use serde::Serialize;

use super::name_of;
use crate::command::CommandError;
use crate::cx::Cx;
use crate::render::{Known, UNKNOWN};
use crate::sink::{Render, Sink, SinkExt};

/// A mapped device.
#[derive(Debug, Serialize)]
struct Row {
    #[serde(skip_serializing_if = "Option::is_none")]
    disk: Option<String>,
    /// Its `struct mapped_device`.
    mapped_device: VirtAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uuid: Option<String>,
    #[serde(flatten)]
    state: Option<MappedState>,
    #[serde(skip_serializing_if = "Option::is_none")]
    open_count: Option<u32>,
    /// Bios that wait until it is resumed.
    #[serde(skip_serializing_if = "Option::is_none")]
    deferred: Option<usize>,
    /// The devices below.
    devices: Vec<String>,
    targets: Vec<TargetRow>,
}

/// Sectors that one driver maps.
#[derive(Debug, Serialize)]
struct TargetRow {
    target: VirtAddr,
    /// `linear`, `multipath`...
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    /// First sector.
    #[serde(skip_serializing_if = "Option::is_none")]
    begin: Option<u64>,
    /// Sectors.
    #[serde(skip_serializing_if = "Option::is_none")]
    length: Option<u64>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    multipath: Option<MultipathRow>,
}

/// What a multipath target has besides.
#[derive(Debug, Serialize)]
struct MultipathRow {
    #[serde(skip_serializing_if = "Option::is_none")]
    queue_if_no_path: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    valid_paths: Option<u32>,
    /// Bios that wait for a path.
    #[serde(skip_serializing_if = "Option::is_none")]
    queued: Option<usize>,
    paths: Vec<PathRow>,
}

/// A path.
#[derive(Debug, Serialize)]
struct PathRow {
    path: VirtAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<u32>,
    /// Its disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    number: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    active: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failures: Option<u32>,
    /// Whether I/O goes down this one.
    current: bool,
}

const TITLES: &str = "DISK     MAPPED_DEVICE    NAME                     OPEN DEFERRED STATE\n";

impl Render for Row {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let (disk, name) = (Known(self.disk.as_deref()), Known(self.name.as_deref()));
        write!(out, "{disk:<8} {} {name:<24} ", self.mapped_device)?;
        let state = self.state.map(state);
        writeln!(
            out,
            "{:>4} {:>8} {}",
            Known(self.open_count),
            Known(self.deferred),
            Known(state.as_deref())
        )?;
        if !self.devices.is_empty() {
            writeln!(out, "  on {}", self.devices.join(" "))?;
        }
        for target in &self.targets {
            let (begin, length) = (Known(target.begin), Known(target.length));
            write!(out, "  {begin:>10} {length:>10} {}", Known(target.kind.as_deref()))?;
            if let Some(multipath) = &target.multipath {
                let queues = if multipath.queue_if_no_path == Some(true) { ", queue_if_no_path" } else { "" };
                write!(out, ": {} paths valid{queues}", Known(multipath.valid_paths))?;
            }
            writeln!(out)?;
            target
                .multipath
                .iter()
                .flat_map(|multipath| &multipath.paths)
                .try_for_each(|path| path.line(out))?;
        }
        Ok(())
    }
}

impl PathRow {
    fn line(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let (device, number) = (Known(self.device.as_deref()), Known(self.number.as_deref()));
        let state = match self.active {
            Some(true) => "active",
            Some(false) => "FAILED",
            None => UNKNOWN,
        };
        write!(out, "    group {}  {device:<8} {number:<8} {state}", Known(self.group))?;
        writeln!(out, "  {} failures{}", Known(self.failures), if self.current { ", in use" } else { "" })
    }
}

fn state(state: MappedState) -> String {
    let words = [
        (state.suspended, "SUSPENDED"),
        (state.suspended_internally, "SUSPENDED by a target"),
        (state.blocks_io && !state.suspended, "blocks I/O"),
        (state.frozen, "frozen"),
        (state.deleting, "deleting"),
    ];
    let words: Vec<_> = words.into_iter().filter(|(is, _)| *is).map(|(_, word)| word).collect();
    if words.is_empty() { "active".to_owned() } else { words.join(", ") }
}

/// Shows mapped devices.
pub(super) fn show(cx: &mut Cx, disks: &[Disk], out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let mut any = false;
    for disk in disks {
        cx.cancel.check()?;
        let Some(mapped) = Mapped::of(&kernel, disk) else { continue };
        if !any {
            out.heading(TITLES)?;
        }
        any = true;
        let name = name_of(cx, disk);
        let row = row(cx, &kernel, name, &mapped);
        out.row(&row, &())?;
    }
    if !any {
        out.heading("No disk is of the device mapper.\n")?;
    }
    Ok(())
}

fn row(cx: &mut Cx, kernel: &Kernel, disk: Option<String>, mapped: &Mapped) -> Row {
    let place = || format!("mapped_device {:#}", mapped.at);
    let devices = cx.known(mapped.devices(kernel), "devices", place).unwrap_or_default();
    let devices = devices.into_iter().map(|(at, number)| block::name_of(kernel, at).unwrap_or(number));
    let targets = cx.known(mapped.targets(kernel), "targets", place).unwrap_or_default();
    Row {
        disk,
        mapped_device: mapped.at,
        name: cx.known(mapped.name(kernel), "NAME", place).flatten(),
        uuid: mapped.uuid(kernel).ok().flatten(),
        state: cx.known(mapped.state(), "STATE", place),
        open_count: mapped.open_count.clone().ok(),
        deferred: cx.known(mapped.deferred(kernel), "DEFERRED", place).map(|bios| bios.len()),
        devices: devices.collect(),
        targets: targets.into_iter().map(|target| target_row(cx, kernel, target)).collect(),
    }
}

fn target_row(cx: &mut Cx, kernel: &Kernel, target: Target) -> TargetRow {
    let place = || format!("dm_target {:#}", target.at);
    let multipath = target.multipath(kernel).map(|multipath| MultipathRow {
        queue_if_no_path: cx.known(multipath.queues_without_path(), "queue_if_no_path", place),
        valid_paths: cx.known(multipath.valid_paths.clone(), "paths", place),
        queued: cx.known(multipath.queued(kernel), "queued bios", place).map(|bios| bios.len()),
        paths: cx
            .known(multipath.paths(kernel), "paths", place)
            .unwrap_or_default()
            .into_iter()
            .map(|path| path_row(kernel, path))
            .collect(),
    });
    TargetRow {
        target: target.at,
        begin: cx.known(target.begin.clone(), "first sectors", place),
        length: cx.known(target.length.clone(), "sectors", place),
        kind: cx.known(target.kind.clone(), "kinds of targets", place),
        multipath,
    }
}

fn path_row(kernel: &Kernel, path: Path) -> PathRow {
    PathRow {
        path: path.at,
        group: path.group,
        device: path.device.ok().and_then(|at| block::name_of(kernel, at).ok()),
        number: path.number.ok(),
        active: path.active.ok(),
        failures: path.failures.ok(),
        current: path.current,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suspended_device_says_so_once() {
        let suspended = MappedState { suspended: true, blocks_io: true, ..MappedState::default() };
        assert_eq!(state(suspended), "SUSPENDED");
        assert_eq!(state(MappedState::default()), "active");
        assert_eq!(state(MappedState { blocks_io: true, ..MappedState::default() }), "blocks I/O");
    }
}
