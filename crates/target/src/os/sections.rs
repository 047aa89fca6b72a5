//! Where a module's sections were loaded (`kernel/module/sysfs.c`).

use kdive_base::{Endian, VirtAddr};
use kdive_debuginfo::elf::{ElfFile, Section, build_id_in_notes};
use rustc_hash::FxHashMap;

use super::Module;
use crate::kernel::Kernel;
use crate::lacks::{Field, Lacks};
use crate::load::{Load, MemberAddress};

/// Addresses of sections by name.
pub type SectionPlaces = FxHashMap<Box<str>, VirtAddr>;

/// `struct module_sect_attrs`: what sysfs shows under `/sys/module/<name>/sections`.
#[derive(Load)]
#[load(type = "module_sect_attrs")]
struct SectionAttributes {
    /// Number of `attrs` (until 6.13).
    nsections: Field<u32>,
    attrs: Field<MemberAddress>,
    /// Addresses of `attrs`, NULL at the end.
    #[load(any("grp.bin_attrs_new", "grp.bin_attrs"))]
    list: Field<VirtAddr>,
}

/// An entry of `attrs`, until 6.13.
#[derive(Load)]
#[load(type = "module_sect_attr")]
struct SectionAttribute {
    #[load(any("battr.attr.name", "name"))]
    name: Field<VirtAddr>,
    address: Field<VirtAddr>,
}

/// An entry of `attrs`, from 6.14 on: the address is its private data.
#[derive(Load)]
#[load(type = "bin_attribute")]
struct BinaryAttribute {
    #[load(any("attr.name"))]
    name: Field<VirtAddr>,
    private: Field<VirtAddr>,
}

/// The largest modules have some hundreds, with a section for each function some ten thousand.
const MOST_SECTIONS: u32 = 1 << 16;
const LONGEST_NAME: usize = 512;
/// A note with a build-id of 20 bytes.
const NOTE_BYTES: usize = 36;

impl Module {
    /// The places of its sections: as the kernel tells them, or else as its symbols and those of its file show.
    #[must_use]
    pub fn section_places(&self, kernel: &Kernel, file: &ElfFile) -> SectionPlaces {
        match told(kernel, self) {
            Ok(places) if !places.is_empty() => places,
            _ => shown(kernel, self, file),
        }
    }

    /// Its build-id: what the kernel keeps of it, or else the note that was loaded with it.
    #[must_use]
    pub fn build_id(&self, kernel: &Kernel) -> Option<Vec<u8>> {
        let kept = self.fields.build_id.as_ref().ok().filter(|id| id.0.iter().any(|&byte| byte != 0));
        kept.map(|id| id.0.to_vec()).or_else(|| {
            let note = *told(kernel, self).ok()?.get(".note.gnu.build-id")?;
            build_id_in_notes(&kernel.memory().bytes(note, NOTE_BYTES).ok()?, Endian::Little)
        })
    }
}

fn told(kernel: &Kernel, module: &Module) -> Field<SectionPlaces> {
    let attributes: SectionAttributes = kernel.load(module.fields.sect_attrs.clone()?);
    let MemberAddress(first) = attributes.attrs?;
    let name_at = |name: VirtAddr| {
        let bytes = kernel.memory().c_string(name, LONGEST_NAME)?;
        Ok::<Box<str>, Lacks>(kdive_base::printable(&bytes).into())
    };
    let mut places = SectionPlaces::default();
    if kernel.record("module_sect_attr").is_ok() {
        let loader = kernel.loader::<SectionAttribute>();
        let size = loader.size()?;
        for index in 0..attributes.nsections?.min(MOST_SECTIONS) {
            let entry = loader.load(first.add(size.wrapping_mul(index.into())));
            places.insert(name_at(entry.name?)?, entry.address?);
        }
        return Ok(places);
    }
    let list = attributes.list?;
    let loader = kernel.loader::<BinaryAttribute>();
    for index in 0..MOST_SECTIONS {
        let entry = kernel.memory().pointer(list.add(u64::from(index).wrapping_mul(8)))?;
        if entry.is_null() {
            break;
        }
        let entry = loader.load(entry);
        places.insert(name_at(entry.name?)?, entry.private?);
    }
    Ok(places)
}

/// A section lies where the module's own table puts the symbols that the file has in it.
fn shown(kernel: &Kernel, module: &Module, elf: &ElfFile) -> SectionPlaces {
    let Some(loaded) = kernel.symbols().ok().and_then(|symbols| symbols.module(&module.name)) else {
        return SectionPlaces::default();
    };
    // Far apart from each other, sections are told by the addresses of their symbols.
    let apart = |index: usize| VirtAddr((index as u64).wrapping_add(1) << 32);
    let numbers: FxHashMap<&str, usize> =
        elf.sections().iter().enumerate().map(|(index, section)| (&*section.name, index)).collect();
    let place = |section: &Section| numbers.get(&*section.name).map(|&index| apart(index));
    let Ok(symbols) = elf.symbols_at(&place) else { return SectionPlaces::default() };
    let mut places = SectionPlaces::default();
    for symbol in symbols.iter() {
        let index = (symbol.address.0 >> 32).checked_sub(1).and_then(|index| usize::try_from(index).ok());
        let Some((index, section)) = index.and_then(|index| Some((index, elf.sections().get(index)?))) else {
            continue;
        };
        let mut found = loaded.table.by_name(symbol.name);
        // A name that the module has twice shows nothing.
        if let (Some(one), None) = (found.next(), found.next())
            && symbols.by_name(symbol.name).count() == 1
            && section.is_loaded()
        {
            let place = one.address.sub(symbol.address.since(apart(index)));
            places.entry(section.name.clone()).or_insert(place);
        }
    }
    places
}
