//! `help`: the listing, and the page of one command.

use std::fmt::{self, Write as _};

use serde::{Serialize, Serializer};

use crate::args::{Args, Opt};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::exec::Invocation;
use crate::list::COMMANDS;
use crate::sink::{Render, Sink, SinkExt};

/// Shows what commands there are and how they are used.
pub(crate) static HELP: Command = Command {
    names: &["help"],
    group: Group::Session,
    summary: "the commands, and how each is used",
    operands: "[command | all | input | output]...",
    options: &[],
    help: include_str!("help.md"),
    run: Run::Once(help),
};

/// Pages about the session as a whole.
static TOPICS: &[(&str, &str)] =
    &[("input", include_str!("help_input.md")), ("output", include_str!("help_output.md"))];

fn help(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    if args.operands.is_empty() {
        return listing(out);
    }
    for name in &args.operands {
        if let Some((_, text)) = TOPICS.iter().find(|(topic, _)| topic == name) {
            out.text(&plain(text, ""))?;
        } else if name == "all" {
            for command in COMMANDS {
                out.row(&Page(command), &())?;
            }
        } else {
            out.row(&Page(Invocation::find(std::slice::from_ref(name), &cx.settings)?.command), &())?;
        }
    }
    Ok(())
}

fn listing(out: &mut dyn Sink) -> Result<(), CommandError> {
    let mut group = None;
    for command in in_groups() {
        if group != Some(command.group) {
            let space = if group.is_none() { "" } else { "\n" };
            out.heading(&format!("{space}{}\n", command.group.title()))?;
            group = Some(command.group);
        }
        out.row(&Entry(command), &())?;
    }
    let more = "\n`help COMMAND` shows its options and an example; `help input` and `help output` tell about the session.\n";
    out.heading(more)?;
    Ok(())
}

/// The commands by group, in the order of the list within each.
fn in_groups() -> Vec<&'static Command> {
    let mut commands = COMMANDS.to_vec();
    commands.sort_by_key(|command| command.group);
    commands
}

impl Group {
    /// The heading of the group.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::System => "System",
            Self::Tasks => "Tasks",
            Self::Memory => "Memory, types and code",
            Self::Devices => "Files, devices and the network",
            Self::Symbols => "Symbols and modules",
            Self::Session => "Session",
        }
    }
}

/// A command in the listing.
struct Entry(&'static Command);

impl Render for Entry {
    type View = ();
    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "  {:<13}{}", self.0.name(), self.0.summary)
    }
}

impl Serialize for Entry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Fields::new(self.0, None).serialize(serializer)
    }
}

/// The page of a command.
struct Page(&'static Command);

impl Render for Page {
    type View = ();
    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let Self(command) = self;
        writeln!(out, "NAME\n  {} - {}", command.names.join(", "), command.summary)?;
        writeln!(out, "\nUSAGE\n  {}\n", command.usage())?;
        if !command.options.is_empty() {
            writeln!(out, "OPTIONS\n{}", options_table(command.options))?;
        }
        writeln!(out, "DESCRIPTION\n{}", plain(command.help, "  "))
    }
}

impl Serialize for Page {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Fields::new(self.0, Some(self.0.help)).serialize(serializer)
    }
}

/// A command as JSON; the page's text only where the page was asked for.
#[derive(Serialize)]
struct Fields {
    names: &'static [&'static str],
    group: &'static str,
    summary: &'static str,
    usage: String,
    options: &'static [Opt],
    #[serde(skip_serializing_if = "Option::is_none")]
    help: Option<&'static str>,
}

impl Fields {
    fn new(command: &Command, help: Option<&'static str>) -> Self {
        Self {
            names: command.names,
            group: command.group.title(),
            summary: command.summary,
            usage: command.usage(),
            options: command.options,
            help,
        }
    }
}

impl Command {
    /// The usage line: flags together, then options with values, then what may follow.
    #[must_use]
    pub fn usage(&self) -> String {
        let is_letter = |option: &&Opt| option.value.is_none() && option.name.len() == 2;
        let letters: String =
            self.options.iter().filter(is_letter).filter_map(|o| o.name.chars().nth(1)).collect();
        let mut usage = self.name().to_owned();
        if !letters.is_empty() {
            let _ = write!(usage, " [-{letters}]");
        }
        for option in self.options.iter().filter(|option| !is_letter(option)) {
            let _ = write!(usage, " [{}]", as_typed(option));
        }
        if !self.operands.is_empty() {
            let _ = write!(usage, " {}", self.operands);
        }
        usage
    }
}

/// An option with what its value is called: `-c cpus`, `-b [count]`, `/format`.
fn as_typed(option: &Opt) -> String {
    match (option.value, option.takes) {
        (None, _) => option.name.to_owned(),
        (Some(value), _) if option.name == Opt::FORMAT => format!("/{value}"),
        (Some(value), None) => format!("{} {value}", option.name),
        (Some(value), Some(_)) => format!("{} [{value}]", option.name),
    }
}

fn options_table(options: &[Opt]) -> String {
    let width = options.iter().map(|option| as_typed(option).len()).max().unwrap_or(0);
    options.iter().fold(String::new(), |mut table, option| {
        let _ = writeln!(table, "  {:<width$}  {}", as_typed(option), option.help);
        table
    })
}

/// A page's text without its marks: fenced lines are indented further, the fences go.
fn plain(markdown: &str, indent: &str) -> String {
    let mut text = String::new();
    let mut fenced = false;
    for line in markdown.lines() {
        if line.starts_with("```") {
            fenced = !fenced;
            continue;
        }
        let more = if fenced { "    " } else { "" };
        let _ = writeln!(text, "{}", format_args!("{indent}{more}{line}").to_string().trim_end());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::TextSink;

    #[test]
    fn a_usage_line_comes_from_the_options() {
        static OPTIONS: &[Opt] = &[
            Opt::flag("-a", "all"),
            Opt::flag("-s", "short"),
            Opt::value("-c", "cpus", "these"),
            Opt::flag("--trust", "trust"),
        ];
        let command = Command { names: &["bt"], options: OPTIONS, operands: "[pid]...", ..HELP };
        assert_eq!(command.usage(), "bt [-as] [-c cpus] [--trust] [pid]...");
        assert_eq!(options_table(OPTIONS).lines().nth(2), Some("  -c cpus  these"));
    }

    #[test]
    fn pages_lose_their_marks() {
        assert_eq!(plain("One.\n\n```\nkdive> x\n```\n", "  "), "  One.\n\n      kdive> x\n");
    }

    #[test]
    fn every_command_is_in_the_listing() {
        let mut text = TextSink::new(Vec::new());
        listing(&mut text).unwrap();
        let text = String::from_utf8(text.finish().unwrap()).unwrap();
        for command in COMMANDS {
            let line = format!("  {:<13}{}\n", command.name(), command.summary);
            assert!(text.contains(&line), "{line} is not in\n{text}");
        }
    }
}
