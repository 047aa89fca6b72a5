//! Dumps of devices (`NT_VMCOREDD` notes): what drivers left in the dump for the makers of their hardware.

use std::fmt;

use kdive_base::{Printable, VirtAddr};
use kdive_dump::DeviceDump;
use serde::Serialize;

use crate::args::UsageError;
use crate::command::CommandError;
use crate::cx::Cx;
use crate::memory::Which;
use crate::operand;
use crate::rd::{copy, rows};
use crate::sink::{Render, Sink, SinkExt};

#[derive(Debug, Serialize)]
struct Row<'d> {
    index: usize,
    /// Of its first byte in the dump file.
    offset: VirtAddr,
    bytes: u64,
    name: &'d str,
}

const TITLES: &str = "INDEX  OFFSET             SIZE             NAME\n";

impl Render for Row<'_> {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let offset = format!("{:#x}", self.offset.0);
        let name = Printable(self.name.as_bytes());
        writeln!(out, "{:>3}    {offset:<18} {:<16} {name}", self.index, self.bytes)
    }
}

/// The dump that is shown.
#[derive(Serialize)]
struct Header<'d> {
    name: &'d str,
}

impl Render for Header<'_> {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "DEVICE: {}", Printable(self.name.as_bytes()))
    }
}

/// The dumps; that there are none is said.
fn all(cx: &Cx, out: &mut dyn Sink) -> Result<Vec<DeviceDump>, CommandError> {
    let dumps = cx.kernel.notes().device_dumps.clone();
    if dumps.is_empty() {
        out.heading("dev: no device dumps found in this dumpfile\n")?;
    }
    Ok(dumps)
}

pub(super) fn list(cx: &mut Cx, out: &mut dyn Sink) -> Result<(), CommandError> {
    let dumps = all(cx, out)?;
    if !dumps.is_empty() {
        out.heading(TITLES)?;
    }
    for (index, DeviceDump { name, offset, bytes }) in dumps.iter().enumerate() {
        out.row(&Row { index, offset: VirtAddr(*offset), bytes: *bytes, name }, &())?;
    }
    Ok(())
}

/// Shows the bytes of a dump, or copies them into a file.
pub(super) fn show(
    cx: &mut Cx,
    index: &str,
    file: Option<&str>,
    out: &mut dyn Sink,
) -> Result<(), CommandError> {
    let dumps = all(cx, out)?;
    if dumps.is_empty() {
        return Ok(());
    }
    let number = operand::number(index).and_then(|number| usize::try_from(number).ok());
    let wrong = || UsageError::new("dev", format!("-v {index}: `dev -V` shows the indexes"));
    let dump = number.and_then(|number| dumps.get(number)).ok_or_else(wrong)?;
    out.header(&Header { name: &dump.name }, &())?;
    let space = Which::File.open(cx, "dev", dump.offset)?;
    match file {
        Some(file) => copy::copy(cx, "dev", space.memory(), dump.offset, dump.bytes, file, out),
        None => rows::show(cx, space.memory(), dump.offset, dump.bytes, &rows::View::plain(8), out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_crashs() {
        let row =
            Row { index: 1, offset: VirtAddr(0x200_1240), bytes: 33_558_464, name: "cxgb4_0000:03:00.4" };
        let mut text = TITLES.to_owned();
        row.render(&(), &mut text).unwrap();
        assert_eq!(
            text,
            "INDEX  OFFSET             SIZE             NAME\n\
             \x20 1    0x2001240          33558464         cxgb4_0000:03:00.4\n"
        );
    }
}
