//! Device numbers: who took them, and what answers to them.

use std::fmt;

use kdive_base::VirtAddr;
use kdive_linux::block::{self, Disks};
use kdive_linux::fs::char_dev::{self, CharRegion};
use kdive_target::{Kernel, Text};
use serde::Serialize;

use crate::command::CommandError;
use crate::cx::Cx;
use crate::render::Known;
use crate::sink::{Render, Sink, SinkExt};

/// A number, and what it stands for.
#[derive(Debug, Serialize)]
struct Row {
    kind: Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    major: Option<u32>,
    /// Of character devices.
    #[serde(skip_serializing_if = "Option::is_none")]
    first_minor: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    minors: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// The `struct cdev` or `struct gendisk`.
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<VirtAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    operations: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Char,
    Block,
}

impl Kind {
    fn titles(self) -> &'static str {
        match self {
            Self::Char => "CHRDEV    NAME                 CDEV        OPERATIONS      \n",
            Self::Block => "\nBLKDEV    NAME                GENDISK      OPERATIONS      \n",
        }
    }
}

impl Render for Row {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let (major, name) = (Known(self.major), Known(self.name.as_deref()));
        write!(out, "{major:>4}      {name:<14} ")?;
        match self.device {
            Some(device) => writeln!(out, "{device}  {}", Known(self.operations.as_deref())),
            None => writeln!(out, "{:^16}", "(none)"),
        }
    }
}

pub(super) fn show(cx: &mut Cx, out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    out.heading(Kind::Char.titles())?;
    for region in char_dev::regions(&kernel)? {
        cx.cancel.check()?;
        if let Some(region) = cx.known(region, "CHRDEV", String::new) {
            let row = character(cx, &kernel, &region);
            out.row(&row, &())?;
        }
    }
    out.heading(Kind::Block.titles())?;
    blocks(cx, &kernel, out)
}

fn character(cx: &mut Cx, kernel: &Kernel, region: &CharRegion) -> Row {
    let place = || format!("char_device_struct {:#}", region.at);
    let device = cx.known(char_dev::device_of(kernel, region), "CDEV", place).flatten();
    let operations =
        device.as_ref().and_then(|device| cx.known(device.operations.clone(), "OPERATIONS", place));
    Row {
        kind: Kind::Char,
        major: cx.known(region.major.clone(), "CHRDEV", place),
        first_minor: region.first_minor.clone().ok(),
        minors: region.minors.clone().ok(),
        name: cx.known(region.name.clone(), "NAME", place).map(|Text(name)| name),
        device: device.map(|device| device.at),
        operations: operations.map(|at| symbol(kernel, at)),
    }
}

fn blocks(cx: &mut Cx, kernel: &Kernel, out: &mut dyn Sink) -> Result<(), CommandError> {
    let disks = cx.known(Disks::find(kernel), "GENDISK", String::new);
    let disks = disks.unwrap_or_else(|| Disks { all: Vec::new(), incomplete: Vec::new() });
    for lacks in &disks.incomplete {
        cx.lacks(lacks, "GENDISK", String::new);
    }
    for major in block::majors(kernel)? {
        cx.cancel.check()?;
        let Some(major) = cx.known(major, "BLKDEV", String::new) else { continue };
        let place = || format!("blk_major_name {:#}", major.at);
        let number = cx.known(major.major.clone(), "BLKDEV", place);
        // Of several the one that came last, as crash does.
        let disk =
            disks.all.iter().rfind(|disk| disk.major.as_ref().ok() == number.as_ref() && number.is_some());
        let operations = disk.and_then(|disk| cx.known(disk.operations.clone(), "OPERATIONS", place));
        let row = Row {
            kind: Kind::Block,
            major: number,
            first_minor: None,
            minors: None,
            name: cx.known(major.name.clone(), "NAME", place).map(|Text(name)| name),
            device: disk.map(|disk| disk.at),
            operations: operations.map(|at| symbol(kernel, at)),
        };
        out.row(&row, &())?;
    }
    Ok(())
}

/// The name of a table of functions, or where it lies.
fn symbol(kernel: &Kernel, at: VirtAddr) -> String {
    let named = kernel.place(at).filter(|place| place.offset == 0);
    named.map_or_else(|| at.to_string(), |place| place.symbol.name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_crashs() {
        let row = Row {
            kind: Kind::Char,
            major: Some(1),
            first_minor: None,
            minors: None,
            name: Some("mem".into()),
            device: Some(VirtAddr(0xff27_0289_0198_7c00)),
            operations: Some("memory_fops".into()),
        };
        let mut text = Kind::Char.titles().to_owned();
        row.render(&(), &mut text).unwrap();
        let none = Row { major: Some(13), name: Some("input".into()), device: None, ..row };
        none.render(&(), &mut text).unwrap();
        assert_eq!(
            text,
            "CHRDEV    NAME                 CDEV        OPERATIONS      \n\
             \x20  1      mem            ff27028901987c00  memory_fops\n\
             \x20 13      input               (none)     \n"
        );
    }
}
