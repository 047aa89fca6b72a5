//! What an evaluation asks of its surroundings. A [`Scope`] answers out of a kernel; tests answer out of tables.

use kdive_base::{VirtAddr, VirtualMemory};
use kdive_debuginfo::{TypeId, Types};

use super::scope::{Scope, Variables};
use super::value::Value;
use crate::lacks::Field;

/// One meaning of a name: a variable or a function in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// Where it lies; of a per-CPU variable, the offset that its symbol has.
    pub address: VirtAddr,
    /// The module that it belongs to; `None` for the kernel itself.
    pub module: Option<Box<str>>,
    /// Whether other files see it.
    pub global: bool,
    /// Whether it is code.
    pub code: bool,
    /// Its type, where it is known.
    pub of: Option<TypeId>,
    /// Bytes up to the next symbol, or its size where the table has one: what is known of a variable without a type.
    pub bytes: u64,
    /// The source file, where DWARF tells.
    pub file: Option<Box<str>>,
}

/// What an evaluation sees.
pub trait World {
    /// The types that come first: the kernel's own.
    fn types(&self) -> Types;

    /// Those and all others that there are. Asked only for what the first ones lack.
    fn all_types(&self) -> Types;

    /// What pointers lead into.
    fn memory(&self) -> &dyn VirtualMemory;

    /// The module whose names come first.
    fn module(&self) -> Option<&str>;

    /// Variables of the host.
    fn variables(&self) -> &dyn Variables;

    /// Every variable and function with this name, without their types and files.
    fn definitions(&self, name: &str) -> Vec<Definition>;

    /// Adds the types and files of definitions with this name, as far as they are known.
    fn describe(&self, name: &str, found: &mut [Definition]);

    /// The definitions in a source file, in a module, or inside a function, with what is known of them.
    ///
    /// # Errors
    /// Why the scope cannot be searched.
    fn definitions_in(&self, scope: &str, name: &str) -> Field<Vec<Definition>>;

    /// Bytes from a per-CPU variable's symbol to a processor's copy of it.
    ///
    /// # Errors
    /// There is no such processor, or its area cannot be found.
    fn per_cpu_offset(&self, cpu: u32) -> Field<u64>;

    /// Names of variables and functions close to this one, best first.
    fn near(&self, name: &str) -> Vec<String>;

    /// Calls `each` for every name of a variable or function that begins with `prefix`, repeats included, until it says
    /// no.
    fn for_each_name(&self, prefix: &str, each: &mut dyn FnMut(&str) -> bool);
}

impl World for Scope<'_> {
    fn types(&self) -> Types {
        let own = self.variables.types().cloned();
        own.or_else(|| self.kernel.types().ok().cloned()).unwrap_or_else(|| no_types(self))
    }

    fn all_types(&self) -> Types {
        match self.kernel.all_types() {
            // The local variables' own unit is in the host's snapshot only.
            Ok(all) if self.variables.types().is_none() => all.clone(),
            _ => self.types(),
        }
    }

    fn memory(&self) -> &dyn VirtualMemory {
        self.memory
    }

    fn module(&self) -> Option<&str> {
        self.module
    }

    fn variables(&self) -> &dyn Variables {
        self.variables
    }

    fn definitions(&self, name: &str) -> Vec<Definition> {
        super::symbols::definitions(self, name)
    }

    fn describe(&self, name: &str, found: &mut [Definition]) {
        super::symbols::describe(self.kernel, name, found);
    }

    fn definitions_in(&self, scope: &str, name: &str) -> Field<Vec<Definition>> {
        super::symbols::definitions_in(self, scope, name)
    }

    fn per_cpu_offset(&self, cpu: u32) -> Field<u64> {
        Ok(self.kernel.cpus()?.per_cpu(VirtAddr(0), cpu)?.0)
    }

    fn near(&self, name: &str) -> Vec<String> {
        self.kernel.symbols().map(|symbols| symbols.near(name)).unwrap_or_default()
    }

    fn for_each_name(&self, prefix: &str, each: &mut dyn FnMut(&str) -> bool) {
        let Ok(symbols) = self.kernel.symbols() else { return };
        let names = symbols.iter().map(|symbol| symbol.name);
        let _ = names.filter(|name| name.starts_with(prefix)).all(each);
    }
}

/// The types of a kernel without type information: one set for each kernel, so that what one expression made another
/// one knows.
struct NoTypes(Types);

fn no_types(scope: &Scope<'_>) -> Types {
    scope.kernel.once(|_| NoTypes(Types::new(crate::types::POINTER_BYTES))).0.clone()
}

/// A value of the host, and the types it needs.
impl dyn World + '_ {
    /// Asks the kernel's own types, and all types where those do not know.
    pub(super) fn ask<T>(&self, ask: impl Fn(&Types) -> Option<T>) -> Option<T> {
        ask(&self.types()).or_else(|| ask(&self.all_types()))
    }

    /// The host's variable of this name.
    pub(super) fn variable(&self, name: &str) -> Option<Value> {
        self.variables().variable(name)
    }
}
