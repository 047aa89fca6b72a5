//! The ground every kdive crate stands on: addresses, checked byte readers, missing data and gaps.
//!
//! Design constraints:
//! - Knows nothing of Linux, of files or of terminals.
//! - A read says how far it came and why it stopped ([`Missing`]): a hole in a dump is a value, never a zero.
//! - Nothing here panics, whatever the bytes or the addresses are.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

mod addr;
pub mod bytes;
mod cancel;
mod gap;
mod memory;
mod missing;
mod text;

pub use addr::{PAGE_SHIFT, PAGE_SIZE, Pfn, PhysAddr, VirtAddr};
pub use bytes::{ByteReader, Endian};
pub use cancel::{Cancel, Cancelled};
pub use gap::{Gap, GapLedger};
pub use memory::{ReadAt, VirtualMemory};
pub use missing::{Address, Missing, Why};
pub use text::{Printable, printable};
