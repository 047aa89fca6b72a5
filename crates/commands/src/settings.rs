//! Variables and aliases of a session (`set`, `alias`).

use std::collections::BTreeMap;

use kdive_base::VirtAddr;

use crate::x::Examined;

/// Radix of numbers that commands print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Radix {
    /// Decimal.
    #[default]
    Decimal,
    /// Hexadecimal.
    Hexadecimal,
}

/// What `set` and `alias` change.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Radix of offsets and members.
    pub radix: Radix,
    /// Variables by name, as `set NAME VALUE` stored them.
    pub variables: BTreeMap<String, String>,
    /// Aliases: name and the words it stands for.
    pub aliases: BTreeMap<String, Vec<String>>,
    /// Bytes behind `ud2` that are no code (`dis -b`): old kernels keep the line of a BUG() there.
    pub bug_bytes: u64,
    /// What `x` showed last.
    pub(crate) examined: Examined,
    /// Tasks that the user says a processor ran, by the processor (`set -a`).
    pub active: BTreeMap<u32, VirtAddr>,
}
