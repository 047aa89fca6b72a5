//! `cargo xtask diff`: the same command lines through kdive and crash on the same dumps, compared line by line.
//!
//! `tests/diff.txt` lists the command lines. Both read the same dump, so nothing moves and nothing is normalised but
//! trailing blanks and the numbers of `p`'s history, which count what was asked before. A line that is known to differ
//! says where `docs/differences.md` explains it; any other difference is a failure. crash is slow: its answers are kept
//! in the lab's directory and asked for anew only when they are not there.

use std::collections::BTreeSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use similar::{ChangeTag, TextDiff};

use super::check;
use super::descriptor::Descriptor;
use super::peers::Peers;
use super::place::Lab;
use crate::run;

#[derive(Args)]
pub(crate) struct DiffArgs {
    /// Where the lab keeps its kernels and dumps.
    #[arg(long, env = "KDIVE_LAB")]
    dir: Option<PathBuf>,
    /// The program to compare [default: target/release/kdive, built if it is not there].
    #[arg(long)]
    kdive: Option<PathBuf>,
    /// The dumps.
    #[arg(default_values = ["6.12-load.elf", "6.1-load.elf"])]
    dumps: Vec<String>,
    /// Only command lines that contain this.
    #[arg(long)]
    only: Option<String>,
    /// Show the lines that differ where that is known, too.
    #[arg(long)]
    known: bool,
    /// Ask crash anew for what it was asked before.
    #[arg(long)]
    again: bool,
}

/// A command line, and what is known of it.
struct Asked {
    line: String,
    /// The heading in `docs/differences.md` that says why it differs.
    known: Option<String>,
}

impl Asked {
    /// Parses `tests/diff.txt`: a command line each, `## heading` behind it where it is known to differ.
    fn list(text: &str) -> Vec<Self> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("# "));
        lines
            .map(|line| match line.split_once(" ## ") {
                Some((line, known)) => {
                    Self { line: line.trim().to_owned(), known: Some(known.trim().to_owned()) }
                }
                None => Self { line: line.to_owned(), known: None },
            })
            .collect()
    }

    /// The command and its options without their values: what counts as a pair.
    fn pair(&self) -> String {
        let mut words = self.line.rsplit(THEN).next().unwrap_or_default().split_whitespace();
        let command = words.next().unwrap_or_default();
        let options: BTreeSet<&str> =
            words.filter(|word| word.starts_with('-') && !word.starts_with("-0x")).collect();
        std::iter::once(command).chain(options).collect::<Vec<_>>().join(" ")
    }
}

/// How many lines were compared, and how many differ.
#[derive(Default)]
struct Tally {
    asked: usize,
    equal: usize,
    lines: usize,
    known: usize,
    unknown: usize,
}

/// `cargo xtask diff`.
pub(crate) fn main(args: DiffArgs) -> Result<()> {
    let lab = Lab::open(args.dir.clone())?;
    let kdive = check::program(args.kdive.as_deref())?;
    let Some(peers) = Peers::find(&lab) else { bail!("there is nothing to compare with") };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let asked = Asked::list(&std::fs::read_to_string(root.join("tests/diff.txt"))?);
    let explained = std::fs::read_to_string(root.join("docs/differences.md"))?;
    for heading in asked.iter().filter_map(|asked| asked.known.as_deref()) {
        if !explained.contains(heading) {
            bail!("docs/differences.md does not have: {heading}");
        }
    }
    let chosen: Vec<&Asked> = asked
        .iter()
        .filter(|asked| args.only.as_ref().is_none_or(|only| asked.line.contains(only)))
        .collect();
    let pairs: BTreeSet<String> = chosen.iter().map(|asked| asked.pair()).collect();
    println!("{} command lines, {} pairs of command and options", chosen.len(), pairs.len());
    let dumps = Descriptor::all(&lab)?;
    let mut unknown = 0;
    for name in &args.dumps {
        let dump = dumps.iter().find(|dump| dump.name == *name);
        let dump = dump.with_context(|| format!("there is no dump {name}: `cargo xtask lab list`"))?;
        let run = Run { lab: &lab, peers: &peers, kdive: &kdive, dump };
        let tally = run.compare(&chosen, &args)?;
        unknown += tally.unknown;
        println!(
            "{name}: {} of {} command lines agree; of {} lines {} differ as documented, {} for no known reason",
            tally.equal, tally.asked, tally.lines, tally.known, tally.unknown
        );
    }
    if unknown > 0 {
        bail!("{unknown} lines differ and docs/differences.md does not say why");
    }
    Ok(())
}

/// One dump.
struct Run<'a> {
    lab: &'a Lab,
    peers: &'a Peers,
    kdive: &'a Path,
    dump: &'a Descriptor,
}

impl Run<'_> {
    fn compare(&self, asked: &[&Asked], args: &DiffArgs) -> Result<Tally> {
        let lines = self.filled_in(asked)?;
        let theirs = self.crash(&lines, args.again)?;
        let ours = self.kdive(&lines)?;
        let mut tally = Tally::default();
        for (((asked, line), theirs), ours) in asked.iter().zip(&lines).zip(&theirs).zip(&ours) {
            // Who refuses in his own words agrees.
            let theirs = if ours.is_empty() && refuses(&asked.line, theirs) { ours } else { theirs };
            let diff = TextDiff::from_lines(theirs, ours);
            let changes: Vec<_> =
                diff.iter_all_changes().filter(|change| change.tag() != ChangeTag::Equal).collect();
            let count = |tag| changes.iter().filter(|change| change.tag() == tag).count();
            // A line that changed is gone there and new here: that is one difference.
            let differ = count(ChangeTag::Delete).max(count(ChangeTag::Insert));
            tally.asked += 1;
            tally.lines += theirs.lines().count();
            tally.equal += usize::from(differ == 0);
            match &asked.known {
                Some(_) => tally.known += differ,
                None => tally.unknown += differ,
            }
            if differ == 0 {
                if asked.known.is_some() {
                    println!("agrees by now: {line}");
                }
            } else if asked.known.is_none() || args.known {
                println!("--- {} on {}", line, self.dump.name);
                changes.iter().take(MOST_SHOWN).for_each(|change| print!("{}{change}", change.tag()));
            }
        }
        Ok(tally)
    }

    /// The command lines with each `{expression}` replaced by its value on this dump, in hexadecimal without `0x`.
    fn filled_in(&self, asked: &[&Asked]) -> Result<Vec<String>> {
        asked.iter().map(|asked| self.fill_in(&asked.line)).collect()
    }

    fn fill_in(&self, line: &str) -> Result<String> {
        let Some((before, rest)) = line.split_once('{') else { return Ok(line.to_owned()) };
        let (expression, after) = rest.split_once('}').with_context(|| format!("{line}: no }}"))?;
        let mut command = self.kdive_command();
        command.arg("-c").arg(format!("p/x (unsigned long)({expression})"));
        let text = run::output(&mut command)?;
        let value = text.trim().rsplit("0x").next().filter(|_| text.contains("0x"));
        let value = value.with_context(|| format!("{expression} has no value: {text}"))?;
        Ok(format!("{before}{value}{}", self.fill_in(after)?))
    }

    fn kdive_command(&self) -> std::process::Command {
        let mut command = run::command(&self.kdive.to_string_lossy(), ["--no-config"]);
        command.arg(self.lab.dir().join(&self.dump.vmlinux)).args(self.dump.paths(self.lab));
        if self.has_crasher() {
            command.arg(self.lab.dir().join(&self.dump.crasher));
        }
        command
    }

    /// Whether the module of the lab is loaded: both are given its debuginfo.
    fn has_crasher(&self) -> bool {
        matches!(&*self.dump.scenario, "load" | "rich")
    }

    /// Where answers are kept: relative to the lab's directory, and on this machine.
    fn place(&self, who: &str, line: &str) -> (String, PathBuf) {
        let mut hasher = DefaultHasher::new();
        line.hash(&mut hasher);
        let inside = format!("tmp/diff/{}/{who}/{:016x}", self.dump.name, hasher.finish());
        let outside = self.lab.dir().join(&inside);
        (inside, outside)
    }

    /// crash's answers, those of the lines that it was not asked before from one run of it.
    fn crash(&self, lines: &[String], again: bool) -> Result<Vec<String>> {
        let missing = |line: &&String| again || !self.place("crash", line).1.exists();
        let new: Vec<&String> = lines.iter().filter(missing).collect();
        if !new.is_empty() {
            println!("{}: asking crash for {} command lines", self.dump.name, new.len());
            let mut script = String::from("set error redirect\nset 0\n");
            if self.has_crasher() {
                script += &format!("mod -s crasher {}\n", Peers::inside(&self.dump.crasher));
            }
            for line in &new {
                let (inside, outside) = self.place("crash", line);
                run::make_dir(outside.parent().context("a file without a directory")?)?;
                script += &scripted(line, &Peers::inside(&inside));
            }
            script += "exit\n";
            let (inside, outside) = self.place("crash", "the script");
            std::fs::write(outside, script)?;
            let dump = self.dump.files.first().context("a dump without files")?;
            // Its exit status tells nothing: a command line without an answer is found below.
            let mut command = self.peers.crash(self.lab, &inside, &self.dump.vmlinux, dump);
            command.output().with_context(|| run::describe(&command))?;
        }
        self.answers("crash", lines)
    }

    /// kdive's answers, from one run of it. Its errors are on standard error, and stay out.
    fn kdive(&self, lines: &[String]) -> Result<Vec<String>> {
        let mut script = String::from("set 0\n");
        for line in lines {
            let outside = self.place("kdive", line).1;
            run::make_dir(outside.parent().context("a file without a directory")?)?;
            script += &scripted(line, &outside.display().to_string());
        }
        let file = self.place("kdive", "the script").1;
        std::fs::write(&file, script)?;
        // A command that fails is a difference, not the end of the comparison.
        let mut command = self.kdive_command();
        command.arg("-i").arg(&file).output().with_context(|| run::describe(&command))?;
        self.answers("kdive", lines)
    }

    fn answers(&self, who: &str, lines: &[String]) -> Result<Vec<String>> {
        let answer = |line: &String| {
            let path = self.place(who, line).1;
            let bytes = std::fs::read(&path).with_context(|| format!("{who} gave no answer to: {line}"))?;
            Ok(comparable(&String::from_utf8_lossy(&bytes)))
        };
        lines.iter().map(answer).collect()
    }
}

/// Lines of one command's difference that are shown.
const MOST_SHOWN: usize = 24;

/// What stands between the choice of a task and the command that is about it: `set 1 ; rd -u 400000`.
const THEN: &str = " ; ";

/// A command line whose answer goes to a file, with the idle task chosen again behind it.
fn scripted(line: &str, file: &str) -> String {
    match line.rsplit_once(THEN) {
        Some((before, line)) => format!("{before}\n{line} > {file}\nset 0\n"),
        None => format!("{line} > {file}\n"),
    }
}

/// Whether crash's answer is an error and how the command is used. kdive's errors are not in its answer.
fn refuses(line: &str, answer: &str) -> bool {
    let command =
        line.rsplit(THEN).next().and_then(|line| line.split_whitespace().next()).unwrap_or_default();
    let first = answer.lines().next().unwrap_or_default();
    first.starts_with("Usage:") || first.strip_prefix(command).is_some_and(|rest| rest.starts_with(": "))
}

/// Without blanks at the ends of lines, blank lines at the end, and with `$ =` for `$7 =`.
fn comparable(text: &str) -> String {
    text.trim_end().lines().map(|line| without_number(line.trim_end()) + "\n").collect()
}

fn without_number(line: &str) -> String {
    let numbered = || {
        let (before, rest) = line.split_once('$')?;
        let after = rest.trim_start_matches(|digit: char| digit.is_ascii_digit());
        let is_number = after.len() < rest.len() && after.starts_with(" =");
        (is_number && (before.is_empty() || before.ends_with(" = "))).then(|| format!("{before}${after}"))
    };
    numbered().unwrap_or_else(|| line.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_has_lines_comments_and_known_differences() {
        let list = Asked::list("# the list\n\nrd -x jiffies 4\nrd -u 0 ## Missing words\n");
        assert_eq!(list.len(), 2);
        assert_eq!(list[0].line, "rd -x jiffies 4");
        assert_eq!(list[0].pair(), "rd -x");
        assert_eq!(list[1].line, "rd -u 0");
        assert_eq!(list[1].known.as_deref(), Some("Missing words"));
    }

    #[test]
    fn a_task_is_chosen_for_one_command() {
        let list = Asked::list("set 1 ; rd -u 400000 4");
        assert_eq!(list[0].pair(), "rd -u");
        assert_eq!(scripted(&list[0].line, "f"), "set 1\nrd -u 400000 4 > f\nset 0\n");
    }

    #[test]
    fn errors_are_refusals_and_answers_are_none() {
        assert!(refuses("set 1 ; vm -f zz", "vm: invalid input: \"zz\"\n"));
        assert!(refuses("fuser -x", "Usage:\n  fuser [pathname | inode]\n"));
        assert!(!refuses("vm -M 1 2", "PID: 2\nvm: invalid mm_struct address: 1\n"));
        assert!(!refuses("sys", "system: none\n"));
    }

    #[test]
    fn blanks_at_the_end_of_lines_and_numbers_of_the_history_do_not_count() {
        assert_eq!(comparable("a  \n\n b\t"), "a\n\n b\n");
        assert_eq!(comparable("$12 = 3\njiffies = $3 =\n"), "$ = 3\njiffies = $ =\n");
        assert_eq!(comparable("mov $4 = x\n$x\n"), "mov $4 = x\n$x\n");
    }
}
