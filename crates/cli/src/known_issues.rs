//! `kdive known-issues`: lists the known issues, and checks files of them.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::{Arg, ArgMatches, Command};
use kdive_commands::Files as _;
use kdive_triage::known::{Checked, KnownIssues, built_in_texts};

use crate::output::Disk;
use crate::report::{self, Status};

/// The name of the subcommand.
pub(crate) const NAME: &str = "known-issues";

const DIRECTORY: &str = "directory";

/// What to do with them.
#[derive(Debug)]
pub(crate) enum Job {
    /// List those that `kdive analyze` looks through.
    List,
    /// Check the files of a directory.
    Check(PathBuf),
}

/// clap's view.
pub(crate) fn grammar() -> Command {
    let directory = Arg::new(DIRECTORY).value_name("DIR").default_value("known-issues");
    Command::new(NAME)
        .about("list the known issues that analyze looks through, or check files of them")
        .subcommand_required(true)
        .subcommand(Command::new("list").about("the built-in ones and those of the user's own directory"))
        .subcommand(
            Command::new("check")
                .about("each file of a directory: its form, its links, that it matches its fixture and not its near miss")
                .arg(directory.value_parser(clap::value_parser!(PathBuf)).help("The directory of the files")),
        )
}

/// What was typed.
pub(crate) fn job(matches: &ArgMatches) -> Job {
    match matches.subcommand() {
        Some(("check", matches)) => {
            Job::Check(matches.get_one::<PathBuf>(DIRECTORY).cloned().unwrap_or_default())
        }
        _ => Job::List,
    }
}

/// Does it.
pub(crate) fn run(job: &Job) -> Status {
    let done = match job {
        Job::List => list(),
        Job::Check(directory) => check(directory),
    };
    done.unwrap_or_else(|error| {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Status::Done;
        }
        let place = match job {
            Job::List => String::new(),
            Job::Check(directory) => format!("{}: ", directory.display()),
        };
        report::command_failed(NAME, &format!("{place}{error}"), None);
        Status::CommandFailed
    })
}

fn list() -> io::Result<Status> {
    let mut known = KnownIssues::built_in();
    let mut status = Status::Done;
    let disk = Disk::default();
    if let Some(directory) = disk.known_issues() {
        for (id, text) in disk.texts(&directory)? {
            if let Err(error) = known.add(&id, &text) {
                report::command_failed(NAME, &error.to_string(), None);
                status = Status::CommandFailed;
            }
        }
    }
    let mut out = io::stdout().lock();
    let width = known.issues().iter().map(|issue| issue.id.len()).max().unwrap_or(0);
    for issue in known.issues() {
        writeln!(out, "{:<width$}  {}", issue.id, kdive_base::printable(issue.title.as_bytes()))?;
    }
    Ok(status)
}

fn check(directory: &Path) -> io::Result<Status> {
    let texts = Disk::default().texts(&directory.to_string_lossy())?;
    let mut out = io::stdout().lock();
    let mut problems: usize = 0;
    for (id, toml) in &texts {
        let fixture = |name: &str| fs::read(directory.join("fixtures").join(id).join(name)).ok();
        let (hit, miss) = (fixture("match.txt"), fixture("miss.txt"));
        for problem in (Checked { id, toml, hit: hit.as_deref(), miss: miss.as_deref() }).problems() {
            writeln!(out, "{}", kdive_base::printable(problem.trim().replace('\n', " ").as_bytes()))?;
            problems = problems.saturating_add(1);
        }
    }
    let own = texts.iter().filter(|(id, _)| built_in_texts().iter().any(|(known, _)| known == id)).count();
    writeln!(out, "{} known issues checked ({own} of them built in), {problems} problems", texts.len())?;
    Ok(if problems == 0 { Status::Done } else { Status::CommandFailed })
}
