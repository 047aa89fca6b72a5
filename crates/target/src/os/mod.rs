//! The little of Linux that opening and unwinding need. Models of subsystems live in the `linux` crate.

mod cpus;
mod generated_text;
pub(crate) mod module_btf;
mod modules;
mod orc;
mod sections;
mod stacks;

pub use cpus::{CpuMask, Cpus};
pub use generated_text::{GeneratedCode, GeneratedKind, GeneratedText};
pub use modules::{Module, ModuleMemory, Modules};
pub use orc::KernelOrc;
pub use sections::SectionPlaces;
pub use stacks::{CpuStack, CpuStacks};

use crate::kernel::Kernel;
use crate::lacks::Field;

impl Kernel {
    /// The processors and their per-CPU areas.
    pub fn cpus(&self) -> Field<&Cpus> {
        self.once(Cpus::find).as_ref().map_err(Clone::clone)
    }

    /// The modules loaded when the kernel died.
    pub fn modules(&self) -> &Modules {
        self.once(Modules::find)
    }
}
