//! DWARF against BTF: needs the feature `dwarf`.

use std::collections::BTreeSet;
use std::time::Instant;

use kdive_debuginfo::dwarf::{DwarfFile, DwarfTypes, Names, Placement};
use kdive_debuginfo::types::{Lookup, Record};
use kdive_debuginfo::{Btf, Tag, Type, TypeId, Types};

use super::kernels;

fn record(types: &Types, id: TypeId) -> Option<Record> {
    match types.get(id).as_deref() {
        Some(Type::Record(record)) => Some(record.clone()),
        _ => None,
    }
}

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

#[test]
#[ignore = "needs vmlinux files"]
fn records_are_those_of_btf() {
    for (name, elf) in kernels() {
        println!("{name}");
        let btf = Types::new(8).with_btf(Btf::parse(elf.btf().unwrap().expect(".BTF")).unwrap());
        let file = DwarfFile::open(elf, Placement::Slid(0)).unwrap();
        let dwarf = Types::new(8).with(|unit| DwarfTypes::new(file, unit, None, Names::All));
        let start = Instant::now();
        dwarf.find(Tag::Struct, "list_head").unwrap();
        println!("  first look-up: {:.0} ms", start.elapsed().as_secs_f64() * 1e3);
        let (mut same, mut absent, mut different) = (0, 0, Vec::new());
        for tag in [Tag::Struct, Tag::Union] {
            let mut names = BTreeSet::new();
            btf.for_each_name(tag, |name, _| {
                names.insert(name.to_owned());
            });
            for name in names {
                let Ok(id) = btf.find(tag, &name) else { continue };
                let Some(wanted) = record(&btf, id) else { continue };
                let found = match dwarf.find(tag, &name) {
                    Ok(id) => record(&dwarf, id),
                    Err(Lookup::Ambiguous { .. }) => None,
                    // BTF has types that are local to a function.
                    Err(Lookup::NotFound { .. }) => {
                        absent += 1;
                        continue;
                    }
                };
                let text = |types: &Types, record: &Record| {
                    let mut text = vec![record.bytes.to_string()];
                    members(types, record, 0, &mut text);
                    text
                };
                if found.as_ref().map(|found| text(&dwarf, found)) == Some(text(&btf, &wanted)) {
                    same += 1;
                } else {
                    different.push(name);
                }
            }
        }
        println!("  {same} the same, {absent} absent, different: {different:?}");
        assert!(different.is_empty());
        assert!(absent * 100 < same, "too many are absent");
    }
}
