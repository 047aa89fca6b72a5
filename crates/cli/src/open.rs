//! From files to a kernel.

use std::path::PathBuf;
use std::sync::Arc;

use kdive_base::PhysAddr;
use kdive_dump::age::Identity;
use kdive_dump::{Hints, Input};
use kdive_fetch::{DebugDirectories, FetchError, Inputs};
use kdive_target::{Artifact, Debuginfo, Kernel, OpenOptions, Overrides};

use crate::args::OpenArgs;
use crate::identity::{self, NoIdentity};

/// An opened dump, and what is worth knowing about it before the first command.
pub(crate) struct Opened {
    pub(crate) kernel: Arc<Kernel>,
    pub(crate) notes: Vec<String>,
}

/// Why there is no kernel.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenFailure {
    #[error(transparent)]
    Files(#[from] FetchError),
    #[error(transparent)]
    Identity(#[from] NoIdentity),
    #[error(transparent)]
    Dump(#[from] kdive_dump::OpenError),
    #[error("{source}\nhint: {}", next_step(.source))]
    Kernel {
        #[from]
        source: kdive_target::OpenError,
    },
    #[error("{}: {source}", .path.display())]
    Read { path: PathBuf, source: std::io::Error },
}

/// Opens what was given.
pub(crate) fn open(args: &OpenArgs) -> Result<Opened, OpenFailure> {
    container(args)?.kernel(args)
}

/// An opened dump, and what was given beside it.
pub(crate) struct Container {
    pub(crate) dump: kdive_dump::Opened,
    pub(crate) notes: Vec<String>,
    pub(crate) identities: Arc<[Identity]>,
    debuginfo: Debuginfo,
    artifacts: DebugDirectories,
    overrides: Overrides,
}

/// Opens the dump alone: what is in it may be no kernel at all.
pub(crate) fn container(args: &OpenArgs) -> Result<Container, OpenFailure> {
    let mut inputs = kdive_fetch::sort(&args.files, args.raw_base.map(PhysAddr))?;
    if let Some(path) = &args.system_map {
        inputs.system_map =
            Some(read(path).map(|bytes| Artifact { name: path.display().to_string(), bytes: bytes.into() })?);
    }
    let vmcoreinfo = args.vmcoreinfo.as_ref().map(read).transpose()?;
    let overrides = Overrides { vmcoreinfo, phys_base: args.phys_base, kaslr: args.kaslr, cr3: args.cr3 };
    let Inputs { dump, vmlinux, system_map, debuginfo, mut notes } = inputs;
    let identities = identity::read(&args.identities)?;
    let hints = Hints {
        zero_excluded: args.zero_excluded,
        identities: Arc::clone(&identities),
        as_stored: args.as_stored,
    };
    let dump = kdive_dump::open(Input { files: dump }, &hints)?;
    notes.extend(dump.facts.warnings.iter().cloned());
    let beside = vmlinux.as_ref().map(|file| PathBuf::from(&file.name));
    let artifacts = DebugDirectories::new(args.debug_dirs.clone(), beside).with_files(debuginfo);
    let debuginfo = Debuginfo { vmlinux, system_map };
    Ok(Container { dump, notes, identities, debuginfo, artifacts, overrides })
}

impl Container {
    /// The kernel in the dump.
    pub(crate) fn kernel(self, args: &OpenArgs) -> Result<Opened, OpenFailure> {
        let options = OpenOptions {
            overrides: self.overrides,
            debuginfo: self.debuginfo,
            force: args.force,
            no_btf: args.no_btf,
            ..OpenOptions::default()
        };
        let kernel = Kernel::open(self.dump, options, Arc::new(self.artifacts))?;
        Ok(Opened { kernel, notes: self.notes })
    }
}

fn read(path: &PathBuf) -> Result<Vec<u8>, OpenFailure> {
    std::fs::read(path).map_err(|source| OpenFailure::Read { path: path.clone(), source })
}

fn next_step(refused: &kdive_target::OpenError) -> &'static str {
    match refused {
        kdive_target::OpenError::WrongVmlinux { .. } => {
            "give the vmlinux of the dump's build, or none; --force goes on with this one"
        }
        _ => "give another vmlinux, or none: most dumps need none",
    }
}
