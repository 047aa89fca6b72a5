//! What a command is.

use kdive_base::Cancelled;
use kdive_linux::tasks::Task;
use kdive_target::Lacks;
use kdive_target::c::EvalError;

use crate::args::{Args, Opt, UsageError};
use crate::cx::Cx;
use crate::sink::{Closed, Sink};

/// Headings of the command listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// The machine as a whole.
    System,
    /// Tasks and their stacks.
    Tasks,
    /// Memory, types and code.
    Memory,
    /// Files, devices and the network.
    Devices,
    /// Symbols and modules.
    Symbols,
    /// The session itself.
    Session,
}

/// One command.
pub struct Command {
    /// Its name, then other names it answers to.
    pub names: &'static [&'static str],
    /// Where the listing puts it.
    pub group: Group,
    /// One line for the listing.
    pub summary: &'static str,
    /// What may follow the options (`[pid | task | command]...`), for the usage line; empty where nothing may.
    pub operands: &'static str,
    /// Its options: they drive parsing, help and completion.
    pub options: &'static [Opt],
    /// The help page: what it does, and a transcript.
    pub help: &'static str,
    /// What it does.
    pub run: Run,
}

/// How a command runs.
#[derive(Clone, Copy)]
pub enum Run {
    /// Once for what was typed.
    Once(fn(&mut Cx, &Args, &mut dyn Sink) -> Result<(), CommandError>),
    /// Once, for an expression: everything from the first operand on is one text, in which `-` is C's.
    Expression(fn(&mut Cx, &Args, &str, &mut dyn Sink) -> Result<(), CommandError>),
    /// For one task at a time: the current task, those that the operands name, or all that `foreach` selects, several of
    /// them at once.
    PerTask(fn(&mut Cx, &Args, &Task, &mut dyn Sink) -> Result<(), CommandError>),
    /// `once` when typed alone (it has forms that are not about tasks), `per_task` under `foreach`.
    Both {
        /// When typed alone.
        once: fn(&mut Cx, &Args, &mut dyn Sink) -> Result<(), CommandError>,
        /// Under `foreach`.
        per_task: fn(&mut Cx, &Args, &Task, &mut dyn Sink) -> Result<(), CommandError>,
    },
    /// Once, with the words as typed: they are a command line of their own (`repeat`, `foreach`).
    Words(fn(&mut Cx, &[String], &mut dyn Sink) -> Result<(), CommandError>),
}

/// Why a command ended early.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It was typed wrongly.
    #[error(transparent)]
    Usage(#[from] UsageError),
    /// What it needs is not in this kernel or dump.
    #[error(transparent)]
    Lacks(#[from] Lacks),
    /// An expression has no value.
    #[error(transparent)]
    Eval(#[from] EvalError),
    /// No such task, symbol, module: what was asked for is not there.
    #[error("{what}")]
    NotFound {
        /// What was not found, in words.
        what: String,
        /// What to try next.
        hint: Option<String>,
    },
    /// The user stopped it.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    /// The reader of its output has gone: not a failure.
    #[error(transparent)]
    Closed(#[from] Closed),
    /// The session is to end (`exit`).
    #[error("the session ends")]
    Exit,
}

impl CommandError {
    /// Something asked for that is not there.
    pub fn not_found(what: impl Into<String>) -> Self {
        Self::NotFound { what: what.into(), hint: None }
    }

    /// The next step, for the line after the error.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotFound { hint, .. } => hint.clone(),
            Self::Usage(usage) => Some(usage.hint()),
            Self::Eval(error) => Some(error.pointed()),
            _ => None,
        }
    }
}

impl Command {
    /// The name that the listing shows.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.names.first().copied().unwrap_or_default()
    }
}
