//! `lab check`: runs kdive over the dumps and compares what it says with what the guests wrote down.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;

use super::compare::{self, Faults, Known};
use super::descriptor::Descriptor;
use super::evidence;
use super::kernels;
use super::place::Lab;
use super::situations;
use super::truth::Truth;
use super::words;
use crate::run;

/// Seconds that one command may take.
const TIME_LIMIT: &str = "60";
/// How much of a reason goes below the table, in characters.
const REASON_LENGTH: usize = 400;

#[derive(Args)]
pub(crate) struct CheckArgs {
    /// The program to check [default: target/release/kdive, built if it is not there].
    #[arg(long)]
    kdive: Option<PathBuf>,
    /// Only dumps whose name contains one of these.
    names: Vec<String>,
    /// Only without a vmlinux, or only with one.
    #[arg(long, value_enum)]
    only: Option<Symbols>,
    /// Write the table of docs/kernels.md: which command lines answer on which kernel, by the dumps of `rich`.
    #[arg(long)]
    write_kernels: bool,
    /// Show all that differs, not the first of each check.
    #[arg(long)]
    verbose: bool,
}

/// What kdive is given besides the dump.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Symbols {
    /// Only the dump.
    Bare,
    /// The kernel's ELF file too.
    Vmlinux,
}

const CHECKS: &[&str] = &["sys", "ps", "bt", "log", "mod", "json", "walk", "truth", "built"];

/// One line of the table: a verdict per check.
struct Row {
    dump: String,
    symbols: Symbols,
    verdicts: Verdicts,
}

type Verdicts = BTreeMap<&'static str, Verdict>;

/// What became of one check.
enum Verdict {
    Faults(Faults),
    /// The dump lacks what was looked for, kdive says so, and why that is so.
    Skipped(String),
}

/// kdive, a dump, and what to give with it.
pub(crate) struct Session<'a> {
    pub(crate) kdive: &'a Path,
    pub(crate) files: Vec<PathBuf>,
}

impl Session<'_> {
    /// What a command prints on its standard output.
    pub(crate) fn run(&self, options: &[&str], command: &str) -> Result<String, String> {
        let mut limited = run::command("timeout", [TIME_LIMIT]);
        limited.arg(self.kdive).args(options).args(["-c", command]).args(&self.files);
        let output = limited.output().map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        match output.status.code() {
            Some(0) => Ok(text),
            Some(124) => Err(format!("{command}: no end after {TIME_LIMIT} s")),
            _ => {
                let words = String::from_utf8_lossy(&output.stderr);
                Err(format!("{command}: {}: {}", output.status, run::tail(&words)))
            }
        }
    }
}

/// `lab check`.
pub(crate) fn check(lab: &Lab, args: &CheckArgs) -> Result<()> {
    let kdive = program(args.kdive.as_deref())?;
    let wanted =
        |dump: &Descriptor| args.names.is_empty() || args.names.iter().any(|name| dump.name.contains(name));
    let dumps: Vec<Descriptor> = Descriptor::all(lab)?.into_iter().filter(wanted).collect();
    if dumps.is_empty() {
        bail!("no dumps: run `cargo xtask lab all`");
    }
    if args.write_kernels {
        return kernels::write(lab, &kdive, &dumps);
    }
    let modes = [Symbols::Bare, Symbols::Vmlinux]
        .into_iter()
        .filter(|mode| args.only.is_none_or(|only| only == *mode));
    let jobs: VecDeque<(Descriptor, Symbols)> =
        modes.flat_map(|mode| dumps.iter().map(move |dump| (dump.clone(), mode))).collect();
    let start = Instant::now();
    let rows = run_all(lab, &kdive, jobs);
    let failed = print_table(&rows, args.verbose);
    println!("{} sessions in {:.0} s, {failed} failed", rows.len(), start.elapsed().as_secs_f64());
    if failed > 0 {
        bail!("{failed} of {} sessions differ from what the guests wrote down", rows.len());
    }
    Ok(())
}

/// The program given, or this repository's own.
pub(crate) fn program(given: Option<&Path>) -> Result<PathBuf> {
    if let Some(path) = given {
        return path.canonicalize().with_context(|| path.display().to_string());
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let program = target.join("release/kdive");
    if !program.exists() {
        println!("building kdive");
        let build = ["build", "--release", "--package", "kdive", "--bin", "kdive"];
        run::output(run::command("cargo", build).current_dir(&root))?;
    }
    program.canonicalize().with_context(|| program.display().to_string())
}

/// The jobs on all CPUs; rows in the order of the jobs.
fn run_all(lab: &Lab, kdive: &Path, jobs: VecDeque<(Descriptor, Symbols)>) -> Vec<Row> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let queue = Mutex::new(jobs.into_iter().enumerate().collect::<VecDeque<_>>());
    let rows = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some((number, (dump, symbols))) =
                    queue.lock().ok().and_then(|mut queue| queue.pop_front())
                {
                    let row = check_dump(lab, kdive, &dump, symbols);
                    if let Ok(mut rows) = rows.lock() {
                        rows.insert(number, row);
                    }
                }
            });
        }
    });
    rows.into_inner().map(|rows| rows.into_values().collect()).unwrap_or_default()
}

/// What is wrong with what kdive says of a dump, without a vmlinux.
pub(crate) fn faults(lab: &Lab, kdive: &Path, dump: &Descriptor) -> Faults {
    let verdicts = check_dump(lab, kdive, dump, Symbols::Bare).verdicts;
    let of = |(check, verdict)| match verdict {
        Verdict::Faults(faults) => faults.into_iter().map(|fault| format!("{check}: {fault}")).collect(),
        Verdict::Skipped(_) => Faults::new(),
    };
    verdicts.into_iter().flat_map(of).collect()
}

fn check_dump(lab: &Lab, kdive: &Path, dump: &Descriptor, symbols: Symbols) -> Row {
    let mut row = Row { dump: dump.name.clone(), symbols, verdicts: BTreeMap::new() };
    let truth = Truth::load(&lab.dir().join(&dump.truth));
    let console = std::fs::read(lab.dir().join(&dump.console)).unwrap_or_default();
    let console = String::from_utf8_lossy(&console);
    let truth = match truth {
        Ok(truth) => truth,
        Err(error) => {
            let fault = format!("no truth to compare with: {error:#}");
            row.verdicts.insert("sys", Verdict::Faults(vec![fault]));
            return row;
        }
    };
    let known = Known { dump, truth: &truth, console: &console };
    let mut files = dump.paths(lab);
    if symbols == Symbols::Vmlinux {
        files.insert(0, lab.dir().join(&dump.vmlinux));
    }
    row.verdicts = verdicts(&Session { kdive, files }, &known, symbols);
    row
}

fn verdicts(session: &Session<'_>, known: &Known<'_>, symbols: Symbols) -> Verdicts {
    let mut verdicts = Verdicts::new();
    let mut judge = |name, text: &Result<String, String>, check: &dyn Fn(&str) -> Faults| {
        let faults = match text {
            Ok(text) => check(text),
            Err(error) => vec![error.clone()],
        };
        verdicts.insert(name, Verdict::Faults(faults));
    };
    let ps = session.run(&[], "ps");
    let json = session.run(&["--json"], "ps");
    let rows = ps.as_deref().unwrap_or_default();
    judge("sys", &session.run(&[], "sys"), &|text| compare::sys(known, text, rows));
    judge("ps", &ps, &|text| compare::ps(known, text));
    judge("log", &session.run(&[], "log"), &|text| compare::log(known, text));
    judge("mod", &session.run(&[], "mod"), &|text| compare::modules(known, text));
    judge("json", &json, &|text| json_document(text, "ps"));
    verdicts.insert("bt", Verdict::Faults(backtraces(session, known, rows)));
    let walk = |command: &str| session.run(&[], command);
    match &*known.dump.scenario {
        "load" | "rich" if known.dump.variation.is_none() => {
            verdicts.insert("walk", Verdict::Faults(evidence::evidence(&walk)))
        }
        _ if known.dump.variation.is_some() => None,
        "million" => verdicts.insert("walk", Verdict::Faults(evidence::million(known, &walk))),
        _ => None,
    };
    if known.dump.scenario == "rich" {
        let run = |command: &str| session.run(&["--json"], command);
        verdicts.insert("truth", Verdict::Faults(words::compare(known.truth, &run)));
    }
    let run = |command: &str| session.run(&["--json"], command);
    // The judges read what the module says on the console, under its own name.
    if known.dump.variation.is_none()
        && let Some(faults) = situations::judge(known, symbols == Symbols::Vmlinux, &run)
    {
        verdicts.insert("built", Verdict::Faults(faults));
    }
    if known.dump.is_misfiltered() {
        excuse_missing_tasks(&mut verdicts, json.as_deref().unwrap_or_default());
    }
    verdicts
}

/// Tasks may be missing from a dump that lacks their pages, if kdive says that something is.
fn excuse_missing_tasks(verdicts: &mut Verdicts, json: &str) {
    let document: serde_json::Value = serde_json::from_str(json).unwrap_or_default();
    let gaps = document.get("gaps").and_then(|gaps| gaps.as_array()).map_or(0, Vec::len);
    let Some(Verdict::Faults(faults)) = verdicts.get("ps") else { return };
    if gaps > 0 && !faults.is_empty() && faults.iter().all(|fault| fault.ends_with(compare::MISSING)) {
        let why = format!(
            "makedumpfile left pages of this kernel out: {} tasks missing, {gaps} gaps told",
            faults.len()
        );
        verdicts.insert("ps", Verdict::Skipped(why));
    }
}

/// The panicking task, or, in a system dumped alive, the process that waits; and the two of the deadlock.
fn backtraces(session: &Session<'_>, known: &Known<'_>, ps: &str) -> Faults {
    let mut faults = Faults::new();
    let mut judge = |command: &str, frames: &[String]| match session.run(&[], command) {
        Ok(text) => faults.extend(compare::backtrace(frames, &text)),
        Err(error) => faults.push(error),
    };
    let asleep =
        ["__schedule", "schedule", "do_syscall_64", "entry_SYSCALL_64_after_hwframe"].map(String::from);
    match known.truth.trigger() {
        _ if known.dump.panicked => judge("bt", &known.dump.frames),
        Some(trigger) if known.dump.scenario == "load" => judge(&format!("bt {trigger}"), &asleep),
        _ => {}
    }
    if known.dump.scenario == "deadlock" {
        let stuck = ["__schedule", "schedule", known.dump.called("take_both"), "kthread", "ret_from_fork"]
            .map(String::from);
        let names = ["abba_one", "abba_two"].map(|name| known.dump.called(name));
        for line in ps.lines().filter(|line| names.iter().any(|name| line.contains(name))) {
            let pid = line.split_whitespace().find(|word| *word != ">").unwrap_or_default();
            judge(&format!("bt {pid}"), &stuck);
        }
    }
    faults
}

/// One document, of this command, with its gaps.
fn json_document(text: &str, command: &str) -> Faults {
    let document: serde_json::Value = match serde_json::from_str(text) {
        Ok(document) => document,
        Err(error) => return vec![format!("--json: {error}")],
    };
    let mut faults = Faults::new();
    if document.get("command").and_then(|name| name.as_str()) != Some(command) {
        faults.push(format!("--json: no \"command\": \"{command}\""));
    }
    for part in ["rows", "gaps"] {
        if !document.get(part).is_some_and(serde_json::Value::is_array) {
            faults.push(format!("--json: no \"{part}\""));
        }
    }
    faults
}

/// Prints the table and the reasons; how many rows failed?
fn print_table(rows: &[Row], verbose: bool) -> usize {
    let mut head = format!("{:<34} {:<8}", "DUMP", "SYMBOLS");
    for check in CHECKS {
        let _ = write!(head, " {check:<5}");
    }
    println!("{}", head.trim_end());
    let mut failed = 0;
    for row in rows {
        let symbols = if row.symbols == Symbols::Bare { "none" } else { "vmlinux" };
        let mut line = format!("{:<34} {symbols:<8}", row.dump);
        let mut reasons = String::new();
        let mut has_faults = false;
        for check in CHECKS {
            let verdict = match row.verdicts.get(check) {
                None => "-",
                Some(Verdict::Faults(faults)) if faults.is_empty() => "ok",
                Some(Verdict::Faults(faults)) => {
                    has_faults = true;
                    let shown = if verbose { faults.join("\n        ") } else { shorten(faults) };
                    let _ = writeln!(reasons, "    {check}: {shown}");
                    "FAIL"
                }
                Some(Verdict::Skipped(why)) => {
                    let _ = writeln!(reasons, "    {check}: SKIPPED: {why}");
                    "skip"
                }
            };
            let _ = write!(line, " {verdict:<5}");
        }
        println!("{}", line.trim_end());
        print!("{reasons}");
        failed += usize::from(has_faults);
    }
    failed
}

/// The first of the faults, in one line, and how many more there are.
fn shorten(faults: &Faults) -> String {
    let first = faults.first().map(|fault| fault.replace('\n', " / ")).unwrap_or_default();
    let mut text: String = first.chars().take(REASON_LENGTH).collect();
    if faults.len() > 1 {
        let _ = write!(text, " (and {} more)", faults.len() - 1);
    }
    text
}
