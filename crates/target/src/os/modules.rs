//! The module list: names, memory, symbols and unwind tables of loadable modules (`kernel/module`).

use std::sync::{Arc, OnceLock};

use kdive_base::{Endian, VirtAddr, VirtualMemory};
use kdive_debuginfo::symbols::{ModuleSymbols, SymbolKind, SymbolTable, SymbolTableBuilder};
use rayon::prelude::*;

use crate::kernel::Kernel;
use crate::lacks::{Field, Lacks};
use crate::load::{Bytes, Load, MemberAddress, Text};
use crate::walk;

/// A range of a module's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModuleMemory {
    /// First address.
    pub start: VirtAddr,
    /// Length in bytes.
    pub bytes: u64,
    /// Whether it is freed once the module has started.
    pub init: bool,
    /// Whether it holds code. Kernels before 6.4 keep code and data of a part together.
    pub text: bool,
}

impl ModuleMemory {
    /// Whether an address lies in it.
    #[must_use]
    pub fn contains(&self, address: VirtAddr) -> bool {
        address >= self.start && address.since(self.start) < self.bytes
    }
}

/// The part of `struct module` that kdive understands (`include/linux/module.h`).
#[derive(Clone, Debug, Load)]
#[load(type = "module")]
pub struct ModuleFields {
    /// Address of the `struct module`.
    #[load(address)]
    pub at: VirtAddr,
    /// `enum module_state`: live, coming, going, unformed.
    pub state: Field<u32>,
    /// Name, with underscores.
    pub name: Field<Text>,
    /// Taint flags the module brought.
    pub taints: Field<u64>,
    /// `struct mod_kallsyms` in use.
    pub kallsyms: Field<VirtAddr>,
    /// Build-id (`CONFIG_STACKTRACE_BUILD_ID`).
    pub build_id: Field<Bytes>,
    /// The per-CPU variables of the module, as an offset base like a per-CPU symbol.
    pub percpu: Field<VirtAddr>,
    /// Size of its per-CPU variables in bytes.
    pub percpu_size: Field<u32>,
    /// `arch.orc_unwind_ip`: table of instruction offsets.
    #[load(any("arch.orc_unwind_ip"))]
    pub orc_unwind_ip: Field<VirtAddr>,
    /// `arch.orc_unwind`: table of entries.
    #[load(any("arch.orc_unwind"))]
    pub orc_unwind: Field<VirtAddr>,
    /// `arch.num_orcs`: entries in both.
    #[load(any("arch.num_orcs"))]
    pub num_orcs: Field<u32>,
    /// `mem[]`, one entry per kind of memory (6.4).
    pub mem: Field<MemberAddress>,
    /// Code and data that stay (4.5 to 6.3, and before).
    #[load(any("core_layout.base", "module_core"))]
    pub core_base: Field<VirtAddr>,
    /// Its size in bytes.
    #[load(any("core_layout.size", "core_size"))]
    pub core_size: Field<u32>,
    /// Code and data of the module's start.
    #[load(any("init_layout.base", "module_init"))]
    pub init_base: Field<VirtAddr>,
    /// Its size in bytes.
    #[load(any("init_layout.size", "init_size"))]
    pub init_size: Field<u32>,
    /// `struct module_sect_attrs`: names and addresses of sections.
    pub sect_attrs: Field<VirtAddr>,
}

/// A loaded module.
#[derive(Debug)]
pub struct Module {
    /// What was read of its `struct module`.
    pub fields: ModuleFields,
    /// Its name; `?` and the address where the name cannot be read.
    pub name: Arc<str>,
    /// Its memory.
    pub memory: Vec<ModuleMemory>,
    /// Why parts of its memory are not known.
    memory_lacks: Option<Lacks>,
}

/// The modules, in the order of the kernel's list (the latest loaded first).
#[derive(Debug, Default)]
pub struct Modules {
    list: Vec<Module>,
    /// Why the list is not whole, if it is not.
    pub incomplete: Option<Lacks>,
    /// Modules whose symbol tables could not be read, once they were asked for.
    without_symbols: OnceLock<Vec<(Arc<str>, Lacks)>>,
}

/// `MODULE_STATE_UNFORMED`: still being set up, nothing in it can be trusted.
const UNFORMED: u32 = 3;
const MAX_MODULE_SYMBOLS: u64 = 1 << 20;
const MAX_MODULE_STRINGS: usize = 64 << 20;

impl Modules {
    pub(super) fn find(kernel: &Kernel) -> Self {
        let mut modules = Self::default();
        if let Err(lacks) = modules.read(kernel) {
            modules.incomplete = Some(lacks);
        }
        modules
    }

    fn read(&mut self, kernel: &Kernel) -> Field<()> {
        let head = kernel.symbol("modules")?;
        let link = kernel.offset_of("module", "list")?;
        let loader = kernel.loader::<ModuleFields>();
        for at in walk::list(kernel.memory(), head) {
            let fields = loader.load(at?.sub(link));
            if fields.state != Ok(UNFORMED) {
                self.list.push(Module::new(kernel, fields));
            }
        }
        Ok(())
    }

    /// All of them.
    pub fn iter(&self) -> std::slice::Iter<'_, Module> {
        self.list.iter()
    }

    /// What stacks through modules are read and named with, and could not be read: in words, why, and of which module.
    /// `has_orc` says whether the kernel itself has unwind tables, so that modules should.
    pub fn lacking(&self, has_orc: bool) -> impl Iterator<Item = (&'static str, &Lacks, Option<&str>)> {
        let list = self.incomplete.iter().map(|lacks| ("list of modules", lacks, None));
        let each = self.list.iter().flat_map(move |module| {
            module.lacking(has_orc).map(|(what, lacks)| (what, lacks, Some(&*module.name)))
        });
        let symbols = self.without_symbols.get().into_iter().flatten();
        let symbols = symbols.map(|(name, lacks)| ("symbols of a module", lacks, Some(&**name)));
        list.chain(each).chain(symbols)
    }

    /// The module with a name; dashes count as underscores.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Module> {
        let name = name.replace('-', "_");
        self.list.iter().find(|module| *module.name == *name)
    }

    /// The symbols of all modules, out of their own tables. A module whose table cannot be read has none.
    pub(crate) fn symbols(&self, kernel: &Kernel) -> Vec<ModuleSymbols> {
        let tables: Vec<_> = self.list.par_iter().map(|module| read_symbols(kernel, module)).collect();
        let lacking = self.list.iter().zip(&tables);
        let lacking =
            lacking.filter_map(|(module, table)| Some((module.name.clone(), table.as_ref().err()?.clone())));
        self.without_symbols.get_or_init(|| lacking.collect());
        let of = |(module, table): (&Module, Field<SymbolTable>)| ModuleSymbols {
            name: module.name.clone(),
            ranges: module.memory.iter().map(|memory| memory.start..memory.start.add(memory.bytes)).collect(),
            table: Arc::new(table.unwrap_or_default()),
        };
        self.list.iter().zip(tables).map(of).collect()
    }

    /// The module whose memory holds an address.
    #[must_use]
    pub fn at(&self, address: VirtAddr) -> Option<&Module> {
        self.list.iter().find(|module| module.contains(address))
    }
}

impl Module {
    fn new(kernel: &Kernel, fields: ModuleFields) -> Self {
        let name = match &fields.name {
            Ok(Text(name)) if !name.is_empty() => name.as_str().into(),
            _ => format!("?{}", fields.at).into(),
        };
        let (memory, memory_lacks) = memory_of(kernel, &fields);
        Self { fields, name, memory, memory_lacks }
    }

    /// What stacks through the module are read and named with, and could not be read: in words, and why.
    fn lacking(&self, has_orc: bool) -> impl Iterator<Item = (&'static str, &Lacks)> {
        let fields = &self.fields;
        let orc = [
            fields.orc_unwind_ip.as_ref().err(),
            fields.orc_unwind.as_ref().err(),
            fields.num_orcs.as_ref().err(),
        ];
        [
            ("name of a module", fields.name.as_ref().err()),
            ("memory of a module", self.memory_lacks.as_ref()),
            ("unwind table of a module", orc.into_iter().flatten().next().filter(|_| has_orc)),
        ]
        .into_iter()
        .filter_map(|(what, lacks)| Some((what, lacks?)))
    }

    /// Whether an address lies in the module's memory.
    #[must_use]
    pub fn contains(&self, address: VirtAddr) -> bool {
        self.memory.iter().any(|memory| memory.contains(address))
    }

    /// Start of the code that stays, which crash calls the module's base.
    #[must_use]
    pub fn text_base(&self) -> Option<VirtAddr> {
        self.memory.iter().find(|memory| memory.text && !memory.init).map(|memory| memory.start)
    }

    /// Bytes of memory that stay.
    #[must_use]
    pub fn core_bytes(&self) -> u64 {
        self.memory
            .iter()
            .filter(|memory| !memory.init)
            .map(|memory| memory.bytes)
            .fold(0, u64::saturating_add)
    }
}

fn memory_of(kernel: &Kernel, fields: &ModuleFields) -> (Vec<ModuleMemory>, Option<Lacks>) {
    let (mut all, mut lacks) = (Vec::new(), None);
    match (&fields.mem, &fields.core_base) {
        (Ok(MemberAddress(first)), _) => match memory_kinds(kernel, *first, &mut all) {
            Ok(()) => {}
            Err(lack) => lacks = Some(lack),
        },
        (Err(lack), Err(_)) => lacks = Some(lack.clone()),
        (Err(_), Ok(_)) => {}
    }
    let layouts =
        [(&fields.core_base, &fields.core_size, false), (&fields.init_base, &fields.init_size, true)];
    for (base, size, init) in layouts {
        match (base, size) {
            (Ok(start), Ok(bytes)) => {
                all.push(ModuleMemory { start: *start, bytes: u64::from(*bytes), init, text: true });
            }
            (Ok(_), Err(lack)) => lacks = Some(lack.clone()),
            (Err(_), _) => {}
        }
    }
    all.retain(|memory| memory.bytes > 0 && !memory.start.is_null());
    (all, lacks)
}

#[derive(Load)]
#[load(type = "module_memory")]
struct MemoryFields {
    base: Field<VirtAddr>,
    size: Field<u32>,
}

/// `enum mod_mem_type` (6.4): the kinds of `mem[]`, by the names of their enumerators.
fn memory_kinds(kernel: &Kernel, first: VirtAddr, all: &mut Vec<ModuleMemory>) -> Field<()> {
    const KINDS: [(&str, bool, bool); 7] = [
        ("MOD_TEXT", false, true),
        ("MOD_DATA", false, false),
        ("MOD_RODATA", false, false),
        ("MOD_RO_AFTER_INIT", false, false),
        ("MOD_INIT_TEXT", true, true),
        ("MOD_INIT_DATA", true, false),
        ("MOD_INIT_RODATA", true, false),
    ];
    let loader = kernel.loader::<MemoryFields>();
    let stride = loader.size()?;
    for (name, init, text) in KINDS {
        let Ok(index) = kernel.enumerator(name) else { continue };
        let fields = loader.load(first.add(stride.wrapping_mul(index as u64)));
        all.push(ModuleMemory { start: fields.base?, bytes: u64::from(fields.size?), init, text });
    }
    Ok(())
}

#[derive(Load)]
#[load(type = "mod_kallsyms")]
struct KallsymsFields {
    symtab: Field<VirtAddr>,
    num_symtab: Field<u32>,
    strtab: Field<VirtAddr>,
    typetab: Field<VirtAddr>,
}

/// `Elf64_Sym`: name (4), info (1), other (1), section (2), value (8), size (8).
const ELF_SYMBOL_BYTES: usize = 24;
const SHN_UNDEF: u16 = 0;

fn read_symbols(kernel: &Kernel, module: &Module) -> Field<SymbolTable> {
    let memory = kernel.memory();
    let tables: KallsymsFields = kernel.load(module.fields.kallsyms.clone()?);
    let count = u64::from(tables.num_symtab?);
    if count > MAX_MODULE_SYMBOLS {
        return Err(Lacks::implausible(format_args!("module {} with {count} symbols", module.name)));
    }
    let symbols = memory.bytes(tables.symtab?, count as usize * ELF_SYMBOL_BYTES)?;
    let kinds = tables.typetab.ok().and_then(|at| memory.bytes(at, count as usize).ok());
    let strings = read_strings(memory, tables.strtab?, &symbols);
    let mut table = SymbolTableBuilder::default();
    for (index, symbol) in symbols.chunks_exact(ELF_SYMBOL_BYTES).enumerate() {
        let Some((name, section, value, size)) = split_symbol(symbol) else { continue };
        let name = strings.get(name as usize..).map(kdive_base::bytes::until_nul).unwrap_or_default();
        if section == SHN_UNDEF || name.is_empty() || !module.contains(VirtAddr(value)) {
            continue;
        }
        // Before 5.2 there is no table of kinds: st_info holds the letter.
        let kind =
            kinds.as_ref().and_then(|kinds| kinds.get(index)).or(symbol.get(4)).copied().unwrap_or(b'?');
        table.push(name, VirtAddr(value), size, SymbolKind::new(kind));
    }
    Ok(table.finish())
}

fn split_symbol(symbol: &[u8]) -> Option<(u32, u16, u64, u64)> {
    let endian = Endian::Little;
    Some((endian.u32(symbol, 0)?, endian.u16(symbol, 6)?, endian.u64(symbol, 8)?, endian.u64(symbol, 16)?))
}

/// The string table has no length of its own: it reaches as far as the names that point into it.
fn read_strings(memory: &dyn VirtualMemory, at: VirtAddr, symbols: &[u8]) -> Vec<u8> {
    const LONGEST_NAME: usize = 512;
    let last =
        symbols.chunks_exact(ELF_SYMBOL_BYTES).filter_map(|symbol| Endian::Little.u32(symbol, 0)).max();
    let length = (last.unwrap_or(0) as usize).saturating_add(LONGEST_NAME).min(MAX_MODULE_STRINGS);
    let mut bytes = vec![0; length];
    let (count, _) = memory.read(at, &mut bytes);
    bytes.truncate(count);
    bytes
}
