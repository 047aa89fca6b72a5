//! Variables and aliases of a session (`set`, `alias`).

use std::collections::BTreeMap;

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
}
