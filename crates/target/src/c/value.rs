//! A value and where it lies.

use std::sync::Arc;

use kdive_base::VirtAddr;
use kdive_debuginfo::TypeId;

/// A C value: an object in memory that is read when it is needed, or the result of an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// Its type, as it was written: typedefs and qualifiers are kept.
    pub of: TypeId,
    /// Where its bytes are.
    pub stored: Stored,
}

/// Where the bytes of a value are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    /// An object in memory.
    Memory(VirtAddr),
    /// A bit-field of an object in memory.
    Bits {
        /// The record's address.
        record: VirtAddr,
        /// Bits from the record's start: see `debuginfo::types::Member::bit_offset`.
        offset: u64,
        /// Width in bits.
        width: u32,
    },
    /// Computed: the value's bytes in the machine's order. It has no address.
    Bytes(Arc<[u8]>),
}

impl Value {
    /// The object of this type at an address.
    #[must_use]
    pub const fn object(of: TypeId, at: VirtAddr) -> Self {
        Self { of, stored: Stored::Memory(at) }
    }

    /// Where it lies, if it lies in memory and begins at a byte.
    #[must_use]
    pub const fn address(&self) -> Option<VirtAddr> {
        match self.stored {
            Stored::Memory(at) => Some(at),
            Stored::Bits { .. } | Stored::Bytes(_) => None,
        }
    }
}
