//! `text-check`: the kernel's code in the dump against its vmlinux.

use std::fmt;

use kdive_base::VirtAddr;
use kdive_linux::text::{Change, Original, compare};
use serde::Serialize;

use crate::args::{Args, UsageError};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::render::{Known, hex_bytes};
use crate::settings::Radix;
use crate::sink::{Render, Sink, SinkExt};
use crate::sym;

/// Looks for damage to the kernel's code.
pub(crate) static TEXT_CHECK: Command = Command {
    names: &["text-check"],
    group: Group::Symbols,
    summary: "damage to the kernel's code: what differs from the vmlinux and may not",
    operands: "",
    options: &[],
    help: include_str!("text-check.md"),
    run: Run::Once(run),
};

/// Bytes of one change that are shown.
const SHOWN: usize = 16;

fn run(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    if let Some(word) = args.operands.first() {
        return Err(UsageError::new("text-check", format!("{word}: text-check takes no operands")).into());
    }
    let kernel = cx.kernel.clone();
    let Some(original) = Original::of(&kernel) else {
        return Err(CommandError::NotFound {
            what: "text-check: there is no code to compare with".into(),
            hint: Some("give the vmlinux of this kernel: `kdive vmlinux vmcore`".into()),
        });
    };
    let found = compare(&kernel, original)?;
    for (range, lacks) in &found.missing {
        cx.lacks(lacks, "code of the kernel", || format!("{} - {}", range.start, range.end));
    }
    for change in &found.changes {
        cx.cancel.check()?;
        let row = ChangeRow::new(cx, change);
        out.row(&row, &())?;
    }
    let kib = found.compared / 1024;
    out.heading(&match found.changes.len() {
        0 => format!("no damage: {kib} KiB of the kernel's code are as in the vmlinux, but for what it patches itself\n"),
        1 => format!("one place in {kib} KiB of the kernel's code differs, and is none that it patches\n"),
        places => format!("{places} places in {kib} KiB of the kernel's code differ, and are none that it patches\n"),
    })?;
    Ok(())
}

/// Code that was changed.
#[derive(Debug, Serialize)]
struct ChangeRow {
    address: VirtAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    symbol: Option<String>,
    /// Bytes that differ, or lie between two that do.
    bytes: usize,
    /// Bits that differ.
    bits: u32,
    /// What the dump has, in hexadecimal.
    found: String,
    /// What the vmlinux has.
    original: String,
}

impl ChangeRow {
    fn new(cx: &Cx, change: &Change) -> Self {
        Self {
            address: change.at,
            symbol: sym::name(&cx.kernel, change.at, Radix::Decimal),
            bytes: change.found.len(),
            bits: change.bits(),
            found: hex_bytes(change.found.get(..SHOWN).unwrap_or(&change.found)),
            original: hex_bytes(change.original.get(..SHOWN).unwrap_or(&change.original)),
        }
    }
}

impl Render for ChangeRow {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let more = if self.bytes > SHOWN { " ..." } else { "" };
        writeln!(out, "{}  {}", self.address, Known(self.symbol.as_ref()))?;
        writeln!(out, "     FOUND: {}{more}", self.found)?;
        writeln!(out, "   VMLINUX: {}{more}", self.original)?;
        let bits = if self.bits == 1 { "one bit".to_owned() } else { format!("{} bits", self.bits) };
        writeln!(out, "   DIFFERS: {bits} in {}\n", bytes(self.bytes))
    }
}

fn bytes(count: usize) -> String {
    if count == 1 { "one byte".to_owned() } else { format!("{count} bytes") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flipped_bit_is_told_as_one() {
        let row = ChangeRow {
            address: VirtAddr(0xffff_ffff_8100_0010),
            symbol: Some("int_sqrt+16".into()),
            bytes: 1,
            bits: 1,
            found: "4c".into(),
            original: "48".into(),
        };
        let mut text = String::new();
        row.render(&(), &mut text).unwrap();
        let lines = "ffffffff81000010  int_sqrt+16\n     FOUND: 4c\n   VMLINUX: 48\n   DIFFERS: one bit in one byte\n\n";
        assert_eq!(text, lines);
    }
}
