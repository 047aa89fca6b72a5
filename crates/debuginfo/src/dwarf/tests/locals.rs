//! Locals, against places that the compiled program prints, and values in a frame made up here.

use std::sync::Mutex;

use kdive_base::{Missing, VirtualMemory, Why};

use super::*;
use crate::dwarf::{DwarfTypes, FrameState, Names, Storage};
use crate::types::Types;

const CFA: VirtAddr = VirtAddr(0x7fff_0000_1000);

/// A frame of which only the place is known.
struct Frame {
    memory: Nothing,
    cfa: Option<VirtAddr>,
    asked: Mutex<Vec<u16>>,
}

struct Nothing;

impl VirtualMemory for Nothing {
    fn read(&self, at: VirtAddr, _: &mut [u8]) -> (usize, Option<Missing>) {
        (0, Some(Missing::new(at, Why::NeverPresent)))
    }
}

impl FrameState for Frame {
    fn register(&self, number: u16) -> Option<u64> {
        self.asked.lock().unwrap().push(number);
        None
    }

    fn cfa(&self) -> Option<VirtAddr> {
        self.cfa
    }

    fn memory(&self) -> &dyn VirtualMemory {
        &self.memory
    }
}

fn frame(cfa: Option<VirtAddr>) -> Frame {
    Frame { memory: Nothing, cfa, asked: Mutex::default() }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn places_are_those_that_the_program_sees() {
    for version in ["-gdwarf-4", "-gdwarf-5"] {
        // Without a frame pointer everything counts from the frame's address.
        let fixture = Fixture::new(&["-g", version, "-O0", "-fomit-frame-pointer"]);
        let file = fixture.dwarf();
        let locals = file.locals(fixture.symbol("here"), &frame(Some(CFA)));
        for told in fixture.told("cfa") {
            let local = locals.iter().find(|local| &*local.name == told[0]).unwrap();
            let place = CFA.offset(told[1].parse().unwrap());
            assert_eq!(local.storage, Storage::Memory(place), "{}", told[0]);
            assert_eq!(local.argument, ["argument", "pointer"].contains(&told[0]));
            // Innermost of three functions is `innermost`; these are of the one that was compiled.
            assert_eq!(local.frame, 2);
        }
        let doubled = locals.iter().find(|local| &*local.name == "doubled").unwrap();
        assert_eq!(doubled.frame, 1);
        assert!(locals.iter().any(|local| &*local.name == "value" && local.frame == 0 && local.argument));
        let other = locals.iter().find(|local| &*local.name == "other").unwrap();
        let mut number = 0;
        let types = Types::new(8).with(|unit| {
            number = unit;
            DwarfTypes::new(file, unit, None, Names::None)
        });
        let of = DwarfTypes::type_at(number, other.of);
        assert_eq!(types.name_of(of), "long [3]");
    }
}

#[test]
fn a_block_that_does_not_run_has_no_variables() {
    let fixture = Fixture::new(&["-g", "-O0"]);
    let entry = fixture.symbol("outermost");
    let names: Vec<_> =
        fixture.dwarf().locals(entry, &frame(Some(CFA))).into_iter().map(|local| local.name).collect();
    assert!(names.iter().any(|name| &**name == "argument"), "{names:?}");
    assert!(!names.iter().any(|name| &**name == "in_block"), "{names:?}");
}

#[test]
fn what_is_not_known_is_said() {
    let fixture = Fixture::new(&["-g", "-O0"]);
    let lost = frame(None);
    let locals = fixture.dwarf().locals(fixture.symbol("here"), &lost);
    assert!(locals.iter().any(|local| matches!(local.storage, Storage::Unknown(_))), "{locals:?}");
    assert!(locals.iter().all(|local| !matches!(local.storage, Storage::Bytes(_) | Storage::Pieces(_))));
    // Optimised code has its values in registers, constants, or nowhere.
    let fixture = Fixture::new(&["-g", "-O2"]);
    let locals = fixture.dwarf().locals(fixture.symbol("here"), &lost);
    assert!(locals.iter().any(|local| &*local.name == "pointer" && local.argument), "{locals:?}");
    assert!(!lost.asked.lock().unwrap().is_empty());
}
