//! Running one command: its name or alias, its arguments, its tasks.

use kdive_debuginfo::types::Closest;
use kdive_linux::tasks::Task;

use crate::alias;
use crate::args::{Args, Opt};
use crate::command::{Command, CommandError, Run};
use crate::cx::Cx;
use crate::list::{COMMANDS, find};
use crate::print;
use crate::select;
use crate::settings::Settings;
use crate::sink::Sink;
use crate::structure;
use crate::whatis;

/// A command and the words after it, aliases replaced.
#[derive(Clone)]
pub struct Invocation {
    /// The command.
    pub command: &'static Command,
    /// What was typed behind its name.
    pub words: Vec<String>,
}

/// Aliases of aliases that are followed: one that names itself ends here.
const MAX_ALIASES: usize = 16;

impl Invocation {
    /// Finds the command that a line of words begins with.
    pub fn find(words: &[String], settings: &Settings) -> Result<Self, CommandError> {
        let mut words = words.to_vec();
        for _ in 0..MAX_ALIASES {
            let Some((name, rest)) = words.split_first() else { break };
            if let Some(command) = find(name) {
                return Ok(Self { command, words: rest.to_vec() });
            }
            if let Some(found) = Self::with_format(name, rest) {
                return Ok(found);
            }
            let Some(meaning) = alias::meaning(name, settings) else { return Err(unknown(name, settings)) };
            words = meaning.into_iter().chain(rest.iter().cloned()).collect();
        }
        Err(CommandError::not_found("an alias that stands for itself"))
    }

    /// As [`Invocation::find`]; what is no command is shown if it is a symbol, a type or an expression: crash's rule.
    pub fn understand(words: &[String], cx: &Cx) -> Result<Self, CommandError> {
        match Self::find(words, &cx.settings) {
            Err(unknown @ CommandError::NotFound { .. }) => untitled(words, cx).ok_or(unknown),
            found => found,
        }
    }

    /// `p/x`, for commands that take a format.
    fn with_format(name: &str, rest: &[String]) -> Option<Self> {
        let (name, format) = name.split_once('/')?;
        let command = find(name)?;
        command.options.iter().find(|option| option.name == Opt::FORMAT)?;
        let format = [Opt::FORMAT.to_owned(), format.to_owned()];
        Some(Self { command, words: format.into_iter().chain(rest.iter().cloned()).collect() })
    }

    /// Runs it: its records go to `out`, its gaps to the ledger of `cx`.
    pub fn run(&self, cx: &mut Cx, out: &mut dyn Sink) -> Result<(), CommandError> {
        let parse = || Args::parse(self.command.name(), self.command.options, &self.words);
        match self.command.run {
            Run::Words(run) => run(cx, &self.words, out),
            Run::Expression(run) => {
                let args = Args::parse_leading(self.command.name(), self.command.options, &self.words)?;
                run(cx, &args, &args.operands.join(" "), out)
            }
            Run::Once(run) | Run::Both { once: run, .. } => run(cx, &parse()?, out),
            Run::PerTask(run) => {
                let args = parse()?;
                for task in select::operands(cx, self.command.name(), &args.operands)? {
                    cx.cancel.check()?;
                    run(cx, &args, &task, out)?;
                }
                Ok(())
            }
        }
    }
}

/// Runs the command that `words` are.
pub fn run(cx: &mut Cx, words: &[String], out: &mut dyn Sink) -> Result<(), CommandError> {
    Invocation::understand(words, cx)?.run(cx, out)
}

/// The command that words without one mean: `p` for a symbol or an expression, `*` for a record, `whatis` for other types.
fn untitled(words: &[String], cx: &Cx) -> Option<Invocation> {
    let (first, rest) = words.split_first()?;
    let invocation = |command, words| Some(Invocation { command, words });
    // `*task_struct.pid` is crash's too.
    if let Some(record) = first.strip_prefix('*').filter(|name| !name.is_empty())
        && whatis::names_record(cx, record)
    {
        let words = std::iter::once(record.to_owned()).chain(rest.iter().cloned()).collect();
        return invocation(&structure::RECORD, words);
    }
    match whatis::kind(cx, first, &words.join(" "))? {
        whatis::Kind::Value => invocation(&print::PRINT, words.to_vec()),
        whatis::Kind::Record => invocation(&structure::RECORD, words.to_vec()),
        whatis::Kind::Type => invocation(&whatis::WHATIS, words.to_vec()),
    }
}

/// How a command runs for one task.
pub(crate) type PerTask = fn(&mut Cx, &Args, &Task, &mut dyn Sink) -> Result<(), CommandError>;

impl Command {
    /// How it runs under `foreach`, if it does.
    pub(crate) fn per_task(&self) -> Option<PerTask> {
        match self.run {
            Run::PerTask(run) | Run::Both { per_task: run, .. } => Some(run),
            Run::Once(_) | Run::Expression(_) | Run::Words(_) => None,
        }
    }
}

fn unknown(name: &str, settings: &Settings) -> CommandError {
    let mut close = Closest::new(name);
    COMMANDS.iter().flat_map(|command| command.names).for_each(|known| close.offer(known));
    alias::names(settings).for_each(|known| close.offer(known));
    let hint = match close.take().first() {
        Some(near) => format!("did you mean `{near}`? `help` lists the commands"),
        None => "`help` lists the commands".to_owned(),
    };
    CommandError::NotFound { what: format!("command not found: {name}"), hint: Some(hint) }
}
