//! Writers of dumps.
//!
//! A writer takes any [`PhysicalMemory`](crate::PhysicalMemory) and a [`Plan`], which says which of its pages are written:
//! filtering, trimming, converting and splitting are the same thing. It writes through a [`Sink`], by offset, which is what
//! makes flattened output possible.
//!
//! Design constraints:
//! - Memory is bounded, whatever the size of the machine: a plan forgets what does not fit and asks again.
//! - Pages are read and compressed on all threads of the pool that the caller runs in, and written in order.
//! - At every moment the output is a dump that says it is incomplete, and opens: the header says so until all else is
//!   written, a stream by its end mark. A full disk, a closed pipe and a killed process leave that.

mod elf;
mod frames;
mod kdump;
mod pack;
mod pages;
mod plan;
mod sealed;
mod sink;

use kdive_base::{Cancel, Cancelled};

pub use crate::seal::Sign;
pub use elf::write_elf;
pub use frames::{FrameSet, Frames};
pub use kdump::{KdumpOptions, write_kdump};
pub use pack::Compression;
pub use plan::{Keep, Plan};
pub use sealed::{EncryptedSink, seal_of};
pub use sink::{FlattenedSink, LimitedSink, PlainSink, Sink, VoidSink};

/// Bytes of the pages that are written.
const PAGE: usize = kdive_base::PAGE_SIZE as usize;

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Pages whose contents are in the new file, those of zeros included.
    pub pages: u64,
    /// Those of them that are all zeros: a kdump-compressed file has them once.
    pub zero: u64,
    /// Pages that should be there but could not be read. A kdump-compressed file marks them as excluded, an ELF core has
    /// zeros in their place.
    pub unreadable: u64,
    /// Bytes of the new file.
    pub bytes: u64,
}

/// Why writing stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The operating system failed to write.
    #[error("writing the dump failed: {0}")]
    Io(#[from] std::io::Error),
    /// The user stopped it.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    /// The format cannot hold it.
    #[error("the dump cannot be written: {0}")]
    TooBig(&'static str),
}

/// How a dump is written, whatever its format.
#[derive(Clone, Copy)]
pub struct Control<'a> {
    /// Stops the writing.
    pub cancel: &'a Cancel,
    /// Told of pages done, and of how many there are.
    pub progress: &'a (dyn Fn(u64, u64) + Sync),
    /// Bytes that plan and buffers may take together.
    pub memory: usize,
}

impl<'a> Control<'a> {
    /// Bytes that a plan and the buffers of writing take unless told otherwise.
    pub const MEMORY: usize = 32 << 20;

    /// Without a word of progress.
    #[must_use]
    pub fn new(cancel: &'a Cancel) -> Self {
        Self { cancel, progress: &|_, _| (), memory: Self::MEMORY }
    }

    /// Bytes for which pages in compression may wait to be written.
    fn buffers(&self) -> usize {
        self.memory / 2
    }

    /// Bytes for what a plan remembers.
    fn plan(&self) -> usize {
        self.memory / 2
    }
}
