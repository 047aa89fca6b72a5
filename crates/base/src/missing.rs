//! Why a piece of memory cannot be read. Missing is not zero.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::{PhysAddr, VirtAddr};

/// An address of either kind, for reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// Physical.
    Physical(PhysAddr),
    /// Virtual.
    Virtual(VirtAddr),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Physical(at) => write!(f, "physical address {at:#}"),
            Self::Virtual(at) => write!(f, "address {at:#}"),
        }
    }
}

impl From<PhysAddr> for Address {
    fn from(at: PhysAddr) -> Self {
        Self::Physical(at)
    }
}

impl From<VirtAddr> for Address {
    fn from(at: VirtAddr) -> Self {
        Self::Virtual(at)
    }
}

/// The reason a byte of memory is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Why {
    /// RAM that the dump's filter level left out.
    Excluded,
    /// The container cannot tell a zero page from one that was filtered out (ELF, `p_filesz < p_memsz`).
    ZeroOrExcluded,
    /// The index says it is there, but the file ends before it: a truncated dump.
    BeyondFileEnd,
    /// The capture ran out of space before it wrote this page (status flag of a kdump-compressed file).
    NotWritten,
    /// It belongs to another file of a split set, which was not given.
    InMissingFile,
    /// The machine had no RAM there, or the container does not describe it.
    NeverPresent,
    /// The page tables do not map it: the entry at this level is not present (1 is the last level).
    NotMapped {
        /// Level of the page table whose entry stopped the walk, counted from 1 at the leaf.
        level: u8,
    },
    /// Not a canonical address of this machine.
    NotCanonical,
    /// Swapped out: the swap area and the page offset in it.
    Swapped {
        /// Index of the swap area (`swp_type`).
        area: u8,
        /// Offset in the area, in pages.
        offset: u64,
    },
    /// Overwritten on purpose by a filter that hides secrets.
    Redacted,
    /// It is there but does not decode: a corrupt page, with the compression that failed.
    Corrupt(&'static str),
    /// Reading the dump file failed.
    Io(std::io::ErrorKind),
}

impl Why {
    /// A short stable word for counting and for JSON.
    #[must_use]
    pub fn slug(&self) -> &'static str {
        match self {
            Self::Excluded => "excluded",
            Self::ZeroOrExcluded => "zero-or-excluded",
            Self::BeyondFileEnd => "beyond-file-end",
            Self::NotWritten => "not-written",
            Self::InMissingFile => "in-missing-file",
            Self::NeverPresent => "never-present",
            Self::NotMapped { .. } => "not-mapped",
            Self::NotCanonical => "not-canonical",
            Self::Swapped { .. } => "swapped",
            Self::Redacted => "redacted",
            Self::Corrupt(_) => "corrupt",
            Self::Io(_) => "io",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Excluded => f.write_str("excluded by the dump's filter level"),
            Self::ZeroOrExcluded => f.write_str("zero or excluded: this dump format cannot tell"),
            Self::BeyondFileEnd => f.write_str("beyond the end of the dump file"),
            Self::NotWritten => f.write_str("not written: the dump is incomplete"),
            Self::InMissingFile => f.write_str("in a file of the split set that was not given"),
            Self::NeverPresent => f.write_str("no memory there in the dump"),
            Self::NotMapped { level } => write!(f, "not mapped (page-table level {level})"),
            Self::NotCanonical => f.write_str("not a canonical address"),
            Self::Swapped { area, offset } => write!(f, "swapped out (area {area}, page offset {offset:#x})"),
            Self::Redacted => f.write_str("redacted when the dump was filtered"),
            Self::Corrupt(what) => write!(f, "corrupt in the dump ({what})"),
            Self::Io(std::io::ErrorKind::InvalidData) => {
                f.write_str("its bytes in the dump file are damaged")
            }
            Self::Io(kind) => write!(f, "reading the dump file failed: {kind}"),
        }
    }
}

/// One address that cannot be read, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{address}: {why}")]
pub struct Missing {
    /// The first byte that is missing.
    pub address: Address,
    /// The reason.
    pub why: Why,
}

impl Missing {
    /// `address` is missing because of `why`.
    #[must_use]
    pub fn new(address: impl Into<Address>, why: Why) -> Self {
        Self { address: address.into(), why }
    }
}

impl Serialize for Missing {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
