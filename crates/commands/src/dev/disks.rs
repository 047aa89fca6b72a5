//! What disks are busy with.

use std::fmt;

use kdive_base::VirtAddr;
use kdive_linux::block::{Disk, Disks, InFlight, in_flight};
use kdive_target::Text;
use serde::Serialize;

use crate::command::CommandError;
use crate::cx::Cx;
use crate::render::{Known, UNKNOWN};
use crate::sink::{Render, Sink, SinkExt};

#[derive(Debug, Serialize)]
struct Row {
    #[serde(skip_serializing_if = "Option::is_none")]
    major: Option<u32>,
    disk: VirtAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<VirtAddr>,
    /// Requests that the driver has.
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reads: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    writes: Option<u64>,
}

const TITLES: &str = "MAJOR GENDISK            NAME       REQUEST_QUEUE      TOTAL  READ WRITE \n";

impl Render for Row {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let queue = self.queue.map_or(format!("{UNKNOWN:^16}"), |at| at.to_string());
        let (major, name) = (Known(self.major), Known(self.name.as_deref()));
        write!(out, "{major:>5} {}   {name:<10} {queue} ", self.disk)?;
        let (total, reads, writes) = (Known(self.total), Known(self.reads), Known(self.writes));
        writeln!(out, "{total:>7} {reads:>5} {writes:>5} ")
    }
}

pub(super) fn show(cx: &mut Cx, busy_only: bool, out: &mut dyn Sink) -> Result<(), CommandError> {
    let disks = Disks::find(&cx.kernel)?;
    for lacks in &disks.incomplete {
        cx.lacks(lacks, "disks", String::new);
    }
    out.heading(TITLES)?;
    for disk in &disks.all {
        cx.cancel.check()?;
        let row = row(cx, disk);
        if !busy_only || row.total != Some(0) {
            out.row(&row, &())?;
        }
    }
    Ok(())
}

fn row(cx: &mut Cx, disk: &Disk) -> Row {
    let kernel = cx.kernel.clone();
    let place = || format!("gendisk {:#}", disk.at);
    let requests = cx.known(in_flight(&kernel, disk), "TOTAL", place);
    Row {
        major: cx.known(disk.major.clone(), "MAJOR", place),
        disk: disk.at,
        name: cx.known(disk.name.clone(), "NAME", place).map(|Text(name)| name),
        queue: cx.known(disk.queue.clone(), "REQUEST_QUEUE", place),
        total: requests.map(|InFlight { reads, writes }| reads.saturating_add(writes)),
        reads: requests.map(|requests| requests.reads),
        writes: requests.map(|requests| requests.writes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_crashs() {
        let row = Row {
            major: Some(254),
            disk: VirtAddr(0xff27_0289_019e_a000),
            name: Some("vda".into()),
            queue: Some(VirtAddr(0xff27_0289_01bc_0f20)),
            total: Some(5),
            reads: Some(1),
            writes: Some(4),
        };
        let mut text = TITLES.to_owned();
        row.render(&(), &mut text).unwrap();
        assert_eq!(
            text,
            "MAJOR GENDISK            NAME       REQUEST_QUEUE      TOTAL  READ WRITE \n\
             \x20 254 ff270289019ea000   vda        ff27028901bc0f20       5     1     4 \n"
        );
    }
}
