//! What differs between processor architectures, as data and pure functions.
//!
//! One folder per architecture, with the same file names in each:
//! `paging` (page-table formats as data), `pt_regs` (where registers lie in memory), `stacks` (which stack an address is
//! on and what ends it), `swap` (swap entries in page-table entries). Nothing here reads memory or knows a container.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

pub mod paging;
pub mod x86_64;
