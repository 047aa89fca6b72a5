//! BTF blobs put together by hand, in both byte orders, then damaged.

use proptest::prelude::*;

use super::*;
use crate::types::{Encoding, Lookup, Qualifier, Tag, Type, TypeId};

/// Builds a blob: types are words, names become offsets of a string section.
struct Builder {
    endian: Endian,
    types: Vec<u8>,
    strings: Vec<u8>,
    strings_from: u32,
}

impl Builder {
    fn new(endian: Endian) -> Self {
        Self { endian, types: vec![], strings: vec![0], strings_from: 0 }
    }

    fn split(endian: Endian, strings_from: u32) -> Self {
        Self { strings: vec![], strings_from, ..Self::new(endian) }
    }

    fn word(&mut self, word: u32) -> &mut Self {
        let raw = if self.endian == Endian::Little { word.to_le_bytes() } else { word.to_be_bytes() };
        self.types.extend(raw);
        self
    }

    fn name(&mut self, name: &str) -> u32 {
        if name.is_empty() {
            return 0;
        }
        let at = self.strings.len() as u32 + self.strings_from;
        self.strings.extend(name.bytes());
        self.strings.push(0);
        at
    }

    fn head(&mut self, name: &str, kind: u32, flag: bool, count: u32, size_or_type: u32) -> &mut Self {
        let name = self.name(name);
        self.word(name).word(kind << 24 | count | u32::from(flag) << 31).word(size_or_type)
    }

    fn named(&mut self, name: &str, word: u32) -> &mut Self {
        let name = self.name(name);
        self.word(name).word(word)
    }

    fn build(&self) -> Vec<u8> {
        let mut header = Self::new(self.endian);
        let magic = if self.endian == Endian::Little { [0x9f, 0xeb, 1, 0] } else { [0xeb, 0x9f, 1, 0] };
        header.types.extend(magic);
        header.word(24).word(0).word(self.types.len() as u32);
        header.word(self.types.len() as u32).word(self.strings.len() as u32);
        [header.types, self.types.clone(), self.strings.clone()].concat()
    }
}

/// 1 int, 2 `struct node`, 3 `struct node *`, 4 array, 5 typedef, 6 enum, 7 prototype, 8 function, 9 variable,
/// 10 `struct later;`, 11 enum64, 12 `volatile int`, 13 `__percpu`, 14 float, 15 `_Bool`
fn kernel(endian: Endian) -> Builder {
    let mut b = Builder::new(endian);
    b.head("int", 1, false, 0, 4).word(1 << 24 | 32);
    b.head("node", 4, true, 3, 24);
    b.named("next", 3).word(0).named("low", 1).word(3 << 24 | 64).named("list", 4).word(128);
    b.head("", 2, false, 0, 2);
    b.head("", 3, false, 0, 0).word(1).word(1).word(2);
    b.head("node_t", 8, false, 0, 2);
    b.head("state", 6, true, 2, 4).named("DEAD", (-1_i32).cast_unsigned()).named("ALIVE", 1);
    b.head("", 13, false, 3, 0).named("node", 3).named("count", 1).word(0).word(0);
    b.head("visit", 12, false, 1, 7);
    b.head("counter", 14, false, 0, 12).word(1);
    b.head("later", 7, false, 0, 0);
    b.head("big", 19, false, 1, 8).named("TOP", 0).word(1 << 31);
    b.head("", 9, false, 0, 1);
    b.head("percpu", 18, false, 0, 1);
    b.head("double", 16, false, 0, 8);
    b.head("_Bool", 1, false, 0, 1).word(4 << 24 | 8);
    b
}

fn open(bytes: Vec<u8>) -> Types {
    Types::new(8).with_btf(Btf::parse(bytes.into()).unwrap())
}

fn id(unit: u32, index: u32) -> TypeId {
    TypeId { unit, index }
}

#[test]
fn all_kinds_decode_in_both_byte_orders() {
    for endian in [Endian::Little, Endian::Big] {
        let types = open(kernel(endian).build());
        let node = types.find(Tag::Struct, "node").unwrap();
        let low = types.member(node, "low").unwrap();
        assert_eq!((low.bit_offset, low.bit_size, types.name_of(low.of)), (64, Some(3), "int".into()));
        assert_eq!(types.declare(types.member(node, "list").unwrap().of, "list"), "int list[2]");
        assert_eq!(types.size_of(types.find(Tag::Typedef, "node_t").unwrap()), Some(24));
        assert_eq!(types.enumerator("DEAD").unwrap().1, -1);
        assert_eq!(types.enumerator("TOP").unwrap().1, 1 << 63);
        let visit = types.find(Tag::Function, "visit").unwrap();
        assert_eq!(types.declare(visit, "visit"), "void visit(struct node *, int, ...)");
        let Some(Type::Function(prototype)) = types.get(visit).as_deref().cloned() else { panic!() };
        assert_eq!(prototype.params[1].name.as_deref(), Some("count"));
        assert_eq!(types.name_of(types.find(Tag::Variable, "counter").unwrap()), "volatile int");
        let Some(Type::Qualified { qualifier, .. }) = types.get(id(0, 13)).as_deref().cloned() else {
            panic!()
        };
        assert_eq!(qualifier, Qualifier::Tag("percpu".into()));
        assert_eq!(types.size_of(types.find(Tag::Base, "double").unwrap()), Some(8));
        let boolean = types.get(types.find(Tag::Base, "bool").unwrap());
        assert!(matches!(boolean.as_deref(), Some(Type::Int { encoding: Encoding::Bool, .. })));
        assert_eq!(types.get(id(0, 16)), None);
        let mut names = vec![];
        types.for_each_name(Tag::Struct, |name, _| names.push(name.to_owned()));
        assert_eq!(names, ["node", "later"]);
    }
}

#[test]
fn bit_fields_of_old_pahole_are_special_integers() {
    let mut b = Builder::new(Endian::Little);
    b.head("unsigned int", 1, false, 0, 4).word(2 << 16 | 3);
    b.head("old", 4, false, 1, 4).named("bits", 1).word(8);
    b.head("signs", 6, false, 1, 4).named("MINUS", (-5_i32).cast_unsigned());
    let types = open(b.build());
    let bits = types.member(types.find(Tag::Struct, "old").unwrap(), "bits").unwrap();
    assert_eq!((bits.bit_offset, bits.bit_size), (10, Some(3)));
    assert_eq!(types.enumerator("MINUS").unwrap().1, -5, "old pahole did not mark signed enums");
}

#[test]
fn a_module_builds_on_the_kernels_types() {
    let base = kernel(Endian::Little);
    let types = open(base.build());
    // 16 `struct mine { struct node *n; struct theirs *t; }`, 17 pointer, 18 declaration, 19 function by base prototype
    let mut split = Builder::split(Endian::Little, base.strings.len() as u32);
    split.head("mine", 4, false, 2, 16).named("n", 3).word(0).named("t", 17).word(64);
    split.head("", 2, false, 0, 18);
    split.head("later", 7, false, 0, 0);
    split.head("mine_visit", 12, false, 0, 7);
    let types = types.with_module_btf("mod", split.build().into(), None).unwrap();
    let mine = types.find(Tag::Struct, "mine").unwrap();
    assert_eq!((mine, types.module_of(mine)), (id(1, 16), Some("mod")));
    assert_eq!(types.member(mine, "n").unwrap().of, id(0, 3));
    assert_eq!(types.name_of(types.member(mine, "t").unwrap().of), "struct later *");
    let visit = types.find_in(Some("mod"), Tag::Function, "mine_visit").unwrap();
    assert_eq!(types.name_of(visit), "void (struct node *, int, ...)");
    assert_eq!(
        Types::new(8).with_module_btf("mod", split.build().into(), None).err(),
        Some(BtfError::NoBase)
    );
}

#[test]
fn a_distilled_base_leads_to_the_kernels_layouts() {
    let types = open(kernel(Endian::Little).build());
    let mut base = Builder::new(Endian::Little);
    base.head("int", 1, false, 0, 4).word(1 << 24 | 32);
    base.head("node", 4, false, 0, 24);
    let mut split = Builder::split(Endian::Little, base.strings.len() as u32);
    split.head("mine", 4, false, 1, 24).named("n", 2).word(0);
    let types = types.with_module_btf("mod", split.build().into(), Some(base.build().into())).unwrap();
    let mine = types.find_in(Some("mod"), Tag::Struct, "mine").unwrap();
    assert_eq!(types.member(mine, "n.low").unwrap().bit_offset, 64);
    assert_eq!(types.find(Tag::Struct, "node"), Ok(id(0, 2)));
}

#[test]
fn what_lies_before_the_damage_stays() {
    let whole = kernel(Endian::Little).build();
    // An unknown kind in place of the typedef.
    let mut broken = whole.clone();
    let at = 24 + 16 + 12 + 36 + 12 + 24 + 4 + 3;
    assert_eq!(broken[at], 8);
    broken[at] = 31;
    let btf = Btf::parse(broken.into()).unwrap();
    assert_eq!(btf.len(), 4);
    assert!(btf.lost() > 0);
    let types = Types::new(8).with_btf(btf);
    assert_eq!(types.size_of(types.find(Tag::Struct, "node").unwrap()), Some(24));
    assert!(matches!(types.find(Tag::Enum, "state"), Err(Lookup::NotFound { .. })));
    assert_eq!(Btf::parse(Blob::default()).err(), Some(BtfError::NotBtf));
    assert_eq!(Btf::parse(vec![0x9f, 0xeb, 9, 0].into()).err(), Some(BtfError::Version(9)));
    assert!(matches!(Btf::parse(whole[..20].to_vec().into()), Err(BtfError::Header(20))));
}

/// Looks at everything that can be asked.
fn walk(types: &Types) {
    for tag in [Tag::Struct, Tag::Union, Tag::Enum, Tag::Typedef, Tag::Base, Tag::Function, Tag::Variable] {
        let mut all = vec![];
        types.for_each_name(tag, |name, id| all.push((name.to_owned(), id)));
        for (name, id) in all {
            let _ = types.find(tag, &name);
            let _ = (types.name_of(id), types.size_of(id), types.member(id, "low"), types.path_at(id, 3));
        }
    }
    for name in ["DEAD", "TOP", ""] {
        let _ = types.enumerator(name);
    }
}

proptest! {
    #[test]
    fn damage_never_panics(
        cut in 0_usize..600, flips in proptest::collection::vec((0_usize..600, any::<u8>()), 0..6), big: bool,
    ) {
        let endian = if big { Endian::Big } else { Endian::Little };
        let mut bytes = kernel(endian).build();
        for (at, value) in flips {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        bytes.truncate(cut.max(1));
        if let Ok(btf) = Btf::parse(bytes.clone().into()) {
            let types = Types::new(8).with_btf(btf);
            walk(&types);
            if let Ok(types) = types.with_module_btf("m", bytes.into(), None) {
                walk(&types);
            }
        }
    }
}
