//! DWARF against BTF: needs the feature `dwarf`.

use std::collections::BTreeSet;
use std::time::Instant;

use kdive_debuginfo::dwarf::{DwarfFile, DwarfTypes, Names, Placement};
use kdive_debuginfo::types::Record;
use kdive_debuginfo::{Btf, Tag, Type, TypeId, Types};

use super::kernels;

/// Members as text, those of anonymous records among them. Dimensions of arrays are multiplied: until 2025, pahole wrote
/// BTF in which `a[2][3]` is `a[6]`.
fn members(types: &Types, record: &Record, base: u64, into: &mut Vec<String>) {
    for member in &record.members {
        let at = base + member.bit_offset;
        if let Some(inner) = types.stripped(member.of)
            && let (Type::Record(inner), None) = (&*inner, &member.name)
        {
            members(types, inner, at, into);
            continue;
        }
        let mut of = member.of;
        let mut count = 1;
        while let Some(Type::Array { of: next, count: more }) = types.get(of).as_deref() {
            count *= more.unwrap_or(0);
            of = *next;
        }
        let (name, bits) = (member.name.as_deref().unwrap_or(""), member.bit_size);
        let of = match types.get(of).as_deref() {
            Some(Type::Record(record)) if record.name.is_none() => {
                format!("{:?} of {}", record.kind, record.bytes)
            }
            _ => types.name_of(of),
        };
        into.push(format!("{name} at {at} of {bits:?}: {of} x {count}"));
    }
}

/// What a definition says, as lines that are equal where it says the same. `None` for a mere declaration.
fn told(types: &Types, id: TypeId) -> Option<Vec<String>> {
    match types.get(id).as_deref()? {
        Type::Record(record) => {
            let mut text = vec![record.bytes.to_string()];
            members(types, record, 0, &mut text);
            Some(text)
        }
        Type::Enum(of) => {
            // Old BTF does not say whether an enum is signed: its values are compared by their bits.
            let mask = (1_i128 << (of.bytes * 8).min(126)) - 1;
            let values = of.values.iter().map(|(name, value)| format!("{name} = {:#x}", value & mask));
            Some(std::iter::once(of.bytes.to_string()).chain(values).collect())
        }
        _ => None,
    }
}

/// Definitions of one kind, counted.
#[derive(Default)]
struct Tally {
    same: usize,
    absent: usize,
    different: BTreeSet<String>,
    /// Names of which BTF has more definitions than DWARF's index: each that is in both is the same.
    fewer: BTreeSet<String>,
}

impl Tally {
    /// Every definition that BTF has of a name against all that DWARF has of it.
    fn add(&mut self, btf: &Types, dwarf: &Types, tag: Tag, name: &str) {
        let known: Vec<_> = dwarf.find_all(tag, name).into_iter().filter_map(|id| told(dwarf, id)).collect();
        let wanted: Vec<_> = btf.find_all(tag, name).into_iter().filter_map(|id| told(btf, id)).collect();
        let all_found = known.iter().all(|known| wanted.contains(known));
        for wanted in &wanted {
            if known.contains(wanted) {
                self.same += 1;
            } else if known.is_empty() {
                // BTF has types that are local to a function.
                self.absent += 1;
            } else if all_found {
                self.fewer.insert(name.to_owned());
            } else {
                self.different.insert(name.to_owned());
            }
        }
    }
}

#[test]
#[ignore = "needs vmlinux files"]
fn types_are_those_of_btf() {
    for (name, elf) in kernels() {
        println!("{name}");
        let btf = Types::new(8).with_btf(Btf::parse(elf.btf().unwrap().expect(".BTF")).unwrap());
        let file = DwarfFile::open(elf, Placement::Slid(0)).unwrap();
        let dwarf = Types::new(8).with(|unit| DwarfTypes::new(file, unit, None, Names::All));
        let start = Instant::now();
        dwarf.find(Tag::Struct, "list_head").unwrap();
        println!("  first look-up: {:.0} ms", start.elapsed().as_secs_f64() * 1e3);
        for tag in [Tag::Struct, Tag::Union, Tag::Enum] {
            let mut names = BTreeSet::new();
            btf.for_each_name(tag, |name, _| {
                names.insert(name.to_owned());
            });
            let mut tally = Tally::default();
            names.iter().for_each(|name| tally.add(&btf, &dwarf, tag, name));
            let Tally { same, absent, different, fewer } = tally;
            println!("  {tag}: {same} the same, {absent} absent, {fewer:?} fewer, different: {different:?}");
            assert!(different.is_empty());
            assert!(absent * 100 <= same, "too many are absent");
        }
    }
}
