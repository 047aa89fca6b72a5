//! `text-check`: the kernel's code in the dump against its vmlinux, and the modules' against their files.

use std::fmt;

use kdive_base::VirtAddr;
use kdive_linux::text::{Change, Comparison, Original, compare, compare_module};
use kdive_target::os::Module;
use kdive_target::{Field, Kernel};
use rayon::prelude::*;
use serde::Serialize;

use crate::args::{Args, Opt, UsageError};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::mod_cmd;
use crate::render::{Known, hex_bytes};
use crate::settings::Radix;
use crate::sink::{Render, Sink, SinkExt};
use crate::sym;

/// Looks for damage to code.
pub(crate) static TEXT_CHECK: Command = Command {
    names: &["text-check"],
    group: Group::Symbols,
    summary: "damage to code: what differs from the vmlinux or a module's file and may not",
    operands: "[module]...",
    options: &[Opt::flag("-k", "the kernel's own code only, without the modules")],
    help: include_str!("text-check.md"),
    run: Run::Once(run),
};

/// Bytes of one change that are shown.
const SHOWN: usize = 16;
/// Modules whose files are unpacked and compared before the first of them are shown.
const AT_ONCE: usize = 16;

fn run(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let only_kernel = args.has("-k");
    if let (true, Some(name)) = (only_kernel, args.operands.first()) {
        return Err(UsageError::new("text-check", format!("{name}: -k leaves modules out")).into());
    }
    let modules =
        if only_kernel { Vec::new() } else { mod_cmd::choose(&kernel, "text-check", &args.operands)? };
    let mut tally = Tally::default();
    if args.operands.is_empty() {
        check_kernel(cx, &mut tally, out)?;
    }
    let mut compared = 0_usize;
    for some in modules.chunks(AT_ONCE) {
        cx.cancel.check()?;
        let compare = |module: &&Module| compare_module(&kernel, module);
        let found: Vec<Field<Comparison>> = some.par_iter().map(compare).collect();
        for (module, found) in some.iter().zip(found) {
            match found {
                Ok(found) => {
                    compared = compared.saturating_add(1);
                    tally.show(cx, &found, Some(&module.name), out)?;
                }
                Err(lacks) => cx.gaps.note("code of a module", lacks, Some(module.name.to_string())),
            }
        }
    }
    if tally.compared == 0 {
        return Err(CommandError::NotFound {
            what: "text-check: there is no code to compare with".into(),
            hint: Some(HINT.into()),
        });
    }
    tally.modules = compared;
    tally.modules_not_compared = modules.len().saturating_sub(compared);
    Ok(out.trailer(&tally, &())?)
}

const HINT: &str = "give the vmlinux of this kernel: `kdive vmlinux vmcore`; modules are looked for in lib/modules near it \
                    and in the directories given";

/// What was compared.
#[derive(Debug, Default, Serialize)]
struct Tally {
    /// Whether the kernel's own code was.
    kernel: bool,
    modules: usize,
    /// Modules without a file of theirs.
    modules_not_compared: usize,
    /// Bytes.
    compared: u64,
    /// Places that differ.
    places: usize,
}

fn check_kernel(cx: &mut Cx, tally: &mut Tally, out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let Some(original) = Original::of(&kernel) else {
        cx.gaps.note("code of the kernel", "no vmlinux with its code was given", None);
        return Ok(());
    };
    let found = compare(&kernel, original)?;
    tally.kernel = true;
    tally.show(cx, &found, None, out)
}

impl Tally {
    fn show(
        &mut self,
        cx: &mut Cx,
        found: &Comparison,
        module: Option<&str>,
        out: &mut dyn Sink,
    ) -> Result<(), CommandError> {
        let what = if module.is_some() { "code of a module" } else { "code of the kernel" };
        for (range, lacks) in &found.missing {
            cx.lacks(lacks, what, || format!("{} - {}", range.start, range.end));
        }
        for change in &found.changes {
            cx.cancel.check()?;
            out.row(&ChangeRow::new(&cx.kernel, module, change), &())?;
        }
        self.compared = self.compared.saturating_add(found.compared);
        self.places = self.places.saturating_add(found.changes.len());
        Ok(())
    }
}

impl Render for Tally {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let modules = match self.modules {
            0 => None,
            1 => Some("one module".to_owned()),
            count => Some(format!("{count} modules")),
        };
        let what: Vec<String> =
            self.kernel.then(|| "the kernel".to_owned()).into_iter().chain(modules).collect();
        let code = format!("{} KiB of code, of {}", self.compared / 1024, what.join(" and "));
        match self.places {
            0 => {
                writeln!(out, "no damage: {code}, are as they were built, but for what Linux patches itself")?
            }
            1 => writeln!(out, "one place in {code}, differs, and is none that Linux patches itself")?,
            places => {
                writeln!(out, "{places} places in {code}, differ, and are none that Linux patches itself")?
            }
        }
        match self.modules_not_compared {
            0 => Ok(()),
            1 => writeln!(out, "one module was not compared"),
            count => writeln!(out, "{count} modules were not compared"),
        }
    }
}

/// Code that was changed.
#[derive(Debug, Serialize)]
struct ChangeRow {
    address: VirtAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    symbol: Option<String>,
    /// The module whose code it is; none for the kernel's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    module: Option<String>,
    /// Bytes that differ, or lie between two that do.
    bytes: usize,
    /// Bits that differ.
    bits: u32,
    /// What the dump has, in hexadecimal.
    found: String,
    /// What the vmlinux has, or the module's file once it is linked.
    original: String,
}

impl ChangeRow {
    fn new(kernel: &Kernel, module: Option<&str>, change: &Change) -> Self {
        Self {
            address: change.at,
            symbol: sym::name(kernel, change.at, Radix::Decimal),
            module: module.map(str::to_owned),
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
        let source = if self.module.is_some() { "MODULE" } else { "VMLINUX" };
        writeln!(out, "{source:>10}: {}{more}", self.original)?;
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
            module: None,
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
