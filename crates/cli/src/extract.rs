//! `kdive vmlinux extract`: the ELF file out of whatever holds a vmlinux.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::Parser;
use kdive_fetch::{FileSource, map, vmlinux};

use crate::report::{self, Status};

const ABOUT: &str = "\
Takes the vmlinux out of a boot image (bzImage), a Debian or RPM package, an initramfs, or a compressed file, however they
are inside of each other. Nothing but the vmlinux itself is unpacked and kept.

A vmlinux out of a boot image has no symbol table and no DWARF: it is what the machine ran. Packages with debuginfo are
linux-image-*-dbg (Debian), linux-image-*-dbgsym (Ubuntu), kernel-debuginfo (Red Hat), kernel-default-debuginfo (SUSE).

Wherever kdive takes a vmlinux it takes these files too.";

#[derive(Debug, Parser)]
#[command(name = "kdive vmlinux extract", about = "Writes the vmlinux that a file holds", long_about = ABOUT)]
struct Extract {
    /// A bzImage, .deb, .rpm, initramfs, vmlinux.gz...
    file: PathBuf,
    /// Where to write it; - is standard output. A file that exists is left alone
    #[arg(short, value_name = "FILE", default_value = "vmlinux")]
    output: PathBuf,
}

/// Runs `vmlinux extract`, if that is what was typed. A file may well be called `vmlinux`: both words make the command.
pub(crate) fn run(words: &[OsString]) -> Option<Status> {
    let (_, words) = words.split_first()?;
    let rest = words.strip_prefix(&[OsString::from("vmlinux"), OsString::from("extract")])?;
    let name = OsString::from("kdive vmlinux extract");
    let extract = match Extract::try_parse_from(std::iter::once(&name).chain(rest)) {
        Ok(extract) => extract,
        Err(error) => {
            let _ = error.print();
            return Some(if error.use_stderr() { Status::Usage } else { Status::Done });
        }
    };
    Some(match extract.write() {
        Ok(()) => Status::Done,
        Err(why) => {
            report::failure(&why);
            Status::CommandFailed
        }
    })
}

impl Extract {
    fn write(&self) -> Result<(), String> {
        let name = self.file.display();
        let source = FileSource::open(&self.file).map_err(|error| error.to_string())?;
        let bytes = map(source.file()).map_err(|error| format!("{name}: {error}"))?;
        let found = vmlinux(&bytes).map_err(|error| format!("{name}: {error}"))?;
        if self.output == Path::new("-") {
            return match io::stdout().write_all(&found.bytes) {
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.to_string()),
                _ => Ok(()),
            };
        }
        let output = self.output.display();
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::AlreadyExists => format!("{output} exists: give another name with -o"),
            _ => format!("{output}: {error}"),
        };
        let mut file = OpenOptions::new().write(true).create_new(true).open(&self.output).map_err(failed)?;
        if let Err(error) = file.write_all(&found.bytes).and_then(|()| file.sync_all()) {
            // Half a vmlinux would be taken for one.
            let _ = std::fs::remove_file(&self.output);
            return Err(failed(error));
        }
        let from =
            if found.inside.is_empty() { "the file itself".to_owned() } else { found.inside.join(", ") };
        report::note(&format_args!("{output}: {} bytes, from {from}", found.bytes.len()));
        Ok(())
    }
}
