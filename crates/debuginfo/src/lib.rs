//! ELF, BTF, kallsyms, ORC, System.map and DWARF: bytes in, views out.
//!
//! Design constraints:
//! - Opens no file and knows no dump: memory comes as a [`kdive_base::VirtualMemory`], a file's bytes as a [`Blob`].
//! - Types and symbols are keyed by module, unit and name. A name with several meanings is reported, never guessed.
//! - Everything is lazy: opening costs one pass at most, names are indexed on the first look-up, types are decoded
//!   when asked for.
//! - Any byte can be wrong: a damaged table yields less, never a panic, and work stays linear in its size.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

mod blob;
#[cfg(feature = "dwarf")]
pub mod dwarf;
mod names;
pub mod symbols;
pub mod types;

pub use blob::Blob;
pub use symbols::{ModuleSymbols, Symbol, SymbolKind, SymbolTable, SymbolTableBuilder, Symbols};
pub use types::{Tag, Type, TypeId, Types};
