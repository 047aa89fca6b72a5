//! The opened kernel: the one handle that everything above takes.
//!
//! Design constraints:
//! - There is no gate. [`Kernel::open`] succeeds on anything that holds memory; each fact is resolved on first use, and
//!   what cannot be resolved is a [`Lacks`] for the thing that needed it.
//! - Layouts are found by the existence of members and symbols ([`Load`]), never by version.
//! - `os` holds the little of Linux that opening and unwinding need; models of subsystems live in the `linux` crate.
//! - Nothing here prints or opens files: debuginfo arrives through [`Artifacts`].

// The derive macro names this crate from outside; its tests and `os` use it from inside.
extern crate self as kdive_target;

mod artifacts;
mod bootstrap;
pub mod c;
#[cfg(feature = "dwarf")]
pub mod dwarf;
mod hide;
mod kernel;
mod lacks;
mod load;
mod memo;
pub mod os;
pub mod show;
mod space;
mod symbols;
mod tlb;
mod translate;
mod types;
pub mod unwind;
pub mod walk;

pub use artifacts::{Artifact, Artifacts, Debuginfo, Want};
pub use bootstrap::{Overrides, VmcoreinfoSource};
pub use hide::Hidden;
pub use kernel::{Kernel, OpenError, OpenOptions};
pub use lacks::{Field, Lacks, Names};
pub use load::{Bytes, FieldValue, Load, Loader, Member, MemberAddress, MemberNames, Object, Text, Words};
pub use show::Style;
pub use space::{AddressSpace, LinearMap};
pub use symbols::{Place, SymbolsSource};
pub use translate::{Mapped, MappedRuns, PageTable, Step, Translation};
pub use types::TypesSource;
