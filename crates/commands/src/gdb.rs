//! `gdb`: the commands of gdb that people type behind it. There is no gdb inside: each is a command of kdive.

use crate::args::UsageError;
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::exec;
use crate::list::find;
use crate::sink::Sink;
use crate::source_lines;

/// Passes on to the command that answers.
pub(crate) static GDB: Command = Command {
    names: &["gdb"],
    group: Group::Memory,
    summary: "gdb's commands that kdive has: list, x, p, ptype, whatis, info, disassemble",
    operands: "command...",
    options: &[],
    help: include_str!("gdb.md"),
    run: Run::Words(gdb),
};

/// gdb's names and abbreviations, and the command that answers to each.
const PASSED: &[(&str, &str)] = &[
    ("x", "x"),
    ("p", "p"),
    ("print", "p"),
    ("inspect", "p"),
    ("output", "p"),
    ("ptype", "ptype"),
    ("whatis", "whatis"),
    ("info", "info"),
    ("inf", "info"),
    ("i", "info"),
    ("disassemble", "disassemble"),
    ("disas", "disassemble"),
    ("frame", "frame"),
    ("f", "frame"),
    ("up", "up"),
    ("down", "down"),
    ("bt", "bt"),
    ("backtrace", "bt"),
    ("where", "bt"),
];

fn gdb(cx: &mut Cx, words: &[String], out: &mut dyn Sink) -> Result<(), CommandError> {
    let Some((name, rest)) = words.split_first() else {
        return Err(UsageError::new("gdb", "which command?").into());
    };
    // `x/4x`, `p/x`: the format belongs to the name.
    let (plain, format) = name.split_once('/').map_or((name.as_str(), ""), |(plain, format)| (plain, format));
    if matches!(plain, "list" | "l") {
        return list(cx, rest, out);
    }
    let passed = PASSED.iter().find(|(known, _)| *known == plain).map(|(_, command)| *command);
    let Some(command) = passed.filter(|command| find(command).is_some()) else {
        return Err(CommandError::NotFound {
            what: format!("gdb: there is no gdb inside, and no {plain} of kdive's own"),
            hint: Some(format!("`gdb` takes {}", names().join(", "))),
        });
    };
    let name = if format.is_empty() { command.to_owned() } else { format!("{command}/{format}") };
    let words: Vec<String> = std::iter::once(name).chain(rest.iter().cloned()).collect();
    exec::run(cx, &words, out)
}

fn names() -> Vec<&'static str> {
    let known = PASSED.iter().filter(|(name, command)| name.len() > 1 && find(command).is_some());
    std::iter::once("list").chain(known.map(|(name, _)| *name)).collect()
}

/// `list` is source here, whatever the operand looks like.
fn list(cx: &mut Cx, words: &[String], out: &mut dyn Sink) -> Result<(), CommandError> {
    let (tree, operand) = match words {
        [option, tree, operand @ ..] if option == "--src" => (Some(tree.as_str()), operand.join(" ")),
        operand => (None, operand.join(" ")),
    };
    if operand.is_empty() {
        return Err(UsageError::new("gdb", "list: which *ADDRESS, function or FILE:LINE?").into());
    }
    source_lines::list(cx, &operand, tree, out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_is_told_what_there_is() {
        let names = names();
        assert!(names.contains(&"list") && names.contains(&"info") && names.contains(&"backtrace"));
        assert!(!names.contains(&"run"));
    }
}
