//! The command line of makedumpfile(8): its flags, its exit status, for scripts that call it by that name.

mod flags;

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use kdive_base::{Cancel, VirtAddr};
use kdive_commands::{Cx, Invocation, TextSink};
use kdive_dump::write::Compression;
use kdive_filter::{Usage, rearrange};

use self::flags::{Action, Flags};
use super::args::{CompressionName, FormArgs, FormatName, RuleArgs};
use super::job::{Job, JobError, in_pool};
use super::report::Report;
use super::target::Target;
use crate::args::OpenArgs;
use crate::open::OpenFailure;
use crate::report::failure;

/// makedumpfile's exit status when the vmlinux is not of the dump's kernel.
const WRONG_VMLINUX: u8 = 2;
const FAILED: u8 = 1;

/// The words behind the program's name, if that is makedumpfile.
pub(crate) fn called_by_name(mut words: impl Iterator<Item = OsString>) -> Option<Vec<OsString>> {
    let name = words.next()?;
    (Path::new(&name).file_name()? == "makedumpfile").then(|| words.collect())
}

/// Why it failed.
#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("{0}\nhint: try makedumpfile --help")]
    Usage(String),
    #[error(transparent)]
    Open(#[from] OpenFailure),
    #[error(transparent)]
    Job(#[from] JobError),
    #[error(transparent)]
    Target(#[from] super::target::NoTarget),
    #[error(transparent)]
    Rearrange(#[from] kdive_filter::RearrangeError),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("{0}")]
    Other(String),
}

/// Does what makedumpfile would do.
pub(crate) fn main(words: Vec<OsString>) -> ExitCode {
    let words = words.into_iter().map(|word| word.to_string_lossy().into_owned());
    let flags = match Flags::parse(words.collect()) {
        Ok(flags) => flags,
        Err(wrong) => {
            failure(&Problem::Usage(wrong));
            return FAILED.into();
        }
    };
    match run(&flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            if flags.tells_errors() {
                failure(&problem);
                say(&flags, "makedumpfile Failed.");
            }
            match problem {
                Problem::Open(OpenFailure::Kernel {
                    source: kdive_target::OpenError::WrongVmlinux { .. },
                }) => WRONG_VMLINUX.into(),
                _ => FAILED.into(),
            }
        }
    }
}

fn run(flags: &Flags) -> Result<(), Problem> {
    match &flags.action {
        Action::Help => return Ok(io::stdout().write_all(flags::HELP.as_bytes())?),
        Action::Version => {
            return Ok(writeln!(io::stdout(), "makedumpfile: kdive {}", env!("CARGO_PKG_VERSION"))?);
        }
        Action::Check => return Ok(()),
        Action::Rearrange(out) => return from_stdin(flags, out),
        _ => {}
    }
    let open = OpenArgs {
        files: flags.inputs.iter().chain(&flags.vmlinux).cloned().collect(),
        vmcoreinfo: flags.vmcoreinfo.clone(),
        ..OpenArgs::default()
    };
    let asks_kernel = !matches!(flags.action, Action::Reassemble(_));
    let job = Job::open(&open, asks_kernel)?;
    job.notes.iter().for_each(|note| say(flags, note));
    match &flags.action {
        Action::Dump(out) => {
            let mut target = target(flags, out)?;
            let none = RuleArgs::default();
            let report =
                in_pool(Some(flags.threads), || job.levels(&flags.levels, &none, &form(flags), &mut target));
            saved(flags, &report.map_err(JobError::from)??, &target);
        }
        Action::Split(outs) => {
            let level = flags.levels.0.first().copied().unwrap_or_default();
            let report = in_pool(Some(flags.threads), || job.split_into(outs, level, &form(flags)));
            saved(flags, &report.map_err(JobError::from)??, &Target::Nowhere);
        }
        Action::Reassemble(out) => {
            let mut target = target(flags, out)?;
            let report = job.copy(&form_like(flags, &job.dump.facts.compression), &mut target)?;
            saved(flags, &report, &target);
        }
        Action::Dmesg(out) => dmesg(flags, &job, out)?,
        Action::MemUsage => print_usage(&job.count(true)?)?,
        Action::Vtop(address) => vtop(&job, VirtAddr(*address))?,
        Action::Help | Action::Version | Action::Check | Action::Rearrange(_) => {}
    }
    Ok(())
}

fn target(flags: &Flags, out: &Path) -> Result<Target, Problem> {
    Ok(if flags.dry_run { Target::Nowhere } else { Target::open(out, flags.force, &flags.inputs)? })
}

fn form(flags: &Flags) -> FormArgs {
    let (compression, level) = match flags.compression {
        Compression::Zlib(level) => (CompressionName::Zlib, Some(level)),
        Compression::Zstd(level) => (CompressionName::Zstd, u32::try_from(level).ok()),
        Compression::Snappy => (CompressionName::Snappy, None),
        Compression::None => (CompressionName::None, None),
    };
    FormArgs {
        format: if flags.elf { FormatName::Elf } else { FormatName::Kdump },
        compression,
        compression_level: level,
        threads: None,
        memory: flags.memory,
        limit: flags.limit,
        overwrite: flags.force,
        encrypt: Vec::new(),
        redact: Vec::new(),
        no_manifest: true,
    }
}

/// The compression that a dump has.
fn form_like(flags: &Flags, names: &[&str]) -> FormArgs {
    let has = |name: &str| names.contains(&name);
    let compression = match () {
        () if has("zstd") => CompressionName::Zstd,
        () if has("zlib") || has("lzo") => CompressionName::Zlib,
        () if has("snappy") => CompressionName::Snappy,
        () => CompressionName::None,
    };
    FormArgs { compression, compression_level: None, ..form(flags) }
}

/// `-R`.
fn from_stdin(flags: &Flags, out: &Path) -> Result<(), Problem> {
    let mut target = target(flags, out)?;
    let cancel = Cancel::default();
    let mut input = io::stdin().lock();
    let bytes = target.with_sink(None, |sink| {
        let sink: &mut dyn kdive_dump::write::Sink = sink;
        rearrange(&mut input, sink, &cancel)
    })??;
    let report = Report { files: vec![target.name()], bytes, ..Report::default() };
    saved(flags, &report, &target);
    Ok(())
}

/// `--dump-dmesg`.
fn dmesg(flags: &Flags, job: &Job, out: &Path) -> Result<(), Problem> {
    let kernel = job.kernel().ok_or_else(|| Problem::Other("there is no kernel in the dump".into()))?;
    let mut target = Target::open(out, flags.force, &flags.inputs)?;
    let mut text = Vec::new();
    let mut cx = Cx::new(kernel.clone());
    // By itself: the list of all commands would bring them all into `kdive-capture`.
    Invocation { command: &kdive_commands::LOG, words: Vec::new() }
        .run(&mut cx, &mut TextSink::new(&mut text))
        .map_err(|error| Problem::Other(error.to_string()))?;
    let room = flags.limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    let whole = text.len() <= room;
    text.truncate(room);
    match &mut target {
        Target::File { file, .. } | Target::Stream(file) => file.write_all(&text)?,
        Target::Nowhere => {}
    }
    if !whole {
        return Err(Problem::Other(format!("{} is cut at {room} bytes", target.name())));
    }
    say(flags, &format!("The dmesg log is saved to {}.\n\nmakedumpfile Completed.", target.name()));
    Ok(())
}

/// `--vtop`.
fn vtop(job: &Job, address: VirtAddr) -> Result<(), Problem> {
    let kernel = job.kernel().ok_or_else(|| Problem::Other("there is no kernel in the dump".into()))?;
    let found = kernel.space().translate(address).map_err(|missing| Problem::Other(missing.to_string()))?;
    let mut out = io::stdout();
    writeln!(out, "Translating virtual address {:x} to physical address.", address.0)?;
    Ok(writeln!(out, "{:<18}  PHYSICAL\n{:<18x}  {:x}", "VIRTUAL", address.0, found.phys.0)?)
}

/// `--mem-usage`.
fn print_usage(usage: &Usage) -> io::Result<()> {
    let pages = |kind: &str| usage.rows.iter().find(|row| row.kind == kind).map_or(0, |row| row.pages);
    let mut out = io::stdout().lock();
    writeln!(out, "TYPE\t\tPAGES\t\t\tEXCLUDABLE\tDESCRIPTION")?;
    writeln!(out, "{}", "-".repeat(70))?;
    for (name, kind, what) in [
        ("ZERO\t", "zero", "Pages filled with zero"),
        ("NON_PRI_CACHE", "cache", "Cache pages without private flag"),
        ("PRI_CACHE", "cache-private", "Cache pages with private flag"),
        ("USER\t", "user", "User process pages"),
        ("FREE\t", "free", "Free pages"),
    ] {
        writeln!(out, "{name}\t{:<16}\tyes\t\t{what}", pages(kind))?;
    }
    writeln!(out, "KERN_DATA\t{:<16}\tno\t\tDumpable kernel data ", usage.kept)?;
    writeln!(out, "\npage size:\t\t{:<16}", 4096)?;
    writeln!(out, "Total pages on system:\t{:<16}", usage.pages)?;
    writeln!(out, "Total size on system:\t{:<16} Byte", usage.pages.saturating_mul(4096))
}

fn saved(flags: &Flags, report: &Report, target: &Target) {
    if flags.stats {
        say(flags, &report.to_string());
    }
    if flags.dry_run {
        return say(flags, "makedumpfile Completed.");
    }
    let names = report.files.join(", ");
    match target {
        Target::Stream(_) => say(flags, "The dump is written to standard output.\n\nmakedumpfile Completed."),
        _ => say(flags, &format!("The dumpfile is saved to {names}.\n\nmakedumpfile Completed.")),
    }
}

/// A message as makedumpfile has it: on standard output, unless the dump goes there.
fn say(flags: &Flags, text: &str) {
    if !flags.tells_progress() {
        return;
    }
    let to_stdout = !flags.flattened;
    // If nobody listens, nobody misses it.
    let _ = if to_stdout { writeln!(io::stdout(), "{text}") } else { writeln!(io::stderr(), "{text}") };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_answers_to_that_name_alone() {
        let called = |line: &str| called_by_name(line.split(' ').map(OsString::from));
        assert_eq!(
            called("/usr/sbin/makedumpfile -c a b"),
            Some(["-c", "a", "b"].map(OsString::from).to_vec())
        );
        assert_eq!(called("makedumpfile"), Some(Vec::new()));
        assert_eq!(called("kdive dump makedumpfile"), None);
        assert_eq!(called("./makedumpfile-1.7"), None);
    }
}
