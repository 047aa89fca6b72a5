//! Every command on every dump of the repository, compared with what a person has read and found right.
//!
//! `tests/dumps/` at the top of the repository holds the dumps: files, or directories as kdump makes them.
//! `tests/commands.txt` holds the command lines, and `tests/goldens/<dump>/<command>.txt` what each printed.
//! A new dump or a new line in `commands.txt` has no goldens yet: `KDIVE_BLESS=1 cargo test -p kdive --test goldens`
//! writes them, and those that differ, to be read before they are committed.
// Helpers of tests may fail loudly, as tests do.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{commands, dumps, kdive, tests};

/// The file name of a command's golden: letters and digits stay, all else becomes a dash.
fn file_of(command: &str) -> String {
    let mut name = String::new();
    for character in command.chars() {
        match character {
            'a'..='z' | 'A'..='Z' | '0'..='9' => name.push(character),
            _ if !name.ends_with('-') => name.push('-'),
            _ => {}
        }
    }
    format!("{}.txt", name.trim_end_matches('-'))
}

/// What a golden holds: the command line, the exit status, and both streams.
fn run(command: &str, dump: &str) -> String {
    let output = kdive(&["-c", command, dump]).output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    let status = output.status.code().map_or("killed by a signal".into(), |code| code.to_string());
    format!("$ kdive -c '{command}' {dump}\nexit status: {status}\n--- stdout\n{stdout}--- stderr\n{stderr}")
}

/// The first line that differs, with its number.
fn difference(expected: &str, found: &str) -> String {
    let mut expected = expected.lines();
    for (number, line) in found.lines().enumerate() {
        match expected.next() {
            Some(golden) if golden == line => {}
            golden => {
                return format!(
                    "line {}\n  golden: {}\n  now:    {line}",
                    number + 1,
                    golden.unwrap_or("(end)")
                );
            }
        }
    }
    format!("the golden goes on: {}", expected.next().unwrap_or("only line feeds differ"))
}

fn check(command: &str, dump: &str, bless: bool) -> Result<(), String> {
    let path = tests().join("goldens").join(dump).join(file_of(command));
    let found = run(command, dump);
    let golden = fs::read_to_string(&path).ok();
    match golden {
        Some(golden) if golden == found => Ok(()),
        _ if bless => {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, found).map_err(|error| error.to_string())
        }
        Some(golden) => Err(format!("{}: {}", path.display(), difference(&golden, &found))),
        None => Err(format!("{} is not there: KDIVE_BLESS=1 writes it", path.display())),
    }
}

#[test]
fn every_command_prints_its_golden_on_every_dump() {
    let bless = std::env::var_os("KDIVE_BLESS").is_some();
    let (dumps, commands) = (dumps(), commands());
    let jobs: Vec<(&str, &str)> = dumps
        .iter()
        .flat_map(|dump| commands.iter().map(|command| (command.as_str(), dump.as_str())))
        .collect();
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((command, dump)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(why) = check(command, dump, bless) {
                        wrong.lock().unwrap().push(why);
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), jobs.len(), wrong.join("\n"));
}

#[test]
fn every_command_is_a_golden() {
    // A command that no line of commands.txt runs is not tested on any dump.
    const NOT_ON_DUMPS: [&str; 5] = ["alias", "exit", "help", "repeat", "set"];
    let commands = commands();
    // `x/4xw`: a format belongs to the name.
    let first = |line: &str| line.split([' ', '/']).next().map(str::to_owned);
    let runs = |name: &str| commands.iter().any(|line| first(line).as_deref() == Some(name));
    let lacking: Vec<&str> = kdive_commands::COMMANDS
        .iter()
        .map(|command| command.name())
        .filter(|name| !NOT_ON_DUMPS.contains(name) && !runs(name))
        .collect();
    assert!(lacking.is_empty(), "no line of tests/commands.txt runs {lacking:?}");
}

#[test]
fn goldens_have_files_of_their_own() {
    let mut files: Vec<String> = commands().iter().map(|command| file_of(command)).collect();
    let all = files.len();
    files.sort();
    files.dedup();
    assert_eq!(files.len(), all, "two lines of commands.txt share a golden");
    assert_eq!(file_of("ps -m | head"), "ps-m-head.txt");
}
