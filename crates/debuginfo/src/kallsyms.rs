//! kallsyms, the kernel's own symbol table in its memory (kernel/kallsyms.c, scripts/kallsyms.c).
//!
//! Names are strings of tokens, each token standing for one or more characters; the first character of an expanded
//! name is the symbol's kind. Since 6.0 VMCOREINFO says where the tables are; for older kernels [`scan`] finds them by
//! their shape.

mod addresses;
mod names;
mod scan;
#[cfg(test)]
mod tests;

pub use self::addresses::Encoding;
pub use self::scan::scan;

use std::ops::Range;

use kdive_base::{Missing, VirtAddr, VirtualMemory};

use self::addresses::Choice;
use self::names::{Expanded, Names};
use crate::symbols::SymbolTable;
use crate::vmcoreinfo::VmcoreInfo;

/// Where the tables are, by the kernel's names for them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KallsymsAt {
    /// `kallsyms_num_syms`
    pub num_syms: VirtAddr,
    /// `kallsyms_names`
    pub names: VirtAddr,
    /// `kallsyms_token_table`
    pub token_table: VirtAddr,
    /// `kallsyms_token_index`
    pub token_index: VirtAddr,
    /// `kallsyms_offsets`: 32 bits for each symbol.
    pub offsets: Option<VirtAddr>,
    /// `kallsyms_relative_base`, to which the offsets relate before 7.0.
    pub relative_base: Option<VirtAddr>,
    /// `kallsyms_addresses`: whole addresses, in place of offsets.
    pub addresses: Option<VirtAddr>,
}

impl KallsymsAt {
    /// From VMCOREINFO (6.0 and later, and kernels that took the change back).
    #[must_use]
    pub fn from_vmcoreinfo(info: &VmcoreInfo) -> Option<Self> {
        let at = Self {
            num_syms: info.symbol("kallsyms_num_syms")?,
            names: info.symbol("kallsyms_names")?,
            token_table: info.symbol("kallsyms_token_table")?,
            token_index: info.symbol("kallsyms_token_index")?,
            offsets: info.symbol("kallsyms_offsets"),
            relative_base: info.symbol("kallsyms_relative_base"),
            addresses: info.symbol("kallsyms_addresses"),
        };
        (at.offsets.is_some() || at.addresses.is_some()).then_some(at)
    }
}

/// What is known of the symbols from elsewhere, to choose the encoding of addresses by and to recognise the tables.
#[derive(Clone, Debug, Default)]
pub struct Expect<'e> {
    /// A symbol whose address is known: `_stext` from VMCOREINFO.
    pub symbol: Option<(&'e str, VirtAddr)>,
    /// The range in which the kernel's image lies.
    pub image: Option<Range<VirtAddr>>,
}

/// The decoded tables.
#[derive(Debug)]
pub struct Kallsyms {
    /// The symbols. kallsyms holds no sizes.
    pub symbols: SymbolTable,
    /// Where they were read.
    pub at: KallsymsAt,
    /// How addresses are encoded.
    pub encoding: Encoding,
    /// Symbols that the kernel counts but that could not be read.
    pub lost: usize,
}

/// Why there are no symbols to be had.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KallsymsError {
    /// A part of the tables is not in the dump.
    #[error("{table} cannot be read: {missing}")]
    Missing {
        /// The table.
        table: &'static str,
        /// Why.
        missing: Missing,
    },
    /// The number of symbols is not real.
    #[error("kallsyms_num_syms of {0} makes no sense")]
    Count(u64),
    /// Tokens or names do not decode.
    #[error("kallsyms tables are damaged: {0}")]
    Damaged(&'static str),
    /// Names decode, but no way to read the addresses gives what is known.
    #[error("no encoding of kallsyms addresses puts {symbol} at {address:#}")]
    Encoding {
        /// The symbol that should come out right.
        symbol: String,
        /// Where it is known to be.
        address: VirtAddr,
    },
    /// The scan found nothing.
    #[error("no kallsyms tables found in {0} bytes of kernel image")]
    NotFound(u64),
}

/// Reads the tables at `at`. The way in which addresses are encoded is found out: the one that puts the expected
/// symbol where it is known to be, else the one that gives ascending addresses inside the image.
///
/// # Errors
/// When tables are not in memory, do not decode, or no encoding fits.
pub fn read(
    memory: &dyn VirtualMemory,
    at: &KallsymsAt,
    expect: &Expect<'_>,
) -> Result<Kallsyms, KallsymsError> {
    let names = Names::read(memory, at)?;
    let expanded = names.expand(expect.symbol.map(|(name, _)| name))?;
    let choice = addresses::choose(memory, at, expanded.spans.len(), expect, expanded.expected)?;
    Ok(join(at, &names, expanded, &choice))
}

fn join(at: &KallsymsAt, names: &Names, expanded: Expanded, choice: &Choice) -> Kallsyms {
    let lost = names.count.saturating_sub(choice.raw.count.min(expanded.spans.len()));
    let symbols = expanded.at(|number| choice.raw.decode(choice.encoding, number));
    Kallsyms { symbols, at: *at, encoding: choice.encoding, lost }
}
