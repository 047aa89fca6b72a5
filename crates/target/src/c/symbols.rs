//! The variables and functions that a kernel's symbol tables have.

use kdive_base::VirtAddr;
use kdive_debuginfo::symbols::{Symbol, SymbolTable};
use kdive_debuginfo::{Tag, TypeId};

use super::scope::Scope;
use super::world::Definition;
use crate::kernel::Kernel;
use crate::lacks::{Field, Lacks};

/// Names that stand for the kernel itself where a module's could stand.
const KERNEL: [&str; 2] = ["vmlinux", "kernel"];

/// Everything with this name: the kernel's, and the modules' unless the kernel has one that all files see.
pub(super) fn definitions(scope: &Scope<'_>, name: &str) -> Vec<Definition> {
    let kernel = scope.kernel;
    if kernel.options().hidden.symbol(name) {
        return Vec::new();
    }
    let Ok(table) = kernel.symbol_table() else { return Vec::new() };
    let mut found = of_kernel(kernel, table, name);
    let decided = scope.module.is_none() && found.iter().filter(|definition| definition.global).count() == 1;
    if !decided && let Ok(symbols) = kernel.symbols() {
        for module in symbols.modules() {
            found.extend(of_module(kernel, &module.name, &module.table, name));
        }
    }
    found
}

pub(super) fn definitions_in(scope: &Scope<'_>, place: &str, name: &str) -> Field<Vec<Definition>> {
    let kernel = scope.kernel;
    if KERNEL.contains(&place) {
        return Ok(of_kernel(kernel, kernel.symbol_table()?, name));
    }
    if let Some(module) = kernel.symbols()?.module(place) {
        return Ok(of_module(kernel, &module.name, &module.table, name));
    }
    Err(Lacks::unavailable(format_args!("no module is named {place}")))
}

fn of_kernel(kernel: &Kernel, table: &SymbolTable, name: &str) -> Vec<Definition> {
    let of = |tag| kernel.types().ok()?.find(tag, name).ok();
    of_table(table, name, None, &of)
}

fn of_module(kernel: &Kernel, module: &str, table: &SymbolTable, name: &str) -> Vec<Definition> {
    let of = |tag| kernel.all_types().ok()?.find_in(Some(module), tag, name).ok();
    of_table(table, name, Some(module), &of)
}

fn of_table(
    table: &SymbolTable,
    name: &str,
    module: Option<&str>,
    of: &dyn Fn(Tag) -> Option<TypeId>,
) -> Vec<Definition> {
    let mut found: Vec<Definition> = Vec::new();
    for symbol in table.by_name(name) {
        let known = found.iter_mut().find(|definition| definition.address == symbol.address);
        match known {
            Some(known) => known.global |= is_global(&symbol),
            None => found.push(Definition {
                address: symbol.address,
                module: module.map(Into::into),
                global: is_global(&symbol),
                code: symbol.kind.is_code(),
                of: None,
                bytes: extent(table, &symbol),
                file: None,
            }),
        }
    }
    for definition in &mut found {
        definition.of = of(Definition::tag(definition.code));
    }
    found
}

fn is_global(symbol: &Symbol<'_>) -> bool {
    symbol.kind.letter().is_ascii_uppercase()
}

/// Bytes that a symbol's object can have.
fn extent(table: &SymbolTable, symbol: &Symbol<'_>) -> u64 {
    let to_next = |at: VirtAddr| table.next(at).map(|next| next.address.since(at));
    symbol.size.or_else(|| to_next(symbol.address)).unwrap_or(1)
}
