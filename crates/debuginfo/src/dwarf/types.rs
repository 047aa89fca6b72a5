//! C types out of DWARF, as the merged type graph wants them.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use gimli::constants as dw;
use kdive_base::VirtAddr;
use rustc_hash::FxHashMap;

use super::DwarfFile;
use super::die::{self, Die};
use super::index::{Index, Kind, Named};
use super::sections::{Dwarf, Entry, Value};
use super::walk::Walk;
use crate::names::safe_name;
use crate::types::{
    Encoding, Enum, Member, Param, PlacedVariable, Prototype, Qualifier, Record, RecordKind, Tag, Type,
    TypeId, TypeUnit,
};

/// Which names a file answers for. An index of all names costs a pass over `.debug_info`, and asking for what may be
/// absent is normal: beside a kernel's BTF, only what that lacks should be asked here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Names {
    /// All of them.
    #[default]
    All,
    /// Variables: BTF has the per-CPU ones only.
    Variables,
    /// None: its types are reached through what refers to them, such as [`super::Variable`].
    None,
}

/// The types in one file's DWARF. A type's number is the offset of its entry in `.debug_info`.
#[derive(Debug)]
pub struct DwarfTypes {
    file: Arc<DwarfFile>,
    unit: u32,
    module: Option<Box<str>>,
    names: Names,
    index: OnceLock<Index>,
    /// Further dimensions of arrays, which are types without an entry: the entry of the dimension, and the array's.
    dimensions: Mutex<FxHashMap<u32, u32>>,
}

/// A number that no entry has: what a reference that cannot be followed leads to.
const NOWHERE: u32 = u32::MAX;
/// Definitions of one name that are looked at: real kernels have below ten.
const MOST_DEFINITIONS: usize = 64;

impl DwarfTypes {
    /// The types of `module` (or the kernel, `None`), to be handed out under unit number `unit`: see
    /// [`crate::Types::with`].
    #[must_use]
    pub fn new(file: Arc<DwarfFile>, unit: u32, module: Option<&str>, names: Names) -> Self {
        Self {
            file,
            unit,
            module: module.map(Into::into),
            names,
            index: OnceLock::new(),
            dimensions: Mutex::default(),
        }
    }

    /// The id, under this unit number, of the type whose entry is at an offset of the file's `.debug_info`: see
    /// [`super::Variable`].
    #[must_use]
    pub fn type_at(unit: u32, entry: Option<usize>) -> TypeId {
        entry.map_or(TypeId::VOID, |entry| TypeId { unit, index: u32::try_from(entry).unwrap_or(NOWHERE) })
    }

    fn index(&self) -> &Index {
        self.index.get_or_init(|| self.file.index())
    }

    fn answers(&self, tag: Tag) -> bool {
        match self.names {
            Names::All => true,
            Names::Variables => tag == Tag::Variable,
            Names::None => false,
        }
    }

    /// What `DW_AT_type` of an entry says; without it, `void`.
    fn type_of(&self, info: &super::units::UnitInfo, entry: &Entry<'_>) -> TypeId {
        match entry.attr_value(dw::DW_AT_type) {
            None => TypeId::VOID,
            Some(value) => Self::type_at(self.unit, die::reference(info, value).or(Some(NOWHERE as usize))),
        }
    }

    /// The id under which a name is found: of a variable, its type's.
    fn id_of(&self, dwarf: &Dwarf<'_>, named: &Named) -> Option<TypeId> {
        if named.kind != Kind::Tagged(Tag::Variable) {
            return Some(TypeId { unit: self.unit, index: named.entry });
        }
        let die = self.file.die(dwarf, named.entry as usize)?;
        let told = |die: &Die<'_>| die.has(dw::DW_AT_type).then(|| self.type_of(&die.info, &die.entry));
        self.file.inherited(dwarf, &die, told)
    }

    fn decode<'a>(&self, dwarf: &Dwarf<'a>, die: &Die<'a>) -> Option<Type> {
        let of = || self.type_of(&die.info, &die.entry);
        let name = || die.name(dwarf).map(|name| safe_name(name.slice())).filter(|name| !name.is_empty());
        let bytes = || die.unsigned(dw::DW_AT_byte_size);
        let pointer_bytes = || u64::from(die.unit.header.address_size());
        let qualified = |qualifier| Some(Type::Qualified { qualifier, of: of() });
        match die.entry.tag() {
            dw::DW_TAG_base_type => Some(base(name()?, bytes()?, die)),
            dw::DW_TAG_pointer_type | dw::DW_TAG_reference_type | dw::DW_TAG_rvalue_reference_type => {
                Some(Type::Pointer { to: of(), bytes: bytes().unwrap_or_else(pointer_bytes) })
            }
            dw::DW_TAG_const_type => qualified(Qualifier::Const),
            dw::DW_TAG_volatile_type => qualified(Qualifier::Volatile),
            dw::DW_TAG_restrict_type => qualified(Qualifier::Restrict),
            dw::DW_TAG_atomic_type => qualified(Qualifier::Atomic),
            dw::DW_TAG_typedef => Some(Type::Typedef { name: name()?, to: of() }),
            dw::DW_TAG_array_type => self.array(die, None),
            dw::DW_TAG_subrange_type => {
                let dimensions = self.dimensions.lock().unwrap_or_else(PoisonError::into_inner);
                let dimension = u32::try_from(die.offset()).ok()?;
                let array = *dimensions.get(&dimension)?;
                drop(dimensions);
                self.array(&self.file.die(dwarf, array as usize)?, Some(dimension))
            }
            dw::DW_TAG_structure_type | dw::DW_TAG_class_type => {
                self.record(dwarf, die, RecordKind::Struct, name())
            }
            dw::DW_TAG_union_type => self.record(dwarf, die, RecordKind::Union, name()),
            dw::DW_TAG_enumeration_type => self.enumeration(dwarf, die, name()),
            dw::DW_TAG_subroutine_type | dw::DW_TAG_subprogram => self.function(dwarf, die),
            dw::DW_TAG_unspecified_type => Some(Type::Void),
            _ => None,
        }
    }

    /// An array, or what of it begins at one of its further dimensions.
    fn array(&self, die: &Die<'_>, from: Option<u32>) -> Option<Type> {
        let mut rest: Vec<(u32, Option<u64>)> = Vec::new();
        children(die, |child| {
            if child.tag() == dw::DW_TAG_subrange_type {
                let at = die.info.offset.saturating_add(child.offset().0);
                rest.push((u32::try_from(at).unwrap_or(NOWHERE), count(child)));
            }
        });
        let first = match from {
            None => 0,
            Some(from) => rest.iter().position(|&(at, _)| at == from)?,
        };
        let count = rest.get(first).and_then(|&(_, count)| count).filter(|&count| count > 0);
        let of = match rest.get(first.saturating_add(1)) {
            None => self.type_of(&die.info, &die.entry),
            Some(&(next, _)) => {
                let array = u32::try_from(die.offset()).ok()?;
                self.dimensions.lock().unwrap_or_else(PoisonError::into_inner).insert(next, array);
                TypeId { unit: self.unit, index: next }
            }
        };
        Some(Type::Array { of, count })
    }

    fn record<'a>(
        &self,
        dwarf: &Dwarf<'a>,
        die: &Die<'a>,
        kind: RecordKind,
        name: Option<Box<str>>,
    ) -> Option<Type> {
        if die.has(dw::DW_AT_declaration) {
            let tag = if kind == RecordKind::Struct { Tag::Struct } else { Tag::Union };
            return Some(Type::Declaration { tag, name: name? });
        }
        let mut members = Vec::new();
        children(die, |child| {
            // A static member of C++ is declared here but lies elsewhere.
            if child.tag() == dw::DW_TAG_member && !child.has_attr(dw::DW_AT_external) {
                members.push(Member {
                    name: child_name(dwarf, die, child),
                    of: self.type_of(&die.info, child),
                    bit_offset: self.bit_offset(dwarf, die, child),
                    bit_size: number(child, dw::DW_AT_bit_size).and_then(|bits| u32::try_from(bits).ok()),
                });
            }
        });
        let bytes = die.unsigned(dw::DW_AT_byte_size).unwrap_or(0);
        Some(Type::Record(Record { kind, name, bytes, members }))
    }

    /// A member's offset in bits (5.7.6).
    fn bit_offset<'a>(&self, dwarf: &Dwarf<'a>, die: &Die<'a>, member: &Entry<'_>) -> u64 {
        if let Some(bits) = number(member, dw::DW_AT_data_bit_offset) {
            return bits;
        }
        let start = location(die, member).unwrap_or(0).saturating_mul(8);
        // Until version 3, a bit-field counted from the most significant bit of a storage unit.
        let (Some(from_top), Some(width)) =
            (number(member, dw::DW_AT_bit_offset), number(member, dw::DW_AT_bit_size))
        else {
            return start;
        };
        if !self.file.sections.is_little_endian() {
            return start.saturating_add(from_top);
        }
        let storage = number(member, dw::DW_AT_byte_size);
        let storage = storage.or_else(|| self.file.bytes_of(dwarf, &die.info, member)).unwrap_or(0);
        start.saturating_add(storage.saturating_mul(8)).wrapping_sub(from_top).wrapping_sub(width)
    }

    fn enumeration<'a>(&self, dwarf: &Dwarf<'a>, die: &Die<'a>, name: Option<Box<str>>) -> Option<Type> {
        if die.has(dw::DW_AT_declaration) {
            return Some(Type::Declaration { tag: Tag::Enum, name: name? });
        }
        let mut values: Vec<(Box<str>, i128)> = Vec::new();
        children(die, |child| {
            if child.tag() == dw::DW_TAG_enumerator
                && let Some(name) = child_name(dwarf, die, child)
                && let Some(value) = child.attr_value(dw::DW_AT_const_value).as_ref().and_then(constant)
            {
                values.push((name, value));
            }
        });
        // BTF says signed exactly of the enums that have a negative value.
        let signed = values.iter().any(|&(_, value)| value < 0);
        let bytes = die.unsigned(dw::DW_AT_byte_size);
        let bytes = bytes.or_else(|| self.file.bytes_of(dwarf, &die.info, &die.entry))?;
        Some(Type::Enum(Enum { name, bytes, signed, values }))
    }

    fn function<'a>(&self, dwarf: &Dwarf<'a>, die: &Die<'a>) -> Option<Type> {
        let mut params = Vec::new();
        let mut variadic = false;
        children(die, |child| match child.tag() {
            dw::DW_TAG_formal_parameter => {
                params.push(Param { name: child_name(dwarf, die, child), of: self.type_of(&die.info, child) })
            }
            dw::DW_TAG_unspecified_parameters => variadic = true,
            _ => {}
        });
        Some(Type::Function(Prototype { params, returns: self.type_of(&die.info, &die.entry), variadic }))
    }
}

impl TypeUnit for DwarfTypes {
    fn module(&self) -> Option<&str> {
        self.module.as_deref()
    }

    fn get(&self, index: u32) -> Option<Type> {
        let dwarf = self.file.sections.dwarf();
        self.decode(&dwarf, &self.file.die(&dwarf, index as usize)?)
    }

    fn named(&self, tag: Tag, name: &str) -> Vec<TypeId> {
        if !self.answers(tag) {
            return Vec::new();
        }
        let dwarf = self.file.sections.dwarf();
        let all: Vec<_> =
            self.file.lookup(self.index(), Kind::Tagged(tag), name).take(MOST_DEFINITIONS).collect();
        // A variable's declaration may leave out how long an array is.
        let defined = tag == Tag::Variable && all.iter().any(|named| !named.declared);
        let told = all.into_iter().filter(|named| !(defined && named.declared));
        let mut ids: Vec<_> = told.filter_map(|named| self.id_of(&dwarf, named)).collect();
        ids.dedup();
        ids
    }

    fn for_each_name(&self, tag: Tag, each: &mut dyn FnMut(&str, TypeId)) {
        if !self.answers(tag) {
            return;
        }
        let dwarf = self.file.sections.dwarf();
        for named in self.index().all(Kind::Tagged(tag)) {
            if let Some(id) = self.id_of(&dwarf, named) {
                each(&safe_name(self.file.name_of(named)), id);
            }
        }
    }

    fn variables(&self, name: &str) -> Vec<PlacedVariable> {
        if !self.answers(Tag::Variable) {
            return Vec::new();
        }
        let dwarf = self.file.sections.dwarf();
        let named = self.file.lookup(self.index(), Kind::Tagged(Tag::Variable), name).take(MOST_DEFINITIONS);
        let found = named.filter_map(|named| {
            let die = self.file.die(&dwarf, named.entry as usize)?;
            let (address, file) = self.file.place_of(&dwarf, &die)?;
            Some(PlacedVariable { address, file, of: self.id_of(&dwarf, named)? })
        });
        found.collect()
    }

    fn variables_in(&self, function: VirtAddr, name: &str) -> Vec<PlacedVariable> {
        let found = self.file.statics(function, name).into_iter();
        let placed = found.map(|found| PlacedVariable {
            address: found.address,
            file: found.file,
            of: Self::type_at(self.unit, found.of),
        });
        placed.collect()
    }

    fn enumerators(&self, name: &str) -> Vec<(TypeId, i128)> {
        if self.names != Names::All {
            return Vec::new();
        }
        let named = self.file.lookup(self.index(), Kind::Enumerator, name).take(MOST_DEFINITIONS);
        let found = named.filter_map(|named| {
            let Some(Type::Enum(of)) = self.get(named.entry) else { return None };
            let (_, value) = of.values.into_iter().find(|(known, _)| &**known == name)?;
            Some((TypeId { unit: self.unit, index: named.entry }, value))
        });
        found.collect()
    }
}

impl DwarfFile {
    /// Size of what `DW_AT_type` of an entry leads to, over typedefs and qualifiers.
    pub(super) fn bytes_of(
        &self,
        dwarf: &Dwarf<'_>,
        info: &super::units::UnitInfo,
        entry: &Entry<'_>,
    ) -> Option<u64> {
        /// Real chains are below ten.
        const DEEPEST: usize = 32;
        let mut at = die::reference(info, entry.attr_value(dw::DW_AT_type)?)?;
        for _ in 0..DEEPEST {
            let die = self.die(dwarf, at)?;
            if let Some(bytes) = die.unsigned(dw::DW_AT_byte_size) {
                return Some(bytes);
            }
            if die.entry.tag() == dw::DW_TAG_pointer_type {
                return Some(die.unit.header.address_size().into());
            }
            at = die.reference(dw::DW_AT_type)?;
        }
        None
    }
}

/// Calls `each` for the entries right below one.
fn children<'a>(die: &Die<'a>, mut each: impl FnMut(&Entry<'a>)) {
    let Some(mut walk) = Walk::new(&die.unit, die.entry.offset()) else { return };
    let Some(first) = walk.next() else { return };
    if walk.skip(&first).is_none() {
        return;
    }
    let mut entry = Entry::null();
    while let Some(head) = walk.next() {
        if walk.read_entry(&head, &mut entry).is_none() {
            return;
        }
        each(&entry);
        if walk.skip_children(&head, super::walk::sibling(entry.attrs())).is_none() {
            return;
        }
    }
}

fn child_name<'a>(dwarf: &Dwarf<'a>, die: &Die<'a>, child: &Entry<'a>) -> Option<Box<str>> {
    let name = dwarf.attr_string(&die.unit, child.attr_value(dw::DW_AT_name)?).ok()?;
    Some(safe_name(name.slice())).filter(|name| !name.is_empty())
}

fn number(entry: &Entry<'_>, name: gimli::DwAt) -> Option<u64> {
    entry.attr_value(name)?.udata_value()
}

/// A constant in any form. Compilers write negative ones with a sign, others without.
fn constant(value: &Value<'_>) -> Option<i128> {
    match value {
        Value::Sdata(value) => Some(i128::from(*value)),
        value => value.udata_value().map(i128::from),
    }
}

fn base(name: Box<str>, bytes: u64, die: &Die<'_>) -> Type {
    let encoding = match die.attr(dw::DW_AT_encoding) {
        Some(Value::Encoding(encoding)) => encoding,
        _ => dw::DW_ATE_unsigned,
    };
    let encoding = match encoding {
        dw::DW_ATE_float
        | dw::DW_ATE_complex_float
        | dw::DW_ATE_imaginary_float
        | dw::DW_ATE_decimal_float => {
            return Type::Float { name, bytes };
        }
        dw::DW_ATE_boolean => Encoding::Bool,
        dw::DW_ATE_signed | dw::DW_ATE_signed_char | dw::DW_ATE_signed_fixed => Encoding::Signed,
        _ => Encoding::Unsigned,
    };
    Type::Int { name, bytes, encoding }
}

/// The number of elements of a dimension (5.13): of `[]` and of `[0]` none.
fn count(subrange: &Entry<'_>) -> Option<u64> {
    if let Some(count) = number(subrange, dw::DW_AT_count) {
        return Some(count);
    }
    let upper = constant(&subrange.attr_value(dw::DW_AT_upper_bound)?)?;
    let lower = subrange.attr_value(dw::DW_AT_lower_bound).and_then(|value| constant(&value)).unwrap_or(0);
    // `[0]` has an upper bound of -1, which may be written without its sign.
    u64::try_from(upper.checked_sub(lower)?.checked_add(1)?).ok()
}

/// `DW_AT_data_member_location` in bytes: a constant, or until version 3 an expression that adds one (5.7.6).
fn location(die: &Die<'_>, member: &Entry<'_>) -> Option<u64> {
    match member.attr_value(dw::DW_AT_data_member_location)? {
        Value::Exprloc(expression) => {
            match expression.operations(die.unit.header.encoding()).next().ok()?? {
                gimli::Operation::PlusConstant { value } => Some(value),
                gimli::Operation::UnsignedConstant { value } => Some(value),
                _ => None,
            }
        }
        value => value.udata_value(),
    }
}
