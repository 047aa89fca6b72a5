//! The state of queues, and what of it holds disks back.

use std::fmt;

use kdive_base::VirtAddr;
use kdive_linux::block::{Array, Disk, HardwareQueue, LoopDevice, Mapped, Queue};
use kdive_linux::fs::File;
use kdive_linux::{path, tasks, wait};
use kdive_target::{Field, Kernel, Lacks, Load};
use serde::Serialize;

use super::name_of;
use crate::command::CommandError;
use crate::cx::Cx;
use crate::render::{Hex, Known, TaskLine, UNKNOWN};
use crate::sink::{Render, Sink, SinkExt};

/// A request queue.
#[derive(Debug, Serialize)]
struct Row {
    #[serde(skip_serializing_if = "Option::is_none")]
    disk: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<VirtAddr>,
    /// Hardware queues; none where the driver takes bios.
    #[serde(skip_serializing_if = "Option::is_none")]
    hardware_queues: Option<usize>,
    /// Of these, stopped by the driver.
    #[serde(skip_serializing_if = "Option::is_none")]
    stopped: Option<usize>,
    /// How many hold it frozen.
    #[serde(skip_serializing_if = "Option::is_none")]
    freeze_depth: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    quiesced: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dying: Option<bool>,
    /// Requests that the driver had no room for.
    #[serde(skip_serializing_if = "Option::is_none")]
    dispatch: Option<usize>,
    /// Requests that are to be sent again.
    #[serde(skip_serializing_if = "Option::is_none")]
    requeue: Option<usize>,
    /// The scheduler's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    scheduler: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nr_requests: Option<u32>,
    /// In sectors of 512 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_sectors: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_segments: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logical_block_size: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    flags: Option<Hex>,
}

const TITLES: &str =
    "DISK     REQUEST_QUEUE    SCHEDULER    HCTX REQUESTS DISPATCH REQUEUE MAX-KB BLOCK STATE\n";

impl Render for Row {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let disk = self.disk.as_deref().unwrap_or(UNKNOWN);
        let queue = self.queue.map_or(format!("{UNKNOWN:^16}"), |at| at.to_string());
        write!(out, "{disk:<8} {queue} ")?;
        match self.hardware_queues {
            Some(count) => {
                let scheduler = self.scheduler.as_deref().unwrap_or("none");
                write!(out, "{scheduler:<12} {count:>4} {:>8} ", Known(self.nr_requests))?;
                write!(out, "{:>8} {:>7} ", Known(self.dispatch), Known(self.requeue))?;
            }
            None => write!(out, "{:<12} {:>4} {:>8} {:>8} {:>7} ", "bios", "-", "-", "-", "-")?,
        }
        let max = self.max_sectors.map(|sectors| sectors / 2);
        write!(out, "{:>6} {:>5} ", Known(max), Known(self.logical_block_size))?;
        let mut states = Vec::new();
        if self.freeze_depth.is_some_and(|depth| depth > 0) {
            states.push("frozen".to_owned());
        }
        if self.quiesced == Some(true) {
            states.push("quiesced".to_owned());
        }
        if self.dying == Some(true) {
            states.push("dying".to_owned());
        }
        states.extend(self.stopped.filter(|count| *count > 0).map(|count| format!("{count} stopped")));
        writeln!(out, "{}", if states.is_empty() { "running".to_owned() } else { states.join(", ") })
    }
}

/// Shows the queue of each disk.
pub(super) fn show(cx: &mut Cx, disks: &[Disk], out: &mut dyn Sink) -> Result<(), CommandError> {
    out.heading(TITLES)?;
    for disk in disks {
        cx.cancel.check()?;
        let name = name_of(cx, disk);
        let row = row(cx, disk, name);
        out.row(&row, &())?;
    }
    Ok(())
}

/// What hardware queues say together.
#[derive(Clone, Copy, Default)]
struct Hardware {
    count: usize,
    stopped: usize,
    dispatch: usize,
}

fn hardware(kernel: &Kernel, queue: &Queue) -> Field<Hardware> {
    let mut found = Hardware::default();
    for at in queue.hardware_queues(kernel)? {
        let hardware: HardwareQueue = kernel.load(at);
        found.count = found.count.saturating_add(1);
        found.stopped = found.stopped.saturating_add(hardware.is_stopped()?.into());
        found.dispatch = found.dispatch.saturating_add(hardware.dispatched(kernel)?.len());
    }
    Ok(found)
}

fn row(cx: &mut Cx, disk: &Disk, name: Option<String>) -> Row {
    let kernel = cx.kernel.clone();
    let place = || format!("gendisk {:#}", disk.at);
    let at = cx.known(disk.queue.clone(), "REQUEST_QUEUE", place);
    let queue = at.map(|at| kernel.load::<Queue>(at));
    let with_requests = queue.as_ref().filter(|queue| !queue.has_no_requests());
    let hardware =
        with_requests.and_then(|queue| cx.known(hardware(&kernel, queue), "hardware queues", place));
    let requeued = with_requests.and_then(|queue| cx.known(queue.requeued(&kernel), "REQUEUE", place));
    let mut known =
        |what: &str, field: Option<Field<u64>>| field.and_then(|field| cx.known(field, what, place));
    let of = |part: fn(&Queue) -> Field<u64>| queue.as_ref().map(part);
    let flags = known("flags of queues", of(|queue| queue.flags.clone()));
    let max_sectors = known("MAX-KB", of(|queue| queue.max_sectors.clone().map(u64::from)));
    let block = known("BLOCK", of(|queue| queue.logical_block_size.clone().map(u64::from)));
    let queue = queue.as_ref();
    let scheduler = with_requests.and_then(|queue| cx.known(queue.scheduler(&kernel), "SCHEDULER", place));
    Row {
        disk: name,
        queue: at,
        hardware_queues: hardware.map(|hardware| hardware.count),
        stopped: hardware.map(|hardware| hardware.stopped),
        freeze_depth: queue.and_then(|queue| cx.known(queue.freeze_depth.clone(), "STATE", place)),
        quiesced: with_requests.and_then(|queue| cx.known(queue.is_quiesced(&kernel), "STATE", place)),
        dying: queue.and_then(|queue| queue.is_dying(&kernel).ok()),
        dispatch: hardware.map(|hardware| hardware.dispatch),
        requeue: requeued.map(|requests| requests.len()),
        scheduler: scheduler.flatten(),
        nr_requests: with_requests.and_then(|queue| queue.nr_requests.clone().ok()),
        max_sectors: max_sectors.and_then(|sectors| u32::try_from(sectors).ok()),
        max_segments: queue.and_then(|queue| queue.max_segments.clone().ok()),
        logical_block_size: block.and_then(|bytes| u32::try_from(bytes).ok()),
        flags: flags.map(Hex),
    }
}

/// What holds a disk back, apart from slow I/O.
#[derive(Debug, Serialize)]
pub(super) struct Trouble {
    #[serde(skip_serializing_if = "Option::is_none")]
    disk: Option<String>,
    /// In words, each with what it means.
    held_by: Vec<String>,
    /// Who waits for a frozen queue to be thawed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    waiters: Vec<TaskLine>,
}

impl Render for Trouble {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let disk = self.disk.as_deref().unwrap_or(UNKNOWN);
        for held in &self.held_by {
            writeln!(out, "{disk}: {held}")?;
        }
        for waiter in &self.waiters {
            writeln!(out, "  waits to enter: {waiter}")?;
        }
        Ok(())
    }
}

#[derive(Load)]
#[load(type = "super_block")]
struct Frozen {
    #[load(any("s_writers.frozen"))]
    frozen: Field<u32>,
}

#[derive(Load)]
#[load(type = "inode")]
struct OfSuper {
    i_sb: Field<VirtAddr>,
}

impl Trouble {
    /// `None` where nothing holds the disk.
    pub(super) fn of(cx: &mut Cx, disk: &Disk, name: Option<String>) -> Option<Self> {
        let kernel = cx.kernel.clone();
        // What cannot be read is noted where requests are looked for.
        let queue: Queue = kernel.load(disk.queue.clone().ok()?);
        let mut held_by = Vec::new();
        let mut waiters = Vec::new();
        if queue.freeze_depth.clone().is_ok_and(|depth| depth > 0) {
            held_by.push("its queue is frozen: no request may enter".to_owned());
            waiters = freeze_waiters(cx, &queue);
        }
        if !queue.has_no_requests() {
            if queue.is_quiesced(&kernel).is_ok_and(|quiesced| quiesced) {
                held_by.push("its queue is quiesced: no request reaches the driver".to_owned());
            }
            let stopped = hardware(&kernel, &queue).ok().filter(|hardware| hardware.stopped > 0);
            held_by.extend(stopped.map(|hardware| {
                format!("the driver stopped {} of {} hardware queues", hardware.stopped, hardware.count)
            }));
        }
        held_by.extend(mapped(&kernel, disk));
        held_by.extend(array(&kernel, disk));
        held_by.extend(backing(&kernel, disk));
        (!held_by.is_empty()).then_some(Self { disk: name, held_by, waiters })
    }
}

fn freeze_waiters(cx: &mut Cx, queue: &Queue) -> Vec<TaskLine> {
    let kernel = cx.kernel.clone();
    let Ok(head) = &queue.freeze_waiters else { return Vec::new() };
    let Ok(waiters) = wait::waiters(&kernel, head.0) else { return Vec::new() };
    let all = tasks::Tasks::find(&kernel);
    let found = waiters.map_while(Result::ok).filter_map(|waiter| waiter.task(&kernel, &all));
    let found: Vec<_> = found.filter_map(|at| all.at(at)).collect();
    found.into_iter().map(|task| TaskLine::new(cx, task)).collect()
}

/// Of a mapped device: that it is suspended, that it has no path.
fn mapped(kernel: &Kernel, disk: &Disk) -> Vec<String> {
    let Some(mapped) = Mapped::of(kernel, disk) else { return Vec::new() };
    let mut held = Vec::new();
    let name = mapped.name(kernel).ok().flatten().unwrap_or_else(|| UNKNOWN.to_owned());
    if mapped.state().is_ok_and(|state| state.suspended || state.suspended_internally || state.blocks_io) {
        held.push(format!("device mapper's {name} is suspended: I/O waits until it is resumed"));
    }
    for multipath in
        mapped.targets(kernel).unwrap_or_default().iter().filter_map(|target| target.multipath(kernel))
    {
        if multipath.valid_paths.clone().is_ok_and(|paths| paths == 0) {
            let then = match multipath.queues_without_path() {
                Ok(true) => "I/O waits for one (queue_if_no_path)",
                Ok(false) => "I/O fails",
                Err(_) => "what becomes of I/O is not known",
            };
            held.push(format!("device mapper's {name} has no path left: {then}"));
        }
    }
    held
}

/// Of an array: that it is suspended, that a change of its members is not written yet.
fn array(kernel: &Kernel, disk: &Disk) -> Vec<String> {
    let Some(array) = Array::of(kernel, disk) else { return Vec::new() };
    let mut held = Vec::new();
    if array.suspended.clone().is_ok_and(|count| count > 0) {
        held.push("the array is suspended: I/O waits".to_owned());
    }
    if array.waits_for_superblock(kernel).is_ok_and(|waits| waits) {
        held.push("the array has a change to write to its members: writes wait".to_owned());
    }
    held
}

/// Of a loop device: that the file system of its file is frozen.
fn backing(kernel: &Kernel, disk: &Disk) -> Option<String> {
    let file = LoopDevice::of(kernel, disk)?.file.ok().filter(|at| !at.is_null())?;
    let super_of = || -> Result<u32, Lacks> {
        let inode = kernel.load::<File>(file).inode?;
        kernel.load::<Frozen>(kernel.load::<OfSuper>(inode).i_sb?).frozen
    };
    let path = path::of_file(kernel, file).unwrap_or_else(|_| UNKNOWN.to_owned());
    (super_of().ok()? != 0).then(|| format!("the file system of its file {path} is frozen: writes wait"))
}
