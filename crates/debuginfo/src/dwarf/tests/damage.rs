//! Damaged DWARF yields less, never a panic, and takes no longer.

use proptest::prelude::*;

use super::*;
use crate::dwarf::{DwarfTypes, FrameState, Names};
use crate::types::{Tag, Type, Types};
use kdive_base::{Missing, VirtualMemory};

struct Zeros;

impl VirtualMemory for Zeros {
    fn read(&self, _: VirtAddr, into: &mut [u8]) -> (usize, Option<Missing>) {
        into.fill(0);
        (into.len(), None)
    }
}

impl FrameState for Zeros {
    fn register(&self, number: u16) -> Option<u64> {
        Some(u64::from(number) << 60)
    }

    fn cfa(&self) -> Option<VirtAddr> {
        Some(VirtAddr(u64::MAX))
    }

    fn memory(&self) -> &dyn VirtualMemory {
        self
    }
}

/// Asks everything.
fn ask(bytes: Vec<u8>, placement: impl Fn(&ElfFile) -> Placement, here: VirtAddr) {
    let Ok(elf) = ElfFile::parse(bytes.into()) else { return };
    let placement = placement(&elf);
    let Ok(file) = DwarfFile::open(elf, placement) else { return };
    let _ = file.check();
    for address in [here, VirtAddr(0), VirtAddr(u64::MAX)] {
        let _ = file.frames(address);
        let _ = file.locals(address, &Zeros);
        let _ = file.caller(address, &Zeros, &[3, 6]);
    }
    let types = Types::new(8).with(|unit| DwarfTypes::new(file, unit, None, Names::All));
    for tag in [Tag::Struct, Tag::Union, Tag::Enum, Tag::Typedef, Tag::Base, Tag::Function, Tag::Variable] {
        let mut ids = Vec::new();
        types.for_each_name(tag, |_, id| ids.push(id));
        for id in ids {
            let _ = types.size_of(id);
            let _ = types.name_of(id);
            if let Some(Type::Record(record)) = types.get(id).as_deref() {
                for member in &record.members {
                    let _ = types.size_of(member.of);
                    let _ = types.path_at(id, member.bit_offset / 8);
                }
            }
        }
    }
    let _ = types.find(Tag::Struct, "plain");
    let _ = types.enumerator("GREEN");
}

/// Where the debug sections of a file are: damage elsewhere is not this reader's business.
fn debug_range(bytes: &[u8]) -> std::ops::Range<usize> {
    let elf = ElfFile::parse(bytes.to_vec().into()).unwrap();
    let sections = elf.sections().iter().filter(|section| section.name.starts_with(".debug_"));
    let ranges: Vec<_> = sections
        .map(|section| {
            let contents = elf.contents(section).unwrap().unwrap();
            let at = bytes.windows(contents.len()).position(|window| window == &*contents).unwrap();
            at..at + contents.len()
        })
        .collect();
    let start = ranges.iter().map(|range| range.start).min().unwrap();
    start..ranges.iter().map(|range| range.end).max().unwrap()
}

fn damaged(flags: &[&str], placement: impl Fn(&ElfFile) -> Placement + Copy) {
    let fixture = Fixture::new(flags);
    let here = match placement(&fixture.elf()) {
        Placement::Sections(places) => {
            let at = |section: &crate::elf::Section| places.get(&section.name).copied();
            fixture.elf().symbols_at(&at).unwrap().by_name("here").next().unwrap().address
        }
        Placement::Slid(_) => fixture.symbol("here"),
    };
    let range = debug_range(&fixture.bytes);
    let flips = proptest::collection::vec((range, any::<u8>()), 1..24);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 256,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let done = runner.run(&flips, |flips| {
        let mut bytes = fixture.bytes.clone();
        for (at, value) in flips {
            bytes[at] = value;
        }
        ask(bytes, placement, here);
        Ok(())
    });
    done.unwrap();
}

#[test]
fn damage_to_version_5_is_survived() {
    damaged(&["-g", "-gdwarf-5", "-O2"], |_| Placement::Slid(0));
}

#[test]
fn damage_to_version_4_is_survived() {
    damaged(&["-g", "-gdwarf-4", "-O2"], |_| Placement::Slid(0));
}

#[test]
fn damage_to_a_module_is_survived() {
    damaged(&["-g", "-O2", "-c"], |elf| Placement::Sections(placed(elf)));
}
