//! Symbols by name and by address: one table for the kernel, one for each module, and the merged view of all.

mod kernel;
mod table;

pub use self::kernel::{ModuleSymbols, Symbols};
pub use self::table::{SymbolTable, SymbolTableBuilder};

use std::fmt;

use kdive_base::VirtAddr;
use serde::Serialize;

/// A symbol. Borrows its name from the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Symbol<'t> {
    /// Its name, printable whatever the table held.
    pub name: &'t str,
    /// The module it belongs to; `None` for the kernel itself.
    pub module: Option<&'t str>,
    /// Its value: a kernel virtual address, or an offset into the per-CPU area, or an absolute number.
    pub address: VirtAddr,
    /// Its size in bytes where the table records one (ELF does, kallsyms and System.map do not).
    pub size: Option<u64>,
    /// What it is.
    pub kind: SymbolKind,
}

/// What a symbol is, as the letter that `nm` shows: `T`/`t` code, `D`/`d` data, `R`/`r` read-only data, `B`/`b` zeroed
/// data, `A`/`a` absolute, `W`/`w`/`V`/`v` weak. Capitals are global.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(transparent)]
pub struct SymbolKind(char);

impl SymbolKind {
    /// From `nm`'s letter; anything else is `?`, as `nm` shows what it does not know.
    #[must_use]
    pub const fn new(letter: u8) -> Self {
        Self(if letter.is_ascii_alphabetic() { letter as char } else { '?' })
    }

    /// `nm`'s letter.
    #[must_use]
    pub const fn letter(self) -> char {
        self.0
    }

    /// Whether it is code.
    #[must_use]
    pub const fn is_code(self) -> bool {
        matches!(self.0, 'T' | 't' | 'W' | 'w')
    }

    /// Whether its value is a plain number and no address (before 6.15 kallsyms shows x86's per-CPU symbols so).
    #[must_use]
    pub const fn is_absolute(self) -> bool {
        matches!(self.0, 'A' | 'a')
    }

    /// Whether it is weak: another symbol at the same address names the place better.
    #[must_use]
    pub const fn is_weak(self) -> bool {
        matches!(self.0, 'W' | 'w' | 'V' | 'v')
    }
}

impl fmt::Display for SymbolKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
