//! C: expressions over the kernel's types, and the values they have.
//!
//! A text such as `((struct task_struct *)$task)->mm->pgd` becomes a [`Value`] in a [`Scope`]. The scope says whose names
//! are seen and whose memory is read; nothing here knows commands.
//!
//! - Types come from the kernel (BTF, then DWARF). What no source tells is an error that says so, or a guess that is
//!   noted ([`Guess`]), never a silent assumption.
//! - A name with several meanings is reported with all of them.
//! - Missing memory is [`EvalError`]'s reason like any other: it names the address and the part of the text.
//! - Text is hostile: its length and the depth of its nesting are bounded, and no operator panics.
//!
//! `lexer` and `parser` make a tree (`ast`) of a text; `names` and `resolve` find what its names mean; `eval` and
//! `operators` compute. All they ask of their surroundings is [`World`], which tests and fuzzers make up.

mod ast;
mod complete;
mod convert;
mod error;
mod eval;
mod globals;
mod lexer;
mod names;
mod operators;
mod parser;
mod read;
mod resolve;
mod run;
mod scope;
mod suggest;
mod symbols;
#[cfg(test)]
mod tests;
mod type_name;
mod value;
mod world;

pub use complete::{Completions, complete};
pub use error::{EvalError, Why};
pub use eval::Guess;
pub use run::{Evaluated, evaluate};
pub use scope::{NoVariables, Scope, Variables};
pub use value::{Stored, Value};
pub use world::{Definition, World};
