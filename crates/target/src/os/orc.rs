//! The kernel's ORC tables: its own, and each module's.

use kdive_base::VirtAddr;
use kdive_debuginfo::orc::{OrcEntry, OrcKind, OrcTable};

use crate::kernel::Kernel;
use crate::lacks::{Field, Lacks};
use crate::os::Module;

/// Unwind tables (arch/x86/kernel/unwind_orc.c). They are read where they lie, entry by entry.
pub struct KernelOrc {
    table: Field<OrcTable>,
}

/// A module larger than the kernel is not real: no table of one has more entries.
const MAX_MODULE_ENTRIES: u32 = 1 << 20;

impl KernelOrc {
    pub(super) fn find(kernel: &Kernel) -> Self {
        let table = kernel.symbol_table().and_then(|symbols| {
            // The layout comes from the types where there are any, and can do without.
            let none = kdive_debuginfo::Types::new(8);
            let types = kernel.types().unwrap_or(&none);
            OrcTable::of_kernel(kernel.memory(), symbols, types).map_err(Lacks::unavailable)
        });
        Self { table }
    }

    /// Why the kernel has no tables, if it has none.
    #[must_use]
    pub fn lacking(&self) -> Option<&Lacks> {
        self.table.as_ref().err()
    }

    /// The entry for the instruction at an address of the kernel or of a module.
    #[must_use]
    pub fn entry(&self, kernel: &Kernel, at: VirtAddr) -> Option<OrcEntry> {
        let own = self.table.as_ref().ok()?;
        let table = match kernel.modules().at(at) {
            Some(module) => of_module(own, module).ok()?,
            None => *own,
        };
        let mut entry = table.find(kernel.memory(), at).ok().flatten()?;
        if !table.layout().tells_signal() {
            entry.signal = matches!(entry.kind, OrcKind::Regs | OrcKind::RegsPartial);
        }
        Some(entry)
    }

    /// Why the kernel has no usable table, if it has none.
    pub fn usable(&self) -> Field<()> {
        self.table.as_ref().map(drop).map_err(Lacks::clone)
    }
}

fn of_module(own: &OrcTable, module: &Module) -> Field<OrcTable> {
    let fields = &module.fields;
    let count = fields.num_orcs.clone()?;
    if count > MAX_MODULE_ENTRIES {
        return Err(Lacks::implausible(format_args!("module {} with {count} ORC entries", module.name)));
    }
    Ok(own.of_module(fields.orc_unwind_ip.clone()?, fields.orc_unwind.clone()?, count))
}

impl Kernel {
    /// The unwind tables.
    #[must_use]
    pub fn orc(&self) -> &KernelOrc {
        self.once(KernelOrc::find)
    }
}
