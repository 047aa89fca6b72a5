//! Loop devices.

use std::fmt;

use kdive_base::VirtAddr;
use kdive_linux::block::{Disk, LoopDevice};
use kdive_linux::path;
use serde::Serialize;

use super::name_of;
use crate::command::CommandError;
use crate::cx::Cx;
use crate::render::{Hex, Known};
use crate::sink::{Render, Sink, SinkExt};

/// A loop device with a file.
#[derive(Debug, Serialize)]
struct Row {
    #[serde(skip_serializing_if = "Option::is_none")]
    disk: Option<String>,
    loop_device: VirtAddr,
    /// Its `struct file`.
    file: VirtAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    /// Where the disk begins in the file, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    /// `LO_FLAGS_*`.
    #[serde(skip_serializing_if = "Option::is_none")]
    flags: Option<Hex>,
}

const TITLES: &str = "DISK     LOOP_DEVICE      FILE                 OFFSET PATH\n";

impl Render for Row {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let disk = Known(self.disk.as_deref());
        write!(out, "{disk:<8} {} {} {:>10} ", self.loop_device, self.file, Known(self.offset))?;
        writeln!(out, "{}", Known(self.path.as_deref()))
    }
}

/// Shows loop devices that have files.
pub(super) fn show(cx: &mut Cx, disks: &[Disk], out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let mut any = false;
    for disk in disks {
        cx.cancel.check()?;
        let Some(device) = LoopDevice::of(&kernel, disk) else { continue };
        let place = || format!("loop_device {:#}", device.at);
        let file = cx.known(device.file.clone(), "FILE", place);
        let Some(file) = file.filter(|at| !at.is_null()) else { continue };
        if !any {
            out.heading(TITLES)?;
        }
        any = true;
        let row = Row {
            disk: name_of(cx, disk),
            loop_device: device.at,
            file,
            path: cx.known(path::of_file(&kernel, file), "PATH", place),
            offset: cx.known(device.offset.clone(), "OFFSET", place),
            flags: device.flags.clone().ok().map(|flags| Hex(flags.into())),
        };
        out.row(&row, &())?;
    }
    if !any {
        out.heading("No loop device has a file.\n")?;
    }
    Ok(())
}
