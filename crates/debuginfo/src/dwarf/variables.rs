//! Variables that lie in memory for good: those at a file's top level, and the static ones inside functions.

use gimli::constants as dw;
use kdive_base::VirtAddr;

use super::DwarfFile;
use super::die::Die;
use super::frames::die_in;
use super::sections::{Dwarf, Value};
use super::walk::Walk;
use crate::names::safe_name;

/// Most entries of one function that are looked at; the largest have some ten thousand.
const MOST_ENTRIES: usize = 1 << 18;
/// Most variables of one name in one function.
const MOST_FOUND: usize = 64;

/// A static variable inside a function.
pub(super) struct Static {
    pub(super) address: VirtAddr,
    pub(super) file: Box<str>,
    /// The entry of its type.
    pub(super) of: Option<usize>,
}

impl DwarfFile {
    /// Where a variable lies and the file that it was compiled from; `None` for declarations and what was optimised
    /// out.
    pub(super) fn place_of<'a>(&self, dwarf: &Dwarf<'a>, die: &Die<'a>) -> Option<(VirtAddr, Box<str>)> {
        let address = self.fixed_address(dwarf, die)?;
        let root = die.unit.entry(die.unit.header.root_offset()).ok()?;
        let file = root.attr_value(dw::DW_AT_name).and_then(|name| dwarf.attr_string(&die.unit, name).ok());
        Some((address, file.map(|name| safe_name(name.slice())).unwrap_or_default()))
    }

    /// The address of a location that is the same everywhere (2.6.1.1.2).
    fn fixed_address<'a>(&self, dwarf: &Dwarf<'a>, die: &Die<'a>) -> Option<VirtAddr> {
        let Value::Exprloc(expression) = die.attr(dw::DW_AT_location)? else { return None };
        let mut operations = expression.operations(die.unit.header.encoding());
        let address = match operations.next().ok()?? {
            gimli::Operation::Address { address } => address,
            gimli::Operation::AddressIndex { index } => dwarf.address(&die.unit, index).ok()?,
            _ => return None,
        };
        operations.next().ok()?.is_none().then(|| self.sections.placed(address))
    }

    /// The static variables with this name in the function at a code address, and in what was inlined into it.
    pub(super) fn statics(&self, function: VirtAddr, name: &str) -> Vec<Static> {
        let mut found = Vec::new();
        // A damaged function has the variables before the damage.
        let _ = self.collect_statics(function, name, &mut found);
        found
    }

    fn collect_statics(&self, function: VirtAddr, name: &str, found: &mut Vec<Static>) -> Option<()> {
        let dwarf = self.sections.dwarf();
        let linked = self.sections.linked(function);
        let info = self.unit_at(&dwarf, linked)?;
        let function = self.scopes(&dwarf, &info, linked).first()?.entry;
        let unit = info.unit(&dwarf)?;
        let mut walk = Walk::new(&unit, function)?;
        for _ in 0..MOST_ENTRIES {
            let head = walk.next()?;
            walk.skip(&head)?;
            if head.abbreviation.tag() != dw::DW_TAG_variable || found.len() >= MOST_FOUND {
                continue;
            }
            let die = die_in(&dwarf, &info, head.at)?;
            if self.name(&dwarf, &die).as_deref() != Some(name) {
                continue;
            }
            // What is inlined refers to the one variable that all copies share.
            let placed = self.inherited(&dwarf, &die, |die| self.place_of(&dwarf, die));
            let of = self.inherited(&dwarf, &die, |die| die.reference(dw::DW_AT_type));
            if let Some((address, file)) = placed
                && !found.iter().any(|known| known.address == address)
            {
                found.push(Static { address, file, of });
            }
        }
        Some(())
    }
}
