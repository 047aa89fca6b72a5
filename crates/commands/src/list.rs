//! The one list of commands.

use crate::command::Command;

/// All commands, in the order of the help listing.
pub static COMMANDS: &[&Command] = &[];

/// The command that answers to a name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.names.contains(&name)).copied()
}
