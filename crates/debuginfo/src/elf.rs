//! ELF files: vmlinux, modules, and their separate debug files.

mod compress;
mod relocations;
mod symbols;
#[cfg(test)]
mod tests;

use std::ops::Range;

use kdive_base::bytes::until_nul;
use kdive_base::{ByteReader, Endian, VirtAddr};
use object::Endianness;
use object::elf;
use object::read::elf::{FileHeader, SectionHeader};

use crate::blob::Blob;
use crate::names::safe_name;

pub use relocations::{FileSymbol, Relocation, SymbolPlace};

/// Why bytes are not usable as an ELF file.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ElfError {
    /// The magic number is missing.
    #[error("not an ELF file")]
    NotElf,
    /// Headers are damaged, or the file is cut.
    #[error("damaged ELF file: {0}")]
    Damaged(String),
    /// A compressed section does not decompress.
    #[error("section {section} does not decompress: {why}")]
    Compressed {
        /// The section's name.
        section: Box<str>,
        /// What went wrong.
        why: String,
    },
}

/// What an ELF file is to a crash-dump debugger.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ElfKind {
    /// A kernel image (vmlinux), or its debug file.
    Kernel,
    /// A kernel module (`.ko`), or its debug file.
    Module,
    /// A memory dump or a process's core: no business of this crate.
    Core,
    /// Some other program, library or object.
    Other,
}

/// A section of the file.
#[derive(Clone, Debug)]
pub struct Section {
    /// Its name.
    pub name: Box<str>,
    /// Where it was linked; 0 in a module file.
    pub address: VirtAddr,
    /// Its size in memory, in bytes (of a compressed section: its size in the file).
    pub size: u64,
    /// `sh_flags`
    pub flags: u64,
    /// Whether the file holds its bytes: debug files have only the heads of code and data.
    pub has_bytes: bool,
    /// Where its bytes are in the file.
    file: Range<usize>,
    /// Of a table of relocations: the number of the section that it changes, and whether each entry has an addend.
    relocates: Option<(usize, bool)>,
}

impl Section {
    /// Whether it holds code.
    #[must_use]
    pub const fn is_code(&self) -> bool {
        self.is_loaded() && self.flags & elf::SHF_EXECINSTR.0 != 0
    }

    /// Whether it is loaded into memory.
    #[must_use]
    pub const fn is_loaded(&self) -> bool {
        self.flags & elf::SHF_ALLOC.0 != 0
    }
}

/// An ELF file with its section table read.
#[derive(Clone, Debug)]
pub struct ElfFile {
    data: Blob,
    endian: Endian,
    is_64: bool,
    machine: u16,
    object_type: u16,
    sections: Vec<Section>,
}

impl ElfFile {
    /// Reads the file's headers and section table.
    ///
    /// # Errors
    /// When this is no ELF file, or its headers are damaged.
    pub fn parse(data: Blob) -> Result<Self, ElfError> {
        /// `EI_CLASS`: 1 is 32-bit, 2 is 64-bit.
        const CLASS: usize = 4;
        if !data.starts_with(b"\x7fELF") {
            return Err(ElfError::NotElf);
        }
        match data.get(CLASS) {
            Some(1) => Self::parse_as::<elf::FileHeader32<Endianness>>(&data),
            _ => Self::parse_as::<elf::FileHeader64<Endianness>>(&data),
        }
    }

    fn parse_as<E: FileHeader<Endian = Endianness>>(data: &Blob) -> Result<Self, ElfError> {
        let bytes: &[u8] = data;
        let header = E::parse(bytes).map_err(damaged)?;
        let endian = header.endian().map_err(damaged)?;
        let table = header.sections(endian, bytes).map_err(damaged)?;
        let sections = table.iter().map(|section| {
            let file = section.file_range(endian).and_then(|(start, size)| {
                let start = usize::try_from(start).ok()?;
                Some(start..start.checked_add(usize::try_from(size).ok()?)?)
            });
            Section {
                name: safe_name(table.section_name(endian, section).unwrap_or_default()),
                address: VirtAddr(section.sh_addr(endian).into()),
                size: section.sh_size(endian).into(),
                flags: section.sh_flags(endian).0,
                has_bytes: file.as_ref().is_some_and(|file| file.end <= bytes.len()),
                file: file.unwrap_or(0..0),
                relocates: match section.sh_type(endian) {
                    elf::SHT_RELA => Some((section.sh_info(endian) as usize, true)),
                    elf::SHT_REL => Some((section.sh_info(endian) as usize, false)),
                    _ => None,
                },
            }
        });
        Ok(Self {
            sections: sections.collect(),
            endian: if endian == Endianness::Little { Endian::Little } else { Endian::Big },
            is_64: header.is_type_64(),
            machine: header.e_machine(endian).0,
            object_type: header.e_type(endian).0,
            data: data.clone(),
        })
    }

    /// Byte order of the machine that the file is for.
    #[must_use]
    pub const fn endian(&self) -> Endian {
        self.endian
    }

    /// Whether it is for a 64-bit machine.
    #[must_use]
    pub const fn is_64(&self) -> bool {
        self.is_64
    }

    /// The machine (`EM_*`), 62 for x86-64.
    #[must_use]
    pub const fn machine(&self) -> u16 {
        self.machine
    }

    /// Whether addresses in it are offsets into sections, to be relocated: modules (`ET_REL`).
    #[must_use]
    pub const fn is_relocatable(&self) -> bool {
        self.object_type == elf::ET_REL.0
    }

    /// What it is. Separate debug files keep the section names of the file that they belong to, so they count as it.
    #[must_use]
    pub fn kind(&self) -> ElfKind {
        let has = |name| self.find_section(name).is_some();
        if self.object_type == elf::ET_CORE.0 {
            ElfKind::Core
        } else if has(".gnu.linkonce.this_module") || (self.is_relocatable() && has(".modinfo")) {
            ElfKind::Module
        } else if has("__ksymtab") || (has(".init.text") && has("__ex_table")) {
            ElfKind::Kernel
        } else {
            ElfKind::Other
        }
    }

    /// All sections, in the file's order; the first is the empty one of index 0.
    #[must_use]
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// The first section with this name.
    #[must_use]
    pub fn find_section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| &*section.name == name)
    }

    /// A section's bytes, decompressed if need be; `None` when there is no such section or only its head. `.zdebug_x`
    /// of old tools is found as `.debug_x`.
    ///
    /// # Errors
    /// [`ElfError::Compressed`] when decompressing fails.
    pub fn section(&self, name: &str) -> Result<Option<Blob>, ElfError> {
        let old = name.strip_prefix(".debug_").map(|rest| format!(".zdebug_{rest}"));
        let section = self.find_section(name).or_else(|| self.find_section(old.as_deref()?));
        section.map_or(Ok(None), |section| self.contents(section))
    }

    /// The bytes of one of [`ElfFile::sections`], decompressed if need be.
    ///
    /// # Errors
    /// [`ElfError::Compressed`] when decompressing fails.
    pub fn contents(&self, section: &Section) -> Result<Option<Blob>, ElfError> {
        let Some(raw) = self.data.slice(section.file.clone()).filter(|_| section.has_bytes) else {
            return Ok(None);
        };
        compress::decompress(section, raw, self.endian, self.is_64).map(Some)
    }

    /// The kernel's or module's BTF (section `.BTF`).
    ///
    /// # Errors
    /// As [`ElfFile::section`].
    pub fn btf(&self) -> Result<Option<Blob>, ElfError> {
        self.section(".BTF")
    }

    /// Whether DWARF is inside.
    #[must_use]
    pub fn has_dwarf(&self) -> bool {
        let is = |name: &str| self.find_section(name).is_some_and(|section| section.has_bytes);
        is(".debug_info") || is(".zdebug_info")
    }

    /// Whether code is inside: a debug file has only the heads of its sections.
    #[must_use]
    pub fn has_code(&self) -> bool {
        self.sections.iter().any(|section| section.is_code() && section.has_bytes && section.size > 0)
    }

    /// The build-id, which a kernel or module shares with its debug file.
    #[must_use]
    pub fn build_id(&self) -> Option<Vec<u8>> {
        let notes = self.sections.iter().filter(|section| section.name.starts_with(".note"));
        notes
            .filter_map(|section| self.contents(section).ok()?)
            .find_map(|notes| build_id_in_notes(&notes, self.endian))
    }

    /// The name of the separate debug file and the CRC-32 of its contents (section `.gnu_debuglink`).
    #[must_use]
    pub fn debug_link(&self) -> Option<(String, u32)> {
        let link = self.section(".gnu_debuglink").ok()??;
        let name = until_nul(&link);
        let crc = self.endian.u32(&link, name.len().checked_add(1)?.checked_next_multiple_of(4)?)?;
        (!name.is_empty()).then(|| (safe_name(name).into(), crc))
    }

    /// The module's description (section `.modinfo`) as keys and values: `name`, `vermagic`, `version`, `depends`...
    #[must_use]
    pub fn module_info(&self) -> Vec<(String, String)> {
        let Ok(Some(info)) = self.section(".modinfo") else { return Vec::new() };
        let entries = info.split(|&byte| byte == 0).filter_map(|entry| {
            let equals = entry.iter().position(|&byte| byte == b'=')?;
            let (key, value) = entry.split_at_checked(equals)?;
            Some((safe_name(key).into(), kdive_base::printable(value.get(1..)?)))
        });
        entries.collect()
    }

    /// The module's name, as the kernel knows it.
    #[must_use]
    pub fn module_name(&self) -> Option<String> {
        self.module_info().into_iter().find(|(key, _)| key == "name").map(|(_, name)| name)
    }
}

/// The GNU build-id among ELF notes: of a section, or of the kernel's memory between `__start_notes` and `__stop_notes`.
#[must_use]
pub fn build_id_in_notes(notes: &[u8], endian: Endian) -> Option<Vec<u8>> {
    /// `NT_GNU_BUILD_ID`
    const BUILD_ID: u32 = 3;
    let mut reader = ByteReader::new(notes, endian);
    loop {
        let (name, description, kind) = (reader.u32()?, reader.u32()?, reader.u32()?);
        let name = reader.take(name as usize)?;
        reader.align(4)?;
        let description = reader.take(description as usize)?;
        reader.align(4)?;
        if kind == BUILD_ID && name == b"GNU\0" && (8..=64).contains(&description.len()) {
            return Some(description.to_vec());
        }
    }
}

fn damaged(error: object::read::Error) -> ElfError {
    ElfError::Damaged(error.to_string())
}
