//! What can be typed behind `kdive dump`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Args, Subcommand, ValueEnum};
use kdive_dump::write::Compression;
use kdive_filter::{Format, Levels, NotARule, Owner, Redact, Rule};

use super::hook::HookArgs;
use super::sealing::{Recipients, recipients};

/// At its level 2 libdeflate makes pages a little smaller than zlib does at its level 1, which makedumpfile uses.
pub(super) const ZLIB_LEVEL: u32 = 2;

const ABOUT: &str = "Make smaller dumps of dumps, convert, split, join and check them";

/// What to do.
#[derive(Debug, Subcommand)]
#[command(name = DumpVerb::NAME, about = ABOUT)]
pub(crate) enum DumpVerb {
    /// Leave pages out by what the kernel used them for
    ///
    /// The dump may be filtered already: what it lacks stays out. What pages are used for, the kernel in the dump says; no
    /// vmlinux is needed.
    #[command(after_help = LEVELS)]
    Filter(FilterArgs),
    /// Write a dump in another format, with all its pages
    Convert(OutputArgs),
    /// Write a dump as several files that hold as many pages each
    ///
    /// kdive takes the files together, in any order; `join` makes one of them.
    Split(SplitArgs),
    /// Write one file from the files of a split dump
    Join(OutputArgs),
    /// Read every page and say which are damaged
    ///
    /// Exit status 1 if something is.
    Verify(InputArgs),
    /// Count pages by what they are used for, and what each level would leave of them
    Usage(UsageArgs),
    /// Overwrite keys, command lines, packets and patterns in a copy of a dump
    ///
    /// The copy says what was overwritten: reading it yields `redacted`. Without --redact all three kinds are.
    Redact(OutputArgs),
    /// Encrypt a file as it is, for public keys
    ///
    /// The format is age's: kdive opens it in place with --identity, `age -d` decrypts it. `filter --encrypt` filters and
    /// encrypts in one go.
    Encrypt(EncryptArgs),
    /// Decrypt a file, with --identity
    ///
    /// No need to, for kdive: it reads encrypted dumps in place. A flattened dump becomes a plain one.
    Decrypt(DecryptArgs),
    /// Make this system's kdump save its dumps with kdive
    ///
    /// Writes the settings of kdump-tools (Debian, Ubuntu) or kdump.conf (Red Hat, Fedora), and shows each file that it
    /// touches. docs/hook.md has it in full.
    Hook(HookArgs),
    /// Take the flags of makedumpfile(8); kdive does so too when it is called by that name
    #[command(disable_help_flag = true)]
    Makedumpfile {
        /// makedumpfile's command line
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
        words: Vec<OsString>,
    },
}

const LEVELS: &str = "\
Levels are makedumpfile's: the sum of what is left out.
   1  pages filled with zeros
   2  page cache, but where the file system keeps data of its own with the page
   4  all page cache
   8  memory of processes
  16  free pages
Level 31 leaves what the kernel itself uses: enough for nearly all commands. Level 17 keeps processes and files.
Several levels, as in 17,31, are tried in order until the dump fits the disk or --limit.

Examples:
  kdive dump filter vmcore small                   level 31, zstd
  kdive dump filter -d 17,31 --limit 2G vmcore small
  kdive dump filter --keep-user mysqld --keep cgroup:/web vmcore small
  kdive dump filter vmcore - | ssh host 'cat > small.flat'";

#[derive(Debug, Args)]
pub(crate) struct FilterArgs {
    /// What to leave out, 0 to 31; several levels are tried in order until the dump fits
    #[arg(short = 'd', long = "level", value_name = "LEVEL", default_value = "31", value_parser = levels)]
    pub(crate) levels: Levels,
    #[command(flatten)]
    pub(crate) rules: RuleArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// What is kept or left out whatever the level says.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct RuleArgs {
    /// Keep pages of this whatever the level says: cache:NAME, module:NAME, cgroup:PATH, task:PID or task:NAME, `*` and `?`
    /// in names; can be given several times
    #[arg(long, value_name = "RULE", value_parser = rule)]
    pub(crate) keep: Vec<Rule>,
    /// Leave pages of this out; what another rule keeps stays
    #[arg(long, value_name = "RULE", value_parser = rule)]
    pub(crate) drop: Vec<Rule>,
    /// Keep the memory of a process: short for --keep task:PID or task:NAME
    #[arg(long, value_name = "PID|NAME")]
    pub(crate) keep_user: Vec<String>,
}

impl RuleArgs {
    /// All rules that keep something.
    pub(crate) fn kept(&self) -> Vec<Rule> {
        let of_user = |pattern: &String| Rule { owner: Owner::Task, pattern: pattern.clone() };
        self.keep.iter().cloned().chain(self.keep_user.iter().map(of_user)).collect()
    }
}

#[derive(Debug, Args)]
pub(crate) struct OutputArgs {
    #[command(flatten)]
    pub(crate) form: FormArgs,
    /// Say what would be written, and write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// The dump (and debuginfo, if there is any), then the file to write; `-` writes a flattened dump to standard output
    #[arg(value_name = "VMCORE... OUT", required = true, num_args = 1..)]
    pub(crate) files: Vec<PathBuf>,
}

/// How dumps are written.
#[derive(Clone, Debug, Args)]
pub(crate) struct FormArgs {
    /// Container of the new dump
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "kdump")]
    pub(crate) format: FormatName,
    /// Compression of pages; makedumpfile before 1.7.0 and crash before 8.0 do not read zstd
    #[arg(short = 'c', long = "compress", value_name = "HOW", value_enum, default_value = "zstd")]
    pub(crate) compression: CompressionName,
    /// Level of compression: 0 to 12 of zlib, 1 to 22 of zstd [default: 2 of zlib, 1 of zstd]
    #[arg(long, value_name = "LEVEL")]
    pub(crate) compression_level: Option<u32>,
    /// Threads that read and compress [default: one for each processor]
    #[arg(long, value_name = "COUNT")]
    pub(crate) threads: Option<usize>,
    /// Memory for bitmaps and buffers, as in 64M
    #[arg(long, value_name = "BYTES", value_parser = bytes, default_value = "32M")]
    pub(crate) memory: u64,
    /// Largest size of the new file, as in 2G
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub(crate) limit: Option<u64>,
    /// Write over a file that exists
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Encrypt for a public key (age1...), or those in a file; may be given several times
    #[arg(short = 'r', long = "encrypt", value_name = "RECIPIENT", value_parser = recipients)]
    pub(crate) encrypt: Vec<Recipients>,
    /// Overwrite what should not leave the machine: keys, args, net, text:WORDS or pattern:REGEX; may be given several times
    #[arg(long, value_name = "WHAT", value_parser = redact)]
    pub(crate) redact: Vec<Redact>,
    /// Leave no hashes and no manifest behind the dump: `verify` finds less then
    #[arg(long)]
    pub(crate) no_manifest: bool,
}

#[derive(Debug, Args)]
pub(crate) struct EncryptArgs {
    /// Public key (age1...) that it is encrypted for, or a file of such; may be given several times
    #[arg(short = 'r', long = "recipient", value_name = "RECIPIENT", value_parser = recipients, required = true)]
    pub(crate) recipients: Vec<Recipients>,
    /// Write over a file that exists
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// The file
    #[arg(value_name = "FILE")]
    pub(crate) input: PathBuf,
    /// The file to write; `-` is standard output
    #[arg(value_name = "OUT")]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct DecryptArgs {
    /// Write over a file that exists
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// The encrypted file
    #[arg(value_name = "FILE")]
    pub(crate) input: PathBuf,
    /// The file to write; `-` is standard output
    #[arg(value_name = "OUT")]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct SplitArgs {
    #[command(flatten)]
    pub(crate) form: FormArgs,
    /// How many files: OUT.1, OUT.2 and so on
    #[arg(short = 'n', long = "parts", value_name = "COUNT", default_value = "2")]
    pub(crate) parts: usize,
    /// Leave pages out as `filter` does
    #[arg(short = 'd', long = "level", value_name = "LEVEL", default_value = "0", value_parser = levels)]
    pub(crate) levels: Levels,
    /// The dump, then the name that the new files begin with
    #[arg(value_name = "VMCORE... OUT", required = true, num_args = 1..)]
    pub(crate) files: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct InputArgs {
    /// The dump, and debuginfo if there is any
    #[arg(value_name = "VMCORE", required = true, num_args = 1..)]
    pub(crate) files: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct UsageArgs {
    /// Count pages of zeros too: every page that no class leaves out is read
    #[arg(short = 'z', long)]
    pub(crate) zero: bool,
    #[command(flatten)]
    pub(crate) input: InputArgs,
}

/// A container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FormatName {
    Kdump,
    Elf,
}

/// A compression of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CompressionName {
    None,
    Zlib,
    Snappy,
    Zstd,
}

impl FormArgs {
    /// The container, with its compression.
    pub(crate) fn format(&self) -> Format {
        let level = |usual| self.compression_level.unwrap_or(usual);
        match self.format {
            FormatName::Elf => Format::Elf,
            FormatName::Kdump => Format::Kdump(match self.compression {
                CompressionName::None => Compression::None,
                CompressionName::Zlib => Compression::Zlib(level(ZLIB_LEVEL)),
                CompressionName::Snappy => Compression::Snappy,
                CompressionName::Zstd => Compression::Zstd(i32::try_from(level(1)).unwrap_or(22)),
            }),
        }
    }
}

impl DumpVerb {
    pub(crate) const NAME: &str = "dump";

    /// clap's view.
    pub(crate) fn command() -> clap::Command {
        Self::augment_subcommands(clap::Command::new(Self::NAME)).about(ABOUT).subcommand_required(true)
    }

    /// The files that are read: all, or all but the last.
    pub(crate) fn inputs(&self) -> Result<Vec<PathBuf>, clap::Error> {
        let files = match self {
            Self::Filter(args) => &args.output.files,
            Self::Convert(args) | Self::Join(args) | Self::Redact(args) => &args.files,
            Self::Split(args) => &args.files,
            Self::Verify(args) => return Ok(args.files.clone()),
            Self::Usage(args) => return Ok(args.input.files.clone()),
            Self::Encrypt(_) | Self::Decrypt(_) | Self::Hook(_) | Self::Makedumpfile { .. } => {
                return Ok(Vec::new());
            }
        };
        match files.split_last() {
            Some((_, inputs)) if !inputs.is_empty() => Ok(inputs.to_vec()),
            _ => {
                let message = "two files are needed: a dump, and the file to write\n";
                Err(clap::Error::raw(ErrorKind::MissingRequiredArgument, message))
            }
        }
    }

    /// Whether the kernel in the dump has to be understood.
    pub(crate) fn asks_kernel(&self) -> bool {
        match self {
            Self::Filter(_) | Self::Usage(_) | Self::Redact(_) => true,
            Self::Split(args) => {
                !args.form.redact.is_empty() || args.levels.0.iter().any(|level| level.asks_use())
            }
            Self::Convert(args) | Self::Join(args) => !args.form.redact.is_empty(),
            Self::Verify(_) => false,
            Self::Encrypt(_) | Self::Decrypt(_) | Self::Hook(_) | Self::Makedumpfile { .. } => false,
        }
    }
}

fn redact(text: &str) -> Result<Redact, String> {
    text.parse().map_err(|error: kdive_filter::NotRedactable| error.to_string())
}

fn levels(text: &str) -> Result<Levels, String> {
    text.parse().map_err(|error: kdive_filter::NotALevel| error.to_string())
}

fn rule(text: &str) -> Result<Rule, String> {
    text.parse().map_err(|error: NotARule| error.to_string())
}

/// A number of bytes, with K, M, G or T behind it for powers of 1024.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text}: expected a number of bytes, such as 65536, 64M or 2G");
    let (digits, shift) = match text.char_indices().last() {
        Some((at, unit @ ('K' | 'M' | 'G' | 'T' | 'k' | 'm' | 'g' | 't'))) => {
            let shift = match unit.to_ascii_uppercase() {
                'K' => 10,
                'M' => 20,
                'G' => 30,
                _ => 40,
            };
            (text.get(..at).unwrap_or_default(), shift)
        }
        _ => (text, 0),
    };
    let count: u64 = digits.parse().map_err(|_| wrong())?;
    count.checked_mul(1 << shift).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_units() {
        assert_eq!(bytes("4096"), Ok(4096));
        assert_eq!(bytes("64M"), Ok(64 << 20));
        assert_eq!(bytes("2g"), Ok(2 << 30));
        for wrong in ["", "M", "-1", "1.5G", "99999999T", "10B"] {
            assert!(bytes(wrong).is_err(), "{wrong:?}");
        }
    }
}
