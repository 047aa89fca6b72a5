//! From files to a kernel.

use std::path::PathBuf;
use std::sync::Arc;

use kdive_base::PhysAddr;
use kdive_dump::{Hints, Input};
use kdive_fetch::{DebugDirectories, FetchError, Inputs};
use kdive_target::{Artifact, Debuginfo, Kernel, OpenOptions, Overrides};

use crate::args::OpenArgs;

/// An opened dump, and what is worth knowing about it before the first command.
pub(crate) struct Opened {
    pub(crate) kernel: Arc<Kernel>,
    /// The files of the dump and the vmlinux, as they were given.
    pub(crate) names: Names,
    pub(crate) notes: Vec<String>,
}

/// What the files are called that a session shows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    pub(crate) dump: String,
    pub(crate) vmlinux: Option<String>,
}

/// Why there is no kernel.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenFailure {
    #[error(transparent)]
    Files(#[from] FetchError),
    #[error(transparent)]
    Dump(#[from] kdive_dump::OpenError),
    #[error(transparent)]
    Kernel(#[from] kdive_target::OpenError),
    #[error("{}: {source}", .path.display())]
    Read { path: PathBuf, source: std::io::Error },
}

/// Opens what was given.
pub(crate) fn open(args: &OpenArgs) -> Result<Opened, OpenFailure> {
    let mut inputs = kdive_fetch::sort(&args.files, args.raw_base.map(PhysAddr))?;
    if let Some(path) = &args.system_map {
        inputs.system_map =
            Some(read(path).map(|bytes| Artifact { name: path.display().to_string(), bytes: bytes.into() })?);
    }
    let vmcoreinfo = args.vmcoreinfo.as_ref().map(read).transpose()?;
    let overrides = Overrides { vmcoreinfo, phys_base: args.phys_base, kaslr: args.kaslr, cr3: args.cr3 };
    let Inputs { dump, vmlinux, system_map, debuginfo, mut notes } = inputs;
    let names = Names {
        dump: dump.iter().map(|file| file.name.as_str()).collect::<Vec<_>>().join(" "),
        vmlinux: vmlinux.as_ref().map(|file| file.name.clone()),
    };
    let opened = kdive_dump::open(Input { files: dump }, &Hints { zero_excluded: args.zero_excluded })?;
    notes.extend(opened.facts.warnings.iter().cloned());
    let beside = vmlinux.as_ref().map(|file| PathBuf::from(&file.name));
    let artifacts = DebugDirectories::new(args.debug_dirs.clone(), beside).with_files(debuginfo);
    let options = OpenOptions {
        overrides,
        debuginfo: Debuginfo { vmlinux, system_map },
        force: args.force,
        no_btf: args.no_btf,
        ..OpenOptions::default()
    };
    let kernel = Kernel::open(opened, options, Arc::new(artifacts))?;
    Ok(Opened { kernel, names, notes })
}

fn read(path: &PathBuf) -> Result<Vec<u8>, OpenFailure> {
    std::fs::read(path).map_err(|source| OpenFailure::Read { path: path.clone(), source })
}
