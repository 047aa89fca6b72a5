//! `sig`: what tasks do about signals.

mod row;

use kdive_linux::signal::{self, Signals};
use kdive_linux::tasks::{Task, Tasks};
use serde::Serialize;
use std::fmt;

use self::row::{Group as GroupRow, Threads};
use crate::args::{Args, Opt, UsageError};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::select;
use crate::sink::{Render, Sink, SinkExt};

/// Shows signals.
pub(crate) static SIG: Command = Command {
    names: &["sig"],
    group: Group::Tasks,
    summary: "a task's signals: handlers, blocked, pending",
    operands: "[pid | task | name]...",
    options: &[
        Opt::flag("-g", "all threads of each task's group"),
        Opt::flag("-l", "the signals by number"),
        Opt::value("-s", "sigset", "the signals in this set, a word in hexadecimal"),
    ],
    help: include_str!("sig.md"),
    run: Run::Both { once, per_task },
};

fn once(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    if args.has("-l") {
        return (1..=signal::SIGNALS).try_for_each(|number| Ok(out.row(&Signal::new(number), &())?));
    }
    if let Some(word) = args.value("-s") {
        return Ok(out.row(&Set::parse(word)?, &())?);
    }
    for (index, task) in select::operands(cx, "sig", &args.operands)?.iter().enumerate() {
        cx.cancel.check()?;
        if index > 0 {
            out.heading("\n")?;
        }
        per_task(cx, args, task, out)?;
    }
    Ok(())
}

fn per_task(cx: &mut Cx, args: &Args, task: &Task, out: &mut dyn Sink) -> Result<(), CommandError> {
    if args.has("-l") || args.has("-s") {
        return Err(UsageError::new("sig", "-l and -s are not about tasks").into());
    }
    let kernel = cx.kernel.clone();
    let signals = Signals::new(&kernel);
    if !args.has("-g") {
        return Ok(out.row(&GroupRow::of_task(cx, &signals, task), &())?);
    }
    let tasks = Tasks::find(&kernel);
    let leader = task.group_leader.clone().ok().and_then(|leader| tasks.at(leader)).unwrap_or(task);
    let group: Vec<&Task> = tasks.group(leader).collect();
    Ok(out.row(&Threads::of(cx, &signals, leader, &group), &())?)
}

/// A line of `-l`.
#[derive(Serialize)]
struct Signal {
    number: u32,
    names: Vec<String>,
}

impl Signal {
    fn new(number: u32) -> Self {
        let other = signal::other_name(number).map(str::to_owned);
        Self { number, names: signal::name(number).into_iter().chain(other).collect() }
    }
}

impl Render for Signal {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "{:>4} {}", format!("[{}]", self.number), self.names.join("/"))
    }
}

/// The answer to `-s`.
#[derive(Serialize)]
struct Set {
    signals: Vec<String>,
}

impl Set {
    fn parse(word: &str) -> Result<Self, UsageError> {
        let digits = word.strip_prefix("0x").unwrap_or(word);
        let set = u64::from_str_radix(digits, 16)
            .map_err(|_| UsageError::new("sig", format!("{word} is not a word in hexadecimal")))?;
        Ok(Self { signals: signal::members(set).filter_map(signal::name).collect() })
    }
}

impl Render for Set {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        if self.signals.is_empty() {
            return writeln!(out, "(none)");
        }
        let mut column = 0;
        for name in &self.signals {
            let wanted = column + usize::from(column > 0) + name.len();
            let separator = match column {
                0 => "",
                _ if wanted > COLUMNS => "\n",
                _ => " ",
            };
            column = if separator == "\n" { name.len() } else { wanted };
            write!(out, "{separator}{name}")?;
        }
        writeln!(out)
    }
}

/// Where crash breaks a line of names.
const COLUMNS: usize = 80;

#[cfg(test)]
mod tests {
    use super::*;

    fn text(word: &str) -> String {
        let mut text = String::new();
        Set::parse(word).unwrap().render(&(), &mut text).unwrap();
        text
    }

    #[test]
    fn sets_are_words_in_hexadecimal_and_break_into_lines() {
        assert_eq!(text("0x0"), "(none)\n");
        assert_eq!(text("800A000000000201"), "SIGHUP SIGUSR1 SIGRTMAX-14 SIGRTMAX-12 SIGRTMAX\n");
        let all = text("ffffffffffffffff");
        assert!(all.lines().all(|line| line.len() <= COLUMNS));
        assert_eq!((all.lines().count(), all.split_whitespace().count()), (8, 64));
        assert!(Set::parse("SIGHUP").is_err());
    }
}
