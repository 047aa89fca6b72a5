//! `wr`: refused. A dump is what was, and nothing here changes it.

use crate::args::{Args, Opt};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::memory;
use crate::sink::Sink;

/// Writes memory, on live systems, which kdive does not open.
pub(crate) static WR: Command = Command {
    names: &["wr"],
    group: Group::Memory,
    summary: "write memory: refused, a dump cannot be changed",
    operands: "address value",
    options: &[
        memory::USER,
        memory::KERNEL,
        memory::PHYSICAL,
        Opt::flag("-8", "an 8-bit value"),
        Opt::flag("-16", "a 16-bit value"),
        Opt::flag("-32", "a 32-bit value"),
        Opt::flag("-64", "a 64-bit value"),
    ],
    help: include_str!("wr.md"),
    run: Run::Once(wr),
};

fn wr(_cx: &mut Cx, _args: &Args, _out: &mut dyn Sink) -> Result<(), CommandError> {
    Err(CommandError::NotFound {
        what: "wr: not allowed on dumpfiles".to_owned(),
        hint: Some("a dump is evidence: it is only read; `rd` shows memory".to_owned()),
    })
}
