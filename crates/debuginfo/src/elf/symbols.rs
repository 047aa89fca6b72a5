//! Symbols of an ELF file, with the kinds that `nm` shows.

use kdive_base::VirtAddr;
use object::Endianness;
use object::elf;
use object::read::elf::{FileHeader, Sym};

use super::{ElfError, ElfFile, Section, damaged};
use crate::symbols::{SymbolKind, SymbolTable, SymbolTableBuilder};

impl ElfFile {
    /// The symbols at the addresses where the file was linked. Slide them by KASLR's offset with [`SymbolTable::slid`].
    ///
    /// # Errors
    /// When the symbol table is damaged. A file without one has no symbols.
    pub fn symbols(&self) -> Result<SymbolTable, ElfError> {
        self.symbols_at(&|section| Some(section.address))
    }

    /// The symbols of a module file, where its sections were loaded: `place` gives each section's address, or `None`
    /// for one that is not in memory.
    ///
    /// # Errors
    /// As [`ElfFile::symbols`].
    pub fn symbols_at(&self, place: &dyn Fn(&Section) -> Option<VirtAddr>) -> Result<SymbolTable, ElfError> {
        if self.is_64 {
            self.symbols_as::<elf::FileHeader64<Endianness>>(place)
        } else {
            self.symbols_as::<elf::FileHeader32<Endianness>>(place)
        }
    }

    fn symbols_as<E: FileHeader<Endian = Endianness>>(
        &self,
        place: &dyn Fn(&Section) -> Option<VirtAddr>,
    ) -> Result<SymbolTable, ElfError> {
        let bytes: &[u8] = &self.data;
        let header = E::parse(bytes).map_err(damaged)?;
        let endian = header.endian().map_err(damaged)?;
        let sections = header.sections(endian, bytes).map_err(damaged)?;
        let table = sections.symbols(endian, bytes, elf::SHT_SYMTAB).map_err(damaged)?;
        let places: Vec<_> = self.sections.iter().map(place).collect();
        let mut builder = SymbolTableBuilder::with_capacity(table.len(), table.len().saturating_mul(20));
        for (index, symbol) in table.enumerate() {
            let Ok(name) = symbol.name(endian, table.strings()) else { continue };
            if matches!(symbol.st_type(), elf::STT_SECTION | elf::STT_FILE) || is_mapping_symbol(name) {
                continue;
            }
            let section = match table.symbol_section(endian, symbol, index) {
                Ok(section) => section.map(|section| section.0),
                Err(_) => continue,
            };
            let value: u64 = symbol.st_value(endian).into();
            let address = match section {
                None if symbol.is_absolute(endian) => VirtAddr(value),
                None => continue,
                Some(section) if self.is_relocatable() => match places.get(section) {
                    Some(Some(place)) => place.add(value),
                    _ => continue,
                },
                Some(_) => VirtAddr(value),
            };
            let kind = kind(symbol.st_bind(), symbol.st_type(), section.and_then(|at| self.sections.get(at)));
            builder.push(name, address, symbol.st_size(endian).into(), kind);
        }
        Ok(builder.finish())
    }
}

/// arm64's and riscv's marks of code and data inside sections (`$x`, `$d`), which name nothing.
fn is_mapping_symbol(name: &[u8]) -> bool {
    matches!(name, [] | [b'$', b'x' | b'd' | b'a' | b't', ..])
}

/// `nm`'s letter.
fn kind(bind: elf::SymbolBind, of: elf::SymbolType, section: Option<&Section>) -> SymbolKind {
    if bind == elf::STB_WEAK {
        return SymbolKind::new(if of == elf::STT_OBJECT { b'V' } else { b'W' });
    }
    let letter = match section {
        None => b'A',
        Some(section) if section.flags & elf::SHF_EXECINSTR.0 != 0 => b'T',
        Some(section) if !section.is_loaded() => b'N',
        Some(section) if section.flags & elf::SHF_WRITE.0 == 0 => b'R',
        Some(section) if section.has_bytes => b'D',
        Some(_) => b'B',
    };
    SymbolKind::new(if bind == elf::STB_LOCAL { letter.to_ascii_lowercase() } else { letter })
}
