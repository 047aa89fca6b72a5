//! kdump-compressed files, as makedumpfile and QEMU write them: header versions 1 to 6, whole or split.
//!
//! Layout, in blocks of `block_size`: header; sub header, VMCOREINFO, notes; two bitmaps (which pages are RAM, which are
//! in the dump); a descriptor for each page in the dump, in their order; the pages. The n-th set bit of the second bitmap
//! has the n-th descriptor. In a split set every file has both bitmaps, but only the descriptors of its own pages.

pub(crate) mod bitmap;
pub(crate) mod header;
mod part;

use std::sync::Arc;

use kdive_base::{Missing, PhysAddr, Why};

use crate::cache::{Cache, PAGE_BUDGET};
use crate::facts::{Facts, PartFacts};
use crate::formats::{Format, Head, Source};
use crate::memory::{PhysicalMemory, Run, RunState, read_in_pieces};
use crate::notes::{Notes, read_notes};
use crate::open::Opened;
use crate::window::{Window, read_up_to};
use crate::{Hints, OpenError};
use header::{EXCLUDED_VMEMMAP, INCOMPLETE, OLD_SIGNATURE, SIGNATURE};
use part::Part;

pub(crate) const FORMAT: Format = Format { name: "kdump-compressed", recognises, open };

/// Reads of at least so many pages go past the page cache and read the file in bigger pieces. A kernel stack, which is read
/// again, has fewer.
const BULK_PAGES: usize = 16;
const MAX_WINDOW: usize = 128 << 10;

fn recognises(head: &Head<'_>) -> bool {
    head.bytes.starts_with(SIGNATURE) || head.bytes.starts_with(OLD_SIGNATURE)
}

fn open(sources: &[Source], hints: &Hints) -> Result<Opened, OpenError> {
    let mut parts = sources.iter().map(Part::open).collect::<Result<Vec<_>, _>>()?;
    check_set(&parts)?;
    parts.sort_by_key(|part| part.pfns.start);
    let mut notes = Notes::default();
    let mut warnings = Vec::new();
    for part in &parts {
        // Every part repeats them; a part that was cut short may lack them.
        if notes == Notes::default() {
            warnings.extend(read_part_notes(part, &mut notes).err());
        }
        warnings.extend(part.warning());
    }
    let mut facts = describe(&parts, sources)?;
    facts.warnings = warnings;
    let memory = KdumpMemory::new(parts, hints).ok_or(OpenError::NoFiles)?;
    Ok(Opened::new(Arc::new(memory), facts, notes))
}

/// Whether the files are parts of one dump.
fn check_set(parts: &[Part]) -> Result<(), OpenError> {
    let Some((first, others)) = parts.split_first() else { return Err(OpenError::NoFiles) };
    for other in others {
        let same = |part: &Part| {
            let header = &part.header;
            (header.uts.clone(), header.timestamp, header.block_size, part.max_mapnr)
        };
        let why = if same(first) != same(other) {
            "their headers name different machines, times or sizes"
        } else if !first.is_split || !other.is_split {
            "each is a whole dump"
        } else {
            continue;
        };
        let (first, second) = (first.name.clone(), other.name.clone());
        return Err(OpenError::NotOneDump { first, second, why: why.into() });
    }
    Ok(())
}

fn read_part_notes(part: &Part, notes: &mut Notes) -> Result<(), String> {
    /// VMCOREINFO is a few pages; an erase log can have a line for each erased string.
    const MAX_TEXT: u64 = 16 << 20;
    let text = |stretch: Option<header::Stretch>| {
        let (offset, bytes) = stretch.filter(|&(_, bytes)| bytes <= MAX_TEXT)?;
        read_up_to(&*part.file, offset, bytes).ok().filter(|text| !text.is_empty())
    };
    let read = part.sub.notes.map_or(Ok(()), |(offset, bytes)| {
        let held = bytes.min(part.file.len().saturating_sub(offset));
        read_notes(&*part.file, offset, held, part.header.endian, notes)
    });
    if let Some(vmcoreinfo) = text(part.sub.vmcoreinfo) {
        notes.vmcoreinfo = Some(vmcoreinfo);
    }
    if let Some(eraseinfo) = text(part.sub.eraseinfo) {
        notes.eraseinfo = Some(eraseinfo);
    }
    read
}

fn describe(parts: &[Part], sources: &[Source]) -> Result<Facts, OpenError> {
    let (Some(first), Some(source)) = (parts.first(), sources.first()) else {
        return Err(OpenError::NoFiles);
    };
    let header = &first.header;
    let machine = Some(header.uts.machine.clone()).filter(|machine| !machine.is_empty());
    Ok(Facts {
        files: Vec::new(),
        format: if header.old { "diskdump" } else { FORMAT.name },
        version: Some(header.version),
        wrappers: source.wrappers.clone(),
        word_bits: Some(if header.is_64 { 64 } else { 32 }),
        big_endian: header.endian == kdive_base::Endian::Big,
        machine,
        compression: header.compression(),
        dump_level: first.sub.dump_level,
        incomplete: parts.iter().any(|part| part.header.has(INCOMPLETE)),
        excluded_vmemmap: header.has(EXCLUDED_VMEMMAP),
        parts: part_facts(parts),
        uts: Some(header.uts.clone()),
        timestamp: Some(header.timestamp).filter(|&seconds| seconds > 0),
        page_size: Some(u64::from(header.block_size)),
        max_mapnr: Some(first.max_mapnr),
        ..Facts::default()
    })
}

/// The parts of a split set, those not given included.
fn part_facts(parts: &[Part]) -> Vec<PartFacts> {
    let mut facts = Vec::new();
    let mut next = 0;
    let absent = |start_pfn, end_pfn| PartFacts { name: None, start_pfn, end_pfn };
    for part in parts.iter().filter(|part| part.is_split) {
        if part.pfns.start > next {
            facts.push(absent(next, part.pfns.start));
        }
        let name = Some(part.name.clone());
        facts.push(PartFacts { name, start_pfn: part.pfns.start, end_pfn: part.pfns.end });
        next = next.max(part.pfns.end);
    }
    match parts.first() {
        Some(first) if !facts.is_empty() && next < first.max_mapnr => {
            facts.push(absent(next, first.max_mapnr))
        }
        _ => {}
    }
    facts
}

struct KdumpMemory {
    /// In the order of their pages, at least one.
    parts: Vec<Part>,
    page_bytes: usize,
    pages: Cache<Page>,
    zero_excluded: bool,
}

/// A decompressed page.
enum Page {
    /// Most of the pages that a dump without zero filter has.
    Zero,
    Bytes(Box<[u8]>),
}

impl Page {
    fn copy(&self, from: usize, into: &mut [u8]) {
        match self {
            Self::Zero => into.fill(0),
            Self::Bytes(bytes) => {
                let held = bytes.get(from..).unwrap_or_default();
                into.iter_mut().zip(held).for_each(|(to, from)| *to = *from);
            }
        }
    }
}

impl KdumpMemory {
    fn new(parts: Vec<Part>, hints: &Hints) -> Option<Self> {
        let page_bytes = parts.first()?.header.block_size as usize;
        let pages = Cache::new(PAGE_BUDGET.checked_div(page_bytes)?);
        Some(Self { parts, page_bytes, pages, zero_excluded: hints.zero_excluded })
    }

    /// The part that holds a page, or else the last part before it.
    fn part(&self, pfn: u64) -> Result<&Part, Option<&Part>> {
        let after = self.parts.partition_point(|part| part.pfns.start <= pfn);
        let before = after.checked_sub(1).and_then(|index| self.parts.get(index));
        match before {
            Some(part) if pfn < part.pfns.end => Ok(part),
            _ => Err(before.or(self.parts.first())),
        }
    }

    fn page_bytes(&self) -> u64 {
        self.page_bytes as u64
    }

    /// Fills the first bytes of `into`, at most to the end of a page unless several whole pages are wanted.
    fn piece(&self, at: u64, into: &mut [u8]) -> Result<usize, Why> {
        let pfn = at.checked_div(self.page_bytes()).ok_or(Why::NeverPresent)?;
        let offset = usize::try_from(at.checked_rem(self.page_bytes()).unwrap_or(0)).unwrap_or(0);
        if offset == 0 && into.len() / BULK_PAGES >= self.page_bytes {
            return self.bulk(pfn, into);
        }
        let count = self.page_bytes.saturating_sub(offset).min(into.len());
        let into = into.get_mut(..count).unwrap_or_default();
        if self.pages.get(pfn, |page| page.copy(offset, into)).is_none() {
            let mut bytes = vec![0; self.page_bytes].into_boxed_slice();
            let Ok(part) = self.part(pfn) else { return self.beyond_parts(pfn, into) };
            let zero = self.decode(part, pfn, &mut Window::new(&*part.file, 0), &mut bytes)?;
            let page = if zero { Page::Zero } else { Page::Bytes(bytes) };
            page.copy(offset, into);
            self.pages.insert(pfn, page);
        }
        Ok(count)
    }

    /// Decompresses whole pages straight into `into`, as far as they go; an error if the first does not.
    fn bulk(&self, first: u64, into: &mut [u8]) -> Result<usize, Why> {
        let Ok(part) = self.part(first) else { return self.beyond_parts(first, into) };
        let mut window = Window::new(&*part.file, into.len().min(MAX_WINDOW));
        let mut done = 0_usize;
        for (pfn, page) in (first..part.pfns.end).zip(into.chunks_exact_mut(self.page_bytes)) {
            if self.pages.get(pfn, |cached| cached.copy(0, page)).is_none()
                && let Err(why) = self.decode(part, pfn, &mut window, page)
            {
                return if done == 0 { Err(why) } else { Ok(done) };
            }
            done = done.saturating_add(self.page_bytes);
        }
        Ok(done)
    }

    /// Decompresses a page through a window over its part. Says whether it is all zeros.
    fn decode(&self, part: &Part, pfn: u64, window: &mut Window<'_>, page: &mut [u8]) -> Result<bool, Why> {
        match part.page(pfn, window, page) {
            Err(Why::Excluded) if self.zero_excluded => {
                page.fill(0);
                Ok(true)
            }
            result => result,
        }
    }

    /// What a page reads as that belongs to no part that was given: the bitmaps of the others still tell.
    fn beyond_parts(&self, pfn: u64, into: &mut [u8]) -> Result<usize, Why> {
        match self.state(pfn) {
            (_, RunState::Missing(Why::Excluded)) if self.zero_excluded => {
                let count = into.len().min(self.page_bytes);
                into.get_mut(..count).unwrap_or_default().fill(0);
                Ok(count)
            }
            (_, RunState::Missing(why)) => Err(why),
            (_, RunState::Present) => Err(Why::InMissingFile),
        }
    }

    /// The state of a page, and how many pages from it on have it at least.
    fn state(&self, pfn: u64) -> (u64, RunState) {
        let (held, part) = match self.part(pfn) {
            Ok(part) => (true, Some(part)),
            Err(part) => (false, part),
        };
        let Some(part) = part else { return (1, RunState::Missing(Why::NeverPresent)) };
        let (pages, state) = part.state(pfn);
        let boundary = if held {
            part.pfns.end
        } else {
            let next = self.parts.get(self.parts.partition_point(|part| part.pfns.start <= pfn));
            next.map_or(part.max_mapnr, |part| part.pfns.start)
        };
        let pages = pages.min(boundary.saturating_sub(pfn)).max(1);
        match state {
            RunState::Present if !held => (pages, RunState::Missing(Why::InMissingFile)),
            state => (pages, state),
        }
    }
}

impl PhysicalMemory for KdumpMemory {
    fn read(&self, at: PhysAddr, into: &mut [u8]) -> (usize, Option<Missing>) {
        let (done, missing) = read_in_pieces(at.0, into, |at, into| self.piece(at, into));
        (done, missing.map(|(at, why)| Missing::new(PhysAddr(at), why)))
    }

    fn next_run(&self, from: PhysAddr) -> Option<Run> {
        let max_mapnr = self.parts.first()?.max_mapnr;
        let first = from.0.checked_div(self.page_bytes())?;
        if first >= max_mapnr {
            return None;
        }
        let (pages, state) = self.state(first);
        let mut next = first.saturating_add(pages);
        while next < max_mapnr
            && let (pages, same) = self.state(next)
            && same == state
        {
            next = next.saturating_add(pages);
        }
        let end = next.min(max_mapnr).saturating_mul(self.page_bytes());
        Some(Run { start: from, bytes: end.saturating_sub(from.0), state })
    }
}
