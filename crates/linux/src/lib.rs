//! Models of the Linux kernel's subsystems.
//!
//! Design constraints:
//! - A model reads a [`Kernel`](kdive_target::Kernel) and yields plain values; it renders nothing.
//! - Layouts are chosen by the existence of members and symbols, through [`Load`](kdive_target::Load), and nowhere else.
//! - Every field is its value or the reason why it lacks one: a hole in the dump costs what depends on it, no more.

pub mod limits;
pub mod locate;
pub mod log;
pub mod mm;
pub mod pages;
pub mod path;
pub mod slab;
pub mod swap;
pub mod system;
pub mod tasks;
pub mod vma;
pub mod vmalloc;
