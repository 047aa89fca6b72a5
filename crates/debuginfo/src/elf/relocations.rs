//! Relocations of object files, and the symbols that they are against, in the tables' own order.

use kdive_base::{ByteReader, Endian};
use object::elf;

use super::{ElfFile, Section};
use crate::names::safe_name;

/// One relocation: where, against which symbol, and what to add.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Relocation {
    /// Bytes from the start of the section that it changes.
    pub offset: u64,
    /// An index into [`ElfFile::file_symbols`].
    pub symbol: usize,
    /// What it does, by the processor's ELF supplement (`R_*`).
    pub kind: u32,
    /// What is added; `None` in tables without addends (`SHT_REL`): it stands at `offset`.
    pub addend: Option<i64>,
}

/// What a symbol's value counts from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SymbolPlace {
    /// Another file has the symbol.
    Undefined,
    /// Nothing: the value is the symbol's own.
    Absolute,
    /// The start of the section with this number.
    Section(usize),
    /// Something of the system's own (`SHN_LOPROC` and above): livepatch uses it.
    Other,
}

/// A symbol as the file has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileSymbol {
    /// Its name; empty for a section's.
    pub name: Box<str>,
    /// `st_value`
    pub value: u64,
    /// What the value counts from.
    pub place: SymbolPlace,
    /// Whether it may be missing: its address is 0 then.
    pub weak: bool,
}

impl ElfFile {
    /// The relocations of the section with a number, in the table's order; none where the table is damaged.
    #[must_use]
    pub fn relocations(&self, section: usize) -> Vec<Relocation> {
        let tables = self.sections().iter().filter_map(|table| match table.relocates {
            Some((of, explicit)) if of == section => Some((table, explicit)),
            _ => None,
        });
        tables.flat_map(|(table, explicit)| self.relocations_in(table, explicit)).collect()
    }

    fn relocations_in(&self, table: &Section, explicit: bool) -> Vec<Relocation> {
        let Ok(Some(bytes)) = self.contents(table) else { return Vec::new() };
        let mut reader = ByteReader::new(&bytes, self.endian());
        std::iter::from_fn(|| read(&mut reader, self.is_64(), explicit)).collect()
    }

    /// All symbols of `.symtab`, in its order, the empty first one too.
    #[must_use]
    pub fn file_symbols(&self) -> Vec<FileSymbol> {
        let (Ok(Some(table)), Ok(Some(names))) = (self.section(".symtab"), self.section(".strtab")) else {
            return Vec::new();
        };
        let size = if self.is_64() { 24 } else { 16 };
        table.chunks_exact(size).map(|entry| symbol(entry, self.endian(), self.is_64(), &names)).collect()
    }
}

fn symbol(entry: &[u8], endian: Endian, is_64: bool, names: &[u8]) -> FileSymbol {
    let (value, info, section) = if is_64 {
        (endian.u64(entry, 8), entry.get(4), endian.u16(entry, 6))
    } else {
        (endian.u32(entry, 4).map(u64::from), entry.get(12), endian.u16(entry, 14))
    };
    let name = endian.u32(entry, 0).and_then(|at| names.get(at as usize..));
    let place = match section.unwrap_or(0) {
        0 => SymbolPlace::Undefined,
        number if number == elf::SHN_ABS.0 => SymbolPlace::Absolute,
        number if number >= elf::SHN_LORESERVE => SymbolPlace::Other,
        number => SymbolPlace::Section(number.into()),
    };
    FileSymbol {
        name: safe_name(name.map(kdive_base::bytes::until_nul).unwrap_or_default()),
        value: value.unwrap_or(0),
        place,
        weak: info.is_some_and(|info| info >> 4 == elf::STB_WEAK.0),
    }
}

fn read(reader: &mut ByteReader<'_>, is_64: bool, explicit: bool) -> Option<Relocation> {
    if is_64 {
        let (offset, info) = (reader.u64()?, reader.u64()?);
        let addend = if explicit { Some(reader.i64()?) } else { None };
        Some(Relocation { offset, symbol: (info >> 32) as usize, kind: info as u32, addend })
    } else {
        let (offset, info) = (reader.u32()?, reader.u32()?);
        let addend = if explicit { Some(i64::from(reader.i32()?)) } else { None };
        Some(Relocation { offset: offset.into(), symbol: (info >> 8) as usize, kind: info & 0xff, addend })
    }
}
