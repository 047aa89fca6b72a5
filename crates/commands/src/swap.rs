//! `swap`: the swap areas.

use std::fmt;

use kdive_base::{PAGE_SIZE, VirtAddr};
use kdive_linux::swap::{SwapArea, areas};
use serde::Serialize;

use crate::args::Args;
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::render::{Known, centered_number};
use crate::sink::{Render, Sink, SinkExt};

/// Lists swap areas.
pub(crate) static SWAP: Command = Command {
    names: &["swap"],
    group: Group::Memory,
    summary: "the swap areas: how large, how full",
    operands: "",
    options: &[],
    help: include_str!("swap.md"),
    run: Run::Once(swap),
};

/// An area.
#[derive(Debug, Serialize)]
struct Row {
    swap_info_struct: VirtAddr,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    used_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<i16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    filename: Option<String>,
}

impl Render for Row {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let kbytes = |bytes: Option<u64>, width| {
            let text = bytes.map(|bytes| format!("{}k", bytes / 1024));
            centered_number(&Known(text).to_string(), width)
        };
        let share = self.used_bytes.zip(self.bytes);
        let percent =
            share.map(|(used, all)| format!("{}%", u128::from(used) * 100 / u128::from(all).max(1)));
        let (kind, size, used) = (Known(self.kind), kbytes(self.bytes, 8), kbytes(self.used_bytes, 10));
        write!(out, "{}  {kind:^9}  {size}  {used}", self.swap_info_struct)?;
        let name = self.filename.as_deref().unwrap_or("?");
        writeln!(out, "  {:>3}  {:>3}  {name}", Known(percent), Known(self.priority))
    }
}

fn swap(cx: &mut Cx, _: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    let found = areas(&cx.kernel)?;
    out.heading("SWAP_INFO_STRUCT    TYPE       SIZE       USED     PCT  PRI  FILENAME\n")?;
    for area in found {
        let Some(area) = cx.known(area, "swap area", String::new) else { continue };
        let row = row(cx, &area);
        out.row(&row, &())?;
    }
    Ok(())
}

fn row(cx: &mut Cx, area: &SwapArea) -> Row {
    let kernel = cx.kernel.clone();
    let place = || format!("swap_info_struct {}", area.at);
    let bytes = |pages: u64| pages.saturating_mul(PAGE_SIZE);
    let device = cx.known(area.is_device(&kernel), "TYPE of a swap area", place);
    Row {
        swap_info_struct: area.at,
        kind: device.map(|device| if device { "PARTITION" } else { "FILE" }),
        bytes: cx.known(area.pages.clone(), "SIZE of a swap area", place).map(bytes),
        used_bytes: cx.known(area.used(), "USED of a swap area", place).map(bytes),
        priority: cx.known(area.priority.clone(), "PRI of a swap area", place),
        filename: cx.known(area.path(&kernel), "FILENAME of a swap area", place),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_crashs() {
        let row = |kbytes: u64, used: u64, priority| Row {
            swap_info_struct: VirtAddr(0xff27_0289_01d5_0000),
            kind: Some("PARTITION"),
            bytes: Some(kbytes << 10),
            used_bytes: Some(used << 10),
            priority: Some(priority),
            filename: Some("/dev/vdc".into()),
        };
        let mut text = String::new();
        row(262_140, 32_960, -2).render(&(), &mut text).unwrap();
        row(32_764, 4_096, 10).render(&(), &mut text).unwrap();
        assert_eq!(
            text,
            "ff27028901d50000  PARTITION   262140k    32960k    12%   -2  /dev/vdc\n\
             ff27028901d50000  PARTITION   32764k      4096k    12%   10  /dev/vdc\n"
        );
    }
}
