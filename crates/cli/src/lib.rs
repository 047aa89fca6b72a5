//! `kdive`: the terminal around kdive's commands.
//!
//! Design constraints:
//! - Data goes to standard output, everything else to standard error; a reader that goes away early is no failure.
//! - Exit status: 0 done, 1 a command failed, 2 usage, 3 the dump could not be opened. Gaps leave 0, unless `--strict`.
//! - Everything that other hosts need too (the line language, running a command) is in `kdive-commands`.
//! - Start-up files come from the user's config directory, never from the working directory.
//!
//! `args` says what was typed, `open` makes a kernel of it, `runner` runs lines, `repl` reads them from a terminal; `dump`
//! is what writes dumps, without a session; `capture` is that alone, for the initramfs of a capture kernel.

mod analyze;
mod args;
mod capture;
mod complete;
mod dump;
mod extract;
mod history;
mod identity;
mod known_issues;
mod open;
mod output;
mod pager;
mod progress;
mod repl;
mod report;
mod runner;
mod unopened;

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::process::ExitCode;

pub use crate::capture::main as kdive_capture;

use crate::args::{Cli, Job};
use crate::output::Disk;
use crate::report::Status;
use crate::runner::{Outcome, Runner};

/// The program `kdive`.
#[must_use]
pub fn kdive() -> ExitCode {
    if let Some(words) = dump::makedumpfile::called_by_name(std::env::args_os()) {
        return dump::makedumpfile::main(words);
    }
    if let Some(status) = extract::run(&std::env::args_os().collect::<Vec<_>>()) {
        return status.into();
    }
    let cli = match Cli::from_command_line() {
        Ok(cli) => cli,
        Err(error) => {
            let status = if error.use_stderr() { Status::Usage } else { Status::Done };
            // A closed stream leaves nobody to tell.
            let _ = error.print();
            return status.into();
        }
    };
    if let Job::Dump(verb) = &cli.job {
        return dump::run(verb, &cli.open, cli.silent, cli.json);
    }
    if let Job::KnownIssues(job) = &cli.job {
        return known_issues::run(job).into();
    }
    if let Some((words, text)) = text_alone(&cli) {
        return analyze::of_text(words, text, cli.json).into();
    }
    let opened = match open::open(&cli.open) {
        Ok(opened) => opened,
        Err(failure) => {
            let status = unopened::run(&cli, &failure).unwrap_or_else(|| {
                report::failure(&failure);
                Status::NotOpened
            });
            return status.into();
        }
    };
    if !cli.silent {
        opened.notes.iter().for_each(|note| report::note(note));
    }
    let interactive = matches!(cli.job, Job::Session) && io::stdin().is_terminal();
    let disk = Disk { identities: cli.open.identities.clone() };
    let paged = interactive && io::stdout().is_terminal();
    let mut runner = Runner::new(opened.kernel, disk, cli.json, paged);
    if cli.config
        && let Some(path) = config_file()
        && path.is_file()
        && runner.script(&path) == Outcome::Quit
    {
        return Status::Done.into();
    }
    if let Some(path) = &cli.crashrc
        && runner.start_up(path) == Outcome::Quit
    {
        return Status::Done.into();
    }
    let outcome = run(&cli, &mut runner, interactive);
    let strict_gaps = cli.strict && runner.had_gaps();
    match outcome {
        Outcome::Closed => Status::Done,
        // The user saw it.
        _ if interactive => Status::Done,
        _ if runner.failed() || strict_gaps => Status::CommandFailed,
        _ => Status::Done,
    }
    .into()
}

/// The words of a command that text is enough for, and the text, where nothing else was given.
fn text_alone(cli: &Cli) -> Option<(&[String], analyze::Text)> {
    match &cli.job {
        Job::Words(words) if words.first().is_some_and(|word| word == "analyze") => {
            Some((words, analyze::Text::of(&cli.open)?))
        }
        _ => None,
    }
}

fn run(cli: &Cli, runner: &mut Runner, interactive: bool) -> Outcome {
    match &cli.job {
        Job::Words(words) => runner.words(words),
        Job::Batch { script, lines } => {
            if let Some(path) = script
                && let end @ (Outcome::Quit | Outcome::Closed) = runner.script(path)
            {
                return end;
            }
            runner.lines(lines.iter().map(|line| Ok(line.clone())))
        }
        Job::Dump(_) => Outcome::Done,
        // Done before anything was opened.
        Job::KnownIssues(_) => Outcome::Done,
        Job::Session if interactive => repl::run(runner, cli.silent),
        Job::Session => runner.lines(io::stdin().lines()),
    }
}

/// `kdiverc` in the user's config directory.
fn config_file() -> Option<PathBuf> {
    Some(user_directory("XDG_CONFIG_HOME", ".config")?.join("kdive/kdiverc"))
}

/// A directory of the XDG base directory specification: an absolute path in a variable, else below the home directory.
fn user_directory(variable: &str, below_home: &str) -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    set(variable).or_else(|| Some(set("HOME")?.join(below_home)))
}
