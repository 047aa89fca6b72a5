//! Entries: names, references and ranges.

use std::sync::Arc;

use gimli::constants as dw;
use gimli::{Attribute, DwAt, UnitOffset};

use super::DwarfFile;
use super::sections::{Dwarf, Entry, Slice, Unit, Value};
use super::units::UnitInfo;
use crate::names::safe_name;

/// Longest chain of abstract origins and specifications that is followed; real ones have two links.
const MOST_LINKS: usize = 8;

/// The number of a source file; 0 for what is none.
pub(super) fn file_number(file: &Value<'_>) -> u64 {
    match *file {
        Value::FileIndex(number) => number,
        ref value => value.udata_value().unwrap_or(0),
    }
}

/// An entry with the unit that it is in.
pub(super) struct Die<'a> {
    pub(super) info: Arc<UnitInfo>,
    pub(super) unit: Unit<'a>,
    pub(super) entry: Entry<'a>,
}

impl<'a> Die<'a> {
    /// Offset of the entry in `.debug_info`.
    pub(super) fn offset(&self) -> usize {
        self.info.offset.saturating_add(self.entry.offset().0)
    }

    pub(super) fn attr(&self, name: DwAt) -> Option<Value<'a>> {
        self.entry.attr_value(name)
    }

    pub(super) fn has(&self, name: DwAt) -> bool {
        self.entry.has_attr(name)
    }

    pub(super) fn unsigned(&self, name: DwAt) -> Option<u64> {
        self.attr(name)?.udata_value()
    }

    /// The entry that an attribute refers to, as an offset in `.debug_info`.
    pub(super) fn reference(&self, name: DwAt) -> Option<usize> {
        reference(&self.info, self.attr(name)?)
    }

    /// The entry's own `DW_AT_name`.
    pub(super) fn name(&self, dwarf: &Dwarf<'a>) -> Option<Slice<'a>> {
        dwarf.attr_string(&self.unit, self.attr(dw::DW_AT_name)?).ok()
    }
}

/// The entry that a value refers to, as an offset in `.debug_info`.
pub(super) fn reference(info: &UnitInfo, value: Value<'_>) -> Option<usize> {
    match value {
        Value::UnitRef(UnitOffset(offset)) => info.offset.checked_add(offset),
        Value::DebugInfoRef(offset) => Some(offset.0),
        // Type signatures and supplementary files.
        _ => None,
    }
}

impl DwarfFile {
    /// The entry at an offset in `.debug_info`.
    pub(super) fn die<'a>(&self, dwarf: &Dwarf<'a>, offset: usize) -> Option<Die<'a>> {
        let (info, at) = self.unit_of_entry(dwarf, offset)?;
        let unit = info.unit(dwarf)?;
        let entry = unit.entry(at).ok()?;
        Some(Die { info, unit, entry })
    }

    /// The entry that this one completes or is a copy of, if it says so (2.13.2, 3.3.8).
    pub(super) fn origin<'a>(&self, dwarf: &Dwarf<'a>, die: &Die<'a>) -> Option<Die<'a>> {
        let at =
            die.reference(dw::DW_AT_abstract_origin).or_else(|| die.reference(dw::DW_AT_specification))?;
        // Within its unit no look-up of the unit is needed.
        match at.checked_sub(die.info.offset).map(UnitOffset) {
            Some(here) if here.is_in_bounds(&die.unit.header) => {
                let entry = die.unit.entry(here).ok()?;
                Some(Die { info: Arc::clone(&die.info), unit: die.info.unit(dwarf)?, entry })
            }
            _ => self.die(dwarf, at),
        }
    }

    /// The first answer of the entry or of those that it completes or copies.
    pub(super) fn inherited<'a, T>(
        &self,
        dwarf: &Dwarf<'a>,
        die: &Die<'a>,
        ask: impl Fn(&Die<'a>) -> Option<T>,
    ) -> Option<T> {
        if let Some(answer) = ask(die) {
            return Some(answer);
        }
        let mut at = self.origin(dwarf, die)?;
        for _ in 0..MOST_LINKS {
            if let Some(answer) = ask(&at) {
                return Some(answer);
            }
            at = self.origin(dwarf, &at)?;
        }
        None
    }

    /// The name of an entry, its own or inherited.
    pub(super) fn name<'a>(&self, dwarf: &Dwarf<'a>, die: &Die<'a>) -> Option<Box<str>> {
        self.inherited(dwarf, die, |die| die.name(dwarf)).map(|name| safe_name(name.slice()))
    }
}

/// Most ranges of a function or block that are looked at; real ones have below a hundred.
const MOST_RANGES: usize = 1024;

fn value<'a>(attributes: &[Attribute<Slice<'a>>], name: DwAt) -> Option<Value<'a>> {
    attributes.iter().find(|attribute| attribute.name() == name).map(Attribute::value)
}

/// The code of an entry (2.17): empty ranges left out.
pub(super) fn ranges<'a>(
    dwarf: &Dwarf<'a>,
    unit: &Unit<'a>,
    attributes: &[Attribute<Slice<'a>>],
) -> impl Iterator<Item = (u64, u64)> + use<'a> {
    all_ranges(dwarf, unit, attributes).take(MOST_RANGES)
}

/// As [`ranges`], but a hostile list may be as long as its section.
pub(super) fn all_ranges<'a>(
    dwarf: &Dwarf<'a>,
    unit: &Unit<'a>,
    attributes: &[Attribute<Slice<'a>>],
) -> impl Iterator<Item = (u64, u64)> + use<'a> {
    let list = value(attributes, dw::DW_AT_ranges);
    let mut list = list.and_then(|value| dwarf.attr_ranges(unit, value).ok().flatten());
    let single = if list.is_some() { None } else { low_high(dwarf, unit, attributes) };
    let from_list = std::iter::from_fn(move || {
        let range = list.as_mut()?.next().ok().flatten()?;
        Some((range.begin, range.end))
    });
    single.into_iter().chain(from_list).filter(|(start, end)| start < end)
}

fn low_high<'a>(
    dwarf: &Dwarf<'a>,
    unit: &Unit<'a>,
    attributes: &[Attribute<Slice<'a>>],
) -> Option<(u64, u64)> {
    let low = dwarf.attr_address(unit, value(attributes, dw::DW_AT_low_pc)?).ok()??;
    let high = value(attributes, dw::DW_AT_high_pc)?;
    // A constant is a length (2.17.2).
    let end = match high.udata_value() {
        Some(length) => low.checked_add(length)?,
        None => dwarf.attr_address(unit, high).ok()??,
    };
    Some((low, end))
}

/// Whether the code of an entry covers an address; `None` when it has no code.
pub(super) fn covers<'a>(
    dwarf: &Dwarf<'a>,
    unit: &Unit<'a>,
    attributes: &[Attribute<Slice<'a>>],
    address: u64,
) -> Option<bool> {
    let mut any = false;
    for (start, end) in ranges(dwarf, unit, attributes) {
        any = true;
        if (start..end).contains(&address) {
            return Some(true);
        }
    }
    any.then_some(false)
}
