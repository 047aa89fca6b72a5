//! Dump containers: from the files of a crash dump to the physical memory of the machine that died.
//!
//! Design constraints:
//! - One file per container format, behind [`PhysicalMemory`]; `formats.rs` lists them in one static table, which is
//!   where a new format goes. Wrappers around whole files (flattened, gzip) are a [`ReadAt`](kdive_base::ReadAt) over a
//!   `ReadAt` and have tables of their own.
//! - Knows nothing of symbols, types or page tables, opens no file and prints nothing: the host gives open files.
//! - Everything is read by offset when it is asked for. Opening reads headers, notes and, for formats without an index
//!   (flattened, LiME, AVML), record headers; never pages, but for gzip, which has no places to begin at and is passed over
//!   once. Reading a page is O(1).
//! - Every byte may be wrong or missing. A count is checked against the bytes that could hold it before anything is
//!   allocated; a page that cannot be had is a [`Missing`](kdive_base::Missing) with its reason; a file cut at any byte
//!   still yields what lies before the cut.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

pub mod age;
mod avml;
mod blocks;
mod cache;
mod check;
mod codec;
mod elf;
mod error;
mod extents;
mod facts;
mod flat;
mod flattened;
mod formats;
mod input;
mod kdump;
mod libvirt;
mod lime;
mod lkcd;
mod lost;
mod memory;
mod notes;
mod open;
mod packed;
mod probe;
mod raw;
mod redacted;
mod s390;
mod sadump;
mod savevm;
mod scan;
mod seal;
mod touched;
mod vmware;
mod window;
pub mod write;
mod xen;

pub use check::{CheckedBy, FileDamage, check_file, without_damage};
pub use error::OpenError;
pub use facts::{Encryption, Facts, PartFacts, UtsName};
pub use input::{Hints, Input, InputFile};
pub use memory::{PhysicalMemory, Run, RunState, RunTotals, Segment};
pub use notes::{ControlRegisters, CpuNote, DeviceDump, Notes, OtherNote, RawNote};
pub use open::{Decrypted, Opened, decrypt, open};
pub use probe::{Kind, probe};
pub use redacted::{Redacted, RedactedFacts, RedactedKind, TooMany, Veiled};
pub use scan::{Candidate, Form, find_vmcoreinfo};
pub use seal::{BLOCK_BYTES, Manifest, Seal, SealError};
pub use touched::Touched;
pub use window::Window;
