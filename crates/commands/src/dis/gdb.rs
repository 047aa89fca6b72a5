//! `disassemble`: the same code in gdb's words.

use std::fmt;

use kdive_arch::x86_64::disassemble::{Instruction, Syntax};
use kdive_base::VirtAddr;
use kdive_target::Lacks;
use serde::Serialize;

use crate::args::{Args, Opt, UsageError};
use crate::code::{self, Instructions};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::frame::selected_frame;
use crate::operand;
use crate::render::hex_bytes;
use crate::settings::Radix;
use crate::sink::{Render, Sink, SinkExt};
use crate::source_lines;
use crate::sym;

/// gdb's view of code.
pub(crate) static DISASSEMBLE: Command = Command {
    names: &["disassemble"],
    group: Group::Memory,
    summary: "the code of a function or range as gdb shows it",
    operands: "[/rms] [address | function | start,end | start,+length]",
    options: &[
        Opt::value(Opt::FORMAT, "rms", "r: the bytes too; s, m: source lines too"),
        Opt::flag("--intel", "Intel syntax"),
    ],
    help: include_str!("../disassemble.md"),
    run: Run::Once(disassemble),
};

/// A range, and whether it is a function's.
struct Wanted {
    from: VirtAddr,
    to: VirtAddr,
    function: Option<String>,
    padded: bool,
}

fn disassemble(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    let mut letters = args.value(Opt::FORMAT).unwrap_or_default().to_owned();
    let mut words = args.operands.as_slice();
    while let [word, rest @ ..] = words
        && let Some(more) = word.strip_prefix('/')
    {
        letters.push_str(more);
        words = rest;
    }
    if let Some(other) = letters.chars().find(|letter| !"rms".contains(*letter)) {
        return Err(UsageError::new("disassemble", format!("/{other}: expected r, m or s")).into());
    }
    let wanted = wanted(cx, &words.concat())?;
    match &wanted.function {
        Some(name) => out.heading(&format!("Dump of assembler code for function {name}:\n"))?,
        None => {
            let (from, to) = (wanted.from.0, wanted.to.0);
            out.heading(&format!("Dump of assembler code from 0x{from:x} to 0x{to:x}:\n"))?;
        }
    }
    let code = read(cx, &wanted, if args.has("--intel") { Syntax::Intel } else { Syntax::Att })?;
    let lines = letters.contains(['m', 's']);
    let view = View { bytes: letters.contains('r'), symbol: wanted.function.is_none() };
    let kernel = cx.kernel.clone();
    let mut last = None;
    for found in &code {
        cx.cancel.check()?;
        let place = if lines { source_lines::place(&kernel, found.address).ok().flatten() } else { None };
        if let Some(place) = place.filter(|place| last.as_ref() != Some(place)) {
            out.heading(&format!("{}:{}\n", place.file, place.line))?;
            last = Some(place);
        }
        let place = kernel.place(found.address);
        let row = Row {
            address: found.address,
            symbol: place.map(|place| place.symbol.name.to_owned()),
            offset: place.map_or(0, |place| place.offset),
            bytes: hex_bytes(&found.bytes),
            text: found.text(&|at| sym::name(&kernel, at, Radix::Decimal)),
        };
        out.row(&row, &view)?;
    }
    out.heading("End of assembler dump.\n")?;
    Ok(())
}

fn wanted(cx: &Cx, operand: &str) -> Result<Wanted, CommandError> {
    let address = |word: &str| operand::address(cx, "disassemble", word.trim_start_matches('*'));
    if let Some((start, end)) = operand.split_once(',') {
        let from = address(start)?;
        let to = match end.strip_prefix('+') {
            Some(length) => from.add(operand::count("disassemble", length)?),
            None => address(end)?,
        };
        return Ok(Wanted { from, to, function: None, padded: false });
    }
    let at = match operand {
        "" => selected_frame(cx)?.frame().map_or(VirtAddr(0), |frame| frame.ip),
        operand => address(operand)?,
    };
    let none = || CommandError::not_found("No function contains specified address.");
    let code::Function { range, padded } = code::function(&cx.kernel, at).ok_or_else(none)?;
    let function = cx.kernel.place(at).map(|place| place.symbol.name.to_owned());
    Ok(Wanted { from: range.start, to: range.end, function, padded })
}

fn read(cx: &mut Cx, wanted: &Wanted, syntax: Syntax) -> Result<Vec<Instruction>, CommandError> {
    let kernel = cx.kernel.clone();
    let mut instructions = Instructions::new(kernel.memory(), wanted.from, syntax);
    let mut code = Vec::new();
    while instructions.at < wanted.to {
        cx.cancel.check()?;
        match instructions.one() {
            Ok(found) => code.push(found),
            Err(missing) if code.is_empty() => return Err(Lacks::Missing(missing).into()),
            Err(missing) => {
                cx.lacks(&Lacks::Missing(missing), "code", || missing.address.to_string());
                break;
            }
        }
    }
    if wanted.padded {
        code::without_padding(&mut code);
    }
    Ok(code)
}

#[derive(Serialize)]
struct Row {
    address: VirtAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    symbol: Option<String>,
    offset: u64,
    bytes: String,
    text: String,
}

struct View {
    bytes: bool,
    /// Whether the symbol stands before the offset: it goes without saying inside one function.
    symbol: bool,
}

impl Render for Row {
    type View = View;

    fn render(&self, view: &View, out: &mut dyn fmt::Write) -> fmt::Result {
        write!(out, "   0x{:016x}", self.address.0)?;
        if let Some(symbol) = &self.symbol {
            write!(out, " <{}+{}>", if view.symbol { symbol } else { "" }, self.offset)?;
        }
        out.write_str(":\t")?;
        if view.bytes {
            write!(out, "{:<19}\t", self.bytes)?;
        }
        writeln!(out, "{}", self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_gdbs() {
        let row = Row {
            address: VirtAddr(0xffff_ffff_af84_5484),
            symbol: Some("vfs_read".into()),
            offset: 4,
            bytes: "0f 1f 44 00 00".into(),
            text: "nopl   0x0(%rax,%rax,1)".into(),
        };
        let text = |bytes, symbol| {
            let mut text = String::new();
            row.render(&View { bytes, symbol }, &mut text).unwrap();
            text
        };
        assert_eq!(text(false, false), "   0xffffffffaf845484 <+4>:\tnopl   0x0(%rax,%rax,1)\n");
        assert_eq!(
            text(true, true),
            "   0xffffffffaf845484 <vfs_read+4>:\t0f 1f 44 00 00     \tnopl   0x0(%rax,%rax,1)\n"
        );
    }
}
