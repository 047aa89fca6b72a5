//! Guests of Xen, as `xl dump-core` writes them: an ELF core whose memory is in sections, not in segments.
//!
//! Layout (Xen's docs/misc/dump-core-format.txt): `.xen_pages` has the pages; of the n-th of them `.xen_pfn` has the number
//! in the guest's memory (u64), or, of a paravirtual guest, `.xen_p2m` that number and the machine's (two u64). The note
//! 0x2000001 in `.note.Xen` says magic, processors, pages, and bytes of a page.

use std::sync::Arc;

use kdive_base::{ByteReader, Endian, ReadAt};

use crate::elf::{ElfHeader, Section};
use crate::extents::{Extent, Extents};
use crate::facts::Facts;
use crate::flat::{Backing, FlatMemory, backed};
use crate::formats::{Format, Head, Source, single};
use crate::notes::Notes;
use crate::open::Opened;
use crate::window::Window;
use crate::{Hints, OpenError};

pub(crate) const FORMAT: Format = Format { name: "Xen guest core", recognises, open };

const PAGES: &str = ".xen_pages";
/// A table of pages, and bytes of its entries.
const NUMBERS: (&str, u64) = (".xen_pfn", 8);
const NUMBERS_OF_BOTH: (&str, u64) = (".xen_p2m", 16);
const NO_PAGE: u64 = u64::MAX;
const PAGE_BYTES: u64 = 4096;
/// Pages are physical addresses of 52 bits.
const MOST_PAGES: u64 = 1 << 40;

fn recognises(head: &Head<'_>) -> bool {
    const ET_CORE: u16 = 4;
    ElfHeader::parse(head.bytes)
        .is_some_and(|header| header.kind == ET_CORE && find(&header, head.file, PAGES).is_some())
}

fn find(header: &ElfHeader, file: &dyn ReadAt, name: &str) -> Option<Section> {
    header.sections(file).into_iter().find(|section| section.name == name.as_bytes())
}

fn open(sources: &[Source], hints: &Hints) -> Result<Opened, OpenError> {
    let source = single(sources, FORMAT.name)?;
    let file = &source.data;
    let damaged = |what: &str| OpenError::damaged(&source.name, FORMAT.name, what);
    let header = ElfHeader::parse(&source.head()?).ok_or_else(|| damaged("it has no ELF header"))?;
    let section = |name| find(&header, &**file, name);
    let pages = section(PAGES).ok_or_else(|| damaged("it has no pages"))?;
    let tables = [NUMBERS, NUMBERS_OF_BOTH];
    let table = tables.into_iter().find_map(|(name, bytes)| Some((section(name)?, bytes)));
    let (table, entry) = table.ok_or_else(|| damaged("no section says which pages it has"))?;
    let table_end = table.offset.saturating_add(table.bytes);
    if table_end > file.len() {
        let (name, has) = (source.name.clone(), file.len());
        return Err(OpenError::Truncated { name, format: FORMAT.name, needs: table_end, has });
    }
    let extents = Extents::overlay(read_table(&**file, &header, &pages, &table, entry));
    if extents.end() == 0 {
        return Err(damaged("the table of its pages is empty, or is not in the file"));
    }
    let mut facts = Facts {
        format: FORMAT.name,
        wrappers: source.wrappers.clone(),
        word_bits: Some(if header.is_64 { 64 } else { 32 }),
        big_endian: header.endian == Endian::Big,
        machine: Some(header.machine_name()),
        page_size: Some(PAGE_BYTES),
        ..Facts::default()
    };
    if entry == NUMBERS_OF_BOTH.1 {
        let what = "a paravirtual guest: its page tables have machine addresses, which are not translated";
        facts.warnings.push(what.to_owned());
    }
    let needs = pages.offset.saturating_add(pages.bytes);
    if needs > file.len() {
        let has = file.len();
        facts.warnings.push(format!("truncated: the file ends at {has} bytes, its pages at {needs}"));
    }
    let memory = FlatMemory::new(vec![Arc::clone(file)], extents, hints);
    Ok(Opened::new(Arc::new(memory), facts, Notes::default()))
}

/// Pages that follow one another in the table and in memory.
fn read_table(
    file: &dyn ReadAt,
    header: &ElfHeader,
    pages: &Section,
    table: &Section,
    entry: u64,
) -> Vec<Extent<Backing>> {
    let mut window = Window::new(file, 64 << 10);
    let mut extents: Vec<Extent<Backing>> = Vec::new();
    let held = table.bytes.min(file.len().saturating_sub(table.offset));
    let count = held.checked_div(entry).unwrap_or(0).min(pages.bytes / PAGE_BYTES);
    for number in 0..count {
        let at = table.offset.saturating_add(number.saturating_mul(entry));
        let Ok(bytes) = window.exact(at, 8) else { break };
        let Some(pfn) = ByteReader::new(bytes, header.endian).u64() else { break };
        if pfn == NO_PAGE || pfn >= MOST_PAGES {
            continue;
        }
        let start = pfn.saturating_mul(PAGE_BYTES);
        let offset = pages.offset.saturating_add(number.saturating_mul(PAGE_BYTES));
        match extents.last_mut() {
            Some(last) if last.end == start && last.offset_of(start) == offset => {
                last.end = last.end.saturating_add(PAGE_BYTES);
            }
            _ => extents.push(Extent {
                start,
                end: start.saturating_add(PAGE_BYTES),
                offset,
                tag: Backing::File(0),
            }),
        }
    }
    let len = file.len();
    let cut = |extent: &Extent<Backing>| {
        let bytes = extent.end.saturating_sub(extent.start);
        backed(extent.start, bytes, (0, len), extent.offset, bytes)
    };
    // The first of two wins, as the file is read from its start.
    extents.iter().flat_map(cut).collect()
}
