//! Variables with their places.

use kdive_base::VirtAddr;

use super::{TypeId, Types};

/// A variable in memory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlacedVariable {
    /// Its address in the dumped machine; of a per-CPU variable, the offset in the area.
    pub address: VirtAddr,
    /// The source file that it was compiled from, as its unit is named: `kernel/sched/core.c`.
    pub file: Box<str>,
    /// Its type.
    pub of: TypeId,
}

impl Types {
    /// The variables with this name and their places, as far as units tell them: DWARF's do.
    #[must_use]
    pub fn variables(&self, name: &str) -> Vec<PlacedVariable> {
        self.slots.iter().flat_map(|slot| slot.unit.variables(name)).collect()
    }

    /// The static variables with this name inside the function at an address.
    #[must_use]
    pub fn variables_in(&self, function: VirtAddr, name: &str) -> Vec<PlacedVariable> {
        self.slots.iter().flat_map(|slot| slot.unit.variables_in(function, name)).collect()
    }
}
