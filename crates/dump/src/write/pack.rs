//! Reads and compresses pages on all threads, and hands them on in order.

use std::cell::RefCell;
use std::ops::Range;

use kdive_base::PhysAddr;
use libdeflater::CompressionLvl;
use rayon::prelude::*;

use super::plan::Turn;
use super::{Control, PAGE, Plan, WriteError};
use crate::kdump::header::{SNAPPY, ZLIB, ZSTD};
use crate::memory::PhysicalMemory;

/// How pages are compressed. A page that does not get smaller is kept as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// zlib, level 0 to 12 of libdeflate, which compresses a page at a time four times as fast as zlib.
    Zlib(u32),
    /// Snappy, which has no levels.
    Snappy,
    /// zstd, level 1 to 22. Readers before makedumpfile 1.7.0 and crash 8.0 lack it.
    Zstd(i32),
}

impl Compression {
    /// The flag of headers and page descriptors.
    pub(super) fn flag(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Zlib(_) => ZLIB,
            Self::Snappy => SNAPPY,
            Self::Zstd(_) => ZSTD,
        }
    }
}

/// Pages that one thread takes at a time.
const GROUP: u64 = 64;
const GROUP_BYTES: usize = GROUP as usize * PAGE;

/// How a page came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// So many bytes, compressed or as they are.
    Stored { bytes: u32, compressed: bool },
    /// All zeros: nothing is stored.
    Zero,
    /// It could not be read.
    Unreadable,
}

/// Some pages, in order.
#[derive(Default)]
pub(super) struct Packed {
    /// Each page and how it came out.
    pub(super) entries: Vec<(u64, Entry)>,
    /// What is stored of them, end to end.
    pub(super) bytes: Vec<u8>,
}

/// Reads and compresses the pages of `within` that have their turn and hands them to `write` in order. While some are
/// written, the next are compressed. `done` counts pages, for progress.
pub(super) fn each_packed(
    plan: &Plan<'_>,
    (within, turn): (&Range<u64>, Turn),
    done: &mut u64,
    compression: Compression,
    control: &Control<'_>,
    mut write: impl FnMut(Packed) -> Result<(), WriteError> + Send,
) -> Result<(), WriteError> {
    // One batch is compressed while one is written.
    let together = (control.buffers() / GROUP_BYTES / 2).max(1);
    let total = plan.count(within);
    let mut groups = Groups { plan, within: within.clone(), turn, gib: 0, runs: Vec::new() };
    let mut ready: Vec<Packed> = Vec::new();
    loop {
        control.cancel.check()?;
        let batch: Vec<Vec<Range<u64>>> = groups.by_ref().take(together).collect();
        if batch.is_empty() && ready.is_empty() {
            return Ok(());
        }
        let pages: u64 = batch.iter().flatten().fold(0, |sum, run| sum.saturating_add(length(run)));
        let last = std::mem::take(&mut ready);
        let (written, packed) = rayon::join(
            || last.into_iter().try_for_each(&mut write),
            || batch.par_iter().map(|runs| pack(plan.memory, runs, compression)).collect(),
        );
        written?;
        ready = packed;
        *done = done.saturating_add(pages);
        (control.progress)(*done, total);
    }
}

fn length(run: &Range<u64>) -> u64 {
    run.end.saturating_sub(run.start)
}

/// Cuts the pages of a plan into groups of [`GROUP`] pages.
struct Groups<'a> {
    plan: &'a Plan<'a>,
    within: Range<u64>,
    turn: Turn,
    gib: u64,
    /// Runs of the current GiB, the next one last.
    runs: Vec<Range<u64>>,
}

impl Iterator for Groups<'_> {
    type Item = Vec<Range<u64>>;

    fn next(&mut self) -> Option<Self::Item> {
        let (mut group, mut room) = (Vec::new(), GROUP);
        while room > 0 {
            let Some(run) = self.runs.pop() else {
                // A group may reach from one GiB into the next.
                if self.gib >= self.plan.gib_count() {
                    break;
                }
                self.runs = self.plan.runs(self.gib, &self.within, self.turn);
                self.runs.reverse();
                self.gib = self.gib.saturating_add(1);
                continue;
            };
            let taken = run.start..run.end.min(run.start.saturating_add(room));
            if taken.end < run.end {
                self.runs.push(taken.end..run.end);
            }
            room = room.saturating_sub(length(&taken));
            group.push(taken);
        }
        Some(group).filter(|group| !group.is_empty())
    }
}

/// The state of the compressors that have one, and a buffer: each thread keeps its own and uses them for every page.
struct Compressors {
    output: Vec<u8>,
    zlib: Option<(u32, libdeflater::Compressor)>,
    zstd: Option<(i32, zstd::bulk::Compressor<'static>)>,
    snappy: snap::raw::Encoder,
}

thread_local! {
    static COMPRESSORS: RefCell<Compressors> = RefCell::new(Compressors {
        output: Vec::new(),
        zlib: None,
        zstd: None,
        snappy: snap::raw::Encoder::new(),
    });
}

fn pack(memory: &dyn PhysicalMemory, runs: &[Range<u64>], compression: Compression) -> Packed {
    let mut packed = Packed::default();
    let mut input = vec![0; GROUP_BYTES];
    for run in runs {
        let mut pfn = run.start;
        while pfn < run.end {
            let left = usize::try_from(run.end.saturating_sub(pfn)).unwrap_or(0).saturating_mul(PAGE);
            let into = input.get_mut(..left.min(GROUP_BYTES)).unwrap_or_default();
            let wanted = into.len();
            let (read, _) = memory.read(PhysAddr(pfn.saturating_mul(PAGE as u64)), into);
            for page in into.get(..read).unwrap_or_default().chunks_exact(PAGE) {
                packed.page(pfn, page, compression);
                pfn = pfn.saturating_add(1);
            }
            if read < wanted {
                packed.entries.push((pfn, Entry::Unreadable));
                pfn = pfn.saturating_add(1);
            }
        }
    }
    packed
}

impl Packed {
    fn page(&mut self, pfn: u64, page: &[u8], compression: Compression) {
        let entry = if is_zero(page) {
            Entry::Zero
        } else {
            COMPRESSORS.with_borrow_mut(|compressors| match compressors.compress(page, compression) {
                Some(packed) => {
                    self.bytes.extend_from_slice(packed);
                    Entry::Stored { bytes: u32::try_from(packed.len()).unwrap_or(0), compressed: true }
                }
                None => {
                    self.bytes.extend_from_slice(page);
                    Entry::Stored { bytes: PAGE as u32, compressed: false }
                }
            })
        };
        self.entries.push((pfn, entry));
    }
}

/// Whether a page is all zeros: most that are not show it in their first bytes.
pub(super) fn is_zero(page: &[u8]) -> bool {
    page.chunks(64).all(|line| line.iter().fold(0, |all, byte| all | byte) == 0)
}

impl Compressors {
    /// A page compressed; `None` if it does not get smaller.
    fn compress(&mut self, page: &[u8], compression: Compression) -> Option<&[u8]> {
        let Self { output, zlib, zstd, snappy } = self;
        // What does not fit is not smaller. Snappy asks for room for the worst case.
        output.resize(snap::raw::max_compress_len(page.len()), 0);
        let smaller = page.len().saturating_sub(1);
        let bytes = match compression {
            Compression::None => return None,
            Compression::Zlib(level) => {
                let state = match zlib {
                    Some((known, state)) if *known == level => state,
                    other => {
                        let level_of = CompressionLvl::new(level.min(12).cast_signed()).unwrap_or_default();
                        &mut other.insert((level, libdeflater::Compressor::new(level_of))).1
                    }
                };
                state.zlib_compress(page, output.get_mut(..smaller)?).ok()?
            }
            Compression::Snappy => snappy.compress(page, output).ok()?,
            Compression::Zstd(level) => {
                let state = match zstd {
                    Some((known, state)) if *known == level => state,
                    other => &mut other.insert((level, zstd::bulk::Compressor::new(level).ok()?)).1,
                };
                state.compress_to_buffer(page, output.get_mut(..smaller)?).ok()?
            }
        };
        output.get(..bytes).filter(|packed| packed.len() < page.len())
    }
}
