//! Loaded modules.

use kdive_base::printable;
use kdive_linux::system::Taint;
use kdive_target::os;
use kdive_target::{Field, Kernel};

use crate::case::Module;

/// Longer than any version.
const VERSION: usize = 128;

/// The modules in memory; where their list cannot be read, those that the log names.
pub(super) fn read(kernel: &Kernel, told: Vec<Module>) -> Vec<Module> {
    let found: Vec<Module> = kernel.modules().iter().map(|module| of(kernel, module)).collect();
    if found.is_empty() { told } else { found }
}

fn of(kernel: &Kernel, module: &os::Module) -> Module {
    let taint = match &module.fields.taints {
        Ok(mask) if *mask != 0 => Taint::of_mask(kernel, *mask).letters,
        _ => String::new(),
    };
    Module { name: module.name.to_string(), taint, version: version(kernel, module).ok().flatten() }
}

/// `MODULE_VERSION` of a module that has one (`module.version`, kept as text).
fn version(kernel: &Kernel, module: &os::Module) -> Field<Option<String>> {
    let memory = kernel.memory();
    let at = memory.pointer(module.fields.at.add(kernel.offset_of("module", "version")?))?;
    if at.is_null() {
        return Ok(None);
    }
    Ok(Some(printable(&memory.c_string(at, VERSION)?)))
}
