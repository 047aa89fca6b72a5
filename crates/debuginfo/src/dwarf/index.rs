//! An index of the names at the top level of all C units.
//!
//! A kernel has a copy of most types in each of its thousands of units. Copies are told from different definitions by
//! where they stand in their source, their size and their first member: one of each is kept.

use std::hash::{Hash as _, Hasher as _};

use gimli::constants as dw;
use gimli::{Attribute, SectionId, UnitOffset};
use rayon::prelude::*;
use rustc_hash::{FxHashSet, FxHasher};

use super::DwarfFile;
use super::die;
use super::lines::line_program;
use super::sections::{Dwarf, Slice, Unit, Value};
use super::units::UnitInfo;
use super::walk::{Head, Walk, sibling_of};
use crate::names::{NameIndex, hash_name};
use crate::types::Tag;

/// What a name stands for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Kind {
    Tagged(Tag),
    /// An enumerator: its entry is the enum's.
    Enumerator,
}

/// A named entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Named {
    name: NameAt,
    pub(super) kind: Kind,
    /// Only declared here, as far as this entry says.
    pub(super) declared: bool,
    /// Offset of the entry in `.debug_info`.
    pub(super) entry: u32,
}

/// Where a name's bytes are: offset in `.debug_str` or in `.debug_info`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum NameAt {
    Str(u32),
    Info(u32),
}

/// Names and what they stand for.
#[derive(Debug, Default)]
pub(super) struct Index {
    named: Vec<Named>,
    by_name: NameIndex,
}

/// A named entry on its way into the index.
struct Found {
    /// Equal for copies of one definition.
    key: u64,
    /// Of the name.
    hash: u32,
    named: Named,
}

impl DwarfFile {
    /// Indexes all units, in parallel. Time is linear in `.debug_info`; what is kept, in the different definitions.
    pub(super) fn index(&self) -> Index {
        let dwarf = self.sections.dwarf();
        let units = self.all_units(&dwarf);
        // Larger chunks find more copies at once; smaller ones keep all threads busy to the end.
        let chunk = units.len().div_ceil(rayon::current_num_threads().saturating_mul(8)).max(1);
        let chunks: Vec<Vec<Found>> = units.par_chunks(chunk).map(|units| self.index_chunk(units)).collect();
        let mut seen = FxHashSet::default();
        // Chunks are in the file's order, so the first definition is kept on any number of threads.
        let found: Vec<Found> = chunks.into_iter().flatten().filter(|found| seen.insert(found.key)).collect();
        let pairs: Vec<_> = found.iter().enumerate().map(|(item, found)| (found.hash, item as u32)).collect();
        Index { by_name: NameIndex::new(&pairs), named: found.into_iter().map(|found| found.named).collect() }
    }

    fn index_chunk(&self, units: &[usize]) -> Vec<Found> {
        let dwarf = self.sections.dwarf();
        let mut pass = Pass {
            dwarf: &dwarf,
            strings: self.sections.slice(SectionId::DebugStr).slice(),
            info: self.sections.slice(SectionId::DebugInfo).slice(),
            own_files: Vec::new(),
            seen: FxHashSet::default(),
            found: Vec::new(),
        };
        for &unit in units {
            // A damaged unit has the names before the damage.
            let _ = pass.unit(unit);
        }
        pass.found
    }

    /// The bytes of an indexed name.
    pub(super) fn name_of(&self, named: &Named) -> &[u8] {
        let (section, at) = match named.name {
            NameAt::Str(at) => (SectionId::DebugStr, at),
            NameAt::Info(at) => (SectionId::DebugInfo, at),
        };
        let bytes = self.sections.slice(section).slice().get(at as usize..).unwrap_or_default();
        kdive_base::bytes::until_nul(bytes)
    }

    /// Everything in an index with this kind and name.
    pub(super) fn lookup<'i>(
        &'i self,
        index: &'i Index,
        kind: Kind,
        name: &'i str,
    ) -> impl Iterator<Item = &'i Named> {
        let candidates = index.by_name.candidates(hash_name(name.as_bytes())).iter();
        let named = candidates.filter_map(|&item| index.named.get(item as usize));
        named.filter(move |named| named.kind == kind && self.name_of(named) == name.as_bytes())
    }
}

impl Index {
    /// Everything in the index with this kind.
    pub(super) fn all(&self, kind: Kind) -> impl Iterator<Item = &Named> {
        self.named.iter().filter(move |named| named.kind == kind)
    }
}

/// The attributes that tell definitions apart.
#[derive(Default)]
struct Marks<'a> {
    name: Option<Value<'a>>,
    line: u64,
    column: u64,
    bytes: u64,
    declared: bool,
    /// Declared in the unit's own file: a `.c` file that another one includes may mean other things there.
    own_file: bool,
    specification: Option<usize>,
    sibling: Option<UnitOffset>,
    /// Of a variable that its unit's own file defines: the unit. Files have static variables of one name, even on the
    /// same line.
    defined_in: Option<usize>,
}

impl<'a> Marks<'a> {
    fn take(&mut self, info: &UnitInfo, own: &[u64], attribute: &Attribute<Slice<'a>>) {
        let number = || attribute.value().udata_value().unwrap_or(0);
        match attribute.name() {
            dw::DW_AT_name => self.name = Some(attribute.value()),
            dw::DW_AT_decl_file => self.own_file = own.contains(&die::file_number(&attribute.value())),
            dw::DW_AT_decl_line => self.line = number(),
            dw::DW_AT_decl_column => self.column = number(),
            dw::DW_AT_byte_size => self.bytes = number(),
            dw::DW_AT_declaration => self.declared = true,
            dw::DW_AT_specification => self.specification = die::reference(info, attribute.value()),
            dw::DW_AT_sibling => self.sibling = sibling_of(attribute),
            _ => {}
        }
    }
}

/// The numbers of the unit's own file (6.2.4): 1 up to version 4, and in version 5 whatever is the same as 0.
fn own_files(dwarf: &Dwarf<'_>, info: &UnitInfo) -> Vec<u64> {
    let Some(program) = line_program(dwarf, info) else { return Vec::new() };
    let header = program.header();
    if header.version() < 5 {
        return vec![1];
    }
    let files = header.file_names();
    let same = |file: &gimli::FileEntry<Slice<'_>>| {
        files.first().is_some_and(|own| {
            own.path_name() == file.path_name() && own.directory_index() == file.directory_index()
        })
    };
    (0_u64..).zip(files).filter(|(_, file)| same(file)).map(|(number, _)| number).collect()
}

/// One thread's share of the indexing.
struct Pass<'p, 'a> {
    dwarf: &'p Dwarf<'a>,
    strings: &'a [u8],
    info: &'a [u8],
    /// Of the unit at hand.
    own_files: Vec<u64>,
    seen: FxHashSet<u64>,
    found: Vec<Found>,
}

impl<'a> Pass<'_, 'a> {
    fn unit(&mut self, offset: usize) -> Option<()> {
        let info = UnitInfo::read(self.dwarf, offset)?;
        if !info.is_c {
            return None;
        }
        self.own_files = own_files(self.dwarf, &info);
        let unit = info.unit(self.dwarf)?;
        let mut walk = Walk::new(&unit, unit.header.root_offset())?;
        let root = walk.next()?;
        walk.skip(&root)?;
        while let Some(head) = walk.next() {
            let tag = match head.abbreviation.tag() {
                dw::DW_TAG_structure_type | dw::DW_TAG_class_type => Tag::Struct,
                dw::DW_TAG_union_type => Tag::Union,
                dw::DW_TAG_enumeration_type => Tag::Enum,
                dw::DW_TAG_typedef => Tag::Typedef,
                dw::DW_TAG_base_type => Tag::Base,
                dw::DW_TAG_subprogram => Tag::Function,
                dw::DW_TAG_variable => Tag::Variable,
                _ => {
                    walk.skip_all(&head)?;
                    continue;
                }
            };
            self.entry(&info, &unit, &mut walk, &head, tag)?;
        }
        Some(())
    }

    fn entry(
        &mut self,
        info: &UnitInfo,
        unit: &Unit<'a>,
        walk: &mut Walk<'_, 'a>,
        head: &Head<'_>,
        tag: Tag,
    ) -> Option<()> {
        let mut marks = Marks::default();
        walk.each(head, |attribute| marks.take(info, &self.own_files, attribute))?;
        if tag == Tag::Variable && marks.own_file && !marks.declared {
            marks.defined_in = Some(info.offset);
        }
        let entry = u32::try_from(info.offset.checked_add(head.at.0)?).ok()?;
        let name = match marks.name {
            None => self.specified_name(info, unit, &marks),
            Some(name) => self.name_at(unit, name),
        };
        let members = matches!(tag, Tag::Struct | Tag::Union | Tag::Enum);
        let first = if members { walk.first_child(dw::DW_AT_name) } else { None };
        let first = first.and_then(|name| self.name_at(unit, name));
        let named = name.map(|name| (name, Kind::Tagged(tag)));
        // A prototype says less than BTF does of a function that is not there.
        let wanted = !(tag == Tag::Function && marks.declared);
        if let Some((name, kind)) = named.filter(|_| wanted) {
            self.add(&marks, name, kind, first, entry);
        }
        if tag == Tag::Enum && self.is_new(&marks, name, "enumerators", first) {
            self.enumerators(unit, walk, head, entry, &marks)?;
        }
        walk.skip_children(head, marks.sibling)
    }

    /// The name of an entry that completes a declaration (2.13.2).
    fn specified_name(&self, info: &UnitInfo, unit: &Unit<'a>, marks: &Marks<'a>) -> Option<NameAt> {
        let at = UnitOffset(marks.specification?.checked_sub(info.offset)?);
        self.name_at(unit, unit.entry(at).ok()?.attr_value(dw::DW_AT_name)?)
    }

    fn enumerators(
        &mut self,
        unit: &Unit<'a>,
        walk: &mut Walk<'_, 'a>,
        head: &Head<'_>,
        entry: u32,
        marks: &Marks<'a>,
    ) -> Option<()> {
        let mut values = walk.clone();
        while let Some(value) = values.next().filter(|value| value.depth > head.depth) {
            let mut name = None;
            values.each(&value, |attribute| {
                if attribute.name() == dw::DW_AT_name {
                    name = Some(attribute.value());
                }
            })?;
            if let Some(name) = name.and_then(|name| self.name_at(unit, name)) {
                self.add(marks, name, Kind::Enumerator, None, entry);
            }
        }
        Some(())
    }

    fn key(
        &self,
        marks: &Marks<'_>,
        name: Option<NameAt>,
        what: impl std::hash::Hash,
        first: Option<NameAt>,
    ) -> u64 {
        let mut hasher = FxHasher::default();
        what.hash(&mut hasher);
        for name in [name, first] {
            match name {
                Some(NameAt::Str(at)) => hasher.write_u32(at),
                // The same name has another place in each unit.
                Some(NameAt::Info(_)) => hasher.write(self.bytes_of(name).unwrap_or_default()),
                None => hasher.write_u8(0),
            }
        }
        (marks.declared, marks.own_file, marks.line, marks.column, marks.bytes).hash(&mut hasher);
        marks.defined_in.hash(&mut hasher);
        hasher.finish()
    }

    fn is_new(
        &mut self,
        marks: &Marks<'_>,
        name: Option<NameAt>,
        what: impl std::hash::Hash,
        first: Option<NameAt>,
    ) -> bool {
        let key = self.key(marks, name, what, first);
        self.seen.insert(key)
    }

    fn add(&mut self, marks: &Marks<'a>, name: NameAt, kind: Kind, first: Option<NameAt>, entry: u32) {
        // What declarations of one name differ in does not matter.
        let plain = Marks { declared: true, ..Marks::default() };
        let told =
            if marks.declared && !matches!(kind, Kind::Tagged(Tag::Variable)) { &plain } else { marks };
        let key = self.key(told, Some(name), kind, first);
        if self.seen.insert(key) {
            let hash = hash_name(self.bytes_of(Some(name)).unwrap_or_default());
            let named = Named { name, kind, declared: marks.declared, entry };
            self.found.push(Found { key, hash, named });
        }
    }

    fn bytes_of(&self, name: Option<NameAt>) -> Option<&'a [u8]> {
        let (section, at) = match name? {
            NameAt::Str(at) => (self.strings, at),
            NameAt::Info(at) => (self.info, at),
        };
        Some(kdive_base::bytes::until_nul(section.get(at as usize..)?))
    }

    fn name_at(&self, unit: &Unit<'a>, name: Value<'a>) -> Option<NameAt> {
        if let Value::DebugStrRef(at) = name {
            return u32::try_from(at.0).ok().map(NameAt::Str);
        }
        let name = self.dwarf.attr_string(unit, name).ok()?;
        let within = |section: &[u8]| {
            let at = (name.slice().as_ptr() as usize).checked_sub(section.as_ptr() as usize)?;
            (at < section.len()).then(|| u32::try_from(at).ok()).flatten()
        };
        within(self.strings).map(NameAt::Str).or_else(|| within(self.info).map(NameAt::Info))
    }
}
