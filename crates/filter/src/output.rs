//! What is written: the format, and what its header says.

use std::ops::Range;

use kdive_dump::write::{
    Compression, Control, KdumpOptions, Plan, Sink, WriteError, Written, write_elf, write_kdump,
};
use kdive_dump::{Facts, Manifest, Notes, UtsName};
use kdive_linux::system::Uts;
use kdive_target::Kernel;

use crate::DumpLevel;

/// A container to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// kdump-compressed.
    Kdump(Compression),
    /// An ELF core.
    Elf,
}

/// What a header tells beside the pages.
#[derive(Clone, Debug, Default)]
pub struct Header {
    uts: UtsName,
    timestamp: u64,
    phys_base: u64,
    cpus: u32,
    level: DumpLevel,
    incomplete: bool,
}

impl Header {
    /// What the dump's own header says.
    #[must_use]
    pub fn of_dump(facts: &Facts, notes: &Notes) -> Self {
        Self {
            uts: facts.uts.clone().unwrap_or_default(),
            timestamp: facts.timestamp.unwrap_or(0),
            phys_base: 0,
            cpus: u32::try_from(notes.cpus.len()).unwrap_or(0),
            level: facts
                .dump_level
                .and_then(|level| DumpLevel::new(u8::try_from(level).ok()?))
                .unwrap_or_default(),
            incomplete: facts.incomplete,
        }
    }

    /// Adds what the kernel says and the dump's header does not.
    #[must_use]
    pub fn with_kernel(mut self, kernel: &Kernel) -> Self {
        let (uts, _) = Uts::find(kernel);
        let fill = |field: &mut String, known: Option<String>| {
            if field.is_empty() {
                *field = known.unwrap_or_default();
            }
        };
        fill(&mut self.uts.sysname, uts.sysname);
        fill(&mut self.uts.nodename, uts.nodename);
        fill(&mut self.uts.release, uts.release);
        fill(&mut self.uts.version, uts.version);
        fill(&mut self.uts.machine, uts.machine);
        if self.timestamp == 0 {
            self.timestamp = kernel.vmcoreinfo().crash_time().unwrap_or(0);
        }
        self.phys_base = kernel.phys_base().clone().unwrap_or(0);
        self
    }

    /// What a manifest tells of the dump; its hashes are for the writer to fill in.
    #[must_use]
    pub fn manifest(&self, notes: &Notes) -> Manifest {
        let text = notes.vmcoreinfo.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
        let line = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).map(str::to_owned);
        // Some kernels give a build-id that is none.
        let is_hex = |id: &String| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        let named = |known: &str, key| {
            if known.is_empty() { line(key).unwrap_or_default() } else { known.to_owned() }
        };
        let stamp = Some(self.timestamp).filter(|stamp| *stamp > 0);
        Manifest {
            host: self.uts.nodename.clone(),
            release: named(&self.uts.release, "OSRELEASE="),
            machine: self.uts.machine.clone(),
            build_id: line("BUILD-ID=").filter(is_hex),
            crash_time: line("CRASHTIME=").and_then(|time| time.parse().ok()).or(stamp),
            level: self.level.number().into(),
            ..Manifest::default()
        }
    }

    /// Adds what is left out now to what was already.
    #[must_use]
    pub fn with_level(mut self, level: DumpLevel) -> Self {
        self.level = self.level.and(level);
        self
    }
}

/// How a dump is written.
#[derive(Clone, Debug)]
pub struct Output {
    /// The container.
    pub format: Format,
    /// What its header tells.
    pub header: Header,
}

impl Output {
    /// Writes the pages of a plan; of a kdump-compressed file, `part` alone if it is given.
    ///
    /// # Errors
    /// See [`WriteError`]: what was written until then opens, and says that it is incomplete.
    pub fn write(
        &self,
        plan: &Plan<'_>,
        notes: &Notes,
        part: Option<Range<u64>>,
        out: &mut dyn Sink,
        control: &Control<'_>,
    ) -> Result<Written, WriteError> {
        match self.format {
            Format::Elf => write_elf(plan, notes, out, control),
            Format::Kdump(compression) => {
                let Header { uts, timestamp, phys_base, cpus, level, incomplete } = self.header.clone();
                let dump_level = level.number().into();
                let options = KdumpOptions {
                    compression,
                    dump_level,
                    uts,
                    timestamp,
                    phys_base,
                    cpus,
                    incomplete,
                    part,
                };
                write_kdump(plan, notes, &options, out, control)
            }
        }
    }
}
