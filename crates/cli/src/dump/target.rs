//! Where the bytes of a dump go.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, IsTerminal as _, Seek as _, SeekFrom};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use kdive_dump::write::{FlattenedSink, LimitedSink, PlainSink, Sink, VoidSink};

/// A place to write to.
#[derive(Debug)]
pub(super) enum Target {
    /// A file.
    File { path: PathBuf, file: File },
    /// Standard output, flattened.
    Stream(File),
    /// Nowhere: what would be written is counted.
    Nowhere,
}

/// Why there is no place.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoTarget {
    #[error("{}: it exists\nhint: give another name, or --overwrite", .0.display())]
    Exists(PathBuf),
    #[error("{}: {source}", .path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{}: it is the dump that is read", .0.display())]
    IsInput(PathBuf),
    #[error("a dump on a terminal helps nobody: give a file, or send standard output to one")]
    Terminal,
}

impl Target {
    /// Opens a file to write that is none of `inputs`, or standard output for `-`.
    pub(super) fn open(path: &Path, overwrite: bool, inputs: &[PathBuf]) -> Result<Self, NoTarget> {
        let failed = |source| NoTarget::Io { path: path.to_owned(), source };
        if path == Path::new("-") {
            let stdout = io::stdout();
            if stdout.is_terminal() {
                return Err(NoTarget::Terminal);
            }
            // Rust's own standard output looks for line ends in what it is given.
            return Ok(Self::Stream(stdout.as_fd().try_clone_to_owned().map_err(failed)?.into()));
        }
        let real = path.canonicalize().ok();
        if real.is_some() && inputs.iter().any(|input| input.canonicalize().ok() == real) {
            return Err(NoTarget::IsInput(path.to_owned()));
        }
        let mut options = OpenOptions::new();
        // A dump is full of secrets.
        options.read(true).write(true).mode(0o600);
        if overwrite {
            options.create(true).truncate(true)
        } else {
            options.create_new(true)
        };
        match options.open(path) {
            Ok(file) => Ok(Self::File { path: path.to_owned(), file }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(NoTarget::Exists(path.to_owned()))
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// Its name, in reports.
    pub(super) fn name(&self) -> String {
        match self {
            Self::File { path, .. } => path.display().to_string(),
            Self::Stream(_) => "-".into(),
            Self::Nowhere => "(nothing is written)".into(),
        }
    }

    /// What takes bytes one after the other, if anything does.
    pub(super) fn writer(&mut self) -> Option<&mut File> {
        match self {
            Self::File { file, .. } | Self::Stream(file) => Some(file),
            Self::Nowhere => None,
        }
    }

    /// Whether what was written to it can be taken back.
    pub(super) fn can_start_over(&self) -> bool {
        matches!(self, Self::File { .. } | Self::Nowhere)
    }

    /// Hands a sink for one dump to `write`. What an earlier one left is gone.
    pub(super) fn with_sink<R>(
        &mut self,
        limit: Option<u64>,
        write: impl FnOnce(&mut dyn Sink) -> R,
    ) -> io::Result<R> {
        let limited = |sink: &mut dyn Sink| match limit {
            Some(limit) => write(&mut LimitedSink::new(sink, limit)),
            None => write(sink),
        };
        Ok(match self {
            Self::File { file, .. } => {
                file.set_len(0)?;
                file.seek(SeekFrom::Start(0))?;
                limited(&mut PlainSink::new(&mut *file))
            }
            Self::Stream(file) => limited(&mut FlattenedSink::new(BufWriter::with_capacity(1 << 20, file))?),
            Self::Nowhere => limited(&mut VoidSink),
        })
    }
}
