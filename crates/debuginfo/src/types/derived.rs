//! Types that no unit holds but that expressions need: pointers and arrays made from others, integers by size.

use std::sync::{Arc, Mutex, PoisonError};

use rustc_hash::FxHashMap;

use super::near::canonical_base_name;
use super::{Encoding, Param, Prototype, Qualifier, Tag, Type, TypeId, Types};

/// Unit number of [`TypeId::VOID`].
pub(super) const VOID_UNIT: u32 = TypeId::VOID.unit;
/// Unit number of the types made here.
pub(super) const UNIT: u32 = u32::MAX - 1;

#[derive(Clone, PartialEq, Eq, Hash)]
enum Key {
    Pointer(TypeId),
    Array(TypeId, Option<u64>),
    Int(u8, Encoding),
    Base(&'static str),
    Qualified(Qualifier, TypeId),
    Function(Vec<TypeId>, TypeId, bool),
}

/// Integers that every C has: spelling, bytes, encoding. `char` is signed, as the kernel's is since 6.2 and x86's ever
/// was.
const BASES: &[(&str, u64, Encoding)] = &[
    ("_Bool", 1, Encoding::Bool),
    ("char", 1, Encoding::Signed),
    ("signed char", 1, Encoding::Signed),
    ("unsigned char", 1, Encoding::Unsigned),
    ("short int", 2, Encoding::Signed),
    ("short unsigned int", 2, Encoding::Unsigned),
    ("int", 4, Encoding::Signed),
    ("unsigned int", 4, Encoding::Unsigned),
    // 0: as wide as a pointer.
    ("long int", 0, Encoding::Signed),
    ("long unsigned int", 0, Encoding::Unsigned),
    ("long long int", 8, Encoding::Signed),
    ("long long unsigned int", 8, Encoding::Unsigned),
    ("__int128", 16, Encoding::Signed),
    ("__int128 unsigned", 16, Encoding::Unsigned),
];

#[derive(Default)]
struct Interned {
    ids: FxHashMap<Key, u32>,
    types: Vec<Arc<Type>>,
}

/// Interned types: asking twice gives the same id.
#[derive(Default)]
pub(super) struct Derived(Mutex<Interned>);

impl Derived {
    pub(super) fn get(&self, id: TypeId) -> Option<Arc<Type>> {
        if id == TypeId::VOID {
            return Some(Arc::new(Type::Void));
        }
        let interned = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        interned.types.get(id.index as usize).filter(|_| id.unit == UNIT).cloned()
    }

    fn intern(&self, key: Key, make: impl FnOnce() -> Type) -> TypeId {
        let mut interned = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let next = interned.types.len() as u32;
        let index = *interned.ids.entry(key).or_insert(next);
        if index == next {
            interned.types.push(Arc::new(make()));
        }
        TypeId { unit: UNIT, index }
    }
}

impl Types {
    /// `T *` for any `T`.
    #[must_use]
    pub fn pointer_to(&self, to: TypeId) -> TypeId {
        self.derived.intern(Key::Pointer(to), || Type::Pointer { to, bytes: self.pointer_bytes })
    }

    /// `T [count]` for any `T`.
    #[must_use]
    pub fn array_of(&self, of: TypeId, count: Option<u64>) -> TypeId {
        let count = count.filter(|&count| count > 0);
        self.derived.intern(Key::Array(of, count), || Type::Array { of, count })
    }

    /// `const T` and the like. A qualifier that is there already is not added again.
    #[must_use]
    pub fn qualified(&self, qualifier: Qualifier, of: TypeId) -> TypeId {
        match self.get(of).as_deref() {
            Some(Type::Qualified { qualifier: known, .. }) if *known == qualifier => of,
            _ => self
                .derived
                .intern(Key::Qualified(qualifier.clone(), of), || Type::Qualified { qualifier, of }),
        }
    }

    /// A function's type.
    #[must_use]
    pub fn function(&self, returns: TypeId, params: &[TypeId], variadic: bool) -> TypeId {
        self.derived.intern(Key::Function(params.to_vec(), returns, variadic), || {
            let params = params.iter().map(|&of| Param { name: None, of }).collect();
            Type::Function(Prototype { params, returns, variadic })
        })
    }

    /// A number by any of its spellings, `unsigned long` or `char`: as the kernel has it, or as C does where no unit
    /// tells.
    #[must_use]
    pub fn base(&self, name: &str) -> Option<TypeId> {
        if let Ok(found) = self.find(Tag::Base, name) {
            return Some(found);
        }
        let name = canonical_base_name(name);
        let &(name, bytes, encoding) = BASES.iter().find(|(known, ..)| *known == name)?;
        let bytes = if bytes == 0 { self.pointer_bytes } else { bytes };
        Some(self.derived.intern(Key::Base(name), || Type::Int { name: name.into(), bytes, encoding }))
    }

    /// The integer of this many bytes (1, 2, 4, 8, 16; else 8) as C spells it on Linux: there even when no unit is.
    #[must_use]
    pub fn int(&self, bytes: u8, signed: bool) -> TypeId {
        let (bytes, name) = match (bytes, signed) {
            (1, true) => (1, "signed char"),
            (1, false) => (1, "unsigned char"),
            (2, true) => (2, "short int"),
            (2, false) => (2, "short unsigned int"),
            (4, true) => (4, "int"),
            (4, false) => (4, "unsigned int"),
            (16, true) => (16, "__int128"),
            (16, false) => (16, "__int128 unsigned"),
            (_, true) if self.pointer_bytes == 4 => (8, "long long int"),
            (_, false) if self.pointer_bytes == 4 => (8, "long long unsigned int"),
            (_, true) => (8, "long int"),
            (_, false) => (8, "long unsigned int"),
        };
        let encoding = if signed { Encoding::Signed } else { Encoding::Unsigned };
        self.derived.intern(Key::Int(bytes, encoding), || Type::Int {
            name: name.into(),
            bytes: u64::from(bytes),
            encoding,
        })
    }
}
