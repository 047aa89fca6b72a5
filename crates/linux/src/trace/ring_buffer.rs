//! The ring buffers of tracing: a ring of pages for each processor (kernel/trace/ring_buffer.c).
//!
//! A writer fills pages up to the commit page. A reader swaps the oldest page, the head, for its own page: that one holds
//! what is older than all others. The link to the head page is marked in its two low bits.

use std::iter::Peekable;

use kdive_base::{Endian, PAGE_SIZE, VirtAddr};
use kdive_target::{Field, Kernel, Lacks, Load};
use rustc_hash::FxHashSet;
use serde::Serialize;

#[derive(Load)]
#[load(type = "trace_buffer", type = "ring_buffer")]
struct RawBuffer {
    buffers: Field<VirtAddr>,
    record_disabled: Field<u32>,
    subbuf_order: Field<u32>,
}

#[derive(Load)]
#[load(type = "ring_buffer_per_cpu")]
struct RawCpu {
    record_disabled: Field<u32>,
    nr_pages: Field<u64>,
    pages: Field<VirtAddr>,
    head_page: Field<VirtAddr>,
    commit_page: Field<VirtAddr>,
    reader_page: Field<VirtAddr>,
    entries: Field<u64>,
    overrun: Field<u64>,
    dropped_events: Field<u64>,
    read: Field<u64>,
}

#[derive(Load)]
#[load(type = "buffer_page")]
struct RawPage {
    #[load(any("list.next"))]
    next: Field<u64>,
    read: Field<u32>,
    page: Field<VirtAddr>,
}

#[derive(Load)]
#[load(type = "buffer_data_page")]
struct RawData {
    time_stamp: Field<u64>,
    commit: Field<u64>,
}

/// Marks of a link to a page (`RB_PAGE_HEAD`, `RB_PAGE_UPDATE`).
const LINK_MARKS: u64 = 3;
/// No ring of a processor has more pages (256 GB).
const MOST_PAGES: u64 = 1 << 26;
/// Sub-buffers are at most 64 KiB (`ring_buffer_subbuf_order_set`).
const MOST_ORDER: u32 = 7;
/// Bits of a page's length; above them are flags (`RB_MISSED_EVENTS`).
const COMMIT_BITS: u64 = (1 << 30) - 1;
/// In `record_disabled` of a buffer: switched off through `tracing_on` (`RB_BUFFER_OFF`).
const BUFFER_OFF: u32 = 1 << 20;

/// What a processor's ring holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CpuRing {
    /// The processor.
    pub cpu: u32,
    /// Its `struct ring_buffer_per_cpu`.
    pub ring_buffer_per_cpu: VirtAddr,
    /// Events that can be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entries: Option<u64>,
    /// Events that newer ones overwrote.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overrun: Option<u64>,
    /// Events that found no room, where old ones are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropped: Option<u64>,
    /// Size of its pages together, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Whether it takes no events.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
}

/// The rings of all processors.
#[derive(Clone, Debug)]
pub struct RingBuffer {
    /// By processor.
    pub rings: Vec<CpuRing>,
    /// Whether `tracing_on` is 1.
    pub on: Option<bool>,
    /// Bytes of a page of the ring (a sub-buffer), with its header.
    pub page_bytes: u64,
    /// What could not be told.
    pub lacks: Vec<Lacks>,
}

impl RingBuffer {
    /// The rings of the `struct trace_buffer` at an address.
    ///
    /// # Errors
    /// It is not in the dump, or its layout is not known.
    pub fn load(kernel: &Kernel, at: VirtAddr) -> Field<Self> {
        let raw: RawBuffer = kernel.load(at);
        let table = raw.buffers?;
        let order = raw.subbuf_order.unwrap_or(0).min(MOST_ORDER);
        let page_bytes = PAGE_SIZE << order;
        let loader = kernel.loader::<RawCpu>();
        let mut lacks = Vec::new();
        let mut rings = Vec::new();
        for cpu in kernel.cpus()?.possible.iter() {
            // A processor that never came has no ring.
            let at = match kernel.memory().pointer(table.add(u64::from(cpu).wrapping_mul(8))) {
                Ok(at) if at.is_null() => continue,
                Ok(at) => at,
                Err(missing) => {
                    lacks.push(missing.into());
                    continue;
                }
            };
            let raw = loader.load(at);
            let entries = raw.entries.clone().and_then(|entries| {
                let gone = raw.overrun.clone()?.saturating_add(raw.read.clone()?);
                Ok(entries.saturating_sub(gone))
            });
            rings.push(CpuRing {
                cpu,
                ring_buffer_per_cpu: at,
                entries: entries.ok(),
                overrun: raw.overrun.ok(),
                dropped: raw.dropped_events.ok(),
                bytes: raw.nr_pages.ok().map(|pages| pages.saturating_mul(page_bytes)),
                disabled: raw.record_disabled.ok().map(|times| times > 0),
            });
        }
        let on = raw.record_disabled.ok().map(|value| value & BUFFER_OFF == 0);
        Ok(Self { rings, on, page_bytes, lacks })
    }

    /// The events of some processors, merged by their time as the kernel merges them; what was lost comes as an error.
    pub fn events<'k>(&self, kernel: &'k Kernel, cpus: Option<&[u32]>) -> Merged<CpuEvents<'k>> {
        let wanted = self.rings.iter().filter(|ring| cpus.is_none_or(|cpus| cpus.contains(&ring.cpu)));
        let rings = wanted.map(|ring| {
            let (pages, broken) = pages(kernel, ring.ring_buffer_per_cpu);
            CpuEvents {
                kernel,
                cpu: ring.cpu,
                page_bytes: self.page_bytes,
                pages: pages.into_iter(),
                events: Vec::new().into_iter(),
                broken,
            }
        });
        Merged { rings: rings.map(Iterator::peekable).collect() }
    }
}

impl CpuRing {
    /// Where the pages that hold events are (`struct buffer_data_page`), from the oldest, and what broke the ring.
    #[must_use]
    pub fn pages(&self, kernel: &Kernel) -> (Vec<VirtAddr>, Option<Lacks>) {
        let (pages, broken) = pages(kernel, self.ring_buffer_per_cpu);
        let loader = kernel.loader::<RawPage>();
        (pages.into_iter().filter_map(|page| loader.load(page).page.ok()).collect(), broken)
    }
}

/// The pages that hold events, from the oldest, and what broke the ring.
fn pages(kernel: &Kernel, at: VirtAddr) -> (Vec<VirtAddr>, Option<Lacks>) {
    let mut found = Vec::new();
    let broken = add_pages(kernel, &kernel.load(at), &mut found).err();
    (found, broken)
}

fn add_pages(kernel: &Kernel, raw: &RawCpu, found: &mut Vec<VirtAddr>) -> Field<()> {
    let (commit, reader) = (raw.commit_page.clone()?, raw.reader_page.clone()?);
    let loader = kernel.loader::<RawPage>();
    let next = |page: VirtAddr| loader.load(page).next;
    // Before anything was read, the reader's page is not linked to the ring.
    if next(reader)? != reader.0 {
        found.push(reader);
    }
    if reader == commit {
        return Ok(());
    }
    let most = raw.nr_pages.clone()?.min(MOST_PAGES);
    let mut link = raw.pages.clone()?;
    let mut head = raw.head_page.clone()?;
    let mut seen = FxHashSet::default();
    while seen.insert(link) && (seen.len() as u64) <= most {
        let target = next(link)?;
        if target & LINK_MARKS != 0 {
            head = VirtAddr(target & !LINK_MARKS);
            break;
        }
        link = VirtAddr(target);
    }
    let mut page = head;
    seen.clear();
    while seen.insert(page) && (seen.len() as u64) <= most {
        found.push(page);
        if page == commit {
            return Ok(());
        }
        page = VirtAddr(next(page)? & !LINK_MARKS);
    }
    Err(Lacks::implausible("a trace buffer whose last page is not in its ring"))
}

/// An event as it lies in a ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawEvent {
    /// The processor.
    pub cpu: u32,
    /// When, by the buffer's clock.
    pub time: u64,
    /// The entry (`struct trace_entry` first).
    pub data: Vec<u8>,
}

/// The events of one processor, from the oldest; a page that is lost is an error among them.
pub struct CpuEvents<'k> {
    kernel: &'k Kernel,
    cpu: u32,
    page_bytes: u64,
    pages: std::vec::IntoIter<VirtAddr>,
    events: std::vec::IntoIter<RawEvent>,
    /// What broke the ring, until it was told.
    broken: Option<Lacks>,
}

impl Iterator for CpuEvents<'_> {
    type Item = Field<RawEvent>;

    fn next(&mut self) -> Option<Field<RawEvent>> {
        if let Some(why) = self.broken.take() {
            return Some(Err(why));
        }
        loop {
            if let Some(event) = self.events.next() {
                return Some(Ok(event));
            }
            let page = self.pages.next()?;
            match self.read(page) {
                Ok(events) => self.events = events.into_iter(),
                Err(why) => return Some(Err(why)),
            }
        }
    }
}

impl CpuEvents<'_> {
    fn read(&self, page: VirtAddr) -> Field<Vec<RawEvent>> {
        let raw: RawPage = self.kernel.load(page);
        let (at, read) = (raw.page?, raw.read.unwrap_or(0));
        let data: RawData = self.kernel.load(at);
        let header = self.kernel.offset_of("buffer_data_page", "data")?;
        let length = (data.commit? & COMMIT_BITS).min(self.page_bytes.saturating_sub(header));
        let bytes = self.kernel.memory().bytes(at.add(header), length as usize)?;
        Ok(on_page(&bytes, data.time_stamp?, self.cpu, read as usize))
    }
}

// Types of events (`enum ring_buffer_type`); smaller ones are lengths of data in words.
const PADDING: u32 = 29;
const TIME_EXTEND: u32 = 30;
const TIME_STAMP: u32 = 31;
/// The bits of a time stamp that an absolute one does not have (`TS_MSB`).
const HIGH_TIME: u64 = 0xf8 << 56;

/// The events of a page: `start` is its time stamp; those before the offset `read` were read already.
fn on_page(bytes: &[u8], start: u64, cpu: u32, read: usize) -> Vec<RawEvent> {
    let mut events = Vec::new();
    let (mut time, mut at) = (start, 0_usize);
    while let Some(word) = Endian::Little.u32(bytes, at) {
        let (kind, delta) = (word & 31, u64::from(word >> 5));
        let first = Endian::Little.u32(bytes, at.saturating_add(4)).unwrap_or(0);
        let long = delta.wrapping_add(u64::from(first) << 27);
        let (data, length) = match kind {
            // Nothing more was written on this page.
            PADDING if delta == 0 => break,
            PADDING => (None, first as usize),
            TIME_EXTEND | TIME_STAMP => (None, 4),
            // `array[0]` has the length with itself, and the data follow.
            0 => (Some((8, (first as usize).saturating_sub(4))), first as usize),
            words => (Some((4, words as usize * 4)), words as usize * 4),
        };
        time = match kind {
            TIME_EXTEND => time.wrapping_add(long),
            TIME_STAMP => absolute(long, time),
            _ => time.wrapping_add(delta),
        };
        if let Some((from, length)) = data.filter(|_| at >= read) {
            let from = at.saturating_add(from);
            // Lengths are rounded up to words, on the last bytes of a page too.
            let data = bytes.get(from..from.saturating_add(length).min(bytes.len()));
            events.extend(data.map(|data| RawEvent { cpu, time, data: data.to_vec() }));
        }
        at = at.saturating_add(4).saturating_add(length.next_multiple_of(4));
    }
    events
}

/// A time stamp of 59 bits with the high bits of the last one (`rb_fix_abs_ts`).
fn absolute(stamp: u64, last: u64) -> u64 {
    let whole = stamp | last & HIGH_TIME;
    if last & HIGH_TIME != 0 && whole < last { whole.wrapping_add(1 << 59) } else { whole }
}

/// Events of several rings, merged by time.
pub struct Merged<I: Iterator<Item = Field<RawEvent>>> {
    rings: Vec<Peekable<I>>,
}

impl<I: Iterator<Item = Field<RawEvent>>> Iterator for Merged<I> {
    type Item = Field<RawEvent>;

    fn next(&mut self) -> Option<Field<RawEvent>> {
        let times = self
            .rings
            .iter_mut()
            .map(|ring| ring.peek().map(|event| event.as_ref().map_or(0, |event| event.time)));
        // Of equal times the first processor's, as in the kernel.
        let (first, _) =
            times.enumerate().filter_map(|(at, time)| Some((at, time?))).min_by_key(|of| of.1)?;
        self.rings.get_mut(first)?.next()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event(kind: u32, delta: u32, rest: &[u32]) -> Vec<u8> {
        let words = std::iter::once(delta << 5 | kind).chain(rest.iter().copied());
        words.flat_map(u32::to_le_bytes).collect()
    }

    #[test]
    fn a_page_is_taken_apart() {
        let page: Vec<u8> = [
            event(1, 0, &[0xaaaa]),
            event(TIME_EXTEND, 5, &[1]),
            event(2, 3, &[1, 2]),
            event(PADDING, 1, &[8, 0]),
            event(0, 4, &[12, 7, 8]),
            event(TIME_STAMP, 9, &[0]),
            event(1, 0, &[5]),
            event(PADDING, 0, &[99]),
            event(1, 0, &[6]),
        ]
        .concat();
        let events = on_page(&page, 100, 3, 0);
        let found: Vec<_> = events.iter().map(|event| (event.time, event.data.len())).collect();
        let extended = 100 + 5 + (1 << 27) + 3;
        assert_eq!(found, [(100, 4), (extended, 8), (extended + 1 + 4, 8), (9, 4)]);
        assert_eq!(on_page(&page, 100, 3, 12).len(), 3, "the first one was read");
    }

    #[test]
    fn an_absolute_stamp_keeps_the_high_bits() {
        assert_eq!(absolute(5, 3), 5);
        assert_eq!(absolute(5, 1 << 59 | 3), 1 << 59 | 5);
        assert_eq!(absolute(2, 1 << 59 | 3), (2 << 59) | 2, "it wrapped");
    }

    #[test]
    fn rings_are_merged_by_time() {
        let ring = |cpu: u32, times: &[u64]| {
            let events = times.iter().map(move |&time| Ok(RawEvent { cpu, time, data: Vec::new() }));
            events.collect::<Vec<_>>().into_iter().peekable()
        };
        let merged = Merged { rings: vec![ring(0, &[2, 5, 5]), ring(1, &[1, 5, 9])] };
        let found: Vec<_> = merged.map(Result::unwrap).map(|event| (event.time, event.cpu)).collect();
        assert_eq!(found, [(1, 1), (2, 0), (5, 0), (5, 0), (5, 1), (9, 1)]);
    }

    proptest! {
        #[test]
        fn any_page_ends(bytes in prop::collection::vec(any::<u8>(), 0..4096), start: u64, read in 0_usize..4096) {
            let events = on_page(&bytes, start, 0, read);
            prop_assert!(events.len() <= bytes.len() / 4);
        }
    }
}
