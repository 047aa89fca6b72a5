//! The little of Linux that opening and unwinding need. Models of subsystems live in the `linux` crate.

mod cpus;
mod generated_text;
pub(crate) mod module_btf;
mod modules;
mod orc;
mod stacks;

use std::sync::OnceLock;

use kdive_base::VirtAddr;

pub use cpus::{CpuMask, Cpus};
pub use generated_text::{GeneratedCode, GeneratedKind, GeneratedText};
pub use modules::{Module, ModuleMemory, Modules};
pub use orc::KernelOrc;
pub use stacks::{CpuStack, CpuStacks};

use crate::kernel::Kernel;
use crate::lacks::Field;
use crate::unwind::{CodeRules, CpuRegisters};

/// Facts resolved on first use.
#[derive(Default)]
pub struct Os {
    cpus: OnceLock<Field<Cpus>>,
    modules: OnceLock<Modules>,
    stacks: OnceLock<CpuStacks>,
    task_stack_bytes: OnceLock<Field<u64>>,
    generated_text: OnceLock<GeneratedText>,
    orc: OnceLock<KernelOrc>,
    pub(crate) code_rules: OnceLock<CodeRules>,
    pub(crate) registers: OnceLock<Vec<CpuRegisters>>,
    pub(crate) running: OnceLock<Vec<(u32, VirtAddr)>>,
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
