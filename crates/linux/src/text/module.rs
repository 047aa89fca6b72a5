//! A module's code, linked again as the kernel linked it (`apply_relocate_add()` of `arch/x86/kernel/module.c`).

use std::collections::BTreeMap;
use std::ops::Range;

use kdive_base::VirtAddr;
use kdive_debuginfo::elf::{ElfFile, FileSymbol, Relocation, SymbolPlace};
use kdive_target::os::{Module, SectionPlaces};
use kdive_target::{Field, Kernel, Lacks, Want};

use super::changes::{Comparison, Lost, Tolerance, read};
use super::sites::{
    AlternativeLayout, CALL, JUMP_ENTRY, PARAVIRT_LENGTH, SECTIONS, STATIC_CALL_ENTRY,
    STATIC_CALL_TRAMPOLINE, Sites, probed,
};

/// `EM_X86_64`, the only processor whose patching is known here.
const X86_64: u16 = 62;
/// No module has more code.
const MOST_CODE: u64 = 1 << 28;
/// Sections of places that only modules have by these names.
const TABLES: [(&str, usize, u64); 2] =
    [("__jump_table", JUMP_ENTRY, 0), (".static_call_sites", STATIC_CALL_ENTRY, 0)];
/// Sections with the addresses of ftrace's calls; some compilers write the second.
const FTRACE: [&str; 2] = ["__mcount_loc", "__patchable_function_entries"];

/// Compares the code of a loaded module with its file. The code of its start, which is freed, is left out.
///
/// # Errors
/// No file with its code was found, or it is of another build.
pub fn compare_module(kernel: &Kernel, module: &Module) -> Field<Comparison> {
    let file = find(kernel, module)?;
    let linked = Linked::new(kernel, module, &file)?;
    Ok(linked.compare())
}

fn find(kernel: &Kernel, module: &Module) -> Field<ElfFile> {
    let build_id = module.build_id(kernel);
    let want = Want::ModuleCode {
        release: kernel.vmcoreinfo().release(),
        name: &module.name,
        build_id: build_id.as_deref(),
    };
    let none = || Lacks::unavailable("no file of this build with its code was found");
    let found = kernel.artifacts().find(&want).ok_or_else(none)?;
    let file = ElfFile::parse(found.bytes)
        .map_err(|error| Lacks::unavailable(format_args!("{}: {error}", found.name)))?;
    if file.machine() != X86_64 {
        return Err(Lacks::unavailable("how modules are linked is known of x86-64 only"));
    }
    Ok(file)
}

/// A module's file, and where its parts lie in the dump.
struct Linked<'k> {
    kernel: &'k Kernel,
    module: &'k Module,
    file: &'k ElfFile,
    symbols: Vec<FileSymbol>,
    /// Where each section of the file lies.
    places: Vec<Option<VirtAddr>>,
    code: Vec<Code>,
    /// Places that are patched, or of which nothing can be said.
    sites: Vec<(u64, u64)>,
    /// What undefined symbols can mean.
    meanings: BTreeMap<usize, Vec<u64>>,
}

/// A section of code.
struct Code {
    at: VirtAddr,
    /// What the kernel made of the file's bytes.
    was: Vec<u8>,
    found: Vec<u8>,
    missing: Lost,
}

impl<'k> Linked<'k> {
    fn new(kernel: &'k Kernel, module: &'k Module, file: &'k ElfFile) -> Field<Self> {
        let told = module.section_places(kernel, file);
        let mut linked = Self {
            kernel,
            module,
            file,
            symbols: file.file_symbols(),
            places: places(module, file, &told),
            code: Vec::new(),
            sites: Vec::new(),
            meanings: BTreeMap::new(),
        };
        if !linked.is_of_this_build() {
            return Err(Lacks::implausible("its file is of another build"));
        }
        for index in 0..file.sections().len() {
            linked.add_code(index);
        }
        if linked.code.is_empty() {
            return Err(Lacks::unavailable("the dump does not tell where its code lies"));
        }
        linked.add_sites();
        Ok(linked)
    }

    /// Functions of which module and file have one each lie where the file has them. Build-ids, where both have one, were
    /// compared already.
    fn is_of_this_build(&self) -> bool {
        let Some(loaded) = self.kernel.symbols().ok().and_then(|symbols| symbols.module(&self.module.name))
        else {
            return true;
        };
        let mut names: BTreeMap<&str, Option<u64>> = BTreeMap::new();
        for symbol in self.symbols.iter().filter(|symbol| !symbol.name.is_empty()) {
            let address = self.address(symbol).filter(|address| self.module.contains(VirtAddr(*address)));
            names.entry(&symbol.name).and_modify(|known| *known = None).or_insert(address);
        }
        let same = |(name, address): (&str, u64)| {
            let mut found = loaded.table.by_name(name).map(|symbol| symbol.address.0);
            !matches!((found.next(), found.next()), (Some(one), None) if one != address)
        };
        names.into_iter().filter_map(|(name, address)| Some((name, address?))).all(same)
    }

    /// The address of a symbol that the file has; `None` where its section is not in memory.
    fn address(&self, symbol: &FileSymbol) -> Option<u64> {
        match symbol.place {
            SymbolPlace::Section(number) => {
                Some(self.places.get(number).copied()??.0.wrapping_add(symbol.value))
            }
            SymbolPlace::Absolute => Some(symbol.value),
            SymbolPlace::Undefined | SymbolPlace::Other => None,
        }
    }

    /// What a relocation's symbol can mean: its address, or the addresses of all symbols of its name elsewhere.
    fn meanings(&mut self, number: usize) -> Vec<u64> {
        let Some(symbol) = self.symbols.get(number) else { return Vec::new() };
        if symbol.place != SymbolPlace::Undefined {
            return self.address(symbol).into_iter().collect();
        }
        let find = || {
            let known = self.kernel.symbols().map(|symbols| symbols.by_name(&symbol.name));
            let mut found: Vec<u64> =
                known.unwrap_or_default().iter().map(|symbol| symbol.address.0).collect();
            found.extend(symbol.weak.then_some(0));
            found
        };
        self.meanings.entry(number).or_insert_with(find).clone()
    }

    fn add_code(&mut self, index: usize) {
        let (file, places) = (self.file, &self.places);
        let Some(section) = file.sections().get(index).filter(|section| section.is_code()) else { return };
        let Some(at) =
            places.get(index).copied().flatten().filter(|at| is_kept(self.module, *at, section.size))
        else {
            return;
        };
        let Ok(Some(bytes)) = file.contents(section) else { return };
        let (found, missing) = read(self.kernel, at, bytes.len());
        let mut code = Code { at, was: bytes.to_vec(), found, missing };
        for relocation in file.relocations(index) {
            if self.link(&mut code, &relocation).is_none() {
                self.sites.push((at.0.saturating_add(relocation.offset), 8));
            }
        }
        self.code.push(code);
    }

    /// Applies a relocation; `None` where it is not known what comes of it. Of several symbols of one name the one is
    /// taken that the dump shows.
    fn link(&mut self, code: &mut Code, relocation: &Relocation) -> Option<()> {
        let effect = Effect::of(relocation.kind)?;
        let Effect::Store { bytes, relative } = effect else { return Some(()) };
        let start = usize::try_from(relocation.offset).ok()?;
        let range = start..start.checked_add(bytes)?;
        let place = code.at.add(relocation.offset).0;
        let value = |meaning: u64| {
            let value = meaning.wrapping_add_signed(relocation.addend.unwrap_or(0));
            (if relative { value.wrapping_sub(place) } else { value }).to_le_bytes()
        };
        let meanings: Vec<[u8; 8]> = self.meanings(relocation.symbol).into_iter().map(value).collect();
        let found = code.found.get(range.clone())?;
        let shown = meanings.iter().find(|value| value.get(..bytes) == Some(found));
        let value = shown.or(meanings.first())?;
        code.was.get_mut(range)?.copy_from_slice(value.get(..bytes)?);
        Some(())
    }

    fn add_sites(&mut self) {
        let mut sites = std::mem::take(&mut self.sites);
        for (name, step, patched) in SECTIONS.into_iter().chain(TABLES) {
            let at_start = |&(offset, _): &(usize, u64)| offset.checked_rem(step) == Some(0);
            sites.extend(self.targets(name).filter(at_start).map(|(_, at)| (at, patched)));
        }
        for name in FTRACE {
            sites.extend(self.targets(name).map(|(_, at)| (at, CALL)));
        }
        if let Some(layout) = AlternativeLayout::of(self.kernel) {
            let length = |entry: usize| entry.checked_sub(layout.place)?.checked_add(layout.length);
            let is_place = |offset: usize| offset.checked_rem(layout.size) == Some(layout.place);
            sites.extend(self.told_lengths(".altinstructions", is_place, length));
        }
        sites.extend(self.told_lengths(
            ".parainstructions",
            |_| true,
            |entry| entry.checked_add(PARAVIRT_LENGTH),
        ));
        let trampolines =
            self.symbols.iter().filter(|symbol| symbol.name.starts_with(STATIC_CALL_TRAMPOLINE));
        sites.extend(trampolines.filter_map(|symbol| Some((self.address(symbol)?, CALL))));
        sites.extend(probed(self.kernel).iter().map(|probe| (probe.0, CALL)));
        self.sites = sites;
    }

    /// Where the relocations of a section point, each with its offset there.
    fn targets(&self, section: &str) -> impl Iterator<Item = (usize, u64)> {
        let index = self.file.sections().iter().position(|known| &*known.name == section);
        let relocations = index.map(|index| self.file.relocations(index)).unwrap_or_default();
        relocations.into_iter().filter_map(|relocation| {
            let symbol = self.address(self.symbols.get(relocation.symbol)?)?;
            let at = symbol.wrapping_add_signed(relocation.addend.unwrap_or(0));
            Some((usize::try_from(relocation.offset).ok()?, at))
        })
    }

    /// Places of a table whose entries tell how many bytes are patched.
    fn told_lengths(
        &self,
        section: &str,
        is_place: impl Fn(usize) -> bool,
        length_at: impl Fn(usize) -> Option<usize>,
    ) -> Vec<(u64, u64)> {
        let bytes = self.file.section(section).ok().flatten().unwrap_or_default();
        let targets = self.targets(section).filter(|&(offset, _)| is_place(offset));
        targets
            .filter_map(|(offset, at)| Some((at, bytes.get(length_at(offset)?).copied()?.into())))
            .collect()
    }

    fn compare(self) -> Comparison {
        let bytes_at = |at: VirtAddr| {
            self.code.iter().find_map(|code| {
                let from = usize::try_from(at.0.checked_sub(code.at.0)?).ok()?;
                code.was.get(from..from.checked_add(2)?)
            })
        };
        let sites = Sites::new(self.sites, bytes_at);
        let tolerance = Tolerance { sites: &sites, slide: 0 };
        let mut all = Comparison::default();
        for code in self.code {
            let mut found = tolerance.compare(code.at, &code.found, code.missing, &code.was);
            all.changes.append(&mut found.changes);
            all.missing.append(&mut found.missing);
            all.compared = all.compared.saturating_add(found.compared);
        }
        all.changes.sort_by_key(|change| change.at);
        all
    }
}

/// Where each section of a module's file lies. Per-CPU variables are apart, and sysfs does not show them.
fn places(module: &Module, file: &ElfFile, told: &SectionPlaces) -> Vec<Option<VirtAddr>> {
    let place = |name: &str| match name {
        ".data..percpu" => module.fields.percpu.clone().ok(),
        name => told.get(name).copied(),
    };
    file.sections().iter().map(|section| place(&section.name)).collect()
}

/// Whether a section lies in memory that a module keeps: the addresses of what was freed stay in sysfs.
fn is_kept(module: &Module, at: VirtAddr, bytes: u64) -> bool {
    let holds = |range: Range<u64>| range.start <= at.0 && at.0.saturating_add(bytes) <= range.end;
    let kept = module.memory.iter().filter(|memory| memory.text && !memory.init);
    bytes > 0
        && bytes <= MOST_CODE
        && kept.into_iter().any(|memory| holds(memory.start.0..memory.start.0.saturating_add(memory.bytes)))
}

/// What a relocation of x86-64's code does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Effect {
    Nothing,
    Store {
        bytes: usize,
        /// Whether the value counts from its own place.
        relative: bool,
    },
}

impl Effect {
    /// By the numbers of the processor's ELF supplement.
    fn of(kind: u32) -> Option<Self> {
        Some(match kind {
            0 => Self::Nothing,
            1 => Self::Store { bytes: 8, relative: false },
            10 | 11 => Self::Store { bytes: 4, relative: false },
            2 | 4 => Self::Store { bytes: 4, relative: true },
            24 => Self::Store { bytes: 8, relative: true },
            _ => return None,
        })
    }
}
