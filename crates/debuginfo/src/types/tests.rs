//! The type graph over units made of plain lists.

use super::*;

/// A unit that is a list of types, some of them with names to find them by.
struct List {
    number: u32,
    module: Option<&'static str>,
    types: Vec<Type>,
}

impl List {
    fn names(&self) -> impl Iterator<Item = (Tag, &str, TypeId)> {
        self.types.iter().enumerate().filter_map(|(index, of)| {
            let (tag, name) = match of {
                Type::Record(r) if r.kind == RecordKind::Struct => (Tag::Struct, r.name.as_deref()?),
                Type::Record(r) => (Tag::Union, r.name.as_deref()?),
                Type::Enum(e) => (Tag::Enum, e.name.as_deref()?),
                Type::Typedef { name, .. } => (Tag::Typedef, &**name),
                Type::Int { name, .. } => (Tag::Base, &**name),
                Type::Declaration { tag, name } => (*tag, &**name),
                _ => return None,
            };
            Some((tag, name, TypeId { unit: self.number, index: index as u32 }))
        })
    }
}

impl TypeUnit for List {
    fn module(&self) -> Option<&str> {
        self.module
    }

    fn get(&self, index: u32) -> Option<Type> {
        self.types.get(index as usize).cloned()
    }

    fn named(&self, tag: Tag, name: &str) -> Vec<TypeId> {
        self.names().filter(|(t, n, _)| (*t, *n) == (tag, name)).map(|(_, _, id)| id).collect()
    }

    fn for_each_name(&self, tag: Tag, each: &mut dyn FnMut(&str, TypeId)) {
        self.names().filter(|(t, ..)| *t == tag).for_each(|(_, name, id)| each(name, id));
    }

    fn enumerators(&self, name: &str) -> Vec<(TypeId, i128)> {
        let enums = self.types.iter().enumerate().filter_map(|(index, of)| match of {
            Type::Enum(of) => Some((TypeId { unit: self.number, index: index as u32 }, of)),
            _ => None,
        });
        enums
            .flat_map(|(id, of)| {
                of.values.iter().filter(|(n, _)| &**n == name).map(move |(_, value)| (id, *value))
            })
            .collect()
    }
}

fn id(unit: u32, index: u32) -> TypeId {
    TypeId { unit, index }
}

fn int(name: &str, bytes: u64) -> Type {
    Type::Int { name: name.into(), bytes, encoding: Encoding::Signed }
}

fn member(name: Option<&str>, of: TypeId, bit_offset: u64) -> Member {
    Member { name: name.map(Into::into), of, bit_offset, bit_size: None }
}

fn record(name: Option<&str>, bytes: u64, members: Vec<Member>) -> Type {
    Type::Record(Record { kind: RecordKind::Struct, name: name.map(Into::into), bytes, members })
}

fn kernel(make: impl FnOnce(u32) -> Vec<Type>) -> Types {
    Types::new(8).with(|number| List { number, module: None, types: make(number) })
}

fn module(types: &Types, name: &'static str, make: impl FnOnce(u32) -> Vec<Type>) -> Types {
    types.with(|number| List { number, module: Some(name), types: make(number) })
}

/// `struct list { struct list *next; }`, `struct outer { int a; struct { struct list links[4]; long x:3; }; }`
fn sample() -> Types {
    kernel(|u| {
        let bits = Member { bit_size: Some(3), ..member(Some("x"), id(u, 5), 32 * 8 + 5) };
        vec![
            int("int", 4),
            record(Some("list"), 8, vec![member(Some("next"), id(u, 2), 0)]),
            Type::Pointer { to: id(u, 1), bytes: 8 },
            Type::Array { of: id(u, 1), count: Some(4) },
            record(None, 40, vec![member(Some("links"), id(u, 3), 0), bits]),
            int("long int", 8),
            record(Some("outer"), 48, vec![member(Some("a"), id(u, 0), 0), member(None, id(u, 4), 64)]),
            Type::Typedef { name: "outer_t".into(), to: id(u, 6) },
            Type::Qualified { qualifier: Qualifier::Const, of: id(u, 7) },
        ]
    })
}

#[test]
fn paths_descend_into_anonymous_members_and_arrays() {
    let types = sample();
    let outer = types.find(Tag::Typedef, "outer_t").unwrap();
    let next = types.member(outer, "links[2].next").unwrap();
    assert_eq!((next.byte_offset(), types.name_of(next.of)), (8 + 16, "struct list *".to_owned()));
    let bits = types.member(outer, "x").unwrap();
    assert_eq!((bits.bit_offset, bits.bit_size), (8 * 8 + 32 * 8 + 5, Some(3)));
    assert_eq!(types.size_of(types.member(outer, "links").unwrap().of), Some(32));
    assert_eq!(types.path_at(outer, 8 + 16).unwrap(), "links[2].next");
    assert_eq!(types.path_at(outer, 2).unwrap(), "a");
    assert_eq!(types.path_at(outer, 6), None);
}

#[test]
fn a_failed_path_says_which_part_failed() {
    let types = sample();
    let outer = types.find(Tag::Struct, "outer").unwrap();
    let error = |path: &str| types.member(outer, path).unwrap_err().to_string();
    assert_eq!(error("b"), "struct outer has no member b");
    assert_eq!(error("links[0].prev"), "struct list has no member prev");
    assert_eq!(error("a.b"), "a is of type int, which has no members");
    assert_eq!(error("links[1].next.next"), "links[1].next is of type struct list *, which has no members");
    assert_eq!(error("a[0]"), "a is of type int, not an array");
    for path in ["", "a..b", "links[", "links[x]", "links]", "[1"] {
        assert!(matches!(types.member(outer, path), Err(MemberError::Syntax { .. })), "{path}");
    }
    assert!(types.member(outer, &format!("links[{}]", u64::MAX)).is_err());
}

#[test]
fn types_are_spelled_as_gdb_spells_them() {
    let types = sample();
    let outer = types.find(Tag::Struct, "outer").unwrap();
    let of_int = types.find(Tag::Base, "int").unwrap();
    let pointer = types.pointer_to(outer);
    assert_eq!(types.name_of(pointer), "struct outer *");
    assert_eq!(types.name_of(types.pointer_to(pointer)), "struct outer **");
    let array = types.array_of(of_int, Some(16));
    assert_eq!(types.name_of(array), "int [16]");
    assert_eq!(types.declare(array, "comm"), "int comm[16]");
    assert_eq!(types.name_of(types.pointer_to(array)), "int (*)[16]");
    assert_eq!(types.name_of(types.array_of(array, None)), "int [][16]");
    assert_eq!(types.array_of(of_int, Some(16)), array, "made once");
    assert_eq!(types.name_of(types.pointer_to(TypeId::VOID)), "void *");
    assert_eq!(types.name_of(types.int(8, false)), "unsigned long");
    assert_eq!(types.declare(types.pointer_to(types.int(2, true)), "p"), "short *p");
    assert_eq!(types.name_of(id(0, 8)), "const outer_t");
    let functions = kernel(|u| {
        let params = vec![Param { name: Some("fmt".into()), of: id(u, 2) }];
        vec![
            Type::Function(Prototype { params, returns: id(u, 4), variadic: true }),
            Type::Pointer { to: id(u, 0), bytes: 8 },
            Type::Pointer { to: id(u, 3), bytes: 8 },
            Type::Qualified { qualifier: Qualifier::Const, of: id(u, 4) },
            int("char", 1),
            Type::Qualified { qualifier: Qualifier::Const, of: id(u, 2) },
            Type::Function(Prototype { params: vec![], returns: TypeId::VOID, variadic: false }),
            Type::Array { of: id(u, 1), count: Some(2) },
            Type::Pointer { to: id(u, 6), bytes: 8 },
            record(None, 1, vec![]),
        ]
    });
    assert_eq!(functions.declare(id(0, 1), "print"), "char (*print)(const char *, ...)");
    assert_eq!(functions.declare(id(0, 7), "prints"), "char (*prints[2])(const char *, ...)");
    assert_eq!(functions.name_of(id(0, 5)), "const char * const");
    assert_eq!(functions.declare(id(0, 5), "p"), "const char * const p");
    assert_eq!(functions.name_of(id(0, 8)), "void (*)(void)");
    assert_eq!(functions.declare(id(0, 9), "x"), "struct {...} x");
}

#[test]
fn a_definition_beats_a_declaration() {
    let types = kernel(|_| {
        vec![
            Type::Declaration { tag: Tag::Struct, name: "late".into() },
            record(Some("late"), 4, vec![]),
            Type::Declaration { tag: Tag::Struct, name: "never".into() },
        ]
    });
    assert_eq!(types.find(Tag::Struct, "late"), Ok(id(0, 1)));
    assert_eq!(types.size_of(id(0, 0)), Some(4));
    let never = types.find(Tag::Struct, "never").unwrap();
    assert_eq!(types.size_of(never), None);
    assert!(matches!(types.member(never, "a"), Err(MemberError::Incomplete { .. })));
}

#[test]
fn equal_layouts_are_one_and_different_ones_are_ambiguous() {
    let a = |u, bytes| record(Some("a"), bytes, vec![member(Some("x"), id(u, 0), 0)]);
    let same = kernel(|u| vec![int("int", 4), a(u, 4), a(u, 4)]);
    assert_eq!(same.find(Tag::Struct, "a"), Ok(id(0, 1)));
    let different = kernel(|u| vec![int("int", 4), a(u, 4), a(u, 8), a(u, 4)]);
    let Err(Lookup::Ambiguous { candidates, .. }) = different.find(Tag::Struct, "a") else { panic!() };
    assert_eq!(candidates, [id(0, 1), id(0, 2)]);
    assert!(matches!(different.find(Tag::Union, "a"), Err(Lookup::NotFound { .. })));
    let b = |u| record(Some("a"), 4, vec![member(Some("y"), id(u, 0), 0)]);
    let told_apart = kernel(|u| vec![int("int", 4), a(u, 4), b(u)]);
    assert_eq!(told_apart.find_having(Tag::Struct, "a", "y"), Ok(id(0, 2)));
    assert!(matches!(told_apart.find_having(Tag::Struct, "a", "z"), Err(Lookup::NotFound { .. })));
    assert!(matches!(different.find_having(Tag::Struct, "a", "x"), Err(Lookup::Ambiguous { .. })));
}

#[test]
fn the_kernels_meaning_wins_unless_a_module_is_asked() {
    let types = kernel(|_| vec![int("int", 4), record(Some("a"), 4, vec![])]);
    let types = module(&types, "one", |_| vec![record(Some("a"), 8, vec![]), record(Some("b"), 1, vec![])]);
    let before = types.clone();
    let types = module(&types, "two", |_| vec![record(Some("b"), 2, vec![]), record(Some("c"), 3, vec![])]);
    assert_eq!(types.find(Tag::Struct, "a"), Ok(id(0, 1)));
    assert_eq!(types.find_in(Some("one"), Tag::Struct, "a"), Ok(id(1, 0)));
    assert_eq!(types.find_in(Some("two"), Tag::Struct, "a"), Ok(id(0, 1)));
    assert_eq!(types.find(Tag::Struct, "c"), Ok(id(2, 1)));
    assert!(matches!(types.find(Tag::Struct, "b"), Err(Lookup::Ambiguous { .. })));
    assert_eq!(before.find(Tag::Struct, "b"), Ok(id(1, 1)), "an older snapshot keeps its view");
    let types = types.without(Some("one"));
    assert_eq!(types.find(Tag::Struct, "b"), Ok(id(2, 0)));
    let types = module(&types, "one", |_| vec![]);
    assert_eq!(types.get(id(1, 0)), None, "numbers are not used again");
    assert_eq!(types.find_all(Tag::Struct, "a"), [id(0, 1)]);
}

#[test]
fn enumerators_are_found_by_name() {
    let values = |v| vec![("A".into(), 0), ("B".into(), v)];
    let of = |v| Type::Enum(Enum { name: None, bytes: 4, signed: false, values: values(v) });
    assert_eq!(kernel(|_| vec![of(1), of(1)]).enumerator("B"), Ok((id(0, 0), 1)));
    assert!(matches!(kernel(|_| vec![of(1), of(2)]).enumerator("B"), Err(Lookup::Ambiguous { .. })));
    assert!(kernel(|_| vec![of(1)]).enumerator("C").is_err());
}

#[test]
fn cycles_and_dangling_references_end() {
    let types = kernel(|u| {
        vec![
            Type::Typedef { name: "t".into(), to: id(u, 1) },
            Type::Qualified { qualifier: Qualifier::Const, of: id(u, 0) },
            Type::Array { of: id(u, 2), count: Some(3) },
            record(None, 8, vec![member(None, id(u, 3), 0)]),
            Type::Pointer { to: id(u, 4), bytes: 8 },
            Type::Pointer { to: id(u, 99), bytes: 8 },
            Type::Array { of: id(u, 7), count: Some(u64::MAX) },
            Type::Array { of: id(u, 8), count: Some(u64::MAX) },
            int("int", 4),
        ]
    });
    for index in 0..9 {
        let _ = types.size_of(id(0, index));
        let _ = types.member(id(0, index), "missing");
        let _ = types.path_at(id(0, index), 1);
        assert!(types.name_of(id(0, index)).len() < 8192);
    }
    assert_eq!(types.size_of(id(0, 6)), None, "too large to be true");
    assert_eq!(types.name_of(id(0, 5)), "<damaged type> *");
}

#[test]
fn records_that_hold_each_other_are_searched_once() {
    // Each holds the next one twice without a name: by paths these are 2^60 records.
    let member = |index| Member { name: None, of: id(0, index), bit_offset: 0, bit_size: None };
    let record = |index: u32| {
        let name = (index == 0).then(|| "first".into());
        let members = vec![member((index + 1) % 60), member((index + 1) % 60)];
        Type::Record(Record { kind: RecordKind::Struct, name, bytes: 8, members })
    };
    let types =
        Types::new(8).with(|number| List { number, module: None, types: (0..60).map(record).collect() });
    let first = types.find(Tag::Struct, "first").unwrap();
    assert!(matches!(types.member(first, "absent"), Err(MemberError::NoMember { .. })));
}
