//! The words of a stack or of other memory: plain, or with the names of what they point to.

use kdive_base::{Endian, VirtAddr};
use kdive_linux::slab::Slabs;
use kdive_target::{Field, Kernel, Lacks};
use serde::Serialize;

use crate::args::Args;
use crate::settings::Radix;
use crate::sym;

/// How words are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// As they are (`-f`).
    Plain,
    /// As symbols (`-r`).
    Symbols,
    /// As symbols, and as the slab caches whose objects they point into (`-F`).
    Symbolic,
    /// The same with the words themselves (`-FF`).
    SymbolicWithValue,
}

impl Mode {
    pub(crate) fn of(args: &Args) -> Option<Self> {
        match (args.count("-F"), args.has("-f")) {
            (0, false) => None,
            (0, true) => Some(Self::Plain),
            (1, _) => Some(Self::Symbolic),
            _ => Some(Self::SymbolicWithValue),
        }
    }
}

/// A word of a stack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct StackWord {
    /// Where it lies.
    pub(crate) at: VirtAddr,
    /// What it is.
    pub(crate) value: VirtAddr,
    /// The symbol it points into, with the distance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) symbol: Option<String>,
    /// The slab cache whose object it points into.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cache: Option<String>,
}

impl StackWord {
    pub(crate) fn text(&self, mode: Mode) -> String {
        match (mode, &self.symbol, &self.cache) {
            (Mode::Plain, ..) | (_, None, None) => self.value.to_string(),
            (_, Some(symbol), _) => symbol.clone(),
            (Mode::SymbolicWithValue, None, Some(cache)) => format!("[{}:{cache}]", self.value),
            (Mode::Symbols | Mode::Symbolic, None, Some(cache)) => format!("[{cache}]"),
        }
    }
}

/// Reads words, and names what they point to.
pub(crate) struct Annotator<'k> {
    kernel: &'k Kernel,
    slabs: Option<std::sync::Arc<Slabs>>,
    /// Why slab objects cannot be told, once known.
    pub(crate) lacks: Option<Lacks>,
    symbolic: bool,
}

/// Frames lie on stacks of 64 KiB at most.
const MAX_BYTES: u64 = 64 << 10;

impl<'k> Annotator<'k> {
    pub(crate) fn new(kernel: &'k Kernel, mode: Mode) -> Self {
        let slabs = matches!(mode, Mode::Symbolic | Mode::SymbolicWithValue).then(|| Slabs::find(kernel));
        Self { kernel, slabs, lacks: None, symbolic: mode != Mode::Plain }
    }

    /// The words in a range of a stack.
    pub(crate) fn words(&mut self, from: VirtAddr, to: VirtAddr) -> Field<Vec<StackWord>> {
        let bytes = to.since(from);
        if bytes > MAX_BYTES {
            return Ok(Vec::new());
        }
        let raw = self.kernel.memory().bytes(from, bytes as usize)?;
        let words = raw.chunks_exact(8).filter_map(|word| Endian::Little.u64(word, 0));
        Ok((0_u64..)
            .zip(words)
            .map(|(index, value)| self.word(from.add(index.wrapping_mul(8)), value))
            .collect())
    }

    pub(crate) fn word(&mut self, at: VirtAddr, value: u64) -> StackWord {
        let value = VirtAddr(value);
        let mut word = StackWord { at, value, symbol: None, cache: None };
        if !self.symbolic {
            return word;
        }
        word.symbol = sym::name(self.kernel, value, Radix::Decimal);
        if word.symbol.is_none() {
            word.cache = self.cache(value);
        }
        word
    }

    fn cache(&mut self, value: VirtAddr) -> Option<String> {
        match self.slabs.as_ref()?.object_at(self.kernel, value) {
            Ok(object) => object.map(|object| object.cache_name.to_string()),
            Err(lacks) => {
                self.lacks.get_or_insert(lacks);
                None
            }
        }
    }
}
