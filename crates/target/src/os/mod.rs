//! The little of Linux that opening and unwinding need. Models of subsystems live in the `linux` crate.

mod cpus;
pub(crate) mod module_btf;
mod modules;

use std::sync::OnceLock;

pub use cpus::{CpuMask, Cpus};
pub use modules::{Module, ModuleMemory, Modules};

use crate::kernel::Kernel;
use crate::lacks::Field;

/// Facts resolved on first use.
#[derive(Default)]
pub struct Os {
    cpus: OnceLock<Field<Cpus>>,
    modules: OnceLock<Modules>,
}

impl Kernel {
    /// The processors and their per-CPU areas.
    pub fn cpus(&self) -> Field<&Cpus> {
        self.os().cpus.get_or_init(|| Cpus::find(self)).as_ref().map_err(Clone::clone)
    }

    /// The modules loaded when the kernel died.
    pub fn modules(&self) -> &Modules {
        self.os().modules.get_or_init(|| Modules::find(self))
    }
}
