//! What was typed in the shell.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::ValueParser;
use clap::{Arg, ArgAction, ArgMatches, Command, CommandFactory as _, FromArgMatches as _, Parser};
use kdive_commands::Opt;

use crate::known_issues;

use crate::dump::DumpVerb;

/// Commands of the session that are subcommands too.
const SUBCOMMANDS: [&str; 3] = ["analyze", "info", "log"];

const EXAMPLES: &str = "\
Examples:
  kdive vmcore                               a session; no vmlinux needed
  kdive -c bt -c 'ps -m | head' vmlinux vmcore
  kdive --json -c ps vmcore                  one JSON document for each command
  kdive vmcore < commands.txt
  kdive info vmcore                          what is in it, what is missing and why
  kdive analyze vmcore                       why the kernel died; a console log does too
  kdive log broken-vmcore                    the log, even if the dump does not open
  kdive vmlinux extract vmlinuz -o vmlinux   the ELF file in a bzImage, .deb, .rpm, initramfs

Exit status: 0 done, 1 a command failed, 2 usage, 3 the dump could not be opened.";

/// What to do.
#[derive(Debug)]
pub(crate) struct Cli {
    pub(crate) open: OpenArgs,
    pub(crate) job: Job,
    pub(crate) json: bool,
    pub(crate) strict: bool,
    pub(crate) silent: bool,
    /// Whether the start-up file is run.
    pub(crate) config: bool,
    /// A start-up file of crash.
    pub(crate) crashrc: Option<PathBuf>,
}

/// What to run on the opened dump.
#[derive(Debug)]
pub(crate) enum Job {
    /// Lines from standard input.
    Session,
    /// The lines of a file, then those of `-c`.
    Batch { script: Option<PathBuf>, lines: Vec<String> },
    /// One command, already in words.
    Words(Vec<String>),
    /// Files of known issues: no dump is opened.
    KnownIssues(known_issues::Job),
    /// Work on the dump itself, without a session.
    Dump(Box<DumpVerb>),
}

/// What to open, and what the user knows better about it.
#[derive(Clone, Debug, Default)]
pub(crate) struct OpenArgs {
    pub(crate) files: Vec<PathBuf>,
    pub(crate) vmcoreinfo: Option<PathBuf>,
    pub(crate) system_map: Option<PathBuf>,
    pub(crate) debug_dirs: Vec<PathBuf>,
    pub(crate) phys_base: Option<u64>,
    pub(crate) kaslr: Option<u64>,
    pub(crate) cr3: Option<u64>,
    pub(crate) raw_base: Option<u64>,
    pub(crate) zero_excluded: bool,
    pub(crate) no_btf: bool,
    pub(crate) force: bool,
    /// Files of secret keys.
    pub(crate) identities: Vec<PathBuf>,
    /// Read what was redacted as it is stored.
    pub(crate) as_stored: bool,
}

/// Reads dead Linux kernels: opens any vmcore, with or without debuginfo.
#[derive(Debug, Parser)]
#[command(name = "kdive", version, disable_help_subcommand = true, after_help = EXAMPLES)]
#[command(
    override_usage = "kdive [OPTIONS] [VMLINUX] VMCORE...\n       kdive analyze|info|log [OPTIONS] [VMLINUX] VMCORE...\n       kdive dump VERB ..."
)]
struct Typed {
    /// Run a command, then exit; may be given several times
    #[arg(short = 'c', value_name = "COMMAND")]
    commands: Vec<String>,
    /// Run the commands in a file, then exit
    #[arg(short = 'i', value_name = "FILE")]
    input: Option<PathBuf>,
    /// Run a start-up file of crash first; lines that mean nothing here are warned about and left out
    #[arg(long, value_name = "FILE")]
    crashrc: Option<PathBuf>,
    /// No banner and no notes about the dump
    #[arg(short, long)]
    silent: bool,
    /// A vmcore or the parts of a split one, a directory that kdump made, raw images of RAM as IMAGE@ADDRESS; a vmlinux,
    /// System.map, modules: in any order
    #[arg(value_name = "FILES")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    shared: Shared,
}

/// Options that subcommands take too: long ones only, so that letters stay the commands' own.
#[derive(Debug, clap::Args)]
struct Shared {
    /// One JSON document for each command
    #[arg(long, global = true)]
    json: bool,
    /// Exit with status 1 when something could not be told
    #[arg(long, global = true)]
    strict: bool,
    /// Do not run the start-up file
    #[arg(long, global = true)]
    no_config: bool,
    /// Look for debuginfo under a directory too; may be given several times
    #[arg(long, value_name = "DIR", global = true, help_heading = "Finding the kernel")]
    debug_dir: Vec<PathBuf>,
    /// Take symbols from a System.map
    #[arg(long, value_name = "FILE", global = true, help_heading = "Finding the kernel")]
    system_map: Option<PathBuf>,
    /// Take VMCOREINFO from a file
    #[arg(long, value_name = "FILE", global = true, help_heading = "Finding the kernel")]
    vmcoreinfo: Option<PathBuf>,
    /// Physical address that the kernel's text mapping is shifted by
    #[arg(long, value_name = "ADDRESS", value_parser = number, global = true, help_heading = "Finding the kernel")]
    phys_base: Option<u64>,
    /// Bytes that KASLR moved the kernel by
    #[arg(long, value_name = "BYTES", value_parser = number, global = true, help_heading = "Finding the kernel")]
    kaslr: Option<u64>,
    /// Physical address of the kernel's top-level page table
    #[arg(long, value_name = "ADDRESS", value_parser = number, global = true, help_heading = "Finding the kernel")]
    cr3: Option<u64>,
    /// The dump is a raw image of the RAM from this physical address on
    #[arg(long, value_name = "ADDRESS", value_parser = number, global = true, help_heading = "Finding the kernel")]
    raw_base: Option<u64>,
    /// Read memory that the dump leaves out as zeros
    #[arg(long, global = true, help_heading = "Finding the kernel")]
    zero_excluded: bool,
    /// Take types from DWARF, as if the kernel had no BTF
    #[arg(long, global = true, help_heading = "Finding the kernel")]
    no_btf: bool,
    /// Go on with a vmlinux of another build
    #[arg(long, global = true, help_heading = "Finding the kernel")]
    force: bool,
    /// File with the secret key that opens an encrypted dump; may be given several times [env: KDIVE_IDENTITY]
    #[arg(long, value_name = "FILE", global = true, help_heading = "Finding the kernel")]
    identity: Vec<PathBuf>,
}

impl Cli {
    /// Parses the process's arguments.
    pub(crate) fn from_command_line() -> Result<Self, clap::Error> {
        Self::parse(std::env::args_os())
    }

    fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let matches = grammar().try_get_matches_from(words)?;
        let typed = Typed::from_arg_matches(&matches)?;
        let batch = !typed.commands.is_empty() || typed.input.is_some();
        let (files, job) = match matches.subcommand() {
            Some((name, _)) if batch => {
                let message =
                    format!("-c and -i run commands of the session: use -c {name}, or {name} alone\n");
                return Err(clap::Error::raw(clap::error::ErrorKind::ArgumentConflict, message));
            }
            Some((DumpVerb::NAME, matches)) => {
                let verb = DumpVerb::from_arg_matches(matches)?;
                (verb.inputs()?, Job::Dump(Box::new(verb)))
            }
            Some((known_issues::NAME, matches)) => (Vec::new(), Job::KnownIssues(known_issues::job(matches))),
            Some((name, matches)) => {
                let given = matches.get_many::<PathBuf>(FILES).into_iter().flatten().cloned();
                (given.collect(), Job::Words(command_words(name, matches)))
            }
            None if batch => (typed.files, Job::Batch { script: typed.input, lines: typed.commands }),
            None => (typed.files, Job::Session),
        };
        let shared = typed.shared;
        let open = OpenArgs {
            files,
            vmcoreinfo: shared.vmcoreinfo,
            system_map: shared.system_map,
            debug_dirs: shared.debug_dir,
            phys_base: shared.phys_base,
            kaslr: shared.kaslr,
            cr3: shared.cr3,
            raw_base: shared.raw_base,
            zero_excluded: shared.zero_excluded,
            no_btf: shared.no_btf,
            force: shared.force,
            identities: shared.identity,
            as_stored: matches!(job, Job::Dump(_)),
        };
        // A subcommand is for scripts and for people in a hurry: the session's aliases have no part in it.
        let config = !shared.no_config && !matches!(job, Job::Words(_) | Job::Dump(_));
        Ok(Self {
            open,
            job,
            json: shared.json,
            strict: shared.strict,
            silent: typed.silent,
            config,
            crashrc: typed.crashrc,
        })
    }
}

const FILES: &str = "files";

/// clap's view: what is typed, and a subcommand for each command that is one, made of the command's own options.
fn grammar() -> Command {
    let mut grammar = Typed::command().subcommand(DumpVerb::command());
    for name in SUBCOMMANDS {
        let Some(command) = kdive_commands::find(name) else { continue };
        let files = Arg::new(FILES).value_name("FILES").action(ArgAction::Append).num_args(1..);
        let sub = Command::new(name)
            .about(command.summary)
            .args(command.options.iter().map(option))
            .arg(files.value_parser(ValueParser::path_buf()).help("The dump, and debuginfo if there is any"));
        grammar = grammar.subcommand(sub);
    }
    grammar.subcommand(known_issues::grammar())
}

/// A command's option as clap's.
fn option(option: &'static Opt) -> Arg {
    let arg = Arg::new(option.name).help(option.help);
    let mut letters = option.name.trim_start_matches('-').chars();
    let arg = match (letters.next(), letters.next()) {
        _ if option.name == Opt::FORMAT => arg.long("format"),
        (Some(letter), None) => arg.short(letter),
        _ => arg.long(option.name.trim_start_matches('-')),
    };
    match option.value {
        Some(value) if option.takes.is_some() => {
            arg.value_name(value).num_args(0..=1).default_missing_value("").action(ArgAction::Append)
        }
        Some(value) => arg.value_name(value).action(ArgAction::Append),
        None => arg.action(ArgAction::Count),
    }
}

/// The command line that a subcommand stands for.
fn command_words(name: &str, matches: &ArgMatches) -> Vec<String> {
    let mut words = vec![name.to_owned()];
    for option in kdive_commands::find(name).map(|command| command.options).unwrap_or_default() {
        match option.value {
            Some(_) => {
                for value in matches.get_many::<String>(option.name).into_iter().flatten() {
                    words.push(option.name.to_owned());
                    words.extend(Some(value.clone()).filter(|value| !value.is_empty()));
                }
            }
            None => {
                let count = usize::from(matches.get_count(option.name));
                words.extend(std::iter::repeat_n(option.name.to_owned(), count));
            }
        }
    }
    words
}

/// A number, in hexadecimal with `0x` before it.
fn number(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| "expected a number, such as 4096 or 0x1000".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn the_grammar_is_sound() {
        grammar().debug_assert();
    }

    #[test]
    fn options_may_stand_anywhere() {
        let cli = parse("kdive vmlinux -c bt vmcore --json -c ps --cr3 0x1000").unwrap();
        assert_eq!(cli.open.files, [PathBuf::from("vmlinux"), PathBuf::from("vmcore")]);
        assert!(matches!(cli.job, Job::Batch { script: None, lines } if lines == ["bt", "ps"]));
        assert!(cli.json && cli.config);
        assert_eq!(cli.open.cr3, Some(0x1000));
    }

    #[test]
    fn without_commands_lines_come_from_standard_input() {
        let cli = parse("kdive -s --no-config vmcore").unwrap();
        assert!(matches!(cli.job, Job::Session) && cli.silent && !cli.config);
    }

    #[test]
    fn a_start_up_file_of_crash_can_be_given() {
        let cli = parse("kdive --crashrc .crashrc vmcore").unwrap();
        assert_eq!(cli.crashrc, Some(PathBuf::from(".crashrc")));
        assert!(cli.config && matches!(cli.job, Job::Session));
    }

    #[test]
    fn a_subcommand_is_a_command() {
        for name in SUBCOMMANDS.into_iter().filter(|name| kdive_commands::find(name).is_some()) {
            let cli = parse(&format!("kdive {name} --json vmcore vmlinux")).unwrap();
            assert!(matches!(&cli.job, Job::Words(words) if *words == [name]));
            assert!(cli.json && cli.open.files.len() == 2);
            let file = parse(&format!("kdive ./{name}")).unwrap();
            assert_eq!(file.open.files, [PathBuf::from(format!("./{name}"))]);
            assert!(parse(&format!("kdive -c ps {name} vmcore")).is_err());
        }
    }

    #[test]
    fn numbers_are_decimal_or_marked() {
        assert_eq!(number("0x10"), Ok(16));
        assert_eq!(number("10"), Ok(10));
        assert!(number("ffff").is_err());
    }
}
