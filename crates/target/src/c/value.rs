//! A value and where it lies.

use std::sync::Arc;

use kdive_base::VirtAddr;
use kdive_debuginfo::TypeId;

use super::read::Reader;
use super::world::World;
use crate::lacks::{Field, Lacks};

/// A C value: an object in memory that is read when it is needed, or the result of an expression.
///
/// Commands walk values with [`Value::member`], [`Value::index`] and [`Value::deref`], without text; a [`super::Scope`]
/// is the world that they need.
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

    /// A value without an address: its bytes in the machine's order.
    #[must_use]
    pub fn computed(of: TypeId, bytes: impl Into<Arc<[u8]>>) -> Self {
        Self { of, stored: Stored::Bytes(bytes.into()) }
    }

    /// An unsigned integer of 8 bytes: an address or a register as a variable has it.
    #[must_use]
    pub fn unsigned(world: &dyn World, number: u64) -> Self {
        let bytes = match world.memory().endian() {
            kdive_base::Endian::Little => number.to_le_bytes(),
            kdive_base::Endian::Big => number.to_be_bytes(),
        };
        Self::computed(world.types().int(8, false), bytes.to_vec())
    }

    /// Where it lies, if it lies in memory and begins at a byte.
    #[must_use]
    pub const fn address(&self) -> Option<VirtAddr> {
        match self.stored {
            Stored::Memory(at) => Some(at),
            Stored::Bits { .. } | Stored::Bytes(_) => None,
        }
    }

    /// Its size in bytes; of a bit-field, that of its declared type.
    ///
    /// # Errors
    /// The type has no size, or only its name is known.
    pub fn size(&self, world: &dyn World) -> Field<u64> {
        reading(world, |reader| reader.size(self.of))
    }

    /// Its bytes in the machine's order. A bit-field comes as a value of its declared type.
    ///
    /// # Errors
    /// The memory is missing, or the type has no size.
    pub fn bytes(&self, world: &dyn World) -> Field<Arc<[u8]>> {
        reading(world, |reader| reader.bytes(self))
    }

    /// The number that it is: of an integer, an enum, a `bool`, a pointer, extended by its sign where its type has one.
    /// Of an unsigned integer of 128 bits with its top bit set, the number less 2^128.
    ///
    /// # Errors
    /// The memory is missing, or it is no number.
    pub fn integer(&self, world: &dyn World) -> Field<i128> {
        reading(world, |reader| reader.number(self)).map(|number| number as i128)
    }

    /// The address that it means: the value of a pointer or an integer, the place of an array, a function or a record.
    ///
    /// # Errors
    /// As [`Value::integer`].
    pub fn pointer(&self, world: &dyn World) -> Field<VirtAddr> {
        reading(world, |reader| reader.pointer(self))
    }

    /// A member by name or path (`se.run_node`, `comm[3]`), of a record or of what a pointer points to. Members of
    /// anonymous records belong to the record around them.
    ///
    /// # Errors
    /// There is no such member, or the pointer cannot be read.
    pub fn member(&self, world: &dyn World, path: &str) -> Field<Self> {
        reading(world, |reader| {
            let record = match reader.is_pointer(self.of) {
                true => reader.deref(self)?,
                false => self.clone(),
            };
            let at = reader
                .types
                .member(record.of, path)
                .map_err(|error| reader.no_member(record.of, path, &error))?;
            reader.part(&record, at)
        })
    }

    /// An element of an array or of what a pointer points to.
    ///
    /// # Errors
    /// It is neither, or the pointer cannot be read.
    pub fn index(&self, world: &dyn World, index: i64) -> Field<Self> {
        reading(world, |reader| reader.index(self, index.into()))
    }

    /// What a pointer points to, or the first element of an array.
    ///
    /// # Errors
    /// It is neither, or the pointer cannot be read.
    pub fn deref(&self, world: &dyn World) -> Field<Self> {
        reading(world, |reader| reader.deref(self))
    }
}

/// Reads with the kernel's own types, and with all types where those do not know enough.
fn reading<T>(world: &dyn World, read: impl Fn(&Reader<'_>) -> Field<T>) -> Field<T> {
    let types = world.types();
    match read(&Reader { types: &types, memory: world.memory(), idle: false }) {
        Err(Lacks::Type(_)) => {}
        found => return found,
    }
    let types = world.all_types();
    read(&Reader { types: &types, memory: world.memory(), idle: false })
}
