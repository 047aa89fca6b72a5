//! What names of values mean.

use std::ops::Range;

use kdive_debuginfo::types::{Lookup, Type};
use kdive_debuginfo::{Tag, TypeId};

use super::convert::Class;
use super::error::{Eval, Fault};
use super::eval::{Evaluator, Guess};
use super::globals;
use super::lexer;
use super::parser;
use super::resolve::Known;
use super::suggest;
use super::value::Value;
use super::world::Definition;

/// Definitions that a message lists.
const MOST_LISTED: usize = 8;

impl Evaluator<'_> {
    /// `$name`
    pub(super) fn variable(&self, name: &str, at: &Range<usize>) -> Eval<Value> {
        if let Some(value) = self.world.variable(name) {
            return Ok(value);
        }
        let near = suggest::closest(name, &self.world.variables().names());
        Err(Fault::wrong(at.clone(), format!("there is no variable {name}")).near(near))
    }

    /// An identifier: a local variable, a symbol, an enumerator.
    pub(super) fn name(&mut self, name: &str, at: &Range<usize>) -> Eval<Value> {
        if let Some(value) = self.world.variable(name) {
            return Ok(value);
        }
        let mut found = self.world.definitions(name);
        match self.choose(&found) {
            Some(index) => {
                let chosen = found.swap_remove(index);
                return self.defined_as(name, chosen, at);
            }
            None if found.is_empty() => {}
            None => {
                self.world.describe(name, &mut found);
                return Err(ambiguous(name, &found, at));
            }
        }
        if let Some(value) = self.enumerator(name, at)? {
            return Ok(value);
        }
        match name {
            "NULL" => {
                let void = self.types.pointer_to(TypeId::VOID);
                Ok(self.pointer(void, 0))
            }
            "true" | "false" => {
                let of = self.types.base("bool").unwrap_or_else(|| self.types.int(1, false));
                Ok(Value::computed(of, vec![u8::from(name == "true")]))
            }
            _ => Err(self.unknown_name(name, at)),
        }
    }

    fn unknown_name(&self, name: &str, at: &Range<usize>) -> Fault {
        let fault = Fault::wrong(at.clone(), format!("no symbol, enumerator or variable is named {name}"));
        // Digits come first: to be close to a symbol is chance.
        if name.len() >= 8
            && let Some(hint) = lexer::hexadecimal(name)
        {
            return fault.hinting(hint);
        }
        let near = self.world.near(name).into_iter().next();
        match (near, lexer::hexadecimal(name)) {
            (None, Some(hint)) => fault.hinting(hint),
            (near, _) => fault.near(near),
        }
    }

    /// Of several definitions the one of the scope's module, else the one that all files see.
    fn choose(&self, found: &[Definition]) -> Option<usize> {
        let only = |which: &dyn Fn(&Definition) -> bool| {
            let mut fitting =
                (0..).zip(found).filter(|(_, definition)| which(definition)).map(|(index, _)| index);
            fitting.next().filter(|_| fitting.next().is_none())
        };
        let own =
            self.world.module().and_then(|module| only(&|found| found.module.as_deref() == Some(module)));
        own.or_else(|| only(&|_| true)).or_else(|| only(&|found| found.module.is_none() && found.global))
    }

    pub(super) fn scoped(&mut self, scope: &str, name: &str, at: &Range<usize>) -> Eval<Value> {
        let found =
            self.world.definitions_in(scope, name).map_err(|lacks| Fault::lacks(at.clone(), lacks))?;
        match found.as_slice() {
            [] => Err(Fault::wrong(at.clone(), format!("{scope} has no variable or function {name}"))),
            [one] => self.defined_as(name, one.clone(), at),
            several => Err(ambiguous(name, several, at)),
        }
    }

    /// The value of a variable or function.
    fn defined_as(&mut self, name: &str, definition: Definition, at: &Range<usize>) -> Eval<Value> {
        let mut definition = definition;
        if definition.of.is_none() {
            definition.of = self.built_in_type(name, &definition);
        }
        if definition.of.is_none() {
            self.world.describe(name, std::slice::from_mut(&mut definition));
        }
        let of = match definition.of {
            Some(of) => of,
            None if definition.code => {
                self.guessed = Some(Guess::Function { name: name.to_owned() });
                self.types.function(self.types.int(4, true), &[], false)
            }
            None => {
                let bytes = guessed_bytes(&definition);
                self.guessed = Some(Guess::Variable { name: name.to_owned(), bytes: bytes.into() });
                self.types.int(bytes, false)
            }
        };
        if self.class(of) == Class::Void {
            return Err(Fault::wrong(at.clone(), format!("the type of {name} is void")));
        }
        Ok(Value::object(of, definition.address))
    }

    /// The type of one of the kernel's own variables that is known by heart. It also spares a search of all DWARF.
    fn built_in_type(&mut self, name: &str, definition: &Definition) -> Option<TypeId> {
        let text = globals::type_of(name).filter(|_| definition.module.is_none() && !definition.code)?;
        let parsed = parser::type_name(text, &Known { world: self.world }).ok()?;
        let of = self.resolve(&parsed, None).ok()?;
        let of = match self.class(of) {
            // Text ends where the next symbol begins.
            Class::Array { of: char, count: None } if self.types.size_of(char) == Some(1) => {
                self.types.array_of(char, Some(definition.bytes))
            }
            _ => of,
        };
        // In another kernel the name may be something else.
        (self.types.size_of(of)? <= definition.bytes).then_some(of)
    }

    fn enumerator(&mut self, name: &str, at: &Range<usize>) -> Eval<Option<Value>> {
        let found = match self.types.enumerator(name) {
            Err(Lookup::NotFound { .. }) if self.widen() => self.types.enumerator(name),
            found => found,
        };
        match found {
            Ok((of, value)) => {
                let bytes = match self.types.get(of).as_deref() {
                    Some(Type::Enum(of)) => of.bytes.clamp(1, 16),
                    _ => 4,
                };
                Ok(Some(Value::computed(of, self.reader().encode(value as u128, bytes as usize))))
            }
            Err(Lookup::NotFound { .. }) => Ok(None),
            Err(Lookup::Ambiguous { candidates, .. }) => {
                let values = candidates.iter().filter_map(|&id| match self.types.get(id).as_deref() {
                    Some(Type::Enum(of)) => {
                        let (_, value) = of.values.iter().find(|(known, _)| **known == *name)?;
                        Some(format!("{value} in {}", self.types.name_of(id)))
                    }
                    _ => None,
                });
                let values: Vec<_> = values.take(MOST_LISTED).collect();
                Err(Fault::wrong(
                    at.clone(),
                    format!("enumerator {name} has several values: {}", values.join("; ")),
                ))
            }
        }
    }
}

/// The largest unsigned integer that fits before the next symbol and is aligned.
fn guessed_bytes(definition: &Definition) -> u8 {
    let aligned = |bytes: u64| definition.address.0.is_multiple_of(bytes);
    [8_u8, 4, 2]
        .into_iter()
        .find(|&bytes| definition.bytes >= bytes.into() && aligned(bytes.into()))
        .unwrap_or(1)
}

fn ambiguous(name: &str, found: &[Definition], at: &Range<usize>) -> Fault {
    let listed = found.iter().take(MOST_LISTED).map(|definition| {
        let mut place = format!("{:#x}", definition.address.0);
        if let Some(module) = &definition.module {
            place.push_str(&format!(" [{module}]"));
        }
        if let Some(file) = &definition.file {
            place.push_str(&format!(" {file}"));
        }
        place
    });
    let mut places: Vec<_> = listed.collect();
    if found.len() > MOST_LISTED {
        places.push("...".to_owned());
    }
    let what = format!("{name} has {} definitions: {}", found.len(), places.join("; "));
    let fault = Fault::wrong(at.clone(), what);
    let file = found.iter().find_map(|definition| definition.file.as_deref());
    let module = found.iter().find_map(|definition| definition.module.as_deref());
    match (file, module) {
        (Some(file), _) => fault.hinting(format!("'{file}'::{name} chooses one")),
        (None, Some(module)) => fault.hinting(format!("{module}::{name} or vmlinux::{name} chooses one")),
        (None, None) => fault.hinting("*(type *)address chooses one"),
    }
}

impl Definition {
    /// The tag under which type information has it.
    pub(super) fn tag(code: bool) -> Tag {
        if code { Tag::Function } else { Tag::Variable }
    }
}
