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
pub mod btf;
#[cfg(feature = "dwarf")]
pub mod dwarf;
pub mod elf;
pub mod kallsyms;
mod names;
pub mod orc;
pub mod symbols;
pub mod system_map;
pub mod types;
pub mod vmcoreinfo;

pub use blob::Blob;
pub use btf::{Btf, BtfError};
pub use elf::{ElfError, ElfFile, ElfKind};
pub use kallsyms::{Kallsyms, KallsymsAt, KallsymsError};
pub use orc::{OrcEntry, OrcError, OrcKind, OrcRegister, OrcTable};
pub use symbols::{ModuleSymbols, Symbol, SymbolKind, SymbolTable, SymbolTableBuilder, Symbols};
pub use system_map::{SystemMap, SystemMapError};
pub use types::{Tag, Type, TypeId, Types};
pub use vmcoreinfo::VmcoreInfo;
