//! The nodes of a maple tree as `tree -v` shows them.

use std::fmt;

use kdive_base::VirtAddr;
use kdive_target::walk::{MapleKind, MapleNode, MapleRange, MapleRoot};
use serde::Serialize;

use crate::settings::Radix;
use crate::sink::Render;

/// `struct maple_tree`.
#[derive(Serialize)]
pub(super) struct Head {
    tree: VirtAddr,
    flags: u32,
    height: u32,
    root: VirtAddr,
}

impl Head {
    pub(super) fn new(tree: VirtAddr, root: MapleRoot) -> Self {
        Self { tree, flags: root.flags, height: root.height(), root: VirtAddr(root.root) }
    }
}

impl Render for Head {
    type View = ();
    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let Self { tree, flags, height, root } = self;
        writeln!(out, "maple_tree({tree}) flags {flags:X}, height {height} root {root:#}\n")
    }
}

/// A node.
#[derive(Serialize)]
pub(super) struct Node {
    node: VirtAddr,
    first: u64,
    last: u64,
    depth: usize,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip)]
    number: u64,
    parent: VirtAddr,
    pivots: Vec<u64>,
    slots: Vec<VirtAddr>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    gaps: Vec<u64>,
    /// `meta.end` and `meta.gap`.
    #[serde(skip_serializing_if = "Option::is_none")]
    meta: Option<(u8, u8)>,
}

impl From<MapleNode> for Node {
    fn from(node: MapleNode) -> Self {
        let kind = match node.kind {
            MapleKind::Dense => "dense",
            MapleKind::Leaf => "leaf_64",
            MapleKind::Range => "range_64",
            MapleKind::ARange => "arange_64",
        };
        Self {
            node: node.at,
            first: node.first,
            last: node.last,
            depth: node.path.slots().len(),
            kind,
            number: node.entry >> 3 & 0xf,
            parent: VirtAddr(node.parent),
            pivots: node.pivots,
            slots: node.slots.into_iter().map(VirtAddr).collect(),
            gaps: node.gaps,
            meta: node.meta,
        }
    }
}

impl Render for Node {
    type View = Radix;
    fn render(&self, radix: &Radix, out: &mut dyn fmt::Write) -> fmt::Result {
        let Self { node, depth, number, parent, .. } = self;
        Span { first: self.first, last: self.last, depth: *depth }.write(*radix, out)?;
        write!(out, "node {node:#} depth {depth} type {number} parent {parent:#} contents: ")?;
        if let (Some((end, gap)), false) = (self.meta, self.gaps.is_empty()) {
            self.gaps.iter().try_for_each(|gap| write!(out, "{} ", Index(*gap, *radix)))?;
            write!(out, "| {end:02X} {gap:02X}| ")?;
        }
        let mut slots = self.slots.iter().map(|slot| Slot(*slot));
        // The last slot has no pivot.
        for (pivot, slot) in self.pivots.iter().zip(slots.by_ref()) {
            write!(out, "{slot} {} ", Index(*pivot, *radix))?;
        }
        slots.try_for_each(|slot| write!(out, "{slot}"))?;
        writeln!(out)
    }
}

/// An index in the radix asked for, without `0x`.
struct Index(u64, Radix);

impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            Radix::Decimal => write!(f, "{}", self.0),
            Radix::Hexadecimal => write!(f, "{:x}", self.0),
        }
    }
}

/// What a slot holds, as C's `%p` writes it.
struct Slot(VirtAddr);

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_null() { f.write_str("(nil)") } else { write!(f, "{:#}", self.0) }
    }
}

/// A range of a leaf.
#[derive(Serialize)]
pub(super) struct Range {
    first: u64,
    last: u64,
    entry: VirtAddr,
    #[serde(skip)]
    depth: usize,
}

impl From<MapleRange> for Range {
    fn from(range: MapleRange) -> Self {
        let MapleRange { first, last, entry, path } = range;
        Self { first, last, entry: VirtAddr(entry), depth: path.slots().len() }
    }
}

impl Render for Range {
    type View = Radix;
    fn render(&self, radix: &Radix, out: &mut dyn fmt::Write) -> fmt::Result {
        Span { first: self.first, last: self.last, depth: self.depth }.write(*radix, out)?;
        writeln!(out, "{:#}", self.entry)
    }
}

/// `  0-4095: `, two blanks a level.
struct Span {
    first: u64,
    last: u64,
    depth: usize,
}

impl Span {
    fn write(&self, radix: Radix, out: &mut dyn fmt::Write) -> fmt::Result {
        let Self { first, last, depth } = self;
        write!(out, "{:width$}{}", "", Index(*first, radix), width = depth.saturating_mul(2))?;
        if first != last {
            write!(out, "-{}", Index(*last, radix))?;
        }
        out.write_str(": ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_crashs_lines() {
        let node = Node {
            node: VirtAddr(0xff27_0289_185e_2d00),
            first: 0,
            last: u64::MAX,
            depth: 1,
            kind: "arange_64",
            number: 3,
            parent: VirtAddr(0xff27_0289_185e_2806),
            pivots: vec![14, 0],
            slots: vec![VirtAddr(0xff27_0289_185e_280c), VirtAddr(0), VirtAddr(0)],
            gaps: vec![0, 31],
            meta: Some((1, 11)),
        };
        let mut text = String::new();
        node.render(&Radix::Decimal, &mut text).unwrap();
        Range { first: 10, last: 31, entry: VirtAddr(0), depth: 2 }
            .render(&Radix::Hexadecimal, &mut text)
            .unwrap();
        let line = "  0-18446744073709551615: node 0xff270289185e2d00 depth 1 type 3 parent 0xff270289185e2806 \
                    contents: 0 31 | 01 0B| 0xff270289185e280c 14 (nil) 0 (nil)\n    a-1f: 0x0\n";
        assert_eq!(text, line);
    }
}
