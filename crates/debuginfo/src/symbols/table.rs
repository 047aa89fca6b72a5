//! The symbols of one file or one in-memory table.

use std::fmt;
use std::ops::Range;
use std::sync::OnceLock;

use kdive_base::VirtAddr;

use super::{Symbol, SymbolKind};
use crate::names::{NameIndex, hash_name, safe_name};

/// A symbol without a size reaches to the next one, but no further than this: the last symbol before a gap would name
/// everything behind it.
const LONGEST_UNSIZED: u64 = 1 << 20;

#[derive(Clone, Copy, Debug)]
struct Entry {
    address: u64,
    name: u32,
    /// 0 when unknown; sizes beyond 4 GiB are not real.
    size: u32,
    length: u16,
    kind: u8,
}

/// The symbols of one module or of the kernel, in order of address. Of several symbols at one address the first is the
/// one that names it: the order in which the kernel's own kallsyms has them, which [`SymbolTableBuilder::finish`]
/// makes for other sources.
pub struct SymbolTable {
    names: String,
    entries: Vec<Entry>,
    by_name: OnceLock<NameIndex>,
}

impl fmt::Debug for SymbolTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SymbolTable({} symbols)", self.entries.len())
    }
}

impl Default for SymbolTable {
    fn default() -> Self {
        SymbolTableBuilder::default().finish_in_order()
    }
}

impl SymbolTable {
    /// How many symbols there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All symbols, by ascending address.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Symbol<'_>> + ExactSizeIterator {
        self.entries.iter().map(|entry| self.symbol(entry))
    }

    /// All symbols with exactly this name, by ascending address: static functions of different files share names.
    pub fn by_name<'t>(&'t self, name: &str) -> impl Iterator<Item = Symbol<'t>> {
        let index = self.by_name.get_or_init(|| self.index_names());
        let wanted = name.to_owned();
        let candidates = index.candidates(hash_name(name.as_bytes())).iter();
        candidates
            .filter_map(|&at| self.entries.get(at as usize))
            .map(|entry| self.symbol(entry))
            .filter(move |symbol| symbol.name == wanted)
    }

    /// The symbols whose names contain `part`.
    pub fn containing<'t>(&'t self, part: &str) -> impl Iterator<Item = Symbol<'t>> {
        let part = part.to_owned();
        self.iter().filter(move |symbol| symbol.name.contains(&part))
    }

    /// The symbol that names this address, and the distance from it. Absolute symbols name nothing, and neither do
    /// symbols below `floor`, the start of the image: x86's per-CPU symbols are small numbers.
    #[must_use]
    pub fn at(&self, address: VirtAddr, floor: VirtAddr) -> Option<(Symbol<'_>, u64)> {
        let end = self.entries.partition_point(|entry| entry.address <= address.0);
        let below = self.entries.get(..end)?;
        let nearest = below
            .iter()
            .rev()
            .take_while(|entry| entry.address >= floor.0)
            .find(|entry| !SymbolKind::new(entry.kind).is_absolute())?;
        let first = below.partition_point(|entry| entry.address < nearest.address);
        let here = below.get(first..)?.iter();
        let entry = here
            .take_while(|entry| entry.address == nearest.address)
            .find(|entry| !SymbolKind::new(entry.kind).is_absolute())?;
        let offset = address.0.wrapping_sub(entry.address);
        let longest = LONGEST_UNSIZED.max(u64::from(nearest.size)).max(u64::from(entry.size));
        (offset < longest).then(|| (self.symbol(entry), offset))
    }

    /// The first symbol at a higher address than this.
    #[must_use]
    pub fn next(&self, address: VirtAddr) -> Option<Symbol<'_>> {
        let at = self.entries.partition_point(|entry| entry.address <= address.0);
        self.entries.get(at).map(|entry| self.symbol(entry))
    }

    /// The last symbol at a lower address than this.
    #[must_use]
    pub fn previous(&self, address: VirtAddr) -> Option<Symbol<'_>> {
        let at = self.entries.partition_point(|entry| entry.address < address.0);
        self.entries.get(at.checked_sub(1)?).map(|entry| self.symbol(entry))
    }

    /// All symbols with addresses in `range`, by ascending address.
    pub fn within(&self, range: Range<VirtAddr>) -> impl Iterator<Item = Symbol<'_>> {
        let start = self.entries.partition_point(|entry| entry.address < range.start.0);
        let rest = self.entries.get(start..).unwrap_or_default().iter();
        rest.take_while(move |entry| entry.address < range.end.0).map(|entry| self.symbol(entry))
    }

    /// The range of the kernel's image as its linker script marks it: `_text` (or `_stext`) to `_end`.
    #[must_use]
    pub fn image(&self) -> Option<Range<VirtAddr>> {
        let address = |name: &str| self.by_name(name).map(|symbol| symbol.address).next();
        let starts = [address("_text"), address("_stext")];
        let start = starts.into_iter().flatten().min()?;
        let end = address("_end").or_else(|| address("__bss_stop")).or_else(|| address("_edata"))?;
        (start < end).then_some(start..end)
    }

    /// The table with every symbol in `range` moved by `slide` bytes (wrapping): a linked image where KASLR put it.
    /// Symbols outside, per-CPU offsets and absolute numbers, stay.
    #[must_use]
    pub fn slid(mut self, range: Range<VirtAddr>, slide: u64) -> Self {
        for entry in &mut self.entries {
            if range.contains(&VirtAddr(entry.address)) || entry.address == range.end.0 {
                entry.address = entry.address.wrapping_add(slide);
            }
        }
        if !self.entries.is_sorted_by_key(|entry| entry.address) {
            self.entries.sort_by_key(|entry| entry.address);
        }
        self.by_name = OnceLock::new();
        self
    }

    /// The table with everything between the linker script's marks of data called data. One executable piece in
    /// it makes the whole section executable (x86 in 7.2), and all of its symbols look like code.
    #[must_use]
    pub fn data_marked(mut self) -> Self {
        let address = |name: &str| self.by_name(name).map(|symbol| symbol.address.0).next();
        let Some((start, end)) = address("_sdata").zip(address("_edata")) else { return self };
        for entry in self.entries.iter_mut().filter(|entry| (start..end).contains(&entry.address)) {
            entry.kind = match entry.kind {
                b'T' => b'D',
                b't' => b'd',
                other => other,
            };
        }
        self
    }

    fn symbol(&self, entry: &Entry) -> Symbol<'_> {
        Symbol {
            name: self.name(entry),
            module: None,
            address: VirtAddr(entry.address),
            size: (entry.size > 0).then_some(u64::from(entry.size)),
            kind: SymbolKind::new(entry.kind),
        }
    }

    fn name(&self, entry: &Entry) -> &str {
        let start = entry.name as usize;
        self.names.get(start..start.saturating_add(usize::from(entry.length))).unwrap_or_default()
    }

    fn index_names(&self) -> NameIndex {
        let numbered = self.entries.iter().zip(0_u32..);
        let pairs: Vec<_> =
            numbered.map(|(entry, at)| (hash_name(self.name(entry).as_bytes()), at)).collect();
        NameIndex::new(&pairs)
    }
}

/// Collects symbols for a [`SymbolTable`].
#[derive(Debug, Default)]
pub struct SymbolTableBuilder {
    names: String,
    entries: Vec<Entry>,
}

impl SymbolTableBuilder {
    /// Makes room for this many symbols with this many bytes of names.
    #[must_use]
    pub fn with_capacity(symbols: usize, name_bytes: usize) -> Self {
        Self { names: String::with_capacity(name_bytes), entries: Vec::with_capacity(symbols) }
    }

    /// Adds a symbol. `size` 0 is unknown. A symbol without a name is left out; names longer than 64 KiB and tables
    /// with more than 4 GiB of names are not real and are left out too.
    pub fn push(&mut self, name: &[u8], address: VirtAddr, size: u64, kind: SymbolKind) {
        let (Ok(start), Ok(_)) = (u32::try_from(self.names.len()), u16::try_from(name.len())) else { return };
        match std::str::from_utf8(name) {
            Ok(text) if name.iter().all(|byte| (0x21..0x7f).contains(byte)) => self.names.push_str(text),
            _ => self.names.push_str(&safe_name(name)),
        }
        let length = self.names.len().saturating_sub(start as usize);
        let Ok(length) = u16::try_from(length) else {
            self.names.truncate(start as usize);
            return;
        };
        if length > 0 {
            let size = u32::try_from(size).unwrap_or(0);
            self.entries.push(Entry { address: address.0, name: start, size, length, kind: kind.0 as u8 });
        }
    }

    /// Starts from names that are there already, all of them printable ASCII.
    pub(crate) fn with_names(names: String, symbols: usize) -> Self {
        Self { names, entries: Vec::with_capacity(symbols) }
    }

    /// Adds the symbol whose kind and name are this part of the names.
    pub(crate) fn push_span(&mut self, start: u32, length: u16, address: VirtAddr) {
        let Some(&kind) = self.names.as_bytes().get(start as usize) else { return };
        if length > 1 {
            let (name, length) = (start.saturating_add(1), length.saturating_sub(1));
            self.entries.push(Entry { address: address.0, name, size: 0, length, kind });
        }
    }

    /// The table, keeping the given order among symbols of one address: for kallsyms, whose order is meaningful.
    #[must_use]
    pub fn finish_in_order(mut self) -> SymbolTable {
        if !self.entries.is_sorted_by_key(|entry| entry.address) {
            self.entries.sort_by_key(|entry| entry.address);
        }
        SymbolTable { names: self.names, entries: self.entries, by_name: OnceLock::new() }
    }

    /// The table, with the most telling symbol of each address first: not weak, not one of the linker script's marks,
    /// with fewer leading underscores. That is the order in which the kernel's build sorts kallsyms
    /// (scripts/kallsyms.c), so that both name an address alike.
    #[must_use]
    pub fn finish(self) -> SymbolTable {
        let mut table = self.finish_in_order();
        let names = std::mem::take(&mut table.names);
        for group in table.entries.chunk_by_mut(|a, b| a.address == b.address) {
            if group.len() > 1 {
                group.sort_by_key(|entry| {
                    let start = entry.name as usize;
                    let name =
                        names.get(start..start.saturating_add(usize::from(entry.length))).unwrap_or_default();
                    let underscores = name.bytes().take_while(|&byte| byte == b'_').count();
                    (SymbolKind::new(entry.kind).is_weak(), is_linker_mark(name), underscores)
                });
            }
        }
        table.names = names;
        table
    }
}

/// Whether a name is one that linker scripts make to mark the start or end of something.
fn is_linker_mark(name: &str) -> bool {
    const PREFIXES: [&str; 3] = ["__start_", "__stop_", "__end_"];
    const SUFFIXES: [&str; 3] = ["_start", "_stop", "_end"];
    name.starts_with('_')
        && (PREFIXES.iter().any(|prefix| name.starts_with(prefix))
            || SUFFIXES.iter().any(|suffix| name.ends_with(suffix)))
}
