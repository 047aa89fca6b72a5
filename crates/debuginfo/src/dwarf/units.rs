//! Units: the one that covers an address, the one that holds an entry, and what is kept of each between look-ups.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use gimli::constants as dw;
use gimli::{Abbreviations, DebugInfoOffset, DebugLineOffset, SectionId, UnitOffset};
use rayon::prelude::*;
use rustc_hash::{FxHashMap, FxHashSet};

use super::DwarfFile;
use super::die;
use super::frames::FunctionRange;
use super::lines::Rows;
use super::sections::{Dwarf, Unit, Value};

/// What is known of the units so far.
#[derive(Debug, Default)]
pub(super) struct Units {
    open: Mutex<FxHashMap<usize, Option<Arc<UnitInfo>>>>,
    aranges: OnceLock<Aranges>,
    /// Offsets of all units, in order.
    all: OnceLock<Vec<usize>>,
    /// Ranges of the units that `.debug_aranges` leaves out.
    unlisted: OnceLock<Vec<UnitRange>>,
}

/// An address range, its end, and the offset of the unit that covers it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct UnitRange {
    start: u64,
    end: u64,
    unit: usize,
}

#[derive(Debug, Default)]
struct Aranges {
    ranges: Vec<UnitRange>,
    units: FxHashSet<usize>,
}

/// A unit without the bytes: what its first entry says, and tables that are made on first use.
#[derive(Debug)]
pub(super) struct UnitInfo {
    /// Offset of its header in `.debug_info`.
    pub(super) offset: usize,
    abbreviations: Arc<Abbreviations>,
    low_pc: u64,
    str_offsets_base: gimli::DebugStrOffsetsBase,
    addr_base: gimli::DebugAddrBase,
    loclists_base: gimli::DebugLocListsBase,
    rnglists_base: gimli::DebugRngListsBase,
    /// Where its line program is.
    pub(super) line_program: Option<DebugLineOffset>,
    /// Whether types in it are C's.
    pub(super) is_c: bool,
    /// Its functions' code.
    pub(super) functions: OnceLock<Vec<FunctionRange>>,
    /// Its line table.
    pub(super) rows: OnceLock<Rows>,
}

impl UnitInfo {
    /// Reads a unit's header, abbreviations and first entry.
    pub(super) fn read(dwarf: &Dwarf<'_>, offset: usize) -> Option<Self> {
        let header = dwarf.unit_header(DebugInfoOffset(offset)).ok()?;
        let abbreviations = dwarf.abbreviations(&header).ok()?;
        let encoding = header.encoding();
        let file = gimli::DwarfFileType::Main;
        let mut info = Self {
            offset,
            abbreviations,
            low_pc: 0,
            str_offsets_base: gimli::DebugStrOffsetsBase::default_for_encoding_and_file(encoding, file),
            addr_base: gimli::DebugAddrBase(0),
            loclists_base: gimli::DebugLocListsBase::default_for_encoding_and_file(encoding, file),
            rnglists_base: gimli::DebugRngListsBase::default_for_encoding_and_file(encoding, file),
            line_program: None,
            is_c: true,
            functions: OnceLock::new(),
            rows: OnceLock::new(),
        };
        let root = header.entry(&info.abbreviations, header.root_offset()).ok()?;
        let mut low_pc = None;
        for attribute in root.attrs() {
            match (attribute.name(), attribute.value()) {
                (dw::DW_AT_low_pc, value) => low_pc = Some(value),
                (dw::DW_AT_stmt_list, Value::DebugLineRef(at)) => info.line_program = Some(at),
                (dw::DW_AT_str_offsets_base, Value::DebugStrOffsetsBase(base)) => {
                    info.str_offsets_base = base
                }
                (dw::DW_AT_addr_base | dw::DW_AT_GNU_addr_base, Value::DebugAddrBase(base)) => {
                    info.addr_base = base;
                }
                (dw::DW_AT_loclists_base, Value::DebugLocListsBase(base)) => info.loclists_base = base,
                (dw::DW_AT_rnglists_base | dw::DW_AT_GNU_ranges_base, Value::DebugRngListsBase(base)) => {
                    info.rnglists_base = base;
                }
                (dw::DW_AT_language, Value::Language(language)) => info.is_c = is_c(language),
                _ => {}
            }
        }
        // An address may be an index, which needs the base that only now is known.
        if let Some(value) = low_pc
            && let Some(unit) = info.unit(dwarf)
            && let Ok(Some(address)) = dwarf.attr_address(&unit, value)
        {
            info.low_pc = address;
        }
        Some(info)
    }

    /// The unit over its bytes. Its line program is left out: [`UnitInfo::line_program`].
    pub(super) fn unit<'a>(&self, dwarf: &Dwarf<'a>) -> Option<Unit<'a>> {
        Some(gimli::Unit {
            header: dwarf.unit_header(DebugInfoOffset(self.offset)).ok()?,
            abbreviations: Arc::clone(&self.abbreviations),
            name: None,
            comp_dir: None,
            low_pc: self.low_pc,
            str_offsets_base: self.str_offsets_base,
            addr_base: self.addr_base,
            loclists_base: self.loclists_base,
            rnglists_base: self.rnglists_base,
            line_program: None,
            dwo_id: None,
        })
    }
}

/// C in any of its versions, and what assemblers say.
fn is_c(language: gimli::DwLang) -> bool {
    !matches!(language, dw::DW_LANG_Rust | dw::DW_LANG_Mips_Assembler)
        && !matches!(
            language,
            dw::DW_LANG_C_plus_plus | dw::DW_LANG_C_plus_plus_11 | dw::DW_LANG_C_plus_plus_14
        )
}

impl DwarfFile {
    /// The unit at this offset; `None` when it is damaged.
    pub(super) fn unit_info(&self, dwarf: &Dwarf<'_>, offset: usize) -> Option<Arc<UnitInfo>> {
        let open = || self.units.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = open().get(&offset) {
            return known.clone();
        }
        let read = UnitInfo::read(dwarf, offset).map(Arc::new);
        open().entry(offset).or_insert(read).clone()
    }

    /// The unit that covers a code address of the file.
    pub(super) fn unit_at(&self, dwarf: &Dwarf<'_>, address: u64) -> Option<Arc<UnitInfo>> {
        if !self.sections.is_code(address) {
            return None;
        }
        let listed = find(&self.aranges().ranges, address);
        let unit = listed.or_else(|| find(self.unlisted(dwarf), address))?;
        self.unit_info(dwarf, unit)
    }

    fn aranges(&self) -> &Aranges {
        self.units.aranges.get_or_init(|| {
            let section = self.sections.slice(SectionId::DebugAranges);
            let mut found = Aranges::default();
            let mut headers = gimli::DebugAranges::from(section).headers();
            while let Ok(Some(header)) = headers.next() {
                let unit = header.debug_info_offset().0;
                found.units.insert(unit);
                let mut entries = header.entries();
                while let Ok(Some(entry)) = entries.next() {
                    let range = entry.range();
                    found.ranges.push(UnitRange { start: range.begin, end: range.end, unit });
                }
            }
            found.ranges.sort_unstable();
            found
        })
    }

    /// Ranges of the units that `.debug_aranges` does not list: all of them where clang left the section out.
    fn unlisted(&self, dwarf: &Dwarf<'_>) -> &[UnitRange] {
        self.units.unlisted.get_or_init(|| {
            let listed = &self.aranges().units;
            let rest = self.all_units(dwarf).par_iter().filter(|unit| !listed.contains(unit));
            let mut ranges: Vec<_> = rest.flat_map_iter(|&unit| self.ranges_of(unit)).collect();
            ranges.sort_unstable();
            ranges
        })
    }

    fn ranges_of(&self, offset: usize) -> Vec<UnitRange> {
        let dwarf = self.sections.dwarf();
        let read = || {
            let unit = UnitInfo::read(&dwarf, offset)?.unit(&dwarf)?;
            let root = unit.entry(unit.header.root_offset()).ok()?;
            // Each range is code of some entry in the unit: this bounds what all units can claim together.
            let most = unit.header.length_including_self();
            let ranges = die::all_ranges(&dwarf, &unit, root.attrs()).take(most);
            Some(ranges.map(|(start, end)| UnitRange { start, end, unit: offset }).collect())
        };
        read().unwrap_or_default()
    }

    /// Offsets of all units in `.debug_info`, in order. Reads their headers.
    pub(super) fn all_units(&self, dwarf: &Dwarf<'_>) -> &[usize] {
        self.units.all.get_or_init(|| {
            let mut units = dwarf.units();
            let mut offsets = Vec::new();
            while let Ok(Some(header)) = units.next() {
                offsets.extend(header.debug_info_offset().map(|offset| offset.0));
            }
            offsets
        })
    }

    /// The unit that holds the entry at an offset in `.debug_info`, and the entry's offset in the unit.
    pub(super) fn unit_of_entry(
        &self,
        dwarf: &Dwarf<'_>,
        entry: usize,
    ) -> Option<(Arc<UnitInfo>, UnitOffset)> {
        let units = self.all_units(dwarf);
        let index = units.partition_point(|&unit| unit <= entry).checked_sub(1)?;
        let info = self.unit_info(dwarf, *units.get(index)?)?;
        let offset = UnitOffset(entry.checked_sub(info.offset)?);
        Some((info, offset))
    }
}

/// The unit of the range that covers an address. Ranges of one file do not overlap, but for damage and for empty
/// tables: a few neighbours are looked at.
fn find(ranges: &[UnitRange], address: u64) -> Option<usize> {
    const NEIGHBOURS: usize = 16;
    let end = ranges.partition_point(|range| range.start <= address);
    let before = ranges.get(..end)?.iter().rev().take(NEIGHBOURS);
    before.into_iter().find(|range| address < range.end).map(|range| range.unit)
}
