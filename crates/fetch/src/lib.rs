//! The only crate below the hosts that opens files: dumps, debuginfo, and the directories where debuginfo lies.
//!
//! Design constraints:
//! - Dumps are read by offset ([`FileSource`]): a mapped dump counts as resident memory, and a truncated one is a
//!   SIGBUS. Debuginfo is mapped ([`map`]): it is large, random access, and complete on a healthy system.
//! - What a file is, its content says ([`sort`]); names and the order on a command line mean nothing.
//! - Knows nothing of kernels: it answers [`Want`](kdive_target::Want)s.
//!
//! A new place to look for debuginfo goes into [`DebugDirectories`]; a new compression into `unpack`,
//! a new thing that holds a vmlinux into `vmlinux`.

mod archive;
mod artifacts;
mod blocks;
mod capture;
mod error;
mod file;
mod inputs;
mod mmap;
mod tree;
mod unpack;
mod vmlinux;

pub use artifacts::DebugDirectories;
pub use error::FetchError;
pub use file::FileSource;
pub use inputs::{Inputs, log_alone, sort};
pub use mmap::map;
pub use vmlinux::{NoVmlinux, Vmlinux, vmlinux};
