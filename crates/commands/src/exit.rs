//! `exit`: the end of the session.

use crate::args::Args;
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::sink::Sink;

/// Ends the session.
pub(crate) static EXIT: Command = Command {
    names: &["exit", "q", "quit"],
    group: Group::Session,
    summary: "end the session",
    operands: "",
    options: &[],
    help: include_str!("exit.md"),
    run: Run::Once(exit),
};

fn exit(_cx: &mut Cx, _args: &Args, _out: &mut dyn Sink) -> Result<(), CommandError> {
    Err(CommandError::Exit)
}
