//! A world of a few types, symbols and bytes, for tests and for the fuzzer, which takes this file too.

use kdive_base::{Endian, Missing, VirtAddr, VirtualMemory, Why};
use kdive_debuginfo::types::{
    Encoding, Enum, Member, Param, Prototype, Qualifier, Record, RecordKind, TypeUnit,
};
use kdive_debuginfo::{Tag, Type, TypeId, Types};
use kdive_target::c::{Definition, Stored, Value, Variables, World};
use kdive_target::{Field, Lacks};

/// Where memory begins.
pub(super) const START: u64 = 0xffff_8880_0000_1000;
/// The second task.
pub(super) const SECOND: u64 = START + 0x100;
/// A function, which has no bytes.
pub(super) const HANDLER: u64 = 0xffff_ffff_8100_0000;

/// Everything that an expression can see.
pub(super) struct Small {
    pub(super) memory: Bytes,
    kernel: Types,
    all: Types,
}

/// The bytes at [`START`].
pub(super) struct Bytes(Vec<u8>, Endian);

impl VirtualMemory for Bytes {
    fn read(&self, at: VirtAddr, into: &mut [u8]) -> (usize, Option<Missing>) {
        let rest = at.0.checked_sub(START).and_then(|at| self.0.get(usize::try_from(at).ok()?..));
        let rest = rest.unwrap_or_default();
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        let missing = Missing::new(at.add(count as u64), Why::Excluded);
        (count, (count < into.len()).then_some(missing))
    }

    fn endian(&self) -> Endian {
        self.1
    }
}

impl Small {
    /// Two tasks that point to each other.
    pub(super) fn new() -> Self {
        let mut bytes = vec![0; 0x200];
        for (at, pid, other) in [(0, 42_i32, SECOND), (0x100, -7, START)] {
            let mut put = |offset: usize, data: &[u8]| {
                bytes[at + offset..at + offset + data.len()].copy_from_slice(data);
            };
            put(0, &pid.to_le_bytes());
            // flags 7, level -3
            put(4, &[7 | 0b11101 << 3]);
            put(8, &0xab12_3456_789a_u64.to_le_bytes());
            put(16, b"swapper");
            put(32, &(other + 32).to_le_bytes());
            put(40, &(other + 32).to_le_bytes());
            put(48, &other.to_le_bytes());
            put(56, &0x2_0000_0001_u64.to_le_bytes());
            put(64, &HANDLER.to_le_bytes());
            put(72, &(-1_i32).to_le_bytes());
            put(76, &[1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 5, 0, 0, 0]);
            put(96, b"tail");
        }
        Self::with_memory(bytes, Endian::Little)
    }

    /// The same types over other bytes.
    pub(super) fn with_memory(bytes: Vec<u8>, endian: Endian) -> Self {
        let kernel = Types::new(8).with(|number| Unit { module: None, types: kernel_types(number), number });
        let all = kernel.with(|number| Unit { module: Some("mod"), types: module_types(number), number });
        Self { memory: Bytes(bytes, endian), kernel, all }
    }

    fn definition(&self, name: &str) -> Option<Definition> {
        let task = self.kernel.find(Tag::Struct, "task").ok();
        let plain = |address: u64, of, bytes| Definition {
            address: VirtAddr(address),
            module: None,
            global: true,
            code: false,
            of,
            bytes,
            file: None,
        };
        Some(match name {
            "first" => plain(START, task, 96),
            "second" => plain(SECOND, task, 96),
            "untyped" => plain(START, None, 6),
            "queue" => plain(0, task, 96),
            "handler" => Definition {
                code: true,
                ..plain(HANDLER, self.kernel.find(Tag::Function, "handler").ok(), 16)
            },
            _ => return None,
        })
    }
}

impl World for Small {
    fn types(&self) -> Types {
        self.kernel.clone()
    }

    fn all_types(&self) -> Types {
        self.all.clone()
    }

    fn memory(&self) -> &dyn VirtualMemory {
        &self.memory
    }

    fn module(&self) -> Option<&str> {
        None
    }

    fn variables(&self) -> &dyn Variables {
        self
    }

    fn definitions(&self, name: &str) -> Vec<Definition> {
        if name != "twice" {
            return self.definition(name).into_iter().collect();
        }
        let one = |address, file: &str| Definition {
            address: VirtAddr(address),
            global: false,
            file: Some(file.into()),
            ..self.definition("first").unwrap()
        };
        vec![one(START, "a/one.c"), one(SECOND, "b/two.c")]
    }

    fn describe(&self, _name: &str, _found: &mut [Definition]) {}

    fn definitions_in(&self, scope: &str, name: &str) -> Field<Vec<Definition>> {
        let all = self.definitions(name).into_iter();
        let found: Vec<_> =
            all.filter(|one| one.file.as_ref().is_some_and(|file| file.ends_with(scope))).collect();
        if found.is_empty() { Err(Lacks::unavailable("no such place")) } else { Ok(found) }
    }

    fn per_cpu_offset(&self, cpu: u32) -> Field<u64> {
        if cpu < 2 { Ok(START + u64::from(cpu) * 0x100) } else { Err(Lacks::unavailable("no such CPU")) }
    }

    fn near(&self, name: &str) -> Vec<String> {
        if name == "frist" { vec!["first".to_owned()] } else { Vec::new() }
    }

    fn for_each_name(&self, prefix: &str, each: &mut dyn FnMut(&str) -> bool) {
        let names = ["first", "second", "handler", "twice"].into_iter();
        let _ = names.filter(|name| name.starts_with(prefix)).all(each);
    }
}

impl Variables for Small {
    fn variable(&self, name: &str) -> Option<Value> {
        match name {
            "$task" => Some(Value::unsigned(self, START)),
            "$" | "local" => {
                Some(Value { of: self.kernel.int(4, true), stored: Stored::Memory(VirtAddr(START)) })
            }
            _ => None,
        }
    }

    fn names(&self) -> Vec<String> {
        ["$task", "$", "local"].map(str::to_owned).to_vec()
    }
}

struct Unit {
    number: u32,
    module: Option<&'static str>,
    types: Vec<(Tag, &'static str, Type)>,
}

impl TypeUnit for Unit {
    fn module(&self) -> Option<&str> {
        self.module
    }

    fn get(&self, index: u32) -> Option<Type> {
        self.types.get(index as usize).map(|(.., of)| of.clone())
    }

    fn named(&self, tag: Tag, name: &str) -> Vec<TypeId> {
        let numbered = (0..).zip(&self.types);
        let found = numbered.filter(|(_, (kind, known, _))| *kind == tag && *known == name);
        found.map(|(index, _)| TypeId { unit: self.number, index }).collect()
    }

    fn for_each_name(&self, tag: Tag, each: &mut dyn FnMut(&str, TypeId)) {
        for (index, (kind, name, _)) in (0..).zip(&self.types) {
            if *kind == tag && !name.is_empty() {
                each(name, TypeId { unit: self.number, index });
            }
        }
    }

    fn enumerators(&self, name: &str) -> Vec<(TypeId, i128)> {
        let mut found = Vec::new();
        for (index, (.., of)) in (0..).zip(&self.types) {
            if let Type::Enum(of) = of {
                let values = of.values.iter().filter(|(known, _)| **known == *name);
                found.extend(values.map(|(_, value)| (TypeId { unit: self.number, index }, *value)));
            }
        }
        found
    }
}

fn member(name: &str, of: TypeId, byte: u64) -> Member {
    let name = (!name.is_empty()).then(|| name.into());
    Member { name, of, bit_offset: byte * 8, bit_size: None }
}

fn bits(name: &str, of: TypeId, bit_offset: u64, width: u32) -> Member {
    Member { name: Some(name.into()), of, bit_offset, bit_size: Some(width) }
}

fn record(kind: RecordKind, name: &str, bytes: u64, members: Vec<Member>) -> Type {
    let name = (!name.is_empty()).then(|| name.into());
    Type::Record(Record { kind, name, bytes, members })
}

fn int(name: &str, bytes: u64, encoding: Encoding) -> Type {
    Type::Int { name: name.into(), bytes, encoding }
}

fn kernel_types(unit: u32) -> Vec<(Tag, &'static str, Type)> {
    use Encoding::{Bool, Signed, Unsigned};
    let id = |index| TypeId { unit, index };
    let pointer = |to| Type::Pointer { to: id(to), bytes: 8 };
    let values =
        |values: &[(&str, i128)]| values.iter().map(|(name, value)| ((*name).into(), *value)).collect();
    let task = vec![
        member("pid", id(0), 0),
        bits("flags", id(1), 32, 3),
        bits("level", id(0), 35, 5),
        bits("wide", id(2), 64, 40),
        member("comm", id(8), 16),
        member("tasks", id(5), 32),
        member("parent", id(9), 48),
        member("", id(10), 56),
        member("fn", id(13), 64),
        member("__state", id(0), 72),
        member("vals", id(14), 76),
        member("data", id(15), 96),
    ];
    let prototype =
        Prototype { params: vec![Param { name: None, of: id(0) }], returns: id(0), variadic: false };
    let console = |bytes, name| record(RecordKind::Struct, "console", bytes, vec![member(name, id(0), 0)]);
    vec![
        (Tag::Base, "int", int("int", 4, Signed)),
        (Tag::Base, "unsigned int", int("unsigned int", 4, Unsigned)),
        (Tag::Base, "long unsigned int", int("long unsigned int", 8, Unsigned)),
        (Tag::Base, "char", int("char", 1, Signed)),
        (Tag::Base, "_Bool", int("_Bool", 1, Bool)),
        (
            Tag::Struct,
            "list_head",
            record(
                RecordKind::Struct,
                "list_head",
                16,
                vec![member("next", id(6), 0), member("prev", id(6), 8)],
            ),
        ),
        (Tag::Struct, "", pointer(5)),
        (Tag::Struct, "task", record(RecordKind::Struct, "task", 96, task)),
        (Tag::Struct, "", Type::Array { of: id(3), count: Some(16) }),
        (Tag::Struct, "", pointer(7)),
        (
            Tag::Union,
            "",
            record(RecordKind::Union, "", 8, vec![member("a", id(2), 0), member("", id(11), 0)]),
        ),
        (
            Tag::Struct,
            "",
            record(RecordKind::Struct, "", 8, vec![member("low", id(1), 0), member("high", id(1), 4)]),
        ),
        (Tag::Struct, "", Type::Function(prototype.clone())),
        (Tag::Struct, "", pointer(12)),
        (Tag::Struct, "", Type::Array { of: id(0), count: Some(4) }),
        (Tag::Struct, "", Type::Array { of: id(3), count: None }),
        (Tag::Typedef, "u64", Type::Typedef { name: "u64".into(), to: id(2) }),
        (Tag::Typedef, "task_t", Type::Typedef { name: "task_t".into(), to: id(7) }),
        (
            Tag::Enum,
            "kind",
            Type::Enum(Enum {
                name: Some("kind".into()),
                bytes: 4,
                signed: false,
                values: values(&[("KIND_A", 0), ("KIND_B", 5)]),
            }),
        ),
        (
            Tag::Enum,
            "sign",
            Type::Enum(Enum {
                name: Some("sign".into()),
                bytes: 4,
                signed: true,
                values: values(&[("MINUS", -1), ("PLUS", 3)]),
            }),
        ),
        (Tag::Struct, "console", console(8, "flags")),
        (Tag::Struct, "console", console(16, "other")),
        (Tag::Struct, "secret", Type::Declaration { tag: Tag::Struct, name: "secret".into() }),
        (Tag::Function, "handler", Type::Function(prototype)),
        (Tag::Struct, "first", record(RecordKind::Struct, "first", 4, vec![member("x", id(0), 0)])),
        (Tag::Base, "double", Type::Float { name: "double".into(), bytes: 8 }),
        (Tag::Struct, "", Type::Qualified { qualifier: Qualifier::Const, of: id(0) }),
    ]
}

fn module_types(unit: u32) -> Vec<(Tag, &'static str, Type)> {
    let id = |index| TypeId { unit, index };
    vec![
        (Tag::Base, "", int("int", 4, Encoding::Signed)),
        (Tag::Struct, "secret", record(RecordKind::Struct, "secret", 4, vec![member("word", id(0), 0)])),
        (Tag::Struct, "own", record(RecordKind::Struct, "own", 4, vec![member("x", id(0), 0)])),
    ]
}
