//! Dump formats: what QEMU writes from outside, and what a capture kernel writes through kexec.

use anyhow::{Result, bail};

use super::place::version_numbers;
use crate::run;

/// A dump format.
pub(crate) struct Format {
    /// Its name, which ends the dump's name.
    pub(crate) name: &'static str,
    pub(crate) maker: Maker,
}

/// Who writes the dump.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Maker {
    /// `dump-guest-memory` with this format, which QEMU has since this version.
    Qemu { format: &'static str, since: (u64, u64) },
    /// A capture kernel: makedumpfile with these flags, into this many files.
    Capture { flags: &'static str, files: usize },
}

const fn qemu(name: &'static str, since: (u64, u64)) -> Format {
    Format { name, maker: Maker::Qemu { format: name, since } }
}

const fn capture(name: &'static str, flags: &'static str) -> Format {
    Format { name, maker: Maker::Capture { flags, files: 1 } }
}

pub(crate) const FORMATS: &[Format] = &[
    qemu("elf", (1, 0)),
    // Flattened.
    qemu("kdump-zlib", (2, 0)),
    qemu("kdump-lzo", (2, 0)),
    qemu("kdump-snappy", (2, 0)),
    // The same, not flattened.
    qemu("kdump-raw-zlib", (8, 2)),
    qemu("kdump-raw-lzo", (8, 2)),
    qemu("kdump-raw-snappy", (8, 2)),
    // A plain copy of /proc/vmcore.
    capture("vmcore", ""),
    capture("zlib", "-c -d 31"),
    capture("lzo", "-l -d 31"),
    capture("snappy", "-p -d 31"),
    capture("zstd", "-z -d 31"),
    // Only pages of zeroes left out: right even where makedumpfile does not know the kernel yet.
    capture("zlib-d1", "-c -d 1"),
    capture("elf17", "-E -d 17"),
    capture("flat", "-F -c -d 31"),
    // It splits by blocks of memory, of 1 GiB unless told otherwise.
    Format {
        name: "split",
        maker: Maker::Capture { flags: "--split --splitblock-size 64 -c -d 31", files: 3 },
    },
];

/// The format of this name.
pub(crate) fn find(name: &str) -> Result<&'static Format> {
    match FORMATS.iter().find(|format| format.name == name) {
        Some(format) => Ok(format),
        None => {
            let known: Vec<&str> = FORMATS.iter().map(|format| format.name).collect();
            bail!("no format {name}; there are {}", known.join(" "))
        }
    }
}

impl Format {
    /// The files of a dump called `dump`.
    pub(crate) fn files(&self, dump: &str) -> Vec<String> {
        match self.maker {
            Maker::Capture { files, .. } if files > 1 => (1..=files).map(|n| format!("{dump}.{n}")).collect(),
            _ => vec![dump.to_string()],
        }
    }

    /// Is this QEMU new enough to write it?
    pub(crate) fn is_known_to(&self, qemu: (u64, u64)) -> bool {
        match self.maker {
            Maker::Qemu { since, .. } => qemu >= since,
            Maker::Capture { .. } => true,
        }
    }

    /// Does it take a capture kernel?
    pub(crate) fn is_captured(&self) -> bool {
        matches!(self.maker, Maker::Capture { .. })
    }
}

/// The version of this machine's QEMU: `QEMU emulator version 7.2.22 (...)`.
pub(crate) fn qemu_version() -> Result<(u64, u64)> {
    let text = run::output(&mut run::command("qemu-system-x86_64", ["--version"]))?;
    let mut numbers = version_numbers(text.lines().next().unwrap_or_default()).into_iter();
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) => Ok((major, minor)),
        _ => bail!("no version in {text}"),
    }
}
