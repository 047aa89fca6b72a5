//! Logs found by their structure in any bytes: a dump that was cut, overwritten or lost its header, a raw image, a disk.
//!
//! Neither symbols nor types are needed, nor an order of the pages beyond a log's own. Three forms are known:
//!
//! - the ring buffer of 5.10 and later: arrays of `printk_info` and `prb_desc`, and blocks of text that begin with the id
//!   of their descriptor. Each of the three is found alone. Infos and blocks belong together by number: a record's sequence
//!   number is its descriptor's id less the id that the ring began with;
//! - the records of 3.5 to 5.9: headers whose lengths add up, one after the other;
//! - before that, lines that begin with `<level>`.
//!
//! One pass over the bytes, on all processors, with a few cheap tests for each word ([`seeds`]). Memory is bounded by
//! [`MAX_ITEMS`]. Structures of 64-bit little-endian kernels only.
//!
//! Reference: kernel/printk/printk_ringbuffer.[ch], Documentation/admin-guide/kdump/vmcoreinfo.rst.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

mod items;
mod logs;
mod seeds;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use kdive_base::{Cancel, Cancelled, PhysAddr, ReadAt};
use kdive_dump::{PhysicalMemory, RunState, Window};
use memchr::memmem;
use rayon::prelude::*;

pub use logs::{Form, Log};

use items::{Block, Desc, Header, INFO_LAYOUTS, Info, Item, Line};
use seeds::Seed;

/// Bytes that one processor looks at at a time.
const SEGMENT: u64 = 4 << 20;
/// Bytes behind a segment that are read with it.
const OVERLAP: u64 = 16 << 10;
/// How far behind its segment a run is followed: the next segment finds its rest.
const BEYOND: u64 = 64 << 10;
/// Things of one kind that are kept, over the whole file. The largest logs have less: `log_buf_len=32M` has a million.
const MAX_ITEMS: usize = 1 << 21;
/// Holes in memory that are shorter are read as zeros; longer ones are jumped over.
const MIN_HOLE: u64 = 1 << 20;
/// Releases of kernels that are told.
const MAX_RELEASES: usize = 8;

/// Bytes to look through.
pub struct Pile<'a> {
    bytes: &'a dyn ReadAt,
    spans: Vec<Range<u64>>,
    /// Whether the structures may lie at odd offsets: in a file that lost some bytes at its front.
    any_alignment: bool,
}

impl<'a> Pile<'a> {
    /// All bytes of a file.
    #[must_use]
    pub fn file(bytes: &'a dyn ReadAt) -> Self {
        Self { bytes, spans: std::iter::once(0..bytes.len()).collect(), any_alignment: true }
    }

    /// The memory of a dump, by physical addresses.
    ///
    /// # Errors
    /// When `cancel` is set.
    pub fn memory(memory: &'a MemoryBytes<'a>, cancel: &Cancel) -> Result<Self, Cancelled> {
        let mut spans: Vec<Range<u64>> = Vec::new();
        let mut at = PhysAddr(0);
        while let Some(run) = memory.0.next_run(at) {
            cancel.check()?;
            let end = run.start.0.saturating_add(run.bytes);
            if run.state == RunState::Present {
                match spans.last_mut() {
                    Some(last) if run.start.0.saturating_sub(last.end) < MIN_HOLE => last.end = end,
                    _ => spans.push(run.start.0..end),
                }
            }
            if end <= at.0 || end == u64::MAX {
                break;
            }
            at = PhysAddr(end);
        }
        Ok(Self { bytes: memory, spans, any_alignment: false })
    }

    /// Bytes to look through.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.spans.iter().fold(0, |sum, span| sum.saturating_add(span.end.saturating_sub(span.start)))
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes themselves, to read records from.
    #[must_use]
    pub fn bytes(&self) -> &'a dyn ReadAt {
        self.bytes
    }
}

/// Physical memory as a file: what is missing reads as zeros.
pub struct MemoryBytes<'a>(pub &'a dyn PhysicalMemory);

impl ReadAt for MemoryBytes<'_> {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> std::io::Result<usize> {
        let mut done = 0_usize;
        while let Some(rest) = into.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let at = PhysAddr(offset.saturating_add(done as u64));
            let wanted = rest.len();
            let (count, missing) = self.0.read(at, rest);
            done = done.saturating_add(count.min(wanted));
            if missing.is_none() && count >= wanted {
                break;
            }
            // The rest of the page that is missing.
            let here = PhysAddr(offset.saturating_add(done as u64));
            let page = kdive_base::PAGE_SIZE.saturating_sub(here.page_offset()) as usize;
            let rest = into.get_mut(done..).unwrap_or_default();
            let count = page.min(rest.len());
            rest.get_mut(..count).unwrap_or_default().fill(0);
            done = done.saturating_add(count);
        }
        Ok(done)
    }

    fn len(&self) -> u64 {
        u64::MAX
    }
}

/// What was found.
#[derive(Debug, Default)]
pub struct Carved {
    /// The logs, the fullest first.
    pub logs: Vec<Log>,
    /// Releases that VMCOREINFO texts in the bytes name (`OSRELEASE=`).
    pub releases: Vec<String>,
    /// Bytes that could not be read.
    pub unread: u64,
    /// More was found than is kept.
    pub limited: bool,
}

/// Looks through all bytes. `progress` gets the bytes looked at so far, from several threads.
///
/// # Errors
/// When `cancel` is set.
pub fn carve(pile: &Pile<'_>, cancel: &Cancel, progress: &(dyn Fn(u64) + Sync)) -> Result<Carved, Cancelled> {
    let mut found = pass(pile, 0, cancel, progress)?;
    // Structures lie at multiples of four in memory and in the files of dumpers. Where there are none, the front of the
    // file may be lost.
    for shift in 1..4 {
        if !pile.any_alignment || !found.is_bare() {
            break;
        }
        found = pass(pile, shift, cancel, progress)?;
    }
    let Found { infos, descs, blocks, headers, lines, releases, unread, limited } = found;
    let logs = logs::assemble(pile.bytes, infos, descs, blocks, headers, lines);
    Ok(Carved { logs, releases, unread, limited })
}

/// One pass over the bytes, for structures at offsets that leave `shift` modulo 4.
fn pass(
    pile: &Pile<'_>,
    shift: u64,
    cancel: &Cancel,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Found, Cancelled> {
    let done = AtomicU64::new(0);
    let mut segments = Vec::new();
    for span in &pile.spans {
        let mut at = span.start.saturating_add(shift);
        while at < span.end {
            let end = at.saturating_add(SEGMENT).min(span.end);
            segments.push(at..end);
            at = end;
        }
    }
    let bytes = (SEGMENT.saturating_add(OVERLAP)) as usize;
    let mut found = segments
        .par_iter()
        .map_init(
            || vec![0; bytes],
            |buffer, segment| {
                cancel.check()?;
                let found = look(pile.bytes, segment, buffer);
                let length = segment.end.saturating_sub(segment.start);
                progress(done.fetch_add(length, Ordering::Relaxed).saturating_add(length));
                Ok(found)
            },
        )
        .try_reduce(Found::default, |mut all, more| {
            all.add(more);
            Ok(all)
        })?;
    found.join();
    Ok(found)
}

/// Things of one kind that lie one after the other.
type RunOf<T> = Vec<T>;

/// What a stretch of bytes holds.
#[derive(Debug, Default)]
struct Found {
    infos: Vec<RunOf<Info>>,
    descs: Vec<RunOf<Desc>>,
    blocks: Vec<RunOf<Block>>,
    headers: Vec<RunOf<Header>>,
    lines: Vec<RunOf<Line>>,
    releases: Vec<String>,
    unread: u64,
    limited: bool,
}

impl Found {
    fn add(&mut self, more: Self) {
        self.limited |= more.limited;
        self.unread = self.unread.saturating_add(more.unread);
        keep(&mut self.infos, more.infos, &mut self.limited);
        keep(&mut self.descs, more.descs, &mut self.limited);
        keep(&mut self.blocks, more.blocks, &mut self.limited);
        keep(&mut self.headers, more.headers, &mut self.limited);
        keep(&mut self.lines, more.lines, &mut self.limited);
        for release in more.releases {
            if self.releases.len() < MAX_RELEASES && !self.releases.contains(&release) {
                self.releases.push(release);
            }
        }
    }

    /// Joins runs that a segment's end had cut.
    fn join(&mut self) {
        join(&mut self.infos);
        join(&mut self.descs);
        join(&mut self.blocks);
        join(&mut self.headers);
        join(&mut self.lines);
    }

    /// Whether no form of log is in it.
    fn is_bare(&self) -> bool {
        self.infos.is_empty() && self.blocks.is_empty() && self.headers.is_empty() && self.lines.is_empty()
    }
}

fn keep<T>(runs: &mut Vec<RunOf<T>>, more: Vec<RunOf<T>>, limited: &mut bool) {
    let mut count: usize = runs.iter().map(Vec::len).fold(0, usize::saturating_add);
    for run in more {
        count = count.saturating_add(run.len());
        if count > MAX_ITEMS {
            *limited = true;
            return;
        }
        runs.push(run);
    }
}

fn join<T: Item>(runs: &mut Vec<RunOf<T>>) {
    runs.sort_by_key(|run| run.first().map_or(0, Item::at));
    let mut joined: Vec<RunOf<T>> = Vec::with_capacity(runs.len());
    for mut run in runs.drain(..) {
        let Some(last) = joined.last_mut() else {
            joined.push(run);
            continue;
        };
        let end = last.last().map_or(0, Item::end);
        let starts = run.first().map_or(0, Item::at);
        if starts <= end {
            // Both saw the same things from different sides; a part that only overlaps is of another phase.
            run.retain(|item| item.at() >= end);
            if run.first().is_some_and(|first| first.at() == end) {
                last.append(&mut run);
                continue;
            }
        }
        if !run.is_empty() {
            joined.push(run);
        }
    }
    *runs = joined;
}

/// A segment's bytes, in memory, over the rest of the file.
struct Near<'a> {
    file: &'a dyn ReadAt,
    start: u64,
    near: &'a [u8],
}

impl ReadAt for Near<'_> {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> std::io::Result<usize> {
        let at = offset.checked_sub(self.start).and_then(|at| usize::try_from(at).ok());
        let near = at.and_then(|at| self.near.get(at..)).unwrap_or_default();
        if near.is_empty() {
            return self.file.read_at(offset, into);
        }
        let count = near.len().min(into.len());
        into.iter_mut().zip(near).for_each(|(to, from)| *to = *from);
        Ok(count)
    }

    fn len(&self) -> u64 {
        self.file.len()
    }
}

/// Ends of the runs found so far, by kind: what lies in them is not looked at again.
#[derive(Default)]
struct Passed {
    infos: [u64; INFO_LAYOUTS.len()],
    descs: u64,
    blocks: u64,
    headers: u64,
    lines: u64,
}

/// Looks through one segment.
fn look(file: &dyn ReadAt, segment: &Range<u64>, buffer: &mut [u8]) -> Found {
    let mut found = Found::default();
    let length = segment.end.saturating_sub(segment.start);
    let wanted = usize::try_from(length.saturating_add(OVERLAP)).unwrap_or(usize::MAX).min(buffer.len());
    let into = buffer.get_mut(..wanted).unwrap_or_default();
    let count = match file.read_full_at(segment.start, into) {
        Ok(count) => count,
        Err(_) => {
            found.unread = length;
            return found;
        }
    };
    let near = buffer.get(..count).unwrap_or_default();
    let around = Near { file, start: segment.start, near };
    let mut window = Window::new(&around, 8 << 10);
    let stop = segment.end.saturating_add(BEYOND);
    let owned = usize::try_from(length).unwrap_or(usize::MAX).min(count);
    let mut passed = Passed::default();
    seeds::find(near, owned, |seed, at| {
        let at = segment.start.saturating_add(at as u64);
        match seed {
            Seed::Info(layout) => {
                let end = passed.infos.get_mut(layout);
                push(&mut found.infos, end, at, |at| items::infos(&mut window, at, stop, layout));
            }
            Seed::Desc => {
                push(&mut found.descs, Some(&mut passed.descs), at, |at| items::descs(&mut window, at, stop))
            }
            Seed::Block => {
                push(&mut found.blocks, Some(&mut passed.blocks), at, |at| {
                    items::blocks(&mut window, at, stop)
                });
            }
            Seed::Header => {
                push(&mut found.headers, Some(&mut passed.headers), at, |at| {
                    items::headers(&mut window, at, stop)
                });
            }
        }
    });
    for at in memmem::find_iter(near.get(..owned.saturating_add(1).min(count)).unwrap_or_default(), b"\n<") {
        let level = near.get(at.saturating_add(2)..at.saturating_add(4)).unwrap_or_default();
        if matches!(level, [b'0'..=b'9', b'>' | b'0'..=b'9']) {
            let at = segment.start.saturating_add(at as u64).saturating_add(1);
            push(&mut found.lines, Some(&mut passed.lines), at, |at| items::lines(&mut window, at, stop));
        }
    }
    found.releases = releases(near);
    found
}

fn push<T: Item>(
    runs: &mut Vec<RunOf<T>>,
    passed: Option<&mut u64>,
    at: u64,
    run: impl FnOnce(u64) -> RunOf<T>,
) {
    let Some(passed) = passed.filter(|passed| **passed <= at) else { return };
    let run = run(at);
    if let Some(last) = run.last() {
        *passed = last.end();
        runs.push(run);
    }
}

/// `OSRELEASE=` at the beginning of a VMCOREINFO text.
fn releases(bytes: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"OSRELEASE=";
    let mut releases: Vec<String> = Vec::new();
    for at in memmem::find_iter(bytes, KEY) {
        let text = bytes.get(at.saturating_add(KEY.len())..).unwrap_or_default();
        let line = text.iter().take(65).position(|&byte| byte == b'\n').and_then(|end| text.get(..end));
        let Some(line) = line.filter(|line| line.first().is_some_and(u8::is_ascii_digit)) else { continue };
        let next = text.get(line.len()..).unwrap_or_default();
        let is_note = next.starts_with(b"\nBUILD-ID=") || next.starts_with(b"\nPAGESIZE=");
        if is_note && line.iter().all(u8::is_ascii_graphic) && releases.len() < MAX_RELEASES {
            let release = String::from_utf8_lossy(line).into_owned();
            if !releases.contains(&release) {
                releases.push(release);
            }
        }
    }
    releases
}
