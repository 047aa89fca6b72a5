//! What an expression can see.

use kdive_base::VirtualMemory;
use kdive_debuginfo::Types;

use super::value::Value;
use crate::kernel::Kernel;

/// Variables that the host gives to expressions: `$task`, `$pid`, registers (`$rip`), values shown before (`$1`, `$`,
/// `$$`), and the local variables of the chosen frame (without `$`).
pub trait Variables {
    /// The variable of this name, the `$` included.
    fn variable(&self, name: &str) -> Option<Value>;

    /// All names, for completion and suggestions.
    fn names(&self) -> Vec<String>;

    /// The types of these values, where the kernel's own do not have them: those of a frame's local variables.
    fn types(&self) -> Option<&Types> {
        None
    }
}

/// None at all.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoVariables;

impl Variables for NoVariables {
    fn variable(&self, _name: &str) -> Option<Value> {
        None
    }

    fn names(&self) -> Vec<String> {
        Vec::new()
    }
}

/// What an expression can see and read.
#[derive(Clone, Copy)]
pub struct Scope<'a> {
    /// Types and symbols.
    pub kernel: &'a Kernel,
    /// What pointers lead into: the kernel's space, or that of a process.
    pub memory: &'a dyn VirtualMemory,
    /// The module whose own names come before the kernel's.
    pub module: Option<&'a str>,
    /// Names that begin with `$`, and local variables.
    pub variables: &'a dyn Variables,
}

impl<'a> Scope<'a> {
    /// The kernel's memory and its global names.
    #[must_use]
    pub fn global(kernel: &'a Kernel) -> Self {
        Self { kernel, memory: kernel.memory(), module: None, variables: &NoVariables }
    }
}
