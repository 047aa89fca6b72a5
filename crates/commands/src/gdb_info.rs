//! gdb's `info symbol`, `line`, `scope`, `locals`, `args`, `registers`.

use std::fmt::{self, Write as _};

use kdive_base::VirtAddr;
use kdive_evidence::Register;
use serde::Serialize;

use crate::args::UsageError;
use crate::bt::{self, BtLocal};
use crate::command::CommandError;
use crate::cx::Cx;
use crate::frame::selected_frame;
use crate::operand;
use crate::sink::{Render, Sink, SinkExt};

/// What follows `info` in these forms.
pub(crate) const OPERANDS: &str =
    "[symbol address | line address | scope address | locals | args | registers [name]... | frame]";

/// Runs one of gdb's forms.
pub(crate) fn run(cx: &mut Cx, words: &[String], out: &mut dyn Sink) -> Result<(), CommandError> {
    let (what, rest) = words.split_first().map_or(("", &[][..]), |(what, rest)| (what.as_str(), rest));
    let operand = rest.join(" ");
    match what {
        "symbol" | "sym" => symbol(cx, &operand, out),
        "line" => line(cx, &operand, out),
        "scope" => scope(cx, &operand, out),
        "locals" => variables(cx, false, out),
        "args" => variables(cx, true, out),
        "registers" | "reg" | "r" => registers(cx, rest, out),
        "frame" | "f" => crate::exec::run(cx, &["frame".to_owned()], out),
        _ => Err(UsageError::new("info", format!("{what}: expected {OPERANDS}")).into()),
    }
}

/// `*ADDRESS` and whatever other commands take for one.
fn address(cx: &Cx, operand: &str) -> Result<VirtAddr, CommandError> {
    let operand = operand.trim().trim_start_matches(['*', '&']);
    if operand.is_empty() {
        return Err(UsageError::new("info", "which address or symbol?").into());
    }
    operand::address(cx, "info", operand)
}

/// The symbol of an address.
#[derive(Serialize)]
struct SymbolAt {
    address: VirtAddr,
    symbol: String,
    offset: u64,
    section: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    module: Option<String>,
}

impl Render for SymbolAt {
    type View = ();

    /// `vfs_read + 5 in section .text`
    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        out.write_str(&self.symbol)?;
        if self.offset > 0 {
            write!(out, " + {}", self.offset)?;
        }
        write!(out, " in section {}", self.section)?;
        if let Some(module) = &self.module {
            write!(out, " of {module}")?;
        }
        out.write_char('\n')
    }
}

fn symbol(cx: &mut Cx, operand: &str, out: &mut dyn Sink) -> Result<(), CommandError> {
    let at = address(cx, operand)?;
    let kernel = cx.kernel.clone();
    let Some(place) = kernel.place(at) else {
        return Err(CommandError::not_found(format!("No symbol matches {operand}.")));
    };
    let section = match place.symbol.kind.letter().to_ascii_lowercase() {
        't' | 'w' => ".text",
        'r' => ".rodata",
        'b' => ".bss",
        _ => ".data",
    };
    let record = SymbolAt {
        address: at,
        symbol: place.symbol.name.to_owned(),
        offset: place.offset,
        section,
        module: place.symbol.module.map(str::to_owned),
    };
    out.row(&record, &())?;
    Ok(())
}

/// A line and its code.
#[cfg(feature = "dwarf")]
#[derive(Serialize)]
struct LineAt {
    file: String,
    line: u32,
    start: VirtAddr,
    end: VirtAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_symbol: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_symbol: Option<String>,
}

#[cfg(feature = "dwarf")]
impl Render for LineAt {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let place = |at: VirtAddr, name: &Option<String>| match name {
            Some(name) => format!("0x{:x} <{name}>", at.0),
            None => format!("0x{:x}", at.0),
        };
        let (start, end) = (place(self.start, &self.start_symbol), place(self.end, &self.end_symbol));
        writeln!(out, "Line {} of \"{}\" starts at address {start} and ends at {end}.", self.line, self.file)
    }
}

#[cfg(feature = "dwarf")]
fn line(cx: &mut Cx, operand: &str, out: &mut dyn Sink) -> Result<(), CommandError> {
    let at = address(cx, operand)?;
    let Some((found, code)) = cx.kernel.line_range(at)? else {
        return Err(CommandError::not_found(format!(
            "No line number information available for address {at}"
        )));
    };
    let name = |at: VirtAddr| {
        let place = cx.kernel.place(at)?;
        let offset = if place.offset > 0 { format!("+{}", place.offset) } else { String::new() };
        Some(format!("{}{offset}", place.symbol.name))
    };
    let record = LineAt {
        file: kdive_base::printable(found.relative().as_bytes()),
        line: found.line.unwrap_or(0),
        start: code.start,
        end: code.end,
        start_symbol: name(code.start),
        end_symbol: name(code.end),
    };
    out.row(&record, &())?;
    Ok(())
}

/// Without a reader of DWARF there are no lines.
#[cfg(not(feature = "dwarf"))]
fn line(cx: &mut Cx, operand: &str, _out: &mut dyn Sink) -> Result<(), CommandError> {
    address(cx, operand)?;
    Err(kdive_target::Lacks::unavailable("this kdive was built without DWARF").into())
}

/// A variable, and its value where that was asked for.
#[derive(Serialize)]
struct Row {
    #[serde(flatten)]
    local: BtLocal,
}

impl Render for Row {
    /// Whether values are shown, or what the variable is.
    type View = bool;

    fn render(&self, values: &bool, out: &mut dyn fmt::Write) -> fmt::Result {
        let local = &self.local;
        if *values {
            return writeln!(out, "{}", local.assignment());
        }
        let what = if local.argument { "an argument" } else { "a variable" };
        writeln!(out, "Symbol {} is {what} of type {}.", local.name, local.of)
    }
}

/// `info locals`, `info args`.
fn variables(cx: &mut Cx, arguments: bool, out: &mut dyn Sink) -> Result<(), CommandError> {
    let stack = selected_frame(cx)?;
    let found = bt::locals_of_stack(&cx.kernel, &stack.frames).into_iter().nth(stack.index);
    let locals = found.unwrap_or_else(|| Ok(Vec::new()))?;
    let mut rows = locals.into_iter().filter(|local| local.argument == arguments).peekable();
    if rows.peek().is_none() {
        out.heading(if arguments { "No arguments.\n" } else { "No locals.\n" })?;
    }
    for local in rows {
        out.row(&Row { local }, &true)?;
    }
    Ok(())
}

/// `info scope`: what code at an address sees.
fn scope(cx: &mut Cx, operand: &str, out: &mut dyn Sink) -> Result<(), CommandError> {
    let at = address(cx, operand)?;
    let locals = bt::locals_at(&cx.kernel, at)?;
    let sees = if locals.is_empty() { "contains no locals or arguments." } else { "" };
    out.heading(&format!(
        "Symbols in scope at {operand}:{}{sees}\n",
        if sees.is_empty() { "" } else { " " }
    ))?;
    for local in locals {
        out.row(&Row { local }, &false)?;
    }
    Ok(())
}

/// A register of the selected frame.
#[derive(Serialize)]
struct RegisterRow {
    register: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<VirtAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    symbol: Option<String>,
}

impl Render for RegisterRow {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let Some(VirtAddr(value)) = self.value else {
            return writeln!(out, "{:<14} <unavailable>", self.register);
        };
        let hexadecimal = format!("{value:#x}");
        let mut natural = value.cast_signed().to_string();
        if matches!(self.register, "rip" | "rsp" | "rbp") {
            natural.clone_from(&hexadecimal);
        }
        if let Some(symbol) = &self.symbol {
            let _ = write!(natural, " <{symbol}>");
        }
        writeln!(out, "{:<14} {hexadecimal:<18} {natural}", self.register)
    }
}

fn registers(cx: &mut Cx, names: &[String], out: &mut dyn Sink) -> Result<(), CommandError> {
    let stack = selected_frame(cx)?;
    let plain = |name: &str| name.trim_start_matches('$').to_owned();
    let wanted: Vec<String> = names.iter().map(|name| plain(name)).collect();
    if let Some(unknown) = wanted.iter().find(|name| Register::ALL.iter().all(|known| known.name() != **name))
    {
        return Err(UsageError::new("info", format!("there is no register {unknown}")).into());
    }
    let Some(frame) = stack.frame() else {
        return Err(CommandError::not_found("info: the task has no frames"));
    };
    for &register in Register::ALL {
        let name = register.name();
        if !wanted.is_empty() && !wanted.iter().any(|wanted| wanted == name) {
            continue;
        }
        let value = match name {
            "rip" => Some(frame.ip.0),
            "rsp" => frame.registers.get(register).or(Some(frame.sp.0)),
            _ => frame.registers.get(register),
        };
        let symbol = value.filter(|_| name == "rip").and_then(|value| cx.kernel.place(VirtAddr(value)));
        let symbol = symbol.map(|place| format!("{}+{}", place.symbol.name, place.offset));
        out.row(&RegisterRow { register: name, value: value.map(VirtAddr), symbol }, &())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text<R: Render>(record: &R, view: &R::View) -> String {
        let mut text = String::new();
        record.render(view, &mut text).unwrap();
        text
    }

    #[test]
    fn registers_are_gdbs() {
        let row = |register, value, symbol: Option<&str>| RegisterRow {
            register,
            value,
            symbol: symbol.map(str::to_owned),
        };
        let value = Some(VirtAddr(0x0007_c9dc_02a9));
        assert_eq!(text(&row("rax", value, None), &()), "rax            0x7c9dc02a9        33451410089\n");
        let rip = row("rip", Some(VirtAddr(0xffff_ffff_b008_b667)), Some("delay_tsc+55"));
        assert_eq!(text(&rip, &()), "rip            0xffffffffb008b667 0xffffffffb008b667 <delay_tsc+55>\n");
        assert_eq!(text(&row("cs", None, None), &()), "cs             <unavailable>\n");
    }

    #[test]
    fn symbols_are_gdbs() {
        let mut record = SymbolAt {
            address: VirtAddr(5),
            symbol: "vfs_read".into(),
            offset: 5,
            section: ".text",
            module: None,
        };
        assert_eq!(text(&record, &()), "vfs_read + 5 in section .text\n");
        record.offset = 0;
        record.module = Some("kvm".into());
        assert_eq!(text(&record, &()), "vfs_read in section .text of kvm\n");
    }
}
