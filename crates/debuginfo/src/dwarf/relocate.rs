//! Relocations of a module's debug sections (`ET_REL`), applied to a copy.

use kdive_base::{Endian, VirtAddr};
use object::elf;
use rustc_hash::FxHashMap;

use crate::blob::Blob;
use crate::elf::{ElfFile, FileSymbol, Relocation, SymbolPlace};

/// What a relocation does to the bytes at its offset.
enum Effect {
    Store(usize),
    Add(usize),
    Subtract(usize),
}

/// A debug section with its relocations applied: references to other debug sections, and addresses by the sections'
/// places in memory. What refers to a section of unknown place is taken as if that started at 0.
pub(super) fn apply(elf: &ElfFile, name: &str, raw: Blob, at: &FxHashMap<Box<str>, VirtAddr>) -> Blob {
    let number = elf.sections().iter().position(|section| &*section.name == name);
    let relocations = number.map(|number| elf.relocations(number)).unwrap_or_default();
    if relocations.is_empty() {
        return raw;
    }
    let values = symbol_values(elf, at);
    let mut bytes = raw.to_vec();
    drop(raw);
    for relocation in relocations {
        let value = values.get(relocation.symbol).copied().unwrap_or(0);
        // A damaged relocation leaves its place as it is.
        let _ = patch(&mut bytes, elf, &relocation, value);
    }
    Blob::from(bytes)
}

/// The value of each symbol of the file, in the table's order. A section's symbol has the section's address.
fn symbol_values(elf: &ElfFile, at: &FxHashMap<Box<str>, VirtAddr>) -> Vec<u64> {
    let places: Vec<u64> =
        elf.sections().iter().map(|section| at.get(&section.name).map_or(0, |place| place.0)).collect();
    let value = |symbol: FileSymbol| match symbol.place {
        SymbolPlace::Section(number) => symbol.value.wrapping_add(places.get(number).copied().unwrap_or(0)),
        _ => symbol.value,
    };
    elf.file_symbols().into_iter().map(value).collect()
}

/// The kinds that compilers emit in debug sections, numbered by the processors' ELF supplements.
fn effect(machine: u16, kind: u32) -> Option<Effect> {
    use Effect::{Add, Store, Subtract};
    Some(match (elf::Machine(machine), kind) {
        (elf::EM_X86_64, 1) | (elf::EM_AARCH64, 257) | (elf::EM_S390, 22) | (elf::EM_PPC64, 38) => Store(8),
        (elf::EM_X86_64, 10 | 11) | (elf::EM_AARCH64, 258) | (elf::EM_S390, 4) | (elf::EM_PPC64, 1) => {
            Store(4)
        }
        (elf::EM_386, 1) | (elf::EM_ARM, 2) => Store(4),
        (elf::EM_RISCV | elf::EM_LOONGARCH, 1) => Store(4),
        (elf::EM_RISCV | elf::EM_LOONGARCH, 2) => Store(8),
        // These linkers may shrink code, so distances in it are written as an addition and a subtraction.
        (elf::EM_RISCV, 33) | (elf::EM_LOONGARCH, 47) => Add(1),
        (elf::EM_RISCV, 34) | (elf::EM_LOONGARCH, 48) => Add(2),
        (elf::EM_RISCV, 35) | (elf::EM_LOONGARCH, 50) => Add(4),
        (elf::EM_RISCV, 36) | (elf::EM_LOONGARCH, 51) => Add(8),
        (elf::EM_RISCV, 37) | (elf::EM_LOONGARCH, 52) => Subtract(1),
        (elf::EM_RISCV, 38) | (elf::EM_LOONGARCH, 53) => Subtract(2),
        (elf::EM_RISCV, 39) | (elf::EM_LOONGARCH, 55) => Subtract(4),
        (elf::EM_RISCV, 40) | (elf::EM_LOONGARCH, 56) => Subtract(8),
        (elf::EM_RISCV, 54) => Store(1),
        (elf::EM_RISCV, 55) => Store(2),
        (elf::EM_RISCV, 56) => Store(4),
        _ => return None,
    })
}

fn patch(bytes: &mut [u8], elf: &ElfFile, relocation: &Relocation, symbol: u64) -> Option<()> {
    let effect = effect(elf.machine(), relocation.kind)?;
    let (Effect::Store(width) | Effect::Add(width) | Effect::Subtract(width)) = effect;
    let start = usize::try_from(relocation.offset).ok()?;
    let place = bytes.get_mut(start..start.checked_add(width)?)?;
    let there = elf.endian().unsigned(place, 0, width)?;
    let value = |addend: u64| symbol.wrapping_add(addend);
    let addend = relocation.addend.map(|addend| addend as u64);
    let result = match effect {
        Effect::Store(_) => value(addend.unwrap_or(there)),
        Effect::Add(_) => there.wrapping_add(value(addend.unwrap_or(0))),
        Effect::Subtract(_) => there.wrapping_sub(value(addend.unwrap_or(0))),
    };
    match elf.endian() {
        Endian::Little => place.copy_from_slice(result.to_le_bytes().get(..width)?),
        Endian::Big => place.copy_from_slice(result.to_be_bytes().get(8_usize.checked_sub(width)?..)?),
    }
    Some(())
}
