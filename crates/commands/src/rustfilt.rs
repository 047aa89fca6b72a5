//! `rustfilt`: mangled names of Rust symbols as people write them.

use std::fmt;

use serde::Serialize;

use crate::args::{Args, UsageError};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::sink::{Render, Sink, SinkExt};

/// Demangles Rust symbols.
pub(crate) static RUSTFILT: Command = Command {
    names: &["rustfilt"],
    group: Group::Symbols,
    summary: "the readable form of mangled Rust symbols",
    operands: "symbol...",
    options: &[],
    help: include_str!("rustfilt.md"),
    run: Run::Once(rustfilt),
};

#[derive(Serialize)]
struct Demangled<'w> {
    symbol: &'w str,
    /// The symbol itself, where it is no mangled name.
    name: String,
}

impl Render for Demangled<'_> {
    type View = ();
    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "{}", self.name)
    }
}

fn rustfilt(_cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    if args.operands.is_empty() {
        return Err(UsageError::new("rustfilt", "which symbol?").into());
    }
    for symbol in &args.operands {
        // The alternate form leaves out the hash behind a legacy name.
        let name = format!("{:#}", rustc_demangle::demangle(symbol));
        out.row(&Demangled { symbol, name }, &())?;
    }
    Ok(())
}
