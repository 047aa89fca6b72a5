//! Plain facts that a memory image and a text log can both yield.
//!
//! Knows nothing of where they came from: `dump` reads registers out of notes, `target` unwinds frames from memory,
//! and triage reads the same out of a console log.

mod frame;
mod log;
mod registers;
mod splat;

pub use frame::{Frame, FrameTrust, InlineFrame, StackKind};
pub use log::{Doubt, LogRecord};
pub use registers::{PT_REGS, Register, Registers};
pub use splat::{Access, CodeBytes, OtherStack, Place, SourceLine, Splat, SplatKind, TraceFrame};
