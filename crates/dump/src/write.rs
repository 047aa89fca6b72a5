//! Writers of dumps: for fixtures, trimming and tests.
//!
//! A writer takes any [`PhysicalMemory`] and a filter of pages, so that trimming and converting are the same thing. It
//! writes through a [`Sink`], by offset, which is what makes flattened output possible.

mod elf;
mod kdump;
mod sink;

use std::ops::Range;

use kdive_base::{Pfn, PhysAddr, Why};

pub use elf::write_elf;
pub use kdump::{Compression, KdumpOptions, write_kdump};
pub use sink::{FlattenedSink, PlainSink, Sink};

use crate::memory::{PhysicalMemory, RunState};

/// Bytes of the pages that are written.
const PAGE: usize = kdive_base::PAGE_SIZE as usize;

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Pages whose contents are in the new file.
    pub pages: u64,
    /// Pages that should be there but could not be read. A kdump-compressed file marks them as excluded, an ELF core has
    /// zeros in their place.
    pub unreadable: u64,
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
    Cancelled(#[from] kdive_base::Cancelled),
    /// The format cannot hold it.
    #[error("the dump cannot be written: {0}")]
    TooBig(&'static str),
}

/// What to do with the pages of a range.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    NoRam,
    LeftOut,
    Kept,
}

/// Ranges of pages with the same fate, in order, from the runs of `memory`. A page that is only partly there counts by its
/// first byte.
fn fates<'a>(
    memory: &'a dyn PhysicalMemory,
    keep: &'a dyn Fn(Pfn) -> bool,
) -> impl Iterator<Item = (Range<u64>, Fate)> + 'a {
    let mut at = Some(0_u64);
    let runs = std::iter::from_fn(move || {
        let run = memory.next_run(PhysAddr(at?))?;
        at = run.start.0.checked_add(run.bytes);
        let end = run.start.0.saturating_add(run.bytes);
        Some((run.start.0.div_ceil(PAGE as u64)..end.div_ceil(PAGE as u64), run.state))
    });
    runs.flat_map(move |(pages, state)| {
        let mut next = pages.start;
        std::iter::from_fn(move || {
            let start = next;
            let fate = |pfn| match state {
                RunState::Missing(Why::NeverPresent) => Fate::NoRam,
                RunState::Missing(_) => Fate::LeftOut,
                RunState::Present if keep(Pfn(pfn)) => Fate::Kept,
                RunState::Present => Fate::LeftOut,
            };
            if start >= pages.end {
                return None;
            }
            let first = fate(start);
            // Only the filter can change its mind within a run.
            next = match state {
                RunState::Present => (start..pages.end).find(|&pfn| fate(pfn) != first).unwrap_or(pages.end),
                RunState::Missing(_) => pages.end,
            };
            Some((start..next, first))
        })
    })
}
