//! `kdive-capture`: the verbs of `kdive dump` alone, small enough for the initramfs of a capture kernel.
//!
//! It is the same code; what only a session needs is not linked. It is built static (`cargo xtask capture`), so that one
//! file is all that an initramfs has to hold.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

use crate::args::OpenArgs;
use crate::dump::{self, DumpVerb};
use crate::report::Status;

const EXAMPLES: &str = "\
Examples:
  kdive-capture filter -d 31 /proc/vmcore /mnt/vmcore
  kdive-capture makedumpfile -z -d 31 /proc/vmcore /mnt/vmcore

Called by the name makedumpfile it takes that program's flags. `kdive dump hook` makes a system use it.

Exit status: 0 done, 1 failed, 2 usage, 3 the dump could not be opened.";

/// Writes a smaller dump of a crashed kernel: `kdive dump`, for capture kernels.
#[derive(Debug, Parser)]
#[command(name = "kdive-capture", version, after_help = EXAMPLES)]
struct Typed {
    #[command(subcommand)]
    verb: DumpVerb,
    /// One JSON document for what was done
    #[arg(long, global = true)]
    json: bool,
    /// No notes about the dump
    #[arg(short, long, global = true)]
    silent: bool,
}

/// The program `kdive-capture`.
#[must_use]
pub fn main() -> ExitCode {
    if let Some(words) = dump::makedumpfile::called_by_name(std::env::args_os()) {
        return dump::makedumpfile::main(words);
    }
    match parse(std::env::args_os()) {
        Ok((typed, open)) => dump::run(&typed.verb, &open, typed.silent, typed.json),
        Err(error) => {
            let status = if error.use_stderr() { Status::Usage } else { Status::Done };
            // A closed stream leaves nobody to tell.
            let _ = error.print();
            status.into()
        }
    }
}

fn parse(words: impl IntoIterator<Item = OsString>) -> Result<(Typed, OpenArgs), clap::Error> {
    let typed = Typed::try_parse_from(words)?;
    let files = typed.verb.inputs()?;
    Ok((typed, OpenArgs { files, ..OpenArgs::default() }))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn the_grammar_is_sound() {
        use clap::CommandFactory as _;
        Typed::command().debug_assert();
    }

    #[test]
    fn the_last_file_is_written_and_the_others_read() {
        let words = "kdive-capture filter -d 31 /proc/vmcore out --json".split(' ').map(OsString::from);
        let (typed, open) = parse(words).unwrap();
        assert!(typed.json && matches!(typed.verb, DumpVerb::Filter(_)));
        assert_eq!(open.files, [PathBuf::from("/proc/vmcore")]);
        assert!(parse(["kdive-capture", "filter", "one"].map(OsString::from)).is_err());
    }
}
