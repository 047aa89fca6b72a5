//! The bytes of values, and the values inside values.

use std::sync::Arc;

use kdive_base::{Endian, VirtAddr, VirtualMemory};
use kdive_debuginfo::types::{MemberAt, MemberError};
use kdive_debuginfo::{TypeId, Types};

use super::convert::{Class, Integer, class, extend};
use super::value::{Stored, Value};
use crate::lacks::{Field, Lacks, Names};

/// Largest value that is read as a whole: a kernel's largest arrays are some megabytes.
const MOST_BYTES: u64 = 64 << 20;

/// Reads values of these types out of this memory.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    pub(super) types: &'a Types,
    pub(super) memory: &'a dyn VirtualMemory,
    /// Nothing is read, all values are 0: what stands in `sizeof` and behind a `?` that is not taken has a type only.
    pub(super) idle: bool,
}

impl Reader<'_> {
    fn endian(&self) -> Endian {
        self.memory.endian()
    }

    pub(super) fn class(&self, of: TypeId) -> Class {
        class(self.types, of)
    }

    pub(super) fn is_pointer(&self, of: TypeId) -> bool {
        matches!(self.class(of), Class::Pointer { .. })
    }

    pub(super) fn unknown(&self, of: TypeId) -> Lacks {
        Lacks::Type(self.types.name_of(of).as_str().into())
    }

    pub(super) fn size(&self, of: TypeId) -> Field<u64> {
        self.types.size_of(of).ok_or_else(|| self.unknown(of))
    }

    /// Bytes from one element to the next: of `void` and of functions 1, as GNU C has it.
    pub(super) fn stride(&self, of: TypeId) -> Field<u64> {
        match self.class(of) {
            Class::Void | Class::Function => Ok(1),
            _ => self.size(of),
        }
    }

    pub(super) fn bytes(&self, value: &Value) -> Field<Arc<[u8]>> {
        let wanted = self.size(value.of)?;
        if wanted > MOST_BYTES {
            let name = self.types.name_of(value.of);
            return Err(Lacks::unavailable(format_args!(
                "{name} is too large to be read at once: {wanted} bytes"
            )));
        }
        let wanted = wanted as usize;
        if self.idle {
            return Ok(vec![0; wanted].into());
        }
        match &value.stored {
            Stored::Memory(at) => Ok(self.memory.bytes(*at, wanted)?.into()),
            Stored::Bits { record, offset, width } => {
                let raw = self.bits(*record, *offset, *width)?;
                let signed = matches!(self.class(value.of), Class::Integer(Integer { signed: true, .. }));
                Ok(self.encode(extend(raw, *width, signed), wanted))
            }
            Stored::Bytes(bytes) if bytes.len() == wanted => Ok(Arc::clone(bytes)),
            Stored::Bytes(_) => Err(Lacks::implausible("a value that is not as long as its type")),
        }
    }

    /// The bits of a bit-field as a number.
    fn bits(&self, record: VirtAddr, offset: u64, width: u32) -> Field<u128> {
        let first = (offset % 8) as u32;
        let length = first.saturating_add(width).div_ceil(8);
        if width == 0 || length > 16 {
            return Err(Lacks::implausible(format_args!("a bit-field of {width} bits")));
        }
        let bytes = self.memory.bytes(record.add(offset / 8), length as usize)?;
        let raw = self.decode(&bytes);
        Ok(match self.endian() {
            Endian::Little => extend(raw >> first, width, false),
            Endian::Big => extend(
                raw >> length.saturating_mul(8).saturating_sub(first.saturating_add(width)),
                width,
                false,
            ),
        })
    }

    /// Up to 16 bytes as one unsigned number.
    fn decode(&self, bytes: &[u8]) -> u128 {
        let add = |number: u128, byte: &u8| number << 8 | u128::from(*byte);
        match self.endian() {
            Endian::Little => bytes.iter().rev().fold(0, add),
            Endian::Big => bytes.iter().fold(0, add),
        }
    }

    /// A number as so many bytes of memory.
    pub(super) fn encode(&self, number: u128, bytes: usize) -> Arc<[u8]> {
        let little = number.to_le_bytes();
        let low = little.get(..bytes).unwrap_or(&little);
        match self.endian() {
            Endian::Little => low.into(),
            Endian::Big => low.iter().rev().copied().collect(),
        }
    }

    /// The number that a value of an integer or a pointer type is, extended to 128 bits.
    pub(super) fn number(&self, value: &Value) -> Field<u128> {
        let of = match self.class(value.of) {
            Class::Integer(of) => Integer { boolean: false, ..of },
            Class::Pointer { .. } => Integer::new(self.types.pointer_bytes() as u8, false),
            Class::Incomplete => return Err(self.unknown(value.of)),
            _ => {
                let name = self.types.name_of(value.of);
                return Err(Lacks::unavailable(format_args!("a value of type {name} is no number")));
            }
        };
        let bytes = self.bytes(value)?;
        Ok(of.wrap(self.decode(&bytes)))
    }

    /// The address that a value means.
    pub(super) fn pointer(&self, value: &Value) -> Field<VirtAddr> {
        match (self.class(value.of), value.address()) {
            (Class::Integer(_) | Class::Pointer { .. }, _) => {
                self.number(value).map(|raw| VirtAddr(raw as u64))
            }
            (_, Some(at)) => Ok(at),
            (_, None) => {
                let name = self.types.name_of(value.of);
                Err(Lacks::unavailable(format_args!("this {name} has no address")))
            }
        }
    }

    /// What a pointer points to, or an array begins with.
    pub(super) fn deref(&self, value: &Value) -> Field<Value> {
        match self.class(value.of) {
            Class::Pointer { to } => Ok(Value::object(to, self.pointer(value)?)),
            Class::Array { .. } => self.index(value, 0),
            Class::Function => Ok(value.clone()),
            _ => {
                let name = self.types.name_of(value.of);
                Err(Lacks::unavailable(format_args!("a value of type {name} is no pointer")))
            }
        }
    }

    pub(super) fn index(&self, value: &Value, index: i128) -> Field<Value> {
        let (of, start) = match (self.class(value.of), &value.stored) {
            (Class::Pointer { to }, _) => (to, self.pointer(value)?),
            (Class::Array { of, .. }, Stored::Memory(at)) => (of, *at),
            (Class::Array { of, .. }, Stored::Bytes(bytes)) => {
                let size = self.size(of)?;
                let start = u64::try_from(index).ok().and_then(|index| index.checked_mul(size));
                return piece(bytes, start, size)
                    .map(|bytes| Value::computed(of, bytes))
                    .ok_or_else(|| Lacks::unavailable(format_args!("there is no element {index}")));
            }
            _ => {
                let name = self.types.name_of(value.of);
                return Err(Lacks::unavailable(format_args!("a value of type {name} has no elements")));
            }
        };
        let distance = (index as u64).wrapping_mul(self.stride(of)?);
        Ok(Value::object(of, start.add(distance)))
    }

    /// A member of a record, by where it lies.
    pub(super) fn part(&self, record: &Value, at: MemberAt) -> Field<Value> {
        let stored = match (&record.stored, at.bit_size) {
            (Stored::Memory(start), None) => Stored::Memory(start.add(at.byte_offset())),
            (Stored::Memory(start), Some(width)) => {
                Stored::Bits { record: *start, offset: at.bit_offset, width }
            }
            (Stored::Bytes(bytes), None) => {
                let size = self.size(at.of)?;
                let own = piece(bytes, Some(at.byte_offset()), size);
                Stored::Bytes(
                    own.ok_or_else(|| Lacks::implausible("a member beyond the end of its record"))?.into(),
                )
            }
            (Stored::Bytes(bytes), Some(width)) => {
                let inside = Reader { memory: &Loose(bytes, self.endian()), ..*self };
                let field = Stored::Bits { record: VirtAddr(0), offset: at.bit_offset, width };
                Stored::Bytes(inside.bytes(&Value { of: at.of, stored: field })?)
            }
            (Stored::Bits { .. }, _) => return Err(Lacks::implausible("a bit-field with members")),
        };
        Ok(Value { of: at.of, stored })
    }

    pub(super) fn no_member(&self, record: TypeId, path: &str, error: &MemberError) -> Lacks {
        match error {
            MemberError::NoMember { record, member } => {
                Lacks::Member { record: record.as_str().into(), members: Names::from(member.as_str()) }
            }
            MemberError::Incomplete { .. } => self.unknown(record),
            _ => Lacks::unavailable(format_args!("{path}: {error}")),
        }
    }
}

fn piece(bytes: &[u8], start: Option<u64>, size: u64) -> Option<&[u8]> {
    let start = usize::try_from(start?).ok()?;
    bytes.get(start..start.checked_add(usize::try_from(size).ok()?)?)
}

/// The bytes of a computed record as memory at 0.
struct Loose<'b>(&'b [u8], Endian);

impl VirtualMemory for Loose<'_> {
    fn read(&self, at: VirtAddr, into: &mut [u8]) -> (usize, Option<kdive_base::Missing>) {
        let rest = usize::try_from(at.0).ok().and_then(|at| self.0.get(at..)).unwrap_or_default();
        let count = rest.len().min(into.len());
        if let (Some(to), Some(from)) = (into.get_mut(..count), rest.get(..count)) {
            to.copy_from_slice(from);
        }
        (count, None)
    }

    fn endian(&self) -> Endian {
        self.1
    }
}
