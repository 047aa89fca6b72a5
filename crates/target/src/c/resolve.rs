//! From type names to types.

use std::ops::Range;

use kdive_debuginfo::types::{Lookup, Qualifier};
use kdive_debuginfo::{Tag, Type, TypeId};

use super::ast::{Base, Derived, Qualifiers, TypeName};
use super::error::{Eval, Fault};
use super::eval::Evaluator;
use super::parser::TypeNames;
use super::suggest;
use crate::lacks::Lacks;

/// Tags of types that C lets be named without a keyword, and then those that gdb does.
const BARE: [Tag; 4] = [Tag::Typedef, Tag::Struct, Tag::Union, Tag::Enum];

impl Evaluator<'_> {
    /// The type that a name means. Of a record with several definitions the one that has the member `having`.
    pub(super) fn resolve(&mut self, name: &TypeName, having: Option<&str>) -> Eval<TypeId> {
        let base = self.base(&name.base, having, &name.at)?;
        let mut of = self.qualified(base, name.qualifiers);
        for derived in &name.derived {
            of = match derived {
                Derived::Pointer(qualifiers) => self.qualified(self.types.pointer_to(of), *qualifiers),
                Derived::Array(None) => self.types.array_of(of, None),
                Derived::Array(Some(count)) => {
                    let number = self.whole(count)?;
                    let count = u64::try_from(number).map_err(|_| {
                        Fault::wrong(count.at.clone(), format!("an array of {number} elements"))
                    })?;
                    self.types.array_of(of, Some(count))
                }
                Derived::Function { params, variadic } => {
                    let params = params.iter().map(|param| self.resolve(param, None));
                    let params = params.collect::<Eval<Vec<_>>>()?;
                    self.types.function(of, &params, *variadic)
                }
            };
        }
        Ok(of)
    }

    fn qualified(&self, of: TypeId, qualifiers: Qualifiers) -> TypeId {
        let mut of = of;
        if qualifiers.volatile {
            of = self.types.qualified(Qualifier::Volatile, of);
        }
        if qualifiers.constant {
            of = self.types.qualified(Qualifier::Const, of);
        }
        of
    }

    fn base(&mut self, base: &Base, having: Option<&str>, at: &Range<usize>) -> Eval<TypeId> {
        match base {
            Base::Words(words) if words == "void" => Ok(TypeId::VOID),
            Base::Words(words) => {
                let typedef = self.types.find(Tag::Typedef, words).ok().filter(|_| words == "bool");
                let found = typedef.or_else(|| self.types.base(words));
                found.ok_or_else(|| Fault::wrong(at.clone(), format!("C has no type {words}")))
            }
            Base::Tagged(tag, name) => self.tagged(*tag, name, having, at),
            Base::Named(name) => self.bare(name, having, at),
            Base::TypeOf(node) => self.idly(|this| this.eval(node)).map(|value| value.of),
            Base::TypeOfType(of) => self.resolve(of, having),
        }
    }

    /// `struct name` and the like.
    pub(super) fn tagged(
        &mut self,
        tag: Tag,
        name: &str,
        having: Option<&str>,
        at: &Range<usize>,
    ) -> Eval<TypeId> {
        match self.find(tag, name, having, at)? {
            Some(found) => Ok(found),
            None if self.types.is_empty() => Err(Fault::lacks(at.clone(), Lacks::Types)),
            None => {
                let fault = Fault::wrong(at.clone(), format!("no {tag} is named {name}"));
                Err(self.hint_other_tag(fault, tag, name))
            }
        }
    }

    /// The same name behind another keyword, or a name that is close.
    fn hint_other_tag(&self, fault: Fault, tag: Tag, name: &str) -> Fault {
        let other = BARE.into_iter().find(|&other| other != tag && self.types.find(other, name).is_ok());
        match other {
            Some(Tag::Typedef) => fault.hinting(format!("did you mean the typedef {name}?")),
            Some(other) => fault.hinting(format!("did you mean {other} {name}?")),
            None => fault.near(self.types.near(tag, name).into_iter().next()),
        }
    }

    /// A type without a keyword.
    fn bare(&mut self, name: &str, having: Option<&str>, at: &Range<usize>) -> Eval<TypeId> {
        for widened in [false, true] {
            if widened && !self.widen() {
                break;
            }
            for tag in BARE {
                if let Some(found) = self.find_here(tag, name, having, at)? {
                    return Ok(found);
                }
            }
        }
        if self.types.is_empty() {
            return Err(Fault::lacks(at.clone(), Lacks::Types));
        }
        Err(Fault::wrong(at.clone(), format!("no type is named {name}"))
            .near(suggest::bare_type(&self.types, name)))
    }

    fn find(
        &mut self,
        tag: Tag,
        name: &str,
        having: Option<&str>,
        at: &Range<usize>,
    ) -> Eval<Option<TypeId>> {
        let found = self.find_here(tag, name, having, at)?;
        let defined =
            found.filter(|&id| !matches!(self.types.get(id).as_deref(), Some(Type::Declaration { .. })));
        if defined.is_some() || !self.widen() {
            return Ok(found);
        }
        self.find_here(tag, name, having, at)
    }

    /// In the types at hand.
    fn find_here(
        &self,
        tag: Tag,
        name: &str,
        having: Option<&str>,
        at: &Range<usize>,
    ) -> Eval<Option<TypeId>> {
        let candidates = match self.types.find_in(self.world.module(), tag, name) {
            Ok(found) => return Ok(Some(found)),
            Err(Lookup::NotFound { .. }) => return Ok(None),
            Err(Lookup::Ambiguous { candidates, .. }) => candidates,
        };
        if let Some(member) = having {
            let mut fitting = candidates.iter().filter(|&&id| self.types.member(id, member).is_ok());
            if let (Some(&one), None) = (fitting.next(), fitting.next()) {
                return Ok(Some(one));
            }
        }
        let places: Vec<_> = candidates.iter().map(|&id| self.definition(id)).collect();
        let what = format!("{tag} {name} has {} different definitions: {}", places.len(), places.join("; "));
        Err(Fault::wrong(at.clone(), what).hinting("a member that only one of them has would choose it"))
    }

    /// What tells one definition from others.
    fn definition(&self, id: TypeId) -> String {
        let of =
            self.types.module_of(id).map_or("the kernel's".to_owned(), |module| format!("module {module}'s"));
        match self.types.stripped(id).as_deref() {
            Some(Type::Record(record)) => {
                let names = record.members.iter().filter_map(|member| member.name.as_deref());
                let names: Vec<_> = names.take(3).collect();
                format!("{of} of {} bytes with {}", record.bytes, names.join(", "))
            }
            _ => format!("{of} {}", self.types.name_of(self.types.strip(id))),
        }
    }
}

/// Tells types from values by what there is.
pub(super) struct Known<'a> {
    pub(super) world: &'a dyn super::world::World,
}

impl Known<'_> {
    fn has_type(&self, tags: &[Tag], name: &str) -> bool {
        let has = |types: &kdive_debuginfo::Types| {
            let found =
                tags.iter().any(|&tag| !matches!(types.find(tag, name), Err(Lookup::NotFound { .. })));
            found.then_some(())
        };
        self.world.ask(has).is_some()
    }

    fn is_value(&self, name: &str) -> bool {
        !self.world.definitions(name).is_empty() || self.world.types().enumerator(name).is_ok()
    }
}

impl TypeNames for Known<'_> {
    fn is_type(&self, name: &str) -> bool {
        if self.world.variable(name).is_some() {
            return false;
        }
        let typedef = |types: &kdive_debuginfo::Types| {
            !matches!(types.find(Tag::Typedef, name), Err(Lookup::NotFound { .. }))
        };
        // The kernel's own typedefs, then values, and only for what is still unknown the types of modules.
        typedef(&self.world.types()) || (!self.is_value(name) && self.has_type(&BARE, name))
    }

    fn may_be_type(&self, name: &str) -> bool {
        self.has_type(&BARE, name)
    }
}
