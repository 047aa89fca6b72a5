//! The merged graph of C types, fed by BTF and by DWARF alike.

mod derived;
mod display;
mod layout;
mod member;
mod near;
mod placed;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, RwLock};

use kdive_base::VirtAddr;
use rustc_hash::FxHashMap;
use serde::Serialize;

use crate::btf::Btf;

pub use self::member::{MemberAt, MemberError};
pub use self::near::Closest;
pub use self::placed::PlacedVariable;

/// One type: the unit that holds it (one BTF blob or one DWARF file) and its number there. Numbers of units are never
/// reused, so an id stays good in every later snapshot of the same [`Types`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
pub struct TypeId {
    /// The unit's number in [`Types`].
    pub unit: u32,
    /// The type's number in its unit: a BTF type id, or a number of the DWARF reader's own.
    pub index: u32,
}

impl TypeId {
    /// `void`, in every unit.
    pub const VOID: Self = Self { unit: u32::MAX, index: 0 };
}

/// A C type. References to other types are ids, resolved by [`Types::get`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Type {
    /// `void`: no size, no value.
    Void,
    /// An integer, `char` and `_Bool` included.
    Int {
        /// The compiler's spelling, e.g. `long unsigned int`.
        name: Box<str>,
        /// Size in bytes.
        bytes: u64,
        /// How its bits are read.
        encoding: Encoding,
    },
    /// A binary floating-point number.
    Float {
        /// The compiler's spelling.
        name: Box<str>,
        /// Size in bytes.
        bytes: u64,
    },
    /// A pointer.
    Pointer {
        /// What it points to.
        to: TypeId,
        /// Size in bytes.
        bytes: u64,
    },
    /// An array.
    Array {
        /// Its elements.
        of: TypeId,
        /// Number of elements. `None` for a flexible array, and for one declared with `[0]`: BTF cannot tell them
        /// apart, so neither source does.
        count: Option<u64>,
    },
    /// A `struct` or `union` with its members.
    Record(Record),
    /// An `enum` with its enumerators.
    Enum(Enum),
    /// Another name for a type.
    Typedef {
        /// The new name.
        name: Box<str>,
        /// The type it stands for.
        to: TypeId,
    },
    /// A type with a qualifier.
    Qualified {
        /// `const`, `volatile`...
        qualifier: Qualifier,
        /// The type without it.
        of: TypeId,
    },
    /// A function's type; for a function looked up by name, with the names of its parameters.
    Function(Prototype),
    /// A `struct`, `union` or `enum` of which only the name is known.
    Declaration {
        /// Which of the three.
        tag: Tag,
        /// Its name.
        name: Box<str>,
    },
}

/// How an integer's bits are read.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
pub enum Encoding {
    /// Unsigned binary. Whether plain `char` is signed depends on the kernel's compiler flags.
    Unsigned,
    /// Two's complement.
    Signed,
    /// `_Bool`.
    Bool,
}

/// A type qualifier.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Qualifier {
    /// `const`
    Const,
    /// `volatile`
    Volatile,
    /// `restrict`, on pointers
    Restrict,
    /// `_Atomic`
    Atomic,
    /// An address-space or similar tag, without its underscores: `user`, `percpu`, `rcu` (BTF type tags). Not shown in
    /// C names.
    Tag(Box<str>),
}

/// Whether a record is a `struct` or a `union`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
pub enum RecordKind {
    /// Members follow each other.
    Struct,
    /// Members overlay each other.
    Union,
}

/// A `struct` or `union`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// Struct or union.
    pub kind: RecordKind,
    /// Its tag; `None` for an anonymous one.
    pub name: Option<Box<str>>,
    /// Size in bytes, tail padding included.
    pub bytes: u64,
    /// In order of declaration.
    pub members: Vec<Member>,
}

/// A member of a record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// `None` for an anonymous struct or union, whose members belong to the enclosing record by C's rules.
    pub name: Option<Box<str>>,
    /// Its type.
    pub of: TypeId,
    /// Offset in bits from the record's start. For a bit-field on a little-endian machine this is its lowest bit; on a
    /// big-endian one its highest, counted from the most significant bit of the first byte.
    pub bit_offset: u64,
    /// Width in bits of a bit-field.
    pub bit_size: Option<u32>,
}

/// An `enum`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Enum {
    /// Its tag; `None` for an anonymous one.
    pub name: Option<Box<str>>,
    /// Size in bytes.
    pub bytes: u64,
    /// Whether values are signed.
    pub signed: bool,
    /// Enumerators in order of declaration.
    pub values: Vec<(Box<str>, i128)>,
}

impl Enum {
    /// The first enumerator with this value.
    #[must_use]
    pub fn name_of(&self, value: i128) -> Option<&str> {
        self.values.iter().find(|(_, of)| *of == value).map(|(name, _)| &**name)
    }
}

/// What a function takes and gives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Prototype {
    /// Parameters in order.
    pub params: Vec<Param>,
    /// The type it returns.
    pub returns: TypeId,
    /// Whether it ends in `...`.
    pub variadic: bool,
}

/// A parameter of a function.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Param {
    /// Its name, where the source keeps it.
    pub name: Option<Box<str>>,
    /// Its type.
    pub of: TypeId,
}

/// The kinds of things that have names. C keeps the first three apart from the rest by a keyword.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Tag {
    /// `struct`
    Struct,
    /// `union`
    Union,
    /// `enum`
    Enum,
    /// `typedef`
    Typedef,
    /// Integers and floating-point numbers. Any C spelling finds them: `unsigned long` is `long unsigned int`.
    Base,
    /// A function: its id leads to a [`Type::Function`].
    Function,
    /// A variable: its id is that of the variable's type. BTF knows the per-CPU ones only.
    Variable,
}

impl Tag {
    /// The C keyword, or a word for messages.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Struct => "struct",
            Self::Union => "union",
            Self::Enum => "enum",
            Self::Typedef => "typedef",
            Self::Base => "type",
            Self::Function => "function",
            Self::Variable => "variable",
        }
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// One source of types: a BTF blob, or the DWARF of one file. It hands out ids under the number that it was made with.
pub trait TypeUnit: Send + Sync {
    /// The module that the types belong to; `None` for the kernel itself.
    fn module(&self) -> Option<&str>;

    /// Decodes one type of this unit. `None` for a number that it does not have, or a damaged entry.
    fn get(&self, index: u32) -> Option<Type>;

    /// Everything with this tag and name, declarations included.
    fn named(&self, tag: Tag, name: &str) -> Vec<TypeId>;

    /// Calls `each` for every name with this tag, in no particular order, repeats included.
    fn for_each_name(&self, tag: Tag, each: &mut dyn FnMut(&str, TypeId));

    /// Enumerators with this name: the enum and the value.
    fn enumerators(&self, name: &str) -> Vec<(TypeId, i128)>;

    /// The variables with this name that files have at their top level, with their places. BTF tells none.
    fn variables(&self, name: &str) -> Vec<PlacedVariable> {
        let _ = name;
        Vec::new()
    }

    /// The static variables with this name inside the function at an address.
    fn variables_in(&self, function: VirtAddr, name: &str) -> Vec<PlacedVariable> {
        let _ = (function, name);
        Vec::new()
    }
}

/// Why a name does not lead to one type.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Lookup {
    /// Nobody has it. Asking for what may be absent is normal, so suggestions are not computed here: see
    /// [`Types::near`].
    #[error("no {tag} named {name}")]
    NotFound {
        /// The kind of thing looked for.
        tag: Tag,
        /// The name looked for.
        name: Box<str>,
    },
    /// Several different things have it.
    #[error("{tag} {name} is ambiguous: {} different definitions", candidates.len())]
    Ambiguous {
        /// The kind of thing looked for.
        tag: Tag,
        /// The name looked for.
        name: Box<str>,
        /// One id for each different definition.
        candidates: Vec<TypeId>,
    },
}

/// A unit and the types decoded from it so far.
struct Slot {
    number: u32,
    unit: Arc<dyn TypeUnit>,
    decoded: RwLock<FxHashMap<u32, Arc<Type>>>,
}

impl Slot {
    fn get(&self, index: u32) -> Option<Arc<Type>> {
        if let Some(known) = self.decoded.read().ok().and_then(|decoded| decoded.get(&index).cloned()) {
            return Some(known);
        }
        let decoded = Arc::new(self.unit.get(index)?);
        match self.decoded.write() {
            Ok(mut all) => Some(Arc::clone(all.entry(index).or_insert(decoded))),
            Err(_) => Some(decoded),
        }
    }
}

/// All known types, as a snapshot that is cheap to clone. Adding a module's types makes a new snapshot; decoded types
/// are shared by all of them.
#[derive(Clone)]
pub struct Types {
    slots: Vec<Arc<Slot>>,
    next: Arc<AtomicU32>,
    derived: Arc<derived::Derived>,
    pointer_bytes: u64,
    /// The kernel's BTF and its unit, for the split BTF of modules.
    pub(crate) kernel_btf: Option<(Arc<Btf>, u32)>,
}

impl fmt::Debug for Types {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = self.slots.iter().map(|slot| slot.unit.module().unwrap_or("kernel"));
        f.debug_list().entries(units).finish()
    }
}

impl Types {
    /// No types yet, for a machine with pointers of this size (8, or 4).
    #[must_use]
    pub fn new(pointer_bytes: u64) -> Self {
        Self {
            slots: Vec::new(),
            next: Arc::default(),
            derived: Arc::default(),
            pointer_bytes,
            kernel_btf: None,
        }
    }

    /// Size of a pointer in bytes.
    #[must_use]
    pub const fn pointer_bytes(&self) -> u64 {
        self.pointer_bytes
    }

    /// A snapshot with one unit more. `make` gets the number under which the unit has to hand out its ids. Units are
    /// asked in the order in which they came: put the kernel's BTF before its DWARF.
    #[must_use]
    pub fn with<U: TypeUnit + 'static>(&self, make: impl FnOnce(u32) -> U) -> Self {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut slots = self.slots.clone();
        slots.push(Arc::new(Slot { number, unit: Arc::new(make(number)), decoded: RwLock::default() }));
        Self { slots, ..self.clone() }
    }

    /// A snapshot without the types of one module, or of the kernel (`None`).
    #[must_use]
    pub fn without(&self, module: Option<&str>) -> Self {
        let kept = self.slots.iter().filter(|slot| slot.unit.module() != module);
        let kernel_btf = self.kernel_btf.clone().filter(|_| module.is_some());
        Self { slots: kept.cloned().collect(), kernel_btf, ..self.clone() }
    }

    /// Whether there is no unit at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The modules that have types of their own here.
    pub fn modules(&self) -> impl Iterator<Item = &str> {
        self.slots.iter().filter_map(|slot| slot.unit.module())
    }

    /// The module that a type came from; `None` for the kernel and for types made here.
    #[must_use]
    pub fn module_of(&self, id: TypeId) -> Option<&str> {
        self.slot(id.unit)?.unit.module()
    }

    fn slot(&self, number: u32) -> Option<&Slot> {
        let at = self.slots.binary_search_by_key(&number, |slot| slot.number).ok()?;
        self.slots.get(at).map(|slot| &**slot)
    }

    /// The type behind an id; `None` for an id of another snapshot's unit or a damaged entry.
    #[must_use]
    pub fn get(&self, id: TypeId) -> Option<Arc<Type>> {
        match id.unit {
            derived::VOID_UNIT | derived::UNIT => self.derived.get(id),
            number => self.slot(number)?.get(id.index),
        }
    }

    /// The one thing with this tag and name: the kernel's, or else what all modules that have it agree on.
    ///
    /// # Errors
    /// [`Lookup::NotFound`], or [`Lookup::Ambiguous`] when there are definitions with different layouts.
    pub fn find(&self, tag: Tag, name: &str) -> Result<TypeId, Lookup> {
        self.find_in(None, tag, name)
    }

    /// As [`Types::find`], but what `module` defines itself comes first: the scope that its own code sees.
    ///
    /// # Errors
    /// As [`Types::find`].
    pub fn find_in(&self, module: Option<&str>, tag: Tag, name: &str) -> Result<TypeId, Lookup> {
        let name = if tag == Tag::Base { near::canonical_base_name(name) } else { name.into() };
        let mut declared = None;
        for scope in [module, None].into_iter().skip(usize::from(module.is_none())) {
            for slot in self.slots.iter().filter(|slot| slot.unit.module() == scope) {
                let (defined, declaration) = self.split_declarations(slot.unit.named(tag, &name));
                declared = declared.or(declaration);
                if !defined.is_empty() {
                    return self.the_one(tag, &name, defined);
                }
            }
        }
        let elsewhere = self.slots.iter().filter(|slot| slot.unit.module().is_some());
        let all = elsewhere.flat_map(|slot| slot.unit.named(tag, &name)).collect();
        let (defined, declaration) = self.split_declarations(all);
        if !defined.is_empty() {
            return self.the_one(tag, &name, defined);
        }
        declared.or(declaration).ok_or_else(|| Lookup::NotFound { tag, name: (&*name).into() })
    }

    /// As [`Types::find`], but of several definitions the one that has this member: for names such as `struct console`,
    /// which drivers use again for something else.
    ///
    /// # Errors
    /// As [`Types::find`]; also when none or several of the definitions have the member.
    pub fn find_having(&self, tag: Tag, name: &str, member: &str) -> Result<TypeId, Lookup> {
        match self.find(tag, name) {
            Err(Lookup::Ambiguous { candidates, .. }) => {
                let having = candidates.into_iter().filter(|&id| self.member(id, member).is_ok());
                self.the_one(tag, name, having.collect())
            }
            found => found,
        }
    }

    /// Everything with this tag and name in all units, one id for each different layout, declarations left out.
    #[must_use]
    pub fn find_all(&self, tag: Tag, name: &str) -> Vec<TypeId> {
        let name = if tag == Tag::Base { near::canonical_base_name(name) } else { name.into() };
        let all = self.slots.iter().flat_map(|slot| slot.unit.named(tag, &name)).collect();
        self.different(self.split_declarations(all).0)
    }

    /// Definitions, and the first declaration.
    fn split_declarations(&self, found: Vec<TypeId>) -> (Vec<TypeId>, Option<TypeId>) {
        let mut declared = None;
        let defined = found
            .into_iter()
            .filter(|&id| match self.get(id).as_deref() {
                None => id == TypeId::VOID,
                Some(Type::Declaration { .. }) => {
                    declared = declared.or(Some(id));
                    false
                }
                Some(_) => true,
            })
            .collect();
        (defined, declared)
    }

    fn the_one(&self, tag: Tag, name: &str, found: Vec<TypeId>) -> Result<TypeId, Lookup> {
        let candidates = self.different(found);
        match candidates.as_slice() {
            [one] => Ok(*one),
            [] => Err(Lookup::NotFound { tag, name: name.into() }),
            _ => Err(Lookup::Ambiguous { tag, name: name.into(), candidates }),
        }
    }

    /// The first of each group of equal layouts.
    fn different(&self, found: Vec<TypeId>) -> Vec<TypeId> {
        let mut kept: Vec<TypeId> = Vec::new();
        for id in found {
            if kept.len() < MOST_CANDIDATES && !kept.iter().any(|&known| self.same_layout(known, id)) {
                kept.push(id);
            }
        }
        kept
    }

    /// The enumerator with this name: its enum and its value. The kernel's come before the modules'.
    ///
    /// # Errors
    /// [`Lookup::Ambiguous`] when enums disagree about the value.
    pub fn enumerator(&self, name: &str) -> Result<(TypeId, i128), Lookup> {
        for kernel in [true, false] {
            let slots = self.slots.iter().filter(|slot| slot.unit.module().is_none() == kernel);
            let found: Vec<_> = slots.flat_map(|slot| slot.unit.enumerators(name)).collect();
            let Some(&first) = found.first() else { continue };
            if found.iter().all(|other| other.1 == first.1) {
                return Ok(first);
            }
            let candidates = found.iter().map(|&(id, _)| id).take(MOST_CANDIDATES).collect();
            return Err(Lookup::Ambiguous { tag: Tag::Enum, name: name.into(), candidates });
        }
        Err(Lookup::NotFound { tag: Tag::Enum, name: name.into() })
    }

    /// Calls `each` for every name with this tag in all units, repeats included: for completion and listings.
    pub fn for_each_name(&self, tag: Tag, mut each: impl FnMut(&str, TypeId)) {
        for slot in &self.slots {
            slot.unit.for_each_name(tag, &mut each);
        }
    }

    /// The type under typedefs and qualifiers, and the definition behind a declaration where one is known.
    #[must_use]
    pub fn strip(&self, id: TypeId) -> TypeId {
        let mut at = id;
        for _ in 0..DEEPEST {
            match self.get(at).as_deref() {
                Some(Type::Typedef { to, .. }) => at = *to,
                Some(Type::Qualified { of, .. }) => at = *of,
                Some(Type::Declaration { tag, name }) => {
                    return self.definition(at, *tag, name).unwrap_or(at);
                }
                _ => return at,
            }
        }
        at
    }

    /// [`Types::strip`] and [`Types::get`] in one.
    #[must_use]
    pub fn stripped(&self, id: TypeId) -> Option<Arc<Type>> {
        self.get(self.strip(id))
    }

    fn definition(&self, declaration: TypeId, tag: Tag, name: &str) -> Option<TypeId> {
        let found = self.find_in(self.module_of(declaration), tag, name).ok()?;
        (found != declaration).then_some(found)
    }

    /// Size in bytes; `None` for `void`, functions, and types of which only the name is known. A flexible array has 0.
    #[must_use]
    pub fn size_of(&self, id: TypeId) -> Option<u64> {
        let mut factor = 1_u64;
        let mut at = self.strip(id);
        for _ in 0..DEEPEST {
            let bytes = match self.get(at).as_deref()? {
                Type::Int { bytes, .. } | Type::Float { bytes, .. } | Type::Pointer { bytes, .. } => *bytes,
                Type::Record(record) => record.bytes,
                Type::Enum(of) => of.bytes,
                Type::Array { of, count } => {
                    factor = factor.checked_mul(count.unwrap_or(0))?;
                    at = self.strip(*of);
                    continue;
                }
                _ => return None,
            };
            return factor.checked_mul(bytes);
        }
        None
    }

    /// What a pointer points to or an array holds, under typedefs and qualifiers.
    #[must_use]
    pub fn target_of(&self, id: TypeId) -> Option<TypeId> {
        match self.stripped(id).as_deref()? {
            Type::Pointer { to, .. } => Some(*to),
            Type::Array { of, .. } => Some(*of),
            _ => None,
        }
    }
}

/// Longest chain of typedefs, qualifiers, nested arrays or anonymous members that is followed: real ones are below ten,
/// a damaged table can hold cycles.
const DEEPEST: usize = 64;

/// Different definitions of one name that are told apart; a damaged table could have any number.
const MOST_CANDIDATES: usize = 32;
