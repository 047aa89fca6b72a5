//! The variables and functions that a kernel's symbol tables have.

use kdive_base::VirtAddr;
use kdive_debuginfo::symbols::{Symbol, SymbolTable};
use kdive_debuginfo::types::{PlacedVariable, Tag};

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
            found.extend(of_table(&module.table, name, Some(&module.name)));
        }
    }
    found
}

/// What `place::name` means, where the place is a module, a source file, or a function with static variables.
pub(super) fn definitions_in(scope: &Scope<'_>, place: &str, name: &str) -> Field<Vec<Definition>> {
    let kernel = scope.kernel;
    let known = match KERNEL.contains(&place) {
        true => Some(of_kernel(kernel, kernel.symbol_table()?, name)),
        false => kernel.symbols()?.module(place).map(|module| of_table(&module.table, name, Some(place))),
    };
    if let Some(mut found) = known {
        describe(kernel, name, &mut found);
        return Ok(found);
    }
    let is_file = place.contains(['.', '/']);
    let mut functions = definitions(scope, if is_file { name } else { place });
    functions.retain(|definition| definition.code);
    if !is_file && functions.is_empty() {
        let what = format_args!("{place} is no module, no source file and no function");
        return Err(Lacks::unavailable(what));
    }
    #[cfg(feature = "dwarf")]
    kernel.kernel_dwarf()?;
    let types = kernel.types()?;
    if !is_file {
        let inside = functions.iter().flat_map(|function| types.variables_in(function.address, name));
        return Ok(inside.map(of_placed).collect());
    }
    for function in &mut functions {
        function.file = source_file(kernel, function.address);
        function.of = types.find(Tag::Function, name).ok();
    }
    functions.retain(|function| function.file.as_deref().is_some_and(|file| is_named(file, place)));
    let variables = types.variables(name).into_iter().filter(|found| is_named(&found.file, place));
    Ok(variables.map(of_placed).chain(functions).collect())
}

/// Whether the end of a path is this one: `core.c` and `sched/core.c` are `kernel/sched/core.c`.
fn is_named(path: &str, wanted: &str) -> bool {
    path.strip_suffix(wanted).is_some_and(|before| before.is_empty() || before.ends_with('/'))
}

fn of_placed(found: PlacedVariable) -> Definition {
    Definition {
        address: found.address,
        module: None,
        global: false,
        code: false,
        of: Some(found.of),
        bytes: 1,
        file: Some(found.file),
    }
}

/// Adds what type information and lines tell of the definitions.
pub(super) fn describe(kernel: &Kernel, name: &str, found: &mut [Definition]) {
    let alone = found.len() == 1;
    for definition in found {
        let module = definition.module.clone();
        let types = if module.is_some() { kernel.all_types() } else { kernel.types() };
        let Ok(types) = types else { continue };
        definition.of = types.find_in(module.as_deref(), Definition::tag(definition.code), name).ok();
        if alone && definition.of.is_some() {
            continue;
        }
        if definition.code {
            definition.file = source_file(kernel, definition.address);
            continue;
        }
        // A name may have several types, but only one at a place.
        let placed = types.variables(name).into_iter().find(|placed| placed.address == definition.address);
        if let Some(known) = placed {
            (definition.of, definition.file) = (Some(known.of), Some(known.file));
        }
    }
}

/// The file that a function was compiled from.
#[cfg(feature = "dwarf")]
fn source_file(kernel: &Kernel, function: VirtAddr) -> Option<Box<str>> {
    Some(kernel.source(function).ok()?.pop()?.at?.file)
}

#[cfg(not(feature = "dwarf"))]
fn source_file(_kernel: &Kernel, _function: VirtAddr) -> Option<Box<str>> {
    None
}

/// The kernel's own. A symbol's letter does not make it code: Linux 7.2 links its data executable.
fn of_kernel(kernel: &Kernel, table: &SymbolTable, name: &str) -> Vec<Definition> {
    let text = [("_stext", "_etext"), ("_sinittext", "_einittext")]
        .map(|(start, end)| Some(kernel.symbol(start).ok()?..kernel.symbol(end).ok()?));
    let [Some(text), init] = text else { return of_table(table, name, None) };
    let mut found = of_table(table, name, None);
    for one in &mut found {
        one.code &=
            text.contains(&one.address) || init.as_ref().is_some_and(|init| init.contains(&one.address));
    }
    found
}

fn of_table(table: &SymbolTable, name: &str, module: Option<&str>) -> Vec<Definition> {
    let mut found: Vec<Definition> = Vec::new();
    for symbol in table.by_name(name) {
        match found.iter_mut().find(|definition| definition.address == symbol.address) {
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
