//! `kdive dump hook`: makes a system's kdump save its dumps with kdive.
//!
//! Nothing of the distribution's own is replaced: a file that is not kdive's gets a marked block, and lines that the block
//! stands for are put behind a mark; `--undo` takes both back. Facts: kdump-tools.conf(5), kdump-config(8) and what
//! kdump-tools 1.8 was seen to call; initramfs-tools(7); kdump.conf(5).

mod block;
mod debian;
mod edit;
mod redhat;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use kdive_filter::DumpLevel;
use serde::Serialize;

use self::edit::{Edit, Outcome};
use super::args::CompressionName;
use super::report::show;
use crate::report::{Status, failure};

#[derive(Debug, Args)]
pub(crate) struct HookArgs {
    /// The system to configure
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// How that system does kdump, if its files do not say
    #[arg(long, value_enum)]
    family: Option<Family>,
    /// The static kdive-capture to install [default: the one beside this program]
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// What dumps leave out, 0 to 31
    #[arg(short = 'd', long = "level", value_name = "LEVEL", default_value = "31", value_parser = level)]
    level: DumpLevel,
    /// Compression of pages
    #[arg(short = 'c', long = "compress", value_name = "HOW", value_enum, default_value = "zstd")]
    compression: CompressionName,
    /// Save from the initramfs, before any service of the system runs (initramfs-tools)
    #[arg(long)]
    early: bool,
    /// Take back what an earlier call wrote
    #[arg(long)]
    undo: bool,
    /// Say what would be written, and write nothing
    #[arg(long)]
    dry_run: bool,
}

/// How a system does kdump.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Family {
    /// Debian, Ubuntu: kdump-tools and initramfs-tools
    Debian,
    /// Red Hat Enterprise Linux, Fedora: kdump.conf and dracut
    Redhat,
}

/// What dumps are to be.
struct Wishes {
    level: DumpLevel,
    /// makedumpfile's flag.
    compression: &'static str,
}

/// Where the program is installed.
const PROGRAM: &str = "usr/lib/kdive/kdive-capture";

/// Why nothing was done, or not all.
#[derive(Debug, thiserror::Error)]
pub(super) enum HookError {
    #[error("{}: neither kdump-tools nor kdump.conf is there\nhint: --family debian or --family redhat", .0.display())]
    NoFamily(PathBuf),
    #[error("{}: {source}\nhint: `cargo xtask capture` builds kdive-capture; --program says where it is", .path.display())]
    Program { path: PathBuf, source: io::Error },
    #[error("{} is not statically linked: an initramfs would have to hold its libraries too", .0.display())]
    NotStatic(PathBuf),
    #[error("{}: {source}", .path.display())]
    File { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What was done, or would be.
#[derive(Debug, Serialize)]
struct Done {
    family: Family,
    root: PathBuf,
    dry_run: bool,
    files: Vec<Outcome>,
    /// What the administrator has to run.
    next: Vec<&'static str>,
}

/// Runs it.
pub(super) fn run(args: &HookArgs, json: bool) -> Status {
    let shown = args.done().and_then(|done| Ok(show(&done, &done, json)?));
    match shown {
        Ok(()) => Status::Done,
        Err(problem) => {
            failure(&problem);
            Status::CommandFailed
        }
    }
}

impl HookArgs {
    fn done(&self) -> Result<Done, HookError> {
        let family = self.family.or_else(|| find_family(&self.root));
        let family = family.ok_or_else(|| HookError::NoFamily(self.root.clone()))?;
        let wishes = Wishes { level: self.level, compression: self.flag() };
        let edits = match family {
            Family::Debian => debian::edits(&wishes),
            Family::Redhat => redhat::edits(&wishes),
        };
        let mut files = Vec::new();
        if self.undo {
            for edit in edits.iter().rev() {
                files.extend(edit.undo(&self.root, self.dry_run)?);
            }
            files.extend(edit::remove_program(&self.root, PROGRAM, self.dry_run)?);
        } else {
            let program = self.program()?;
            files.push(edit::install_program(&self.root, PROGRAM, &program, self.dry_run)?);
            for edit in &edits {
                let wanted = self.early || !edit.is_early();
                let done = if wanted { Edit::make } else { Edit::undo };
                files.extend(done(edit, &self.root, self.dry_run)?);
            }
        }
        let next = match family {
            Family::Debian => debian::NEXT,
            Family::Redhat => redhat::NEXT,
        };
        let next = if files.is_empty() { Vec::new() } else { next.to_vec() };
        Ok(Done { family, root: self.root.clone(), dry_run: self.dry_run, files, next })
    }

    fn flag(&self) -> &'static str {
        match self.compression {
            CompressionName::None => "",
            CompressionName::Zlib => "-c",
            CompressionName::Snappy => "-p",
            CompressionName::Zstd => "-z",
        }
    }

    /// The program to install: checked, since a capture kernel is a bad place to learn that it does not run.
    fn program(&self) -> Result<Vec<u8>, HookError> {
        let path = match &self.program {
            Some(path) => path.clone(),
            None => std::env::current_exe()?.with_file_name("kdive-capture"),
        };
        let bytes =
            std::fs::read(&path).map_err(|source| HookError::Program { path: path.clone(), source })?;
        if edit::is_static(&bytes) { Ok(bytes) } else { Err(HookError::NotStatic(path)) }
    }
}

fn find_family(root: &Path) -> Option<Family> {
    let has = |path: &str| root.join(path).exists();
    match () {
        () if has("etc/kdump.conf") => Some(Family::Redhat),
        () if has("etc/default/kdump-tools") => Some(Family::Debian),
        () => None,
    }
}

fn level(text: &str) -> Result<DumpLevel, String> {
    text.parse().map_err(|error: kdive_filter::NotALevel| error.to_string())
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.files.is_empty() {
            return write!(f, "nothing to do");
        }
        for file in &self.files {
            writeln!(f, "{file}")?;
        }
        if self.dry_run {
            return write!(f, "nothing was written");
        }
        write!(f, "next:")?;
        self.next.iter().try_for_each(|line| write!(f, "\n  {line}"))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Typed {
        #[command(flatten)]
        hook: HookArgs,
    }

    const KDUMP_TOOLS: &str = "USE_KDUMP=1\nMAKEDUMP_ARGS=\"-c -d 17\"\nKDUMP_COREDIR=\"/var/crash\"\n";
    const KDUMP_CONF: &str = "path /var/crash\ncore_collector makedumpfile -l --message-level 7 -d 31\n";

    /// A system with these settings, and a program that needs no libraries.
    fn system(settings: &str, text: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join(settings);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        let mut program = b"\x7fELF\x02\x01\x01".to_vec();
        program.resize(64, 0);
        fs::write(root.path().join("program"), program).unwrap();
        root
    }

    fn call(root: &Path, words: &str) -> Result<Done, HookError> {
        let (root, program) = (root.to_str().unwrap(), root.join("program"));
        let fixed = ["hook", "--root", root, "--program", program.to_str().unwrap()];
        Typed::parse_from(fixed.into_iter().chain(words.split_whitespace())).hook.done()
    }

    /// Every file and link below a directory.
    fn files(root: &Path) -> BTreeMap<PathBuf, String> {
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(root).unwrap().map(Result::unwrap) {
            match entry.file_type().unwrap() {
                kind if kind.is_dir() => found.extend(files(&entry.path())),
                kind if kind.is_symlink() => {
                    found.insert(entry.path(), fs::read_link(entry.path()).unwrap().display().to_string());
                }
                _ => {
                    let bytes = fs::read(entry.path()).unwrap();
                    found.insert(entry.path(), String::from_utf8_lossy(&bytes).into_owned());
                }
            }
        }
        found
    }

    #[test]
    fn what_was_written_can_be_taken_back() {
        for (settings, text, line) in [
            ("etc/default/kdump-tools", KDUMP_TOOLS, "MAKEDUMP_ARGS=\"-z -d 31\""),
            (
                "etc/kdump.conf",
                KDUMP_CONF,
                "core_collector /usr/lib/kdive/kdive-capture makedumpfile -z -d 31",
            ),
        ] {
            let system = system(settings, text);
            let before = files(system.path());
            call(system.path(), "--early --dry-run").unwrap();
            assert_eq!(files(system.path()), before);
            call(system.path(), "--early").unwrap();
            let after = files(system.path());
            assert!(after[&system.path().join(settings)].lines().any(|written| written == line));
            // Once more, and everything is as it was.
            call(system.path(), "--early").unwrap();
            assert_eq!(files(system.path()), after);
            assert!(!call(system.path(), "--undo").unwrap().files.is_empty());
            assert_eq!(files(system.path()), before);
            assert!(call(system.path(), "--undo").unwrap().files.is_empty());
        }
    }

    #[test]
    fn scripts_of_others_stay() {
        let system = system("etc/default/kdump-tools", KDUMP_TOOLS);
        let hook = system.path().join("etc/initramfs-tools/hooks/kdive");
        fs::create_dir_all(hook.parent().unwrap()).unwrap();
        fs::write(&hook, "#!/bin/sh\n").unwrap();
        call(system.path(), "--early").unwrap();
        call(system.path(), "--undo").unwrap();
        assert_eq!(fs::read_to_string(&hook).unwrap(), "#!/bin/sh\n");
    }

    #[test]
    fn a_program_that_needs_libraries_is_refused() {
        let system = system("etc/kdump.conf", KDUMP_CONF);
        let mut program = fs::read(system.path().join("program")).unwrap();
        // One program header, behind the file's: PT_INTERP.
        program[32] = 64;
        program[54] = 56;
        program[56] = 1;
        program.extend_from_slice(&3_u32.to_le_bytes());
        program.resize(64 + 56, 0);
        fs::write(system.path().join("program"), program).unwrap();
        assert!(matches!(call(system.path(), ""), Err(HookError::NotStatic(_))));
        assert!(!system.path().join("usr").exists());
    }

    #[test]
    fn a_system_without_kdump_is_told() {
        let empty = system("etc/hostname", "x\n");
        assert!(matches!(call(empty.path(), ""), Err(HookError::NoFamily(_))));
        assert!(call(empty.path(), "--family redhat").is_ok());
    }
}
