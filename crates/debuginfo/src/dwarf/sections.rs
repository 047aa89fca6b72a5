//! The sections of one file: decompressed and relocated on first use.

use std::ops::Range;
use std::sync::OnceLock;

use gimli::{EndianSlice, RunTimeEndian, SectionId};
use kdive_base::{Endian, VirtAddr};

use super::{Placement, relocate};
use crate::blob::Blob;
use crate::elf::{ElfError, ElfFile};

pub(super) type Slice<'a> = EndianSlice<'a, RunTimeEndian>;
pub(super) type Dwarf<'a> = gimli::Dwarf<Slice<'a>>;
pub(super) type Unit<'a> = gimli::Unit<Slice<'a>>;
pub(super) type Entry<'a> = gimli::DebuggingInformationEntry<Slice<'a>>;
pub(super) type Value<'a> = gimli::AttributeValue<Slice<'a>>;

/// What names, types, ranges and lines need. Location lists are as large as a third of all and serve locals only.
const COMMON: [SectionId; 9] = [
    SectionId::DebugAbbrev,
    SectionId::DebugAddr,
    SectionId::DebugInfo,
    SectionId::DebugLine,
    SectionId::DebugLineStr,
    SectionId::DebugRanges,
    SectionId::DebugRngLists,
    SectionId::DebugStr,
    SectionId::DebugStrOffsets,
];
const LOCATIONS: [SectionId; 2] = [SectionId::DebugLoc, SectionId::DebugLocLists];
/// What is read by itself.
const APART: [SectionId; 2] = [SectionId::DebugAranges, SectionId::DebugFrame];
const COUNT: usize = COMMON.len() + LOCATIONS.len() + APART.len();

#[derive(Debug)]
pub(super) struct Sections {
    elf: ElfFile,
    placement: Placement,
    /// Link addresses that move with the kernel.
    slid: Vec<Range<u64>>,
    loaded: [(SectionId, OnceLock<Result<Blob, ElfError>>); COUNT],
}

impl Sections {
    pub(super) fn new(elf: ElfFile, placement: Placement) -> Self {
        let mut ids = COMMON.into_iter().chain(LOCATIONS).chain(APART);
        let loaded =
            std::array::from_fn(|_| (ids.next().unwrap_or(SectionId::DebugAranges), OnceLock::new()));
        let moves = |section: &&crate::elf::Section| {
            section.is_loaded() && &*section.name != ".data..percpu" && section.address != VirtAddr(0)
        };
        let range =
            |section: &crate::elf::Section| section.address.0..section.address.0.saturating_add(section.size);
        let slid = elf.sections().iter().filter(moves).map(range).collect();
        Self { elf, placement, slid, loaded }
    }

    pub(super) fn check(&self) -> Result<(), ElfError> {
        for id in [SectionId::DebugInfo, SectionId::DebugAbbrev, SectionId::DebugStr] {
            self.load(id)?;
        }
        Ok(())
    }

    fn load(&self, id: SectionId) -> Result<&[u8], ElfError> {
        let Some((_, once)) = self.loaded.iter().find(|(known, _)| *known == id) else { return Ok(&[]) };
        let read = || {
            let raw = self.elf.section(id.name())?.unwrap_or_default();
            Ok(match &self.placement {
                Placement::Sections(at) if self.elf.is_relocatable() => {
                    relocate::apply(&self.elf, id.name(), raw, at)
                }
                _ => raw,
            })
        };
        once.get_or_init(read).as_deref().map_err(ElfError::clone)
    }

    /// A section's bytes; none for one that is absent or damaged.
    pub(super) fn slice(&self, id: SectionId) -> Slice<'_> {
        let endian = match self.elf.endian() {
            Endian::Little => RunTimeEndian::Little,
            Endian::Big => RunTimeEndian::Big,
        };
        EndianSlice::new(self.load(id).unwrap_or_default(), endian)
    }

    /// Everything but location lists.
    pub(super) fn dwarf(&self) -> Dwarf<'_> {
        self.view(&COMMON)
    }

    /// With location lists.
    pub(super) fn dwarf_with_locations(&self) -> Dwarf<'_> {
        self.view(&[&COMMON[..], &LOCATIONS].concat())
    }

    fn view(&self, wanted: &[SectionId]) -> Dwarf<'_> {
        let section = |id| {
            let empty = || EndianSlice::new(&[], RunTimeEndian::Little);
            Ok::<_, std::convert::Infallible>(if wanted.contains(&id) { self.slice(id) } else { empty() })
        };
        match Dwarf::load(section) {
            Ok(dwarf) => dwarf,
            Err(never) => match never {},
        }
    }

    /// Size of an address of the machine in bytes.
    pub(super) fn address_size(&self) -> u8 {
        if self.elf.is_64() { 8 } else { 4 }
    }

    pub(super) fn is_little_endian(&self) -> bool {
        self.elf.endian() == Endian::Little
    }

    /// The address in the file of a code address of the dump.
    pub(super) fn linked(&self, address: VirtAddr) -> u64 {
        match self.placement {
            Placement::Slid(slide) => address.0.wrapping_sub(slide),
            Placement::Sections(_) => address.0,
        }
    }

    /// The address in the dump of an address in the file.
    pub(super) fn placed(&self, address: u64) -> VirtAddr {
        match self.placement {
            Placement::Slid(slide) if self.slid.iter().any(|range| range.contains(&address)) => {
                VirtAddr(address.wrapping_add(slide))
            }
            _ => VirtAddr(address),
        }
    }

    /// Whether an address in the file lies in a loaded section: elsewhere there is no code to look for.
    pub(super) fn is_code(&self, address: u64) -> bool {
        match &self.placement {
            Placement::Slid(_) => self.slid.iter().any(|range| range.contains(&address)),
            Placement::Sections(at) => at.values().any(|start| start.0 <= address),
        }
    }
}
