//! Dump formats: what QEMU writes from outside, and what a capture kernel writes through kexec.

use std::path::PathBuf;

use anyhow::{Result, bail};

use super::place::Lab;

/// A dump format.
pub(crate) struct Format {
    /// Its name, which ends the dump's name.
    pub(crate) name: &'static str,
    pub(crate) maker: Maker,
}

/// Who writes the dump.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Maker {
    /// `dump-guest-memory`, where the format has the same name.
    Qemu,
    /// `migrate` into a file: what `savevm`, `virsh save` and the old `virsh dump` write.
    QemuMigration,
    /// A capture kernel: makedumpfile with these flags, into this many files; or [`OURS`] with these words.
    Capture { flags: &'static str, files: usize },
}

const fn qemu(name: &'static str) -> Format {
    Format { name, maker: Maker::Qemu }
}

const fn capture(name: &'static str, flags: &'static str) -> Format {
    Format { name, maker: Maker::Capture { flags, files: 1 } }
}

pub(crate) const FORMATS: &[Format] = &[
    qemu("elf"),
    // Flattened.
    qemu("kdump-zlib"),
    qemu("kdump-lzo"),
    qemu("kdump-snappy"),
    // The same, not flattened.
    qemu("kdump-raw-zlib"),
    qemu("kdump-raw-lzo"),
    qemu("kdump-raw-snappy"),
    Format { name: "savevm", maker: Maker::QemuMigration },
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
    // kdive in the place of makedumpfile, by its own words and by makedumpfile's.
    capture("kdive-zstd", "kdive-capture filter -d 31"),
    capture("kdive-zlib", "kdive-capture makedumpfile -c -d 31"),
    capture("kdive-elf", "kdive-capture filter -d 31 --format elf"),
    // It splits by blocks of memory, of 1 GiB unless told otherwise.
    Format {
        name: "split",
        maker: Maker::Capture { flags: "--split --splitblock-size 64 -c -d 31", files: 3 },
    },
];

/// The program in the capture kernel's initramfs that is kdive.
pub(crate) const OURS: &str = "kdive-capture";

/// Where the lab keeps that program.
pub(crate) fn capture_program(lab: &Lab) -> PathBuf {
    lab.dir().join("guest").join(OURS)
}

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

    /// Whether this machine's QEMU, which can dump in the formats `known`, writes it; a capture kernel writes any.
    pub(crate) fn is_written(&self, known: &[String]) -> bool {
        self.maker != Maker::Qemu || known.iter().any(|known| known == self.name)
    }

    /// Does kdive write it, in a capture kernel?
    pub(crate) fn is_ours(&self) -> bool {
        matches!(self.maker, Maker::Capture { flags, .. } if flags.starts_with(OURS))
    }

    /// Does it take a capture kernel?
    pub(crate) fn is_captured(&self) -> bool {
        matches!(self.maker, Maker::Capture { .. })
    }
}
