//! BTF as a unit of the type graph.

use std::sync::{Arc, OnceLock};

use super::kind::Kind;
use super::{Btf, Head};
use crate::names::{NameIndex, hash_name, safe_name};
use crate::types::{
    Encoding, Enum, Member, Param, Prototype, Qualifier, Record, RecordKind, Tag, Type, TypeId, TypeUnit,
};

/// A BTF blob under the number that the type graph gave it.
pub(super) struct BtfUnit {
    btf: Arc<Btf>,
    number: u32,
    /// The unit of the base, whose ids come before this blob's.
    base: Option<u32>,
    module: Option<Arc<str>>,
    /// BTF does not say how large a pointer is.
    pointer_bytes: u64,
    /// Names of types, of functions, and of enumerators (by their enums): three, as most sessions need the first only.
    types: OnceLock<NameIndex>,
    functions: OnceLock<NameIndex>,
    enumerators: OnceLock<NameIndex>,
}

impl BtfUnit {
    pub(super) fn new(btf: Arc<Btf>, number: u32, pointer_bytes: u64) -> Self {
        let (types, functions, enumerators) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
        Self { btf, number, base: None, module: None, pointer_bytes, types, functions, enumerators }
    }

    /// The same as a module's.
    pub(super) fn of_module(self, module: &Arc<str>, base: Option<u32>) -> Self {
        Self { module: Some(Arc::clone(module)), base, ..self }
    }

    fn id(&self, raw: u32) -> TypeId {
        match (raw, self.base) {
            (0, _) => TypeId::VOID,
            (_, Some(base)) if raw < self.btf.first => TypeId { unit: base, index: raw },
            _ => TypeId { unit: self.number, index: raw },
        }
    }

    fn text(&self, offset: u32) -> Box<str> {
        safe_name(self.btf.name(offset))
    }

    fn optional_text(&self, offset: u32) -> Option<Box<str>> {
        Some(self.text(offset)).filter(|text| !text.is_empty())
    }

    fn word(&self, head: &Head, entry: usize, word: usize) -> Option<u32> {
        self.btf.word(head, entry, word)
    }

    /// Ids and heads of all types of this blob.
    fn heads(&self) -> impl Iterator<Item = (u32, Head)> {
        (self.btf.first..self.btf.end()).filter_map(|id| Some((id, self.btf.head(id)?)))
    }

    fn int(&self, head: &Head) -> Option<Type> {
        let data = self.word(head, 0, 0)?;
        let encoding = match (data >> 24) & 0xf {
            bits if bits & 4 != 0 => Encoding::Bool,
            bits if bits & 1 != 0 => Encoding::Signed,
            _ => Encoding::Unsigned,
        };
        Some(Type::Int { name: self.text(head.name), bytes: u64::from(head.size_or_type), encoding })
    }

    fn record(&self, head: &Head) -> Option<Type> {
        let kind = if head.kind == Kind::Struct { RecordKind::Struct } else { RecordKind::Union };
        if self.btf.distilled && head.count() == 0 {
            return Some(
                self.declaration(head, if head.kind == Kind::Struct { Tag::Struct } else { Tag::Union }),
            );
        }
        let members = (0..head.count()).map(|entry| self.member(head, entry)).collect::<Option<_>>()?;
        let bytes = u64::from(head.size_or_type);
        Some(Type::Record(Record { kind, name: self.optional_text(head.name), bytes, members }))
    }

    fn member(&self, head: &Head, entry: usize) -> Option<Member> {
        let name = self.optional_text(self.word(head, entry, 0)?);
        let raw = self.word(head, entry, 1)?;
        let offset = self.word(head, entry, 2)?;
        let (bit_offset, bit_size) = if head.flag() {
            (offset & 0x00ff_ffff, Some(offset >> 24).filter(|&bits| bits > 0))
        } else {
            self.old_bit_field(raw, offset)
        };
        Some(Member { name, of: self.id(raw), bit_offset: u64::from(bit_offset), bit_size })
    }

    /// Before kind_flag (pahole 1.13), a bit-field's width was that of a special integer type, which could have an
    /// offset of its own.
    fn old_bit_field(&self, raw: u32, offset: u32) -> (u32, Option<u32>) {
        let int = self.btf.find(raw).filter(|(_, head)| head.kind == Kind::Int);
        let Some((int, data)) = int.and_then(|(btf, head)| Some((head, btf.word(&head, 0, 0)?))) else {
            return (offset, None);
        };
        let bits = data & 0xff;
        if bits == 0 || bits == int.size_or_type.saturating_mul(8) {
            return (offset, None);
        }
        (offset.saturating_add((data >> 16) & 0xff), Some(bits))
    }

    fn enumeration(&self, head: &Head) -> Option<Type> {
        if self.btf.distilled && head.count() == 0 {
            return Some(self.declaration(head, Tag::Enum));
        }
        let signed = self.is_signed(head);
        let values = (0..head.count())
            .map(|entry| Some((self.text(self.word(head, entry, 0)?), self.value(head, entry, signed)?)))
            .collect::<Option<_>>()?;
        let bytes = u64::from(head.size_or_type);
        Some(Type::Enum(Enum { name: self.optional_text(head.name), bytes, signed, values }))
    }

    /// Old pahole did not mark signed enums. A small negative number in them is one; `0xffffffff` as a mask is rare.
    fn is_signed(&self, head: &Head) -> bool {
        const SMALL: i32 = -4096;
        let unmarked = head.kind == Kind::Enum && !self.btf.marks_signed_enums;
        let mut values = (0..head.count()).filter_map(|entry| self.word(head, entry, 1));
        head.flag() || (unmarked && values.any(|value| (SMALL..0).contains(&value.cast_signed())))
    }

    fn value(&self, head: &Head, entry: usize, signed: bool) -> Option<i128> {
        let low = self.word(head, entry, 1)?;
        if head.kind == Kind::Enum {
            return Some(if signed { low.cast_signed().into() } else { low.into() });
        }
        let value = u64::from(self.word(head, entry, 2)?) << 32 | u64::from(low);
        Some(if signed { value.cast_signed().into() } else { value.into() })
    }

    fn declaration(&self, head: &Head, tag: Tag) -> Type {
        Type::Declaration { tag, name: self.text(head.name) }
    }

    /// A prototype of this blob or of its base.
    fn prototype(&self, btf: &Btf, head: &Head) -> Option<Type> {
        let mut params = (0..head.count())
            .map(|entry| {
                let name = self.optional_text(btf.word(head, entry, 0)?);
                Some((name, btf.word(head, entry, 1)?))
            })
            .collect::<Option<Vec<_>>>()?;
        // `...` is a last parameter without name and type.
        let variadic = matches!(params.last(), Some((None, 0)));
        if variadic {
            params.pop();
        }
        let params = params.into_iter().map(|(name, raw)| Param { name, of: self.id(raw) }).collect();
        Some(Type::Function(Prototype { params, returns: self.id(head.size_or_type), variadic }))
    }

    /// The tag under which a type is looked up by name.
    fn tag(head: &Head) -> Option<Tag> {
        Some(match head.kind {
            Kind::Struct => Tag::Struct,
            Kind::Union => Tag::Union,
            Kind::Forward if head.flag() => Tag::Union,
            Kind::Forward => Tag::Struct,
            Kind::Enum | Kind::Enum64 => Tag::Enum,
            Kind::Typedef => Tag::Typedef,
            Kind::Int | Kind::Float => Tag::Base,
            Kind::Function => Tag::Function,
            Kind::Variable => Tag::Variable,
            _ => return None,
        })
    }

    /// The index that holds names with this tag.
    fn index(&self, tag: Tag) -> &NameIndex {
        let functions = tag == Tag::Function;
        let index = if functions { &self.functions } else { &self.types };
        index.get_or_init(|| {
            let mut pairs = Vec::with_capacity(self.btf.len().div_euclid(3));
            for (id, head) in self.heads() {
                if head.name != 0 && Self::tag(&head).is_some_and(|tag| (tag == Tag::Function) == functions) {
                    pairs.push((hash_name(self.btf.name(head.name)), id));
                }
            }
            NameIndex::new(&pairs)
        })
    }

    fn index_enumerators(&self) -> NameIndex {
        let mut pairs = Vec::new();
        for (id, head) in self.heads().filter(|(_, head)| matches!(head.kind, Kind::Enum | Kind::Enum64)) {
            for offset in (0..head.count()).filter_map(|entry| self.word(&head, entry, 0)) {
                pairs.push((hash_name(self.btf.name(offset)), id));
            }
        }
        NameIndex::new(&pairs)
    }

    /// What a name with this tag leads to: a variable to its type, all else to itself.
    fn named_id(&self, id: u32, head: &Head) -> TypeId {
        self.id(if head.kind == Kind::Variable { head.size_or_type } else { id })
    }
}

impl TypeUnit for BtfUnit {
    fn module(&self) -> Option<&str> {
        self.module.as_deref()
    }

    fn get(&self, index: u32) -> Option<Type> {
        let head = self.btf.head(index)?;
        let qualified = |qualifier| Some(Type::Qualified { qualifier, of: self.id(head.size_or_type) });
        match head.kind {
            Kind::Int => self.int(&head),
            Kind::Float => {
                Some(Type::Float { name: self.text(head.name), bytes: u64::from(head.size_or_type) })
            }
            Kind::Pointer => {
                Some(Type::Pointer { to: self.id(head.size_or_type), bytes: self.pointer_bytes })
            }
            Kind::Array => {
                let count = u64::from(self.word(&head, 0, 2)?);
                Some(Type::Array {
                    of: self.id(self.word(&head, 0, 0)?),
                    count: Some(count).filter(|&n| n > 0),
                })
            }
            Kind::Struct | Kind::Union => self.record(&head),
            Kind::Enum | Kind::Enum64 => self.enumeration(&head),
            Kind::Forward if head.flag() => Some(self.declaration(&head, Tag::Union)),
            Kind::Forward => Some(self.declaration(&head, Tag::Struct)),
            Kind::Typedef => {
                Some(Type::Typedef { name: self.text(head.name), to: self.id(head.size_or_type) })
            }
            Kind::Const => qualified(Qualifier::Const),
            Kind::Volatile => qualified(Qualifier::Volatile),
            Kind::Restrict => qualified(Qualifier::Restrict),
            Kind::TypeTag => qualified(Qualifier::Tag(self.text(head.name))),
            Kind::Prototype => self.prototype(&self.btf, &head),
            Kind::Function => {
                let (btf, prototype) = self.btf.find(head.size_or_type)?;
                (prototype.kind == Kind::Prototype).then(|| self.prototype(btf, &prototype))?
            }
            Kind::Variable | Kind::Section | Kind::DeclTag => None,
        }
    }

    fn named(&self, tag: Tag, name: &str) -> Vec<TypeId> {
        let candidates = self.index(tag).candidates(hash_name(name.as_bytes())).iter();
        candidates
            .filter_map(|&id| Some((id, self.btf.head(id)?)))
            .filter(|(_, head)| Self::tag(head) == Some(tag) && self.btf.name(head.name) == name.as_bytes())
            .map(|(id, head)| self.named_id(id, &head))
            .collect()
    }

    fn for_each_name(&self, tag: Tag, each: &mut dyn FnMut(&str, TypeId)) {
        for (id, head) in self.heads().filter(|(_, head)| Self::tag(head) == Some(tag) && head.name != 0) {
            each(&self.text(head.name), self.named_id(id, &head));
        }
    }

    fn enumerators(&self, name: &str) -> Vec<(TypeId, i128)> {
        let index = self.enumerators.get_or_init(|| self.index_enumerators());
        let mut ids = index.candidates(hash_name(name.as_bytes())).to_vec();
        ids.dedup();
        let heads = ids.into_iter().filter_map(|id| Some((id, self.btf.head(id)?)));
        heads
            .flat_map(|(id, head)| {
                let signed = self.is_signed(&head);
                (0..head.count()).filter_map(move |entry| {
                    let found = self.btf.name(self.word(&head, entry, 0)?) == name.as_bytes();
                    found.then(|| Some((self.id(id), self.value(&head, entry, signed)?)))?
                })
            })
            .collect()
    }
}
