//! Why the files given cannot be used.

use std::io;
use std::path::Path;

use kdive_dump::Kind;

/// The files given cannot be used. Each message is one line: the file, what it is, and what to give instead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The operating system failed to open or read a file.
    #[error("{name}: {}", describe(.source))]
    Io {
        /// The file.
        name: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// A pipe, a terminal, a character device.
    #[error("{name} cannot be read by offset: copy it into a file first")]
    NotSeekable {
        /// The file.
        name: String,
    },
    /// A file that is of no use here.
    #[error("{name} is {}: {}", .kind.description(), .kind.advice())]
    Useless {
        /// The file.
        name: String,
        /// What it is.
        kind: Kind,
    },
    /// Nothing given is a dump.
    #[error("{name} is {}, and no dump was given: {}", .kind.description(), .kind.advice())]
    NoDump {
        /// The first of the files.
        name: String,
        /// What it is.
        kind: Kind,
    },
    /// No file at all was given.
    #[error("no dump was given: kdive [VMLINUX] VMCORE")]
    Nothing,
    /// Two files for one purpose.
    #[error("{first} and {second} are both {what}: give one of them")]
    Twice {
        /// The first.
        first: String,
        /// The second.
        second: String,
        /// What both are.
        what: String,
    },
    /// A directory without a dump in it.
    #[error("{name} is a directory without a vmcore in it{}", .found.as_ref().map(|found| format!(": {found}")).unwrap_or_default())]
    EmptyCapture {
        /// The directory.
        name: String,
        /// What is in it instead, and what to do.
        found: Option<String>,
    },
    /// A package or an image without a vmlinux in it.
    #[error("{name}: {why}")]
    NoVmlinux {
        /// The file.
        name: String,
        /// What it is, and where to look instead.
        why: String,
    },
    /// A compressed file that does not unpack.
    #[error("{name}: unpacking it as {tool} failed: {why}")]
    Unpack {
        /// The file.
        name: String,
        /// The compression.
        tool: &'static str,
        /// What went wrong.
        why: String,
    },
}

impl FetchError {
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { name: path.display().to_string(), source }
    }
}

/// The system's words without Rust's `(os error 2)`.
fn describe(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file or directory".into(),
        io::ErrorKind::PermissionDenied => "permission denied".into(),
        io::ErrorKind::IsADirectory => "is a directory".into(),
        _ => error.to_string(),
    }
}
