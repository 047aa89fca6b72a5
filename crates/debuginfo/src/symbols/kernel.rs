//! All symbols of a kernel: its own and its modules'.

use std::ops::Range;
use std::sync::Arc;

use kdive_base::VirtAddr;

use super::{Symbol, SymbolTable};
use crate::types::Closest;

/// One module's symbols and where the module lies.
#[derive(Clone, Debug)]
pub struct ModuleSymbols {
    /// The module's name.
    pub name: Arc<str>,
    /// The parts of the address space that belong to it (`struct module.mem`, or core and init layouts).
    pub ranges: Vec<Range<VirtAddr>>,
    /// Its symbols, at the addresses where they were loaded.
    pub table: Arc<SymbolTable>,
}

/// The kernel's symbols and its modules', looked up together. Cheap to clone: loading a module's debuginfo makes a new
/// one and readers keep theirs.
#[derive(Clone, Debug, Default)]
pub struct Symbols {
    kernel: Arc<SymbolTable>,
    image: Option<Range<VirtAddr>>,
    modules: Vec<ModuleSymbols>,
    /// Module ranges by start, with the module's number.
    ranges: Vec<(Range<VirtAddr>, usize)>,
}

impl Symbols {
    /// The kernel's symbols alone. `image` is the range that its addresses may name; `None` takes it from the symbols
    /// that the linker script makes.
    #[must_use]
    pub fn new(kernel: Arc<SymbolTable>, image: Option<Range<VirtAddr>>) -> Self {
        let image = image.or_else(|| kernel.image());
        Self { kernel, image, modules: Vec::new(), ranges: Vec::new() }
    }

    /// With these modules in place of the ones known before.
    #[must_use]
    pub fn with_modules(&self, modules: Vec<ModuleSymbols>) -> Self {
        let numbered = modules.iter().enumerate();
        let mut ranges: Vec<_> = numbered
            .flat_map(|(number, module)| module.ranges.iter().map(move |range| (range.clone(), number)))
            .filter(|(range, _)| range.start < range.end)
            .collect();
        ranges.sort_by_key(|(range, _)| range.start);
        Self { kernel: Arc::clone(&self.kernel), image: self.image.clone(), modules, ranges }
    }

    /// The kernel's own table.
    #[must_use]
    pub fn kernel(&self) -> &Arc<SymbolTable> {
        &self.kernel
    }

    /// The range of the kernel's image, `_text` to `_end`, if known.
    #[must_use]
    pub fn image(&self) -> Option<Range<VirtAddr>> {
        self.image.clone()
    }

    /// The modules.
    #[must_use]
    pub fn modules(&self) -> &[ModuleSymbols] {
        &self.modules
    }

    /// The module with this name.
    #[must_use]
    pub fn module(&self, name: &str) -> Option<&ModuleSymbols> {
        self.modules.iter().find(|module| &*module.name == name)
    }

    /// The module that an address lies in.
    #[must_use]
    pub fn module_at(&self, address: VirtAddr) -> Option<&ModuleSymbols> {
        let end = self.ranges.partition_point(|(range, _)| range.start <= address);
        let (range, number) = self.ranges.get(end.checked_sub(1)?)?;
        self.modules.get(*number).filter(|_| range.contains(&address))
    }

    /// Every symbol with this name: the kernel's first, then the modules' in their order.
    #[must_use]
    pub fn by_name<'t>(&'t self, name: &str) -> Vec<Symbol<'t>> {
        let mut found: Vec<_> = self.kernel.by_name(name).collect();
        for module in &self.modules {
            found.extend(module.table.by_name(name).map(|symbol| of_module(symbol, module)));
        }
        found
    }

    /// The symbols with this name in one module, or in the kernel itself (`None`).
    #[must_use]
    pub fn by_name_in<'t>(&'t self, module: Option<&str>, name: &str) -> Vec<Symbol<'t>> {
        let Some(module) = module else { return self.kernel.by_name(name).collect() };
        let Some(module) = self.module(module) else { return Vec::new() };
        module.table.by_name(name).map(|symbol| of_module(symbol, module)).collect()
    }

    /// The symbol that names an address and the distance from it, for addresses in the kernel's image and in modules.
    #[must_use]
    pub fn at(&self, address: VirtAddr) -> Option<(Symbol<'_>, u64)> {
        if let Some(module) = self.module_at(address) {
            let range = module.ranges.iter().find(|range| range.contains(&address))?;
            let (symbol, offset) = module.table.at(address, range.start)?;
            return Some((of_module(symbol, module), offset));
        }
        match &self.image {
            Some(image) if image.contains(&address) => self.kernel.at(address, image.start),
            // Init text and data may lie outside the marks, as far as the table reaches.
            Some(image) if address >= image.end => self.kernel.at(address, image.end),
            Some(_) => None,
            None => self.kernel.at(address, VirtAddr(1 << 32)),
        }
    }

    /// The first symbol above an address, and the last one below: in the same module or in the kernel.
    #[must_use]
    pub fn neighbours(&self, address: VirtAddr) -> (Option<Symbol<'_>>, Option<Symbol<'_>>) {
        match self.module_at(address) {
            Some(module) => (
                module.table.previous(address).map(|symbol| of_module(symbol, module)),
                module.table.next(address).map(|symbol| of_module(symbol, module)),
            ),
            None => (self.kernel.previous(address), self.kernel.next(address)),
        }
    }

    /// All symbols: the kernel's by address, then each module's by address.
    pub fn iter(&self) -> impl Iterator<Item = Symbol<'_>> {
        let modules = self.modules.iter();
        self.kernel.iter().chain(
            modules.flat_map(|module| module.table.iter().map(move |symbol| of_module(symbol, module))),
        )
    }

    /// Names close to this one, best first: for "did you mean".
    #[must_use]
    pub fn near(&self, name: &str) -> Vec<String> {
        let mut close = Closest::new(name);
        self.iter().for_each(|symbol| close.offer(symbol.name));
        close.take()
    }
}

fn of_module<'t>(symbol: Symbol<'t>, module: &'t ModuleSymbols) -> Symbol<'t> {
    Symbol { module: Some(&module.name), ..symbol }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::symbols::{SymbolKind, SymbolTableBuilder};
    use proptest::prelude::*;

    fn table(symbols: &[(&str, u64, u64, u8)]) -> SymbolTable {
        let mut builder = SymbolTableBuilder::default();
        for &(name, address, size, kind) in symbols {
            builder.push(name.as_bytes(), VirtAddr(address), size, SymbolKind::new(kind));
        }
        builder.finish()
    }

    const BASE: u64 = 0xffff_ffff_8100_0000;

    fn kernel() -> SymbolTable {
        table(&[
            ("runqueues", 0x31980, 0, b'A'),
            ("irq_stack", 0x100, 0, b'D'),
            ("_text", BASE, 0, b'T'),
            ("_stext", BASE, 0, b'T'),
            ("startup_64", BASE, 0, b'T'),
            ("do_exit", BASE + 0x100, 0x80, b'T'),
            ("__do_exit", BASE + 0x100, 0x80, b'W'),
            ("same", BASE + 0x200, 0, b't'),
            ("same", BASE + 0x300, 0, b't'),
            ("_end", BASE + 0x1000, 0, b'B'),
        ])
    }

    #[test]
    fn an_address_is_named_by_the_symbol_below_it() {
        let symbols = Symbols::new(Arc::new(kernel()), None);
        let at =
            |offset: u64| symbols.at(VirtAddr(BASE + offset)).map(|(symbol, offset)| (symbol.name, offset));
        assert_eq!(at(0), Some(("startup_64", 0)));
        assert_eq!(at(0x150), Some(("do_exit", 0x50)));
        assert_eq!(at(0x2ff), Some(("same", 0xff)));
        assert_eq!(symbols.at(VirtAddr(BASE - 1)), None, "below the image");
        assert_eq!(symbols.at(VirtAddr(0x31990)), None, "per-CPU symbols attract nothing");
        assert_eq!(symbols.at(VirtAddr(BASE + (2 << 20))), None, "far behind the last symbol");
        let (below, above) = symbols.neighbours(VirtAddr(BASE + 0x100));
        assert_eq!((below.unwrap().address, above.unwrap().name), (VirtAddr(BASE), "same"));
    }

    #[test]
    fn names_repeat_and_modules_are_told_apart() {
        let module = ModuleSymbols {
            name: "crasher".into(),
            ranges: vec![VirtAddr(0x5000)..VirtAddr(0x6000), VirtAddr(0x9000)..VirtAddr(0x9100)],
            table: Arc::new(table(&[
                ("same", 0x5010, 0, b't'),
                ("percpu", 0x10, 0, b'd'),
                ("data", 0x9000, 0, b'd'),
            ])),
        };
        let symbols = Symbols::new(Arc::new(kernel()), None).with_modules(vec![module]);
        let found: Vec<_> = symbols.by_name("same").iter().map(|s| (s.module, s.address.0)).collect();
        assert_eq!(found, [(None, BASE + 0x200), (None, BASE + 0x300), (Some("crasher"), 0x5010)]);
        assert_eq!(symbols.by_name_in(Some("crasher"), "same").len(), 1);
        let at = |address| symbols.at(VirtAddr(address)).map(|(symbol, offset)| (symbol.name, offset));
        assert_eq!(at(0x5020), Some(("same", 0x10)));
        assert_eq!(at(0x5000), None, "before the module's first symbol");
        assert_eq!(at(0x9050), Some(("data", 0x50)));
        assert_eq!(at(0x6000), None);
        assert_eq!(symbols.iter().count(), 13);
        assert_eq!(symbols.near("do_exti").first().unwrap(), "do_exit");
    }

    #[test]
    fn data_in_an_executable_section_is_data() {
        let marked = table(&[
            ("do_exit", BASE, 0, b'T'),
            ("_sdata", BASE + 0x100, 0, b'T'),
            ("init_task", BASE + 0x100, 0, b'T'),
            ("level", BASE + 0x200, 0, b't'),
            ("vdso", BASE + 0x300, 0, b'r'),
            ("_edata", BASE + 0x400, 0, b'T'),
            ("_sinittext", BASE + 0x400, 0, b'T'),
        ])
        .data_marked();
        let letters: String = marked.iter().map(|symbol| symbol.kind.letter()).collect();
        assert_eq!(letters, "TDDdrTT");
        let unmarked = table(&[("do_exit", BASE, 0, b'T'), ("_sdata", BASE, 0, b'T')]).data_marked();
        assert!(unmarked.iter().all(|symbol| symbol.kind.letter() == 'T'), "without an end");
    }

    #[test]
    fn sliding_moves_the_image_only() {
        let kernel = kernel();
        let image = kernel.image().unwrap();
        let slid = kernel.slid(image, 0x1000_0000);
        let address = |name: &str| slid.by_name(name).next().unwrap().address.0;
        assert_eq!(address("_text"), BASE + 0x1000_0000);
        assert_eq!(address("_end"), BASE + 0x1000_1000);
        assert_eq!(address("runqueues"), 0x31980);
    }

    #[test]
    fn odd_names_are_made_printable() {
        let table = table(&[("a\u{1b}[31m", 1, 0, b'T'), ("", 2, 0, b'T')]);
        assert_eq!(table.iter().map(|s| s.name).collect::<Vec<_>>(), ["a\\x1b[31m"]);
    }

    proptest! {
        #[test]
        fn look_ups_agree_with_a_plain_list(
            list in proptest::collection::vec((0_u8..20, 0_u64..64, 0_u64..8), 0..40), wanted in 0_u64..80,
        ) {
            let mut builder = SymbolTableBuilder::default();
            for &(name, address, size) in &list {
                builder.push(format!("s{name}").as_bytes(), VirtAddr(address), size, SymbolKind::new(b't'));
            }
            let table = builder.finish();
            let nearest = list.iter().map(|&(_, address, _)| address).filter(|&a| a <= wanted && a >= 3).max();
            let found = table.at(VirtAddr(wanted), VirtAddr(3)).map(|(symbol, offset)| (symbol.address.0, offset));
            prop_assert_eq!(found, nearest.map(|a| (a, wanted - a)));
            let next = list.iter().map(|&(_, a, _)| a).filter(|&a| a > wanted).min();
            prop_assert_eq!(table.next(VirtAddr(wanted)).map(|s| s.address.0), next);
            for name in 0..20 {
                let count = list.iter().filter(|(n, ..)| *n == name).count();
                prop_assert_eq!(table.by_name(&format!("s{name}")).count(), count);
            }
        }
    }
}
