//! Kernel structures as Rust structures: the part of a type that kdive understands, bound to a kernel's layout once.
//!
//! ```ignore
//! #[derive(Load)]
//! #[load(type = "task_struct")]
//! pub struct Task {
//!     pub pid: Field<i32>,
//!     #[load(any("__state", "state"))]
//!     pub state: Field<u64>,
//!     #[load(any("thread.sp"))]
//!     pub sp: Field<VirtAddr>,
//! }
//! ```
//!
//! Every field is a [`Field`]: its value, or the reason why this kernel or this dump lacks it. A member that moved is
//! found by its name; one that was renamed is found by its other name; nothing asks for a version.

use std::borrow::Cow;
use std::marker::PhantomData;
use std::sync::Arc;

use kdive_base::{Endian, Missing, PAGE_SIZE, VirtAddr, VirtualMemory};
use kdive_debuginfo::types::TypeId;
pub use kdive_target_derive::Load;

use crate::kernel::Kernel;
use crate::lacks::{Field, Lacks};

/// A kernel structure that can be loaded; derived.
pub trait Load: Sized + 'static {
    /// Names of the kernel's type, tried in order (`task_struct`).
    const TYPES: &'static [&'static str];
    /// The members, in the order that [`Load::from_object`] asks for them.
    const MEMBERS: &'static [MemberNames];
    /// Whether a module may define the type: its types are asked where the kernel's own lack it.
    const OF_MODULE: bool = false;
    /// Builds the structure from an object's bytes.
    fn from_object(object: &Object<'_>) -> Self;
}

/// The names under which kernels have had one member, tried in order. Paths go through members (`se.exec_start`).
#[derive(Debug)]
pub struct MemberNames(pub &'static [&'static str]);

/// Where a member lies in its structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Offset from the start of the structure, in bytes.
    pub offset: u64,
    /// Its size in bytes; 0 for a flexible array.
    pub bytes: u64,
    /// For a bit-field, its first bit counted from `offset`, and its width.
    pub bits: Option<(u32, u32)>,
    /// Whether it is a signed integer: narrower values are sign-extended.
    pub signed: bool,
    /// Its type.
    pub of: TypeId,
}

/// The layout of a [`Load`] structure in one kernel.
pub(crate) struct Layout {
    pub(crate) record: Field<u64>,
    pub(crate) members: Vec<Field<Member>>,
    /// First and past-the-last byte of the members bound.
    pub(crate) span: (u64, u64),
}

/// Loads structures of one kind. Cheap to clone and to share: the layout is bound once per kernel.
pub struct Loader<'k, T> {
    pub(crate) kernel: &'k Kernel,
    pub(crate) layout: Arc<Layout>,
    pub(crate) kind: PhantomData<fn() -> T>,
}

impl<T> Clone for Loader<'_, T> {
    fn clone(&self) -> Self {
        Self { kernel: self.kernel, layout: self.layout.clone(), kind: PhantomData }
    }
}

/// Structures wider than this between their first and last bound member are read member by member.
const MAX_SPAN: u64 = 4 * PAGE_SIZE;

impl<T: Load> Loader<'_, T> {
    /// The structure at `at`, a kernel address. Missing memory and members become fields that say so.
    #[must_use]
    pub fn load(&self, at: VirtAddr) -> T {
        self.load_from(self.kernel.memory(), at)
    }

    /// The same, out of another address space.
    #[must_use]
    pub fn load_from(&self, memory: &dyn VirtualMemory, at: VirtAddr) -> T {
        let (low, high) = self.layout.span;
        let length = high.saturating_sub(low);
        let bytes =
            if length <= MAX_SPAN { read_span(memory, at.add(low), length as usize) } else { Vec::new() };
        T::from_object(&Object { at, layout: &self.layout, memory, low, bytes: Cow::Owned(bytes) })
    }

    /// The structure at `at`, whose first bytes were read already, as part of an array. What lies behind them is read now.
    #[must_use]
    pub fn load_read(&self, at: VirtAddr, bytes: &[u8]) -> T {
        let memory = self.kernel.memory();
        T::from_object(&Object { at, layout: &self.layout, memory, low: 0, bytes: Cow::Borrowed(bytes) })
    }

    /// Size of the whole structure in bytes.
    pub fn size(&self) -> Field<u64> {
        self.layout.record.clone()
    }

    /// Where one of the members lies, by the index of its field.
    pub fn member(&self, index: usize) -> Field<Member> {
        self.layout.members.get(index).cloned().unwrap_or(Err(Lacks::Types))
    }
}

/// The bytes of a span up to the first that is missing. Members behind it are read one by one.
fn read_span(memory: &dyn VirtualMemory, at: VirtAddr, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let (count, _) = memory.read(at, &mut bytes);
    bytes.truncate(count);
    bytes
}

/// One object in memory, as the derived code sees it.
pub struct Object<'a> {
    at: VirtAddr,
    layout: &'a Layout,
    memory: &'a dyn VirtualMemory,
    low: u64,
    bytes: Cow<'a, [u8]>,
}

impl Object<'_> {
    /// Where the object lies.
    #[must_use]
    pub fn address(&self) -> VirtAddr {
        self.at
    }

    /// The field with this index in [`Load::MEMBERS`].
    pub fn field<T: FieldValue>(&self, index: usize) -> Field<T> {
        let member = self.layout.members.get(index).cloned().unwrap_or(Err(Lacks::Types))?;
        T::read(self, &member)
    }

    /// Fills `into` from `offset` bytes into the object.
    pub fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), Missing> {
        let cached = offset
            .checked_sub(self.low)
            .and_then(|from| self.bytes.get(usize::try_from(from).ok()?..)?.get(..into.len()));
        match cached {
            Some(bytes) => {
                into.copy_from_slice(bytes);
                Ok(())
            }
            None => self.memory.read_exact(self.at.add(offset), into),
        }
    }
}

/// A value that a member can be read as.
pub trait FieldValue: Sized {
    /// Reads the member of an object.
    fn read(object: &Object<'_>, member: &Member) -> Field<Self>;
}

/// The address of a member, for lists and structures that are embedded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberAddress(pub VirtAddr);

impl FieldValue for MemberAddress {
    fn read(object: &Object<'_>, member: &Member) -> Field<Self> {
        Ok(Self(object.at.add(member.offset)))
    }
}

/// An integer, an enumerator, a pointer or a bit-field, widened to 64 bits the way C would.
fn integer(object: &Object<'_>, member: &Member) -> Field<u64> {
    let width = match member.bytes {
        bytes @ (1 | 2 | 4 | 8) => bytes as usize,
        other => return Err(Lacks::implausible(format_args!("a member of {other} bytes is not an integer"))),
    };
    let mut raw = [0; 8];
    let Some(buffer) = raw.get_mut(..width) else { return Err(Lacks::Types) };
    object.read(member.offset, buffer)?;
    let value = Endian::Little.u64(&raw, 0).unwrap_or_default();
    let (first, bits) = member.bits.unwrap_or((0, width as u32 * 8));
    Ok(extend(value >> first.min(63), bits, member.signed))
}

/// Keeps the low `bits` of `value`, sign-extended where the type is signed.
fn extend(value: u64, bits: u32, signed: bool) -> u64 {
    let unused = 64_u32.saturating_sub(bits).min(63);
    if signed { ((value << unused) as i64 >> unused) as u64 } else { value << unused >> unused }
}

macro_rules! integer_fields {
    ($($ty:ty),*) => {$(
        impl FieldValue for $ty {
            fn read(object: &Object<'_>, member: &Member) -> Field<Self> {
                // A wider member than asked for keeps its low bits, as a C assignment would.
                integer(object, member).map(|value| value as $ty)
            }
        }
    )*};
}

integer_fields!(u8, u16, u32, u64, i8, i16, i32, i64);

impl FieldValue for bool {
    fn read(object: &Object<'_>, member: &Member) -> Field<Self> {
        integer(object, member).map(|value| value != 0)
    }
}

impl FieldValue for VirtAddr {
    fn read(object: &Object<'_>, member: &Member) -> Field<Self> {
        integer(object, member).map(VirtAddr)
    }
}

/// The raw bytes of a member (an array, a structure), bounded by its size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

/// No member that kdive loads whole is larger: a bound against damaged type information.
const MAX_MEMBER_BYTES: u64 = 1 << 20;

impl FieldValue for Bytes {
    fn read(object: &Object<'_>, member: &Member) -> Field<Self> {
        if member.bytes > MAX_MEMBER_BYTES {
            return Err(Lacks::implausible(format_args!("a member of {} bytes", member.bytes)));
        }
        let mut bytes = vec![0; member.bytes as usize];
        object.read(member.offset, &mut bytes)?;
        Ok(Self(bytes))
    }
}

/// Text in a `char` array: the bytes before the first NUL, printable.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(transparent)]
pub struct Text(pub String);

impl FieldValue for Text {
    fn read(object: &Object<'_>, member: &Member) -> Field<Self> {
        let Bytes(bytes) = Bytes::read(object, member)?;
        Ok(Self(kdive_base::printable(kdive_base::bytes::until_nul(&bytes))))
    }
}

/// An array of 64-bit words (`cpumask`, `counter[]`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words(pub Vec<u64>);

impl FieldValue for Words {
    fn read(object: &Object<'_>, member: &Member) -> Field<Self> {
        let Bytes(bytes) = Bytes::read(object, member)?;
        Ok(Self(bytes.chunks_exact(8).filter_map(|word| Endian::Little.u64(word, 0)).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_widen_as_in_c() {
        assert_eq!(extend(0xff, 8, true), u64::MAX);
        assert_eq!(extend(0xff, 8, false), 0xff);
        assert_eq!(extend(0b1101, 3, false), 0b101);
        assert_eq!(extend(u64::MAX, 64, false), u64::MAX);
    }
}
