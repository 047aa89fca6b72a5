//! DWARF: inline frames and lines of code addresses, local variables, and types.
//!
//! Design constraints:
//! - An address costs the one unit that covers it: `.debug_aranges` leads to it, and only what is asked of it is read.
//! - Types are indexed by name in one parallel pass on the first look-up, and decoded one by one when asked for.
//! - References between entries are followed a bounded number of times; a damaged unit costs its own answers only.
//!
//! The format is that of the DWARF Debugging Information Format, versions 2 to 5; section numbers in comments are those
//! of version 5. Split DWARF (`.dwo` files) and supplementary files (`dwz -m`) are not read.

mod cfi;
mod die;
mod frames;
mod index;
mod lines;
mod locals;
mod relocate;
mod sections;
#[cfg(test)]
mod tests;
mod types;
mod units;
mod variables;
mod walk;

use std::sync::{Arc, OnceLock};

use kdive_base::VirtAddr;
use rustc_hash::FxHashMap;

use crate::elf::{ElfError, ElfFile};

pub use self::cfi::CallerState;
pub use self::frames::CodeFrame;
pub use self::lines::SourceLine;
pub use self::locals::{FrameState, Piece, Storage, Variable};
use self::sections::Sections;
pub use self::types::{DwarfTypes, Names};
use self::units::Units;

/// Where the code and data that a file describes lie in memory.
#[derive(Clone, Debug)]
pub enum Placement {
    /// Linked: everything but per-CPU data lies this many bytes (wrapping) above its address in the file. 0 without
    /// KASLR.
    Slid(u64),
    /// A module: the address of each section by name. What lies in other sections is not found.
    Sections(FxHashMap<Box<str>, VirtAddr>),
}

/// Why a file's DWARF is not usable.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DwarfError {
    /// There is none: the file is stripped, or was built without.
    #[error("no DWARF inside")]
    None,
    /// A section is damaged.
    #[error(transparent)]
    Elf(#[from] ElfError),
}

/// The DWARF of one file, opened without reading any of it. All addresses that go in and come out are those of the
/// dumped machine.
#[derive(Debug)]
pub struct DwarfFile {
    sections: Sections,
    units: Units,
    /// What `.debug_frame` describes.
    described: OnceLock<Vec<cfi::Described>>,
}

impl DwarfFile {
    /// The DWARF in a vmlinux, a module, or the debug file of one.
    ///
    /// # Errors
    /// [`DwarfError::None`] when the file has no `.debug_info`.
    pub fn open(elf: ElfFile, placement: Placement) -> Result<Arc<Self>, DwarfError> {
        if !elf.has_dwarf() {
            return Err(DwarfError::None);
        }
        Ok(Arc::new(Self {
            sections: Sections::new(elf, placement),
            units: Units::default(),
            described: OnceLock::new(),
        }))
    }

    /// Whether the sections that everything hangs on can be read: a compressed one may be damaged.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn check(&self) -> Result<(), DwarfError> {
        Ok(self.sections.check()?)
    }
}
