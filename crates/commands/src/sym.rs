//! `sym`: symbols by name, by address, by part of a name; lists of them.

use std::fmt;

use kdive_base::VirtAddr;
use kdive_debuginfo::{ModuleSymbols, Symbol, Symbols};
use kdive_target::Kernel;
use serde::Serialize;

use crate::args::{Args, Opt, UsageError};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::operand;
use crate::settings::Radix;
use crate::sink::{Render, Sink, SinkExt};
use crate::source_lines;

/// Translates symbols and addresses.
pub(crate) static SYM: Command = Command {
    names: &["sym"],
    group: Group::Symbols,
    summary: "symbols to addresses and back",
    operands: "[symbol | address]...",
    options: &[
        Opt::flag("-l", "list all symbols of the kernel and its modules"),
        Opt::flag("-M", "list the symbols of all modules"),
        Opt::value("-m", "module", "list the symbols of a module"),
        Opt::flag("-p", "show the symbol before it too"),
        Opt::flag("-n", "show the symbol behind it too"),
        Opt::value("-q", "text", "list the symbols whose names contain a text"),
    ],
    help: include_str!("sym.md"),
    run: Run::Once(sym),
};

/// A symbol, or a place in one.
#[derive(Debug, Serialize)]
struct Row<'s> {
    address: VirtAddr,
    #[serde(flatten)]
    symbol: SymbolFields<'s>,
    /// Bytes from the symbol's start.
    #[serde(skip_serializing_if = "is_zero")]
    offset: u64,
    /// Source file and line, where DWARF is at hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
}

#[derive(Debug, Serialize)]
struct SymbolFields<'s> {
    name: &'s str,
    kind: char,
    #[serde(skip_serializing_if = "Option::is_none")]
    module: Option<&'s str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
}

fn is_zero(offset: &u64) -> bool {
    *offset == 0
}

impl<'s> Row<'s> {
    fn new(symbol: &Symbol<'s>, offset: u64) -> Self {
        let Symbol { name, module, address, size, kind } = *symbol;
        let symbol = SymbolFields { name, kind: kind.letter(), module, size };
        Self { address: address.add(offset), symbol, offset, source: None }
    }

    /// With the source line, if code is at the address and its DWARF at hand.
    fn with_source(mut self, kernel: &Kernel) -> Self {
        if matches!(self.symbol.kind, 'T' | 't' | 'W' | 'w') {
            self.source = source_lines::location(kernel, self.address);
        }
        self
    }
}

/// Whether a line names the module: not where the lines around it do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Module {
    Named,
    Understood,
}

impl Render for Row<'_> {
    type View = Module;
    fn render(&self, view: &Module, out: &mut dyn fmt::Write) -> fmt::Result {
        let Self { address, symbol, offset, source } = self;
        write!(out, "{address} ({}) {}", symbol.kind, symbol.name)?;
        if *offset > 0 {
            write!(out, "+{offset}")?;
        }
        if let (Some(module), Module::Named) = (symbol.module, view) {
            write!(out, " [{module}]")?;
        }
        match source {
            Some(source) => writeln!(out, " {source}"),
            None => writeln!(out),
        }
    }
}

fn sym(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let symbols = kernel.symbols()?;
    if let Some(part) = args.value("-q") {
        return rows(cx, symbols.iter().filter(|symbol| symbol.name.contains(part)), Module::Named, out);
    }
    if let Some(name) = args.value("-m") {
        let module = symbols.module(&name.replace('-', "_")).ok_or_else(|| CommandError::NotFound {
            what: format!("sym: there is no module {name} in this dump"),
            hint: Some("`mod` lists the modules".into()),
        })?;
        return module_rows(cx, module, out);
    }
    if args.has("-l") {
        rows(cx, symbols.kernel().iter(), Module::Named, out)?;
    }
    if args.has("-l") || args.has("-M") {
        return symbols.modules().iter().try_for_each(|module| module_rows(cx, module, out));
    }
    if args.operands.is_empty() {
        return Err(UsageError::new("sym", "which symbol or address?").into());
    }
    for word in &args.operands {
        look_up(cx, symbols, args, word, out)?;
    }
    Ok(())
}

fn rows<'s>(
    cx: &Cx,
    symbols: impl Iterator<Item = Symbol<'s>>,
    view: Module,
    out: &mut dyn Sink,
) -> Result<(), CommandError> {
    for symbol in symbols {
        cx.cancel.check()?;
        out.row(&Row::new(&symbol, 0), &view)?;
    }
    Ok(())
}

/// A module's symbols between the marks of its parts, as crash shows where they begin and end.
fn module_rows(cx: &Cx, module: &ModuleSymbols, out: &mut dyn Sink) -> Result<(), CommandError> {
    let name = &*module.name;
    let mut parts = module.ranges.clone();
    parts.sort_by_key(|range| range.start);
    for part in parts {
        let inside = module.table.within(part.clone()).peekable();
        out.heading(&format!("{} MODULE START: {name}\n", part.start))?;
        rows(cx, inside.map(|symbol| Symbol { module: Some(name), ..symbol }), Module::Understood, out)?;
        out.heading(&format!("{} MODULE END: {name}\n", part.end.sub(1)))?;
    }
    Ok(())
}

/// A name goes before an address: `add` and `dec` are both.
fn look_up(
    cx: &Cx,
    symbols: &Symbols,
    args: &Args,
    word: &str,
    out: &mut dyn Sink,
) -> Result<(), CommandError> {
    let kernel = &*cx.kernel;
    let named = symbols.by_name(word);
    let mut found: Vec<(Symbol<'_>, u64)> = named.into_iter().map(|symbol| (symbol, 0)).collect();
    if found.is_empty() {
        let place = operand::address(cx, "sym", word).ok().and_then(|at| kernel.place(at));
        found.extend(place.map(|place| (place.symbol, place.offset)));
    }
    if found.is_empty() {
        return Err(not_found(symbols, word));
    }
    for (symbol, offset) in found {
        let (previous, next) = symbols.neighbours(symbol.address);
        if let Some(previous) = previous.filter(|_| args.has("-p")) {
            out.row(&Row::new(&previous, 0).with_source(kernel), &Module::Named)?;
        }
        out.row(&Row::new(&symbol, offset).with_source(kernel), &Module::Named)?;
        if let Some(next) = next.filter(|_| args.has("-n")) {
            out.row(&Row::new(&next, 0).with_source(kernel), &Module::Named)?;
        }
    }
    Ok(())
}

/// The line of the symbol that an address is in, where it is in one.
pub(crate) fn place(cx: &Cx, address: VirtAddr, out: &mut dyn Sink) -> Result<(), CommandError> {
    let Some(place) = cx.kernel.place(address) else { return Ok(()) };
    Ok(out.row(&Row::new(&place.symbol, place.offset).with_source(&cx.kernel), &Module::Named)?)
}

fn not_found(symbols: &Symbols, word: &str) -> CommandError {
    let near = symbols.near(word);
    let hint = match near.first() {
        Some(near) => format!("did you mean {near}? `sym -q TEXT` lists the symbols that contain a text"),
        None => "`sym -q TEXT` lists the symbols that contain a text".to_owned(),
    };
    CommandError::NotFound {
        what: format!("sym: {word} is no symbol, and no address in the kernel or a module"),
        hint: Some(hint),
    }
}

/// The name of an address in code as gdb writes it between angle brackets: `vfs_read+4`.
pub(crate) fn name(kernel: &Kernel, at: VirtAddr, radix: Radix) -> Option<String> {
    let place = kernel.place(at)?;
    Some(match (place.offset, radix) {
        (0, _) => place.symbol.name.to_owned(),
        (offset, Radix::Decimal) => format!("{}+{offset}", place.symbol.name),
        (offset, Radix::Hexadecimal) => format!("{}+{offset:#x}", place.symbol.name),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::TextSink;

    #[test]
    fn lines_are_crashs() {
        let symbol = SymbolFields { name: "vfs_read", kind: 'T', module: None, size: None };
        let source = Some("fs/read_write.c: 451".to_owned());
        let row = Row { address: VirtAddr(0xffff_ffff_95b4_cc55), symbol, offset: 5, source };
        let module = SymbolFields { name: "ext3_readdir", kind: 't', module: Some("ext3"), size: None };
        let of_module = Row { address: VirtAddr(0xf888_78d1), symbol: module, offset: 0, source: None };
        let mut text = TextSink::new(Vec::new());
        text.row(&row, &Module::Named).unwrap();
        text.row(&of_module, &Module::Named).unwrap();
        assert_eq!(
            String::from_utf8(text.finish().unwrap()).unwrap(),
            "ffffffff95b4cc55 (T) vfs_read+5 fs/read_write.c: 451\n00000000f88878d1 (t) ext3_readdir [ext3]\n"
        );
    }
}
