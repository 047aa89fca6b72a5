//! The kernel's code, held against that of its vmlinux, and the modules' against their files.
//!
//! The running kernel patches its own code in many places (`arch/x86/kernel/alternative.c`), KASLR moves what is an
//! address in it, and modules are linked when they are loaded. What differs elsewhere is damage: a flipped bit, a stray
//! write, an intruder.

mod changes;
mod module;
mod original;
mod sites;

pub use changes::{Change, Comparison, Lost, compare};
pub use module::compare_module;
pub use original::Original;
