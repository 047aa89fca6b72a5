//! C: expressions over the kernel's types, and the values they have.
//!
//! A text such as `((struct task_struct *)$task)->mm->pgd` becomes a [`Value`] in a [`Scope`]. The scope says whose names
//! are seen and whose memory is read; nothing here knows commands.
//!
//! - Types come from the kernel (BTF, then DWARF). What no source tells is an error that says so, never an assumption.
//! - A name with several meanings is reported with all of them.
//! - Missing memory is [`EvalError`]'s reason like any other: it names the address and the part of the text.

mod error;
mod eval;
mod scope;
mod value;

pub use error::{EvalError, Why};
pub use scope::{NoVariables, Scope, Variables};
pub use value::{Stored, Value};
