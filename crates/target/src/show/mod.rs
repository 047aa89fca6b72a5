//! The printer of typed values: memory and a type in, a tree of what is there out, and its text in gdb's layout.
//!
//! - A value is read once into a [`Shown`], which is what JSON serialises and what [`Shown::text`] lays out: on one line,
//!   or over several as crash prints structures.
//! - What cannot be read is a node like any other; the rest of the value is shown around it.
//! - Types and memory are hostile: depth and the number of nodes are bounded, so that a type which holds itself ends.

mod build;
mod declaration;
mod float;
mod format;

mod json;
mod node;
mod offsets;
mod source;
mod string;
#[cfg(test)]
mod tests;
mod text;

use kdive_base::{VirtAddr, VirtualMemory};
use kdive_debuginfo::{TypeId, Types};

use crate::c::{Stored, Value};
use crate::kernel::Kernel;

pub use self::declaration::{Declared, Line, declaration};
pub use self::format::Format;
pub use self::node::{Array, Integer, Member, Node, Pointer, Text};
pub use self::offsets::offsets;
use self::source::Source;

/// How a value is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Integers in hexadecimal (`set radix 16`, `-x`).
    pub hexadecimal: bool,
    /// How numbers are written, if otherwise than their types say (`p/x`).
    pub format: Option<Format>,
    /// Records over several lines, a member each.
    pub lines: bool,
    /// Arrays over several lines (`set print_array on`).
    pub array_lines: bool,
    /// Character arrays end at their first NUL (`set null-stop on`).
    pub null_stop: bool,
    /// Most elements of an array and characters of a text: what follows is `...` (`set print_max`).
    pub elements: usize,
    /// Records and arrays inside each other; what lies deeper is `{...}`.
    pub depth: usize,
    /// Bytes of text, after which `...` ends it.
    pub length: usize,
}

impl Style {
    /// As crash prints structures.
    pub const LINES: Self = Self {
        hexadecimal: false,
        format: None,
        lines: true,
        array_lines: false,
        null_stop: false,
        elements: 256,
        depth: 64,
        length: 64 << 20,
    };

    /// For one line in a listing.
    pub const LINE: Self =
        Self { lines: false, null_stop: true, elements: 16, depth: 1, length: 400, ..Self::LINES };
}

/// A value that was read: its tree, and what of it could not be.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    /// The value.
    pub node: Node,
    /// What could not be read, in the order of the addresses; at most a few dozen are kept.
    pub missing: Vec<kdive_base::Missing>,
    /// The type of a pointer or function as C spells it: gdb writes it before such a value that stands alone.
    of: Option<String>,
}

/// Reads values of one table of types.
#[derive(Clone, Copy)]
pub struct Printer<'p> {
    types: &'p Types,
    memory: &'p dyn VirtualMemory,
    /// The symbol that an address lies in, for a pointer to text or to something else.
    symbol: &'p dyn Fn(VirtAddr) -> Option<Place>,
    style: Style,
}

/// What a printer says of the place that a pointer leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// `init_task+2192`.
    pub text: String,
    /// Whether it is read-only data between symbols of unknown size, where string literals lie: the symbol before one says
    /// nothing of it.
    pub vague: bool,
}

impl Kernel {
    /// Reads a value for printing: `memory` is where its pointers lead (the kernel's space, or a process's).
    #[must_use]
    pub fn shown(&self, types: &Types, memory: &dyn VirtualMemory, value: &Value, style: &Style) -> Shown {
        let symbol = |address| self.place_of(address);
        Printer { types, memory, symbol: &symbol, style: *style }.value(value)
    }

    /// A value of the type `of` in `types` on one line. `bytes` begins with the value as it lies in memory; what it is too
    /// short for is `?`.
    #[must_use]
    pub fn show(&self, types: &Types, of: TypeId, bytes: &[u8], style: &Style) -> String {
        let symbol = |address| self.place_of(address);
        let printer = Printer { types, memory: self.memory(), symbol: &symbol, style: *style };
        printer.bytes(of, bytes).text(style)
    }

    fn place_of(&self, address: VirtAddr) -> Option<Place> {
        let place = self.place(address)?;
        if place.symbol.size.is_some_and(|size| size > 0 && place.offset >= size) {
            return None;
        }
        let vague = place.offset > 0 && place.symbol.size.is_none() && self.is_read_only(&place, address);
        let text = match place.offset {
            0 => place.symbol.name.to_owned(),
            offset => format!("{}+{offset}", place.symbol.name),
        };
        Some(Place { text, vague })
    }

    fn is_read_only(&self, place: &crate::symbols::Place<'_>, address: VirtAddr) -> bool {
        let bounds = || Some(self.symbol("__start_rodata").ok()?..self.symbol("__end_rodata").ok()?);
        matches!(place.symbol.kind.letter(), 'r' | 'R')
            || bounds().is_some_and(|bounds| bounds.contains(&address))
    }
}

impl Shown {
    /// The text that a pointer to characters leads to, as a value of its own.
    #[must_use]
    pub fn text_of_pointer(&self) -> Self {
        let node = match &self.node {
            Node::Pointer(Pointer { text: Some(Ok(text)), .. }) => Node::Text(text.clone()),
            Node::Pointer(Pointer { text: Some(Err(missing)), .. }) => Node::Unavailable(Some(*missing)),
            node => node.clone(),
        };
        Self { node, missing: Vec::new(), of: None }
    }
}

impl Printer<'_> {
    /// Reads a value.
    #[must_use]
    pub fn value(&self, value: &Value) -> Shown {
        match &value.stored {
            Stored::Memory(at) => self.build(value.of, &Source::memory(self.memory, *at)),
            Stored::Bytes(bytes) => self.bytes(value.of, bytes),
            Stored::Bits { record, offset, width } => {
                let source = Source::memory(self.memory, *record);
                self.build_bits(value.of, &source, *offset, *width)
            }
        }
    }

    /// Reads a value out of bytes that begin with it.
    #[must_use]
    pub fn bytes(&self, of: TypeId, bytes: &[u8]) -> Shown {
        self.build(of, &Source::bytes(bytes, self.memory.endian()))
    }
}
