//! The kernel's code, held against that of its vmlinux.
//!
//! The running kernel patches its own code in many places (`arch/x86/kernel/alternative.c`), and KASLR moves what is an
//! address in it. What differs elsewhere is damage: a flipped bit, a stray write, an intruder.

mod changes;
mod original;

pub use changes::{Change, Comparison, compare};
pub use original::Original;
