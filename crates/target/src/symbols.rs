//! Symbols: the kernel's own kallsyms first, then a vmlinux's table, then a System.map; modules from their own tables.

use std::fmt;
use std::sync::Arc;

use kdive_arch::x86_64::paging::START_KERNEL_MAP;
use kdive_base::VirtAddr;
use kdive_debuginfo::elf::ElfFile;
use kdive_debuginfo::kallsyms::{self, Expect, Kallsyms, KallsymsAt, KallsymsError};
use kdive_debuginfo::symbols::{Symbol, SymbolTable, Symbols};
use kdive_debuginfo::system_map::SystemMap;

use crate::kernel::Kernel;
use crate::lacks::{Field, Lacks};

/// Where the kernel's symbols came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SymbolsSource {
    /// kallsyms in the dump, at the addresses that VMCOREINFO tells.
    Kallsyms,
    /// kallsyms in the dump, found by its signature.
    KallsymsScan,
    /// The symbol table of the vmlinux given.
    Vmlinux,
    /// The System.map given.
    SystemMap,
}

/// The kernel's own symbols, without the modules'.
#[derive(Clone)]
pub(crate) struct KernelSymbols {
    pub(crate) symbols: Symbols,
    pub(crate) source: SymbolsSource,
}

/// A symbol and the distance of an address from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Place<'k> {
    /// The symbol.
    pub symbol: Symbol<'k>,
    /// Bytes from the symbol's start.
    pub offset: u64,
}

impl fmt::Display for Place<'_> {
    /// `name+offset`, and `[module]` behind it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.symbol.name)?;
        if self.offset > 0 {
            write!(f, "+{}", self.offset)?;
        }
        match self.symbol.module {
            Some(module) => write!(f, " [{module}]"),
            None => Ok(()),
        }
    }
}

impl KernelSymbols {
    pub(crate) fn find(kernel: &Kernel) -> Field<Self> {
        let mut why = None;
        for (source, find) in [
            (SymbolsSource::Kallsyms, from_vmcoreinfo as fn(&Kernel) -> Field<SymbolTable>),
            (SymbolsSource::Vmlinux, from_vmlinux),
            (SymbolsSource::SystemMap, from_system_map),
            (SymbolsSource::KallsymsScan, from_scan),
        ] {
            match find(kernel) {
                Ok(table) => {
                    let symbols = Symbols::new(Arc::new(table.data_marked()), None);
                    return Ok(Self { symbols, source });
                }
                Err(lacks) => why = why.or(Some(lacks)),
            }
        }
        Err(why.unwrap_or(Lacks::Types))
    }
}

/// The tables where VMCOREINFO says they are (6.0, and backports).
fn from_vmcoreinfo(kernel: &Kernel) -> Field<SymbolTable> {
    let info = kernel.vmcoreinfo();
    let at = KallsymsAt::from_vmcoreinfo(info)
        .ok_or_else(|| Lacks::unavailable("VMCOREINFO does not tell where kallsyms is"))?;
    let expect = Expect { symbol: expected(kernel), image: None };
    table_of(kallsyms::read(kernel.memory(), &at, &expect))
}

/// The tables by their signature, in the mapping of the kernel's image.
fn from_scan(kernel: &Kernel) -> Field<SymbolTable> {
    let image = image_range(kernel)?;
    let expect = Expect { symbol: expected(kernel), image: Some(image.clone()) };
    table_of(kallsyms::scan(kernel.memory(), &image, &expect))
}

fn table_of(found: Result<Kallsyms, KallsymsError>) -> Field<SymbolTable> {
    found.map(|kallsyms| kallsyms.symbols).map_err(|error| match error {
        KallsymsError::Missing { missing, .. } => Lacks::Missing(missing),
        other => Lacks::unavailable(other),
    })
}

/// A symbol whose address is known without kallsyms: it proves a decoding right.
fn expected(kernel: &Kernel) -> Option<(&'static str, VirtAddr)> {
    ["_stext", "init_uts_ns", "swapper_pg_dir"]
        .into_iter()
        .find_map(|name| Some((name, kernel.vmcoreinfo().symbol(name)?)))
}

/// The mapped part of the kernel image's address range around its text.
fn image_range(kernel: &Kernel) -> Field<std::ops::Range<VirtAddr>> {
    const STEP: u64 = 2 << 20;
    const IMAGE: u64 = 1 << 30;
    /// Unmapped steps inside the image (freed init memory) before it counts as ended.
    const HOLE: u64 = 8;
    let space = kernel.space();
    let mapped = |at: VirtAddr| space.translate(at).is_ok();
    let first = match expected(kernel) {
        Some((_, at)) => VirtAddr(at.0 & !(STEP - 1)),
        None => (0..IMAGE / STEP)
            .map(|step| VirtAddr(START_KERNEL_MAP.wrapping_add(step * STEP)))
            .find(|&at| mapped(at))
            .ok_or_else(|| Lacks::unavailable("the kernel's image is not mapped"))?,
    };
    let (mut end, mut at, mut hole) = (first, first, 0);
    while at.0 >= START_KERNEL_MAP && at.since(VirtAddr(START_KERNEL_MAP)) < IMAGE && hole < HOLE {
        hole = if mapped(at) { 0 } else { hole + 1 };
        at = at.add(STEP);
        if hole == 0 {
            end = at;
        }
    }
    Ok(first..end)
}

fn from_vmlinux(kernel: &Kernel) -> Field<SymbolTable> {
    let vmlinux = kernel.vmlinux().ok_or_else(|| Lacks::unavailable("no vmlinux was given"))?;
    Ok(at_dump_addresses(kernel, vmlinux.symbols().map_err(Lacks::unavailable)?))
}

fn from_system_map(kernel: &Kernel) -> Field<SymbolTable> {
    let map = kernel.options().debuginfo.system_map.as_ref();
    let map = map.ok_or_else(|| Lacks::unavailable("no System.map was given"))?;
    Ok(at_dump_addresses(kernel, SystemMap::parse(&map.bytes).map_err(Lacks::unavailable)?.kernel))
}

/// A table with link-time addresses, moved to where KASLR put the kernel.
fn at_dump_addresses(kernel: &Kernel, table: SymbolTable) -> SymbolTable {
    let slide = kaslr_of(kernel, &table);
    match table.image() {
        Some(image) if slide != 0 => table.slid(image, slide),
        _ => table,
    }
}

/// Bytes from a symbol table's link-time addresses to the dump's.
fn kaslr_of(kernel: &Kernel, table: &SymbolTable) -> u64 {
    if let Some(kaslr) = kernel.options().overrides.kaslr {
        return kaslr;
    }
    let told = || kernel.vmcoreinfo().kaslr_offset();
    let measured = expected(kernel)
        .and_then(|(name, at)| table.by_name(name).next().map(|symbol| at.since(symbol.address)));
    measured.or_else(told).unwrap_or(0)
}

/// Bytes from addresses in the vmlinux to those in the dump.
pub(crate) fn slide(kernel: &Kernel, vmlinux: &ElfFile) -> u64 {
    if let Some(kaslr) = kernel.options().overrides.kaslr.or_else(|| kernel.vmcoreinfo().kaslr_offset()) {
        return kaslr;
    }
    // Reading its symbol table takes longer than all else here, and dumps with VMCOREINFO do not need it.
    let Ok(symbols) = vmlinux.symbols() else { return 0 };
    let apart = |name: &str| Some(kernel.symbol(name).ok()?.since(symbols.by_name(name).next()?.address));
    ["_stext", "_text", "init_uts_ns"].into_iter().find_map(apart).unwrap_or(0)
}

impl Kernel {
    /// Bytes from addresses in the vmlinux given to those in the dump; `None` when none was given.
    #[must_use]
    pub fn vmlinux_slide(&self) -> Option<u64> {
        self.vmlinux().map(|vmlinux| slide(self, vmlinux))
    }

    /// The kernel's own symbol table, without the modules'.
    pub fn symbol_table(&self) -> Field<&SymbolTable> {
        self.kernel_symbols().as_ref().map(|found| &**found.symbols.kernel()).map_err(Lacks::clone)
    }

    /// Where the symbols came from.
    pub fn symbols_source(&self) -> Field<SymbolsSource> {
        self.kernel_symbols().as_ref().map(|found| found.source).map_err(Lacks::clone)
    }

    /// All symbols: the kernel's and the modules', which are read on the first call.
    pub fn symbols(&self) -> Field<&Symbols> {
        let all = self.once(|kernel| -> Field<Symbols> {
            let own = kernel.kernel_symbols().as_ref().map_err(Lacks::clone)?;
            Ok(own.symbols.with_modules(kernel.modules().symbols(kernel)))
        });
        all.as_ref().map_err(Lacks::clone)
    }

    /// The address of one of the kernel's own symbols. For a name with several meanings, the global one.
    pub fn symbol(&self, name: &str) -> Field<VirtAddr> {
        let hidden = self.options().hidden.symbol(name);
        let table = self.symbol_table()?;
        let mut found = table.by_name(name).filter(|_| !hidden).peekable();
        let first = found.peek().map(|symbol| symbol.address);
        found
            .find(|symbol| symbol.kind.letter().is_ascii_uppercase())
            .map(|symbol| symbol.address)
            .or(first)
            .inspect(|_| self.options().hidden.found_symbol(name))
            .ok_or_else(|| Lacks::Symbol(name.into()))
    }

    /// The address of a symbol of the kernel or, where that has none of this name, of a module.
    pub fn module_symbol(&self, name: &str) -> Field<VirtAddr> {
        let of_module = |lacks: Lacks| {
            let hidden = self.options().hidden.symbol(name);
            let found = self.symbols()?.by_name(name).into_iter().find(|_| !hidden).ok_or(lacks)?;
            self.options().hidden.found_symbol(name);
            Ok(found.address)
        };
        self.symbol(name).or_else(of_module)
    }

    /// The first of several symbols that the kernel has.
    pub fn any_symbol(&self, names: &[&str]) -> Field<VirtAddr> {
        self.symbol_table()?;
        names.iter().find_map(|name| self.symbol(name).ok()).ok_or_else(|| Lacks::Symbol(names.into()))
    }

    /// The symbol that an address lies in: of the kernel or of a module.
    #[must_use]
    pub fn place(&self, address: VirtAddr) -> Option<Place<'_>> {
        let symbols = match self.modules().at(address) {
            Some(_) => self.symbols().ok()?,
            // Most addresses are the kernel's own: they do not wait for the modules' tables.
            None => &self.kernel_symbols().as_ref().ok()?.symbols,
        };
        if let Some((symbol, offset)) = symbols.at(address) {
            return Some(Place { symbol, offset });
        }
        let code = self.generated_text().at(address)?;
        Some(Place { symbol: code.symbol(), offset: address.since(code.range.start) })
    }
}
