//! Makes smaller dumps of dumps: what to leave out, what to write, and whether what was written is right.
//!
//! Design constraints:
//! - What a page is used for, the kernel in the dump says: its types, its symbols and VMCOREINFO. No table of versions, so
//!   a new kernel is not filtered wrongly in silence: what cannot be told is kept, and counted.
//! - The levels are makedumpfile's (makedumpfile(8), `-d`), and so is the choice for each page; `docs/differences.md` lists
//!   where it differs. `cargo xtask lab filter` compares the two.
//! - One GiB of frames is decided at a time and by itself, so that memory is bounded and all processors have work.
//! - No files and no terminal: the host opens them and gives a [`Sink`](kdive_dump::write::Sink).
//!
//! [`Classes`] tells what each frame is used for, a [`Selection`] leaves frames out by [`DumpLevel`] and [`Rules`],
//! [`Output`] writes the rest in a format; [`Found`] finds what is to be overwritten; [`Usage`] counts instead, [`verify`]
//! reads everything back, [`rearrange`] makes a file of a stream.

mod classes;
mod first;
mod level;
mod output;
mod rearrange;
mod redact;
mod rules;
mod selection;
mod usage;
mod verify;

pub use classes::Classes;
pub use first::image;
pub use level::{DumpLevel, Levels, NotALevel};
pub use output::{Format, Header, Output};
pub use rearrange::{RearrangeError, rearrange};
pub use redact::{Found, NotRedactable, Redact};
pub use rules::{NotARule, Owner, Rule, RuleFound, Rules, Verdict};
pub use selection::{Ruled, Selection};
pub use usage::{Usage, UsageRow};
pub use verify::{Damage, Verified, verify, verify_files};
