//! What tests of the program share: the dumps and the command lines.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The directory of what tests read.
pub(crate) fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests")
}

/// The dumps by name, in order.
pub(crate) fn dumps() -> Vec<String> {
    let Ok(listing) = fs::read_dir(tests().join("dumps")) else { return Vec::new() };
    let names = listing.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> =
        names.filter(|name| !name.starts_with('.') && !name.ends_with(".md")).collect();
    names.sort();
    names
}

/// The command lines of `commands.txt`: one on each line, `#` for comments. A line that is there twice, because it sets
/// the session back for what follows, is one golden.
pub(crate) fn commands() -> Vec<String> {
    let text = fs::read_to_string(tests().join("commands.txt")).unwrap_or_default();
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut commands: Vec<String> = Vec::new();
    for line in lines {
        if !commands.iter().any(|known| known == line) {
            commands.push(line.to_owned());
        }
    }
    commands
}

/// The program, where the dumps lie.
pub(crate) fn kdive(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kdive"));
    command.arg("--no-config").args(arguments).current_dir(tests().join("dumps"));
    command.env_remove("DEBUGINFOD_URLS").env("NO_COLOR", "1");
    command
}
