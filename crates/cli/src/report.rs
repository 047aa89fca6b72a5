//! What goes to standard error, and the exit status.

use std::fmt;
use std::io::Write as _;
use std::process::ExitCode;

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Done,
    CommandFailed,
    Usage,
    NotOpened,
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        Self::from(match status {
            Status::Done => 0,
            Status::CommandFailed => 1,
            Status::Usage => 2,
            Status::NotOpened => 3,
        })
    }
}

/// A line on standard error. If that is closed there is nobody to tell.
fn line(text: fmt::Arguments<'_>) {
    let _ = writeln!(anstream::stderr(), "{text}");
}

/// Why kdive gives up.
pub(crate) fn failure(what: &dyn fmt::Display) {
    line(format_args!("kdive: {what}"));
}

/// Why a command ended early, and the next step. The command's name comes first, once.
pub(crate) fn command_failed(command: &str, what: &str, hint: Option<&str>) {
    match what.strip_prefix(command).is_some_and(|rest| rest.starts_with(':')) || command.is_empty() {
        true => line(format_args!("{what}")),
        false => line(format_args!("{command}: {what}")),
    }
    if let Some(hint) = hint {
        line(format_args!("hint: {hint}"));
    }
}

/// Something worth knowing that is no failure.
pub(crate) fn note(what: &dyn fmt::Display) {
    line(format_args!("note: {what}"));
}

/// The line that will run, where it is not the one that was typed.
pub(crate) fn echo(command: &str) {
    line(format_args!("{command}"));
}
