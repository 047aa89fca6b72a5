//! From bytes and a type to a tree.

use std::cell::{Cell, RefCell};

use kdive_base::{Endian, Missing, VirtAddr};
use kdive_debuginfo::types::{Encoding, Enum, Record};
use kdive_debuginfo::{Type, TypeId};

use super::node::{Array, Integer, Member, Node, Pointer, Text};
use super::source::{Gone, Source};
use super::{Format, Printer, Shown, float};

/// Nodes of one value: no real structure comes near, a damaged table can describe any number.
const MOST_NODES: u32 = 1 << 18;

/// Gaps of one value that are kept.
const MOST_MISSING: usize = 64;

/// What one value may still cost, and what it lacks.
struct Walk {
    nodes: Cell<u32>,
    missing: RefCell<Vec<Missing>>,
}

impl Walk {
    fn new() -> Self {
        Self { nodes: Cell::new(MOST_NODES), missing: RefCell::default() }
    }

    /// Whether there may be another node.
    fn step(&self) -> bool {
        self.nodes.replace(self.nodes.get().saturating_sub(1)) > 0
    }

    fn gone(&self, gone: Gone) -> Node {
        let mut known = self.missing.borrow_mut();
        if let Some(missing) = gone.filter(|_| known.len() < MOST_MISSING) {
            known.push(missing);
        }
        Node::Unavailable(gone)
    }
}

/// A value's place in the walk.
#[derive(Clone, Copy)]
struct At<'s> {
    source: &'s Source<'s>,
    offset: u64,
    depth: usize,
    walk: &'s Walk,
}

impl At<'_> {
    fn deeper(self, offset: u64) -> Self {
        Self { offset: self.offset.saturating_add(offset), depth: self.depth.saturating_add(1), ..self }
    }

    fn bytes(&self, count: u64) -> Result<Vec<u8>, Gone> {
        let mut bytes = vec![0; usize::try_from(count.min(16)).unwrap_or(16)];
        self.source.read(self.offset, &mut bytes).map(|()| bytes)
    }

    /// An integer of up to 16 bytes.
    fn unsigned(&self, count: u64) -> Result<u128, Gone> {
        let bytes = self.bytes(count)?;
        let join = |whole: u128, byte: &u8| (whole << 8) | u128::from(*byte);
        Ok(match self.source.endian() {
            Endian::Little => bytes.iter().rev().fold(0, join),
            Endian::Big => bytes.iter().fold(0, join),
        })
    }
}

impl Printer<'_> {
    pub(super) fn build(&self, of: TypeId, source: &Source<'_>) -> Shown {
        let walk = Walk::new();
        let at = At { source, offset: 0, depth: 0, walk: &walk };
        self.shown(of, &walk, self.node(of, at))
    }

    pub(super) fn build_bits(&self, of: TypeId, source: &Source<'_>, offset: u64, width: u32) -> Shown {
        let walk = Walk::new();
        let at = At { source, offset: 0, depth: 0, walk: &walk };
        self.shown(of, &walk, self.bit_field(of, offset, width, at))
    }

    fn shown(&self, of: TypeId, walk: &Walk, node: Node) -> Shown {
        let names_itself = self.style.format.is_none()
            && match &node {
                // An array without a length is its address too.
                Node::Pointer(pointer) => {
                    let is_pointer = matches!(self.types.stripped(of).as_deref(), Some(Type::Pointer { .. }));
                    is_pointer && pointer.text.is_none() && !self.leads_to_text(of)
                }
                Node::Function(_) => true,
                _ => false,
            };
        let of = names_itself.then(|| self.types.name_of(of));
        Shown { node, missing: walk.missing.take(), of }
    }

    fn node(&self, of: TypeId, at: At<'_>) -> Node {
        if !at.walk.step() {
            return Node::Elided;
        }
        match self.types.stripped(of).as_deref() {
            Some(Type::Int { bytes, encoding, .. }) => match at.unsigned(*bytes) {
                Ok(raw) => self.integer(of, raw, *bytes, *encoding),
                Err(gone) => at.walk.gone(gone),
            },
            Some(Type::Float { bytes, .. }) => match at.unsigned(*bytes) {
                Ok(raw) => self.float(raw, *bytes),
                Err(gone) => at.walk.gone(gone),
            },
            Some(Type::Pointer { to, bytes }) => match at.unsigned(*bytes) {
                Ok(raw) => {
                    let pointer = || Node::Pointer(self.pointer(*to, VirtAddr(raw as u64)));
                    self.as_number(raw, *bytes).unwrap_or_else(pointer)
                }
                Err(gone) => at.walk.gone(gone),
            },
            Some(Type::Enum(kind)) => match at.unsigned(kind.bytes) {
                Ok(raw) => self.enumerated(kind, raw, bits_of(kind.bytes)),
                Err(gone) => at.walk.gone(gone),
            },
            Some(Type::Record(record)) => self.record(record, at),
            Some(Type::Array { of: element, count }) => self.array(*element, *count, at),
            Some(Type::Function(_)) => match at.source.address(at.offset) {
                Some(address) => Node::Function(self.place(address)),
                None => Node::Incomplete,
            },
            Some(Type::Void) => Node::Void,
            _ => Node::Incomplete,
        }
    }

    fn integer(&self, of: TypeId, raw: u128, bytes: u64, encoding: Encoding) -> Node {
        let character = self.is_character(of);
        self.formatted(Integer { raw, bits: bits_of(bytes), encoding, character })
    }

    /// A number as the format wants it, or as it is.
    fn formatted(&self, integer: Integer) -> Node {
        match self.style.format {
            Some(Format::Address) => Node::Pointer(self.place(VirtAddr(integer.raw as u64))),
            _ => Node::Integer(integer),
        }
    }

    fn float(&self, raw: u128, bytes: u64) -> Node {
        match self.as_number(raw, bytes).filter(|_| self.style.format != Some(Format::Float)) {
            Some(number) => number,
            None => Node::Float(float::text(raw, bytes).unwrap_or_else(|| format!("{raw:#x}"))),
        }
    }

    /// What is no integer, but has a format that shows it as one.
    fn as_number(&self, raw: u128, bytes: u64) -> Option<Node> {
        let encoding = Encoding::Unsigned;
        match self.style.format {
            None | Some(Format::Text | Format::Address) => None,
            Some(_) => Some(Node::Integer(Integer { raw, bits: bits_of(bytes), encoding, character: false })),
        }
    }

    /// Whether a type is an integer of one byte, which C programs use for characters: all of them, as gdb has it.
    fn is_character(&self, of: TypeId) -> bool {
        matches!(
            self.types.stripped(of).as_deref(),
            Some(Type::Int { bytes: 1, encoding: Encoding::Signed | Encoding::Unsigned, .. })
        )
    }

    fn enumerated(&self, kind: &Enum, raw: u128, bits: u32) -> Node {
        let encoding = if kind.signed { Encoding::Signed } else { Encoding::Unsigned };
        match self.style.format {
            None | Some(Format::Text) => enumerator(kind, raw, bits),
            Some(_) => self.formatted(Integer { raw, bits, encoding, character: false }),
        }
    }

    fn leads_to_text(&self, pointer: TypeId) -> bool {
        self.types.target_of(pointer).is_some_and(|to| self.is_character(to))
    }

    fn place(&self, address: VirtAddr) -> Pointer {
        let symbol = (self.symbol)(address).map(|place| place.text);
        Pointer { address, symbol, text: None }
    }

    fn pointer(&self, to: TypeId, address: VirtAddr) -> Pointer {
        if address.0 == 0 {
            return Pointer { address, symbol: None, text: None };
        }
        if !self.is_character(to) {
            return self.place(address);
        }
        let symbol = (self.symbol)(address).filter(|place| !place.vague).map(|place| place.text);
        Pointer { address, symbol, text: Some(self.text_at(address)) }
    }

    /// The text that a pointer leads to, up to its NUL.
    fn text_at(&self, address: VirtAddr) -> Result<Text, Missing> {
        let mut bytes = vec![0; self.style.elements.min(MOST_TEXT)];
        let (count, stopped) = self.memory.read(address, &mut bytes);
        let whole = count == bytes.len();
        bytes.truncate(count);
        let end = bytes.iter().position(|&byte| byte == 0);
        match (end, stopped) {
            (Some(end), _) => bytes.truncate(end),
            (None, Some(missing)) if count == 0 => return Err(missing),
            (None, _) => {}
        }
        Ok(Text { bytes, more: end.is_none() && whole })
    }

    fn record(&self, record: &Record, at: At<'_>) -> Node {
        if at.depth >= self.style.depth {
            return Node::Elided;
        }
        if let Some(missing) = at.source.all_missing(at.offset, record.bytes) {
            return at.walk.gone(Some(missing));
        }
        let mut members = Vec::with_capacity(record.members.len().min(1 << 12));
        for member in &record.members {
            if members.len() >= MOST_MEMBERS {
                members.push(Member { name: None, node: Node::Elided });
                break;
            }
            let node = match member.bit_size {
                Some(width) => self.bit_field(member.of, member.bit_offset, width, at),
                None => self.node(member.of, at.deeper(member.bit_offset / 8)),
            };
            members.push(Member { name: member.name.clone(), node });
        }
        Node::Record(members)
    }

    fn bit_field(&self, of: TypeId, offset: u64, width: u32, at: At<'_>) -> Node {
        if !at.walk.step() {
            return Node::Elided;
        }
        let shift = (offset % 8) as u32;
        let bytes = shift.saturating_add(width).div_ceil(8);
        let raw = match at.deeper(offset / 8).unsigned(bytes.into()) {
            // Bits are counted from the other end on big-endian machines, of which none is read yet.
            Ok(_) if bytes > 16 || at.source.endian() == Endian::Big => return Node::Unavailable(None),
            Ok(raw) => (raw >> shift) & mask(width),
            Err(gone) => return at.walk.gone(gone),
        };
        match self.types.stripped(of).as_deref() {
            Some(Type::Enum(kind)) => self.enumerated(kind, raw, width),
            Some(Type::Int { encoding, .. }) => Node::Integer(Integer {
                raw,
                bits: width,
                encoding: *encoding,
                character: self.is_character(of),
            }),
            _ => Node::Integer(Integer { raw, bits: width, encoding: Encoding::Unsigned, character: false }),
        }
    }

    fn array(&self, of: TypeId, count: Option<u64>, at: At<'_>) -> Node {
        let Some(count) = count else { return self.flexible(of, at) };
        let size = self.types.size_of(of).unwrap_or(0);
        if size == 0 {
            return self.flexible(of, at);
        }
        if let Some(missing) = at.source.all_missing(at.offset, count.saturating_mul(size)) {
            return at.walk.gone(Some(missing));
        }
        if self.is_character(of)
            && matches!(self.style.format, None | Some(Format::Text))
            && let Some(text) = self.characters(count, at)
        {
            return Node::Text(text);
        }
        if at.depth >= self.style.depth {
            return Node::Elided;
        }
        let shown = count.min(self.style.elements as u64);
        let mut items = Vec::with_capacity(usize::try_from(shown).unwrap_or(0).min(1 << 12));
        for index in 0..shown {
            let node = self.node(of, at.deeper(index.saturating_mul(size)));
            let stop = node == Node::Elided;
            items.push(node);
            if stop {
                break;
            }
        }
        let more = count.saturating_sub(items.len() as u64);
        Node::Array(Array { items, more })
    }

    /// An array without a length is its address; one of characters is the text there.
    fn flexible(&self, of: TypeId, at: At<'_>) -> Node {
        match at.source.address(at.offset) {
            Some(address) => {
                let text = self.is_character(of).then(|| self.text_at(address));
                Node::Pointer(Pointer { text, ..self.place(address) })
            }
            None => Node::Array(Array { items: Vec::new(), more: 0 }),
        }
    }

    /// A character array. `None` where a part of it cannot be read: then each element says for itself.
    fn characters(&self, count: u64, at: At<'_>) -> Option<Text> {
        let most = (self.style.elements as u64).min(MOST_TEXT as u64);
        let mut bytes = vec![0; usize::try_from(count.min(most)).ok()?];
        at.source.read(at.offset, &mut bytes).ok()?;
        if self.style.null_stop
            && let Some(end) = bytes.iter().position(|&byte| byte == 0)
        {
            bytes.truncate(end);
            return Some(Text { bytes, more: false });
        }
        let more = count > most;
        // The last NUL of a text that is shown whole goes without saying.
        if !more && bytes.last() == Some(&0) {
            bytes.pop();
        }
        Some(Text { bytes, more })
    }
}

/// Members of one record: the largest of the kernel's have a few hundred.
const MOST_MEMBERS: usize = 1 << 16;

/// Characters of one text.
const MOST_TEXT: usize = 1 << 20;

fn bits_of(bytes: u64) -> u32 {
    u32::try_from(bytes.saturating_mul(8)).unwrap_or(128).min(128)
}

fn mask(width: u32) -> u128 {
    1_u128.checked_shl(width).map_or(u128::MAX, |bit| bit.wrapping_sub(1))
}

/// The enumerator of a value; of an enum of flags, all that are set.
fn enumerator(of: &Enum, raw: u128, bits: u32) -> Node {
    let encoding = if of.signed { Encoding::Signed } else { Encoding::Unsigned };
    let value = Integer { raw, bits, encoding, character: false }.value();
    let name = of.name_of(value).map(|name| kdive_base::printable(name.as_bytes()));
    Node::Enum { name: name.or_else(|| flags(of, value)), value }
}

/// `(A | B)`, `(A | unknown: 0x8)`: for enums whose values are all different bits.
fn flags(of: &Enum, value: i128) -> Option<String> {
    let mut seen = 0_i128;
    for (_, flag) in &of.values {
        let own_bits = *flag >= 0 && seen & flag == 0;
        let one_run = flag.checked_shr(flag.trailing_zeros()).unwrap_or(0);
        if !own_bits || one_run & one_run.wrapping_add(1) != 0 {
            return None;
        }
        seen |= flag;
    }
    if value <= 0 || seen == 0 {
        return None;
    }
    let set = |flag: i128| flag != 0 && value & flag == flag;
    let mut parts: Vec<String> = of
        .values
        .iter()
        .filter(|(_, flag)| set(*flag))
        .map(|(name, _)| kdive_base::printable(name.as_bytes()))
        .collect();
    let known = of.values.iter().filter(|(_, flag)| set(*flag)).fold(0, |all, (_, flag)| all | flag);
    let unknown = value & !known;
    if unknown != 0 {
        parts.push(format!("unknown: {unknown:#x}"));
    }
    Some(format!("({})", parts.join(" | ")))
}
