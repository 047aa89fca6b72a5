//! The maple tree (`include/linux/maple_tree.h`, 6.1): ranges of indices and what they hold.

use std::fmt;

use kdive_base::{Endian, VirtAddr, VirtualMemory};

use super::visited::Visited;
use super::{Broken, MAX_ELEMENTS};
use crate::kernel::Kernel;
use crate::lacks::{Field, Lacks};

/// `MAPLE_NODE_MASK`: nodes are aligned, and pointers to them keep their type in the low bits.
const NODE_MASK: u64 = 255;
const NODE_BYTES: usize = 256;
/// `MAPLE_NODE_TYPE_SHIFT` and `MAPLE_NODE_TYPE_MASK`.
const TYPE_SHIFT: u32 = 3;
const TYPE_MASK: u64 = 0xf;
/// `MAPLE_HEIGHT_MAX`.
const MAX_DEPTH: usize = 31;
/// Internal entries (`xa_is_internal`) up to here are no nodes.
const SMALL: u64 = 4096;

/// What a node is: `enum maple_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapleKind {
    /// One slot for each index.
    Dense,
    /// Ranges of indices and their entries.
    Leaf,
    /// Ranges of indices and the nodes below.
    Range,
    /// The same with the largest gap below each.
    ARange,
}

/// An array of words in a node.
#[derive(Clone, Copy, Debug, Default)]
struct WordsAt {
    offset: u64,
    count: usize,
}

/// The layout of a kind of node.
#[derive(Clone, Copy, Debug, Default)]
struct Body {
    pivots: WordsAt,
    slots: WordsAt,
    gaps: WordsAt,
    /// Offsets of `meta.end` and `meta.gap`: the last slot in use, and the one with the largest gap.
    end: Option<u64>,
    gap: Option<u64>,
}

/// The layout of maple trees in one kernel.
#[derive(Clone, Copy, Debug)]
pub struct MapleLayout {
    /// `enum maple_type` by [`MapleKind`].
    numbers: [u64; 4],
    dense: Body,
    range: Body,
    arange: Body,
    root: u64,
    flags: u64,
}

/// What `struct maple_tree` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapleRoot {
    /// `ma_root`: the topmost node with its type, or the one entry at index 0, or null.
    pub root: u64,
    /// `ma_flags`.
    pub flags: u32,
}

impl MapleRoot {
    /// Levels of nodes (`MT_FLAGS_HEIGHT_MASK`).
    #[must_use]
    pub fn height(&self) -> u32 {
        self.flags >> 2 & 0x1f
    }
}

impl MapleLayout {
    /// As 64-bit kernels have it today: for tests.
    pub const USUAL: Self = Self {
        numbers: [0, 1, 2, 3],
        dense: Body {
            slots: WordsAt { offset: 8, count: 31 },
            pivots: WordsAt { offset: 0, count: 0 },
            gaps: WordsAt { offset: 0, count: 0 },
            end: None,
            gap: None,
        },
        range: Body {
            pivots: WordsAt { offset: 8, count: 15 },
            slots: WordsAt { offset: 128, count: 16 },
            gaps: WordsAt { offset: 0, count: 0 },
            end: Some(248),
            gap: Some(249),
        },
        arange: Body {
            pivots: WordsAt { offset: 8, count: 9 },
            slots: WordsAt { offset: 80, count: 10 },
            gaps: WordsAt { offset: 160, count: 10 },
            end: Some(240),
            gap: Some(241),
        },
        root: 8,
        flags: 4,
    };

    /// The layout in this kernel; kernels before 6.1 have no maple trees.
    pub fn find(kernel: &Kernel) -> Field<Self> {
        let number = |name| kernel.enumerator(name).map(|value| value as u64);
        Ok(Self {
            numbers: [
                number("maple_dense")?,
                number("maple_leaf_64")?,
                number("maple_range_64")?,
                number("maple_arange_64")?,
            ],
            dense: Body::find(kernel, "maple_node")?,
            range: Body::find(kernel, "maple_range_64")?,
            arange: Body::find(kernel, "maple_arange_64")?,
            root: kernel.offset_of("maple_tree", "ma_root")?,
            flags: kernel.offset_of("maple_tree", "ma_flags")?,
        })
    }

    /// The tree at `tree`, a `struct maple_tree`.
    pub fn tree(&self, memory: &dyn VirtualMemory, tree: VirtAddr) -> Result<MapleRoot, Broken> {
        Ok(MapleRoot { root: memory.u64(tree.add(self.root))?, flags: memory.u32(tree.add(self.flags))? })
    }

    /// The kind that a pointer to a node tells.
    fn kind(&self, entry: u64) -> Option<MapleKind> {
        const KINDS: [MapleKind; 4] =
            [MapleKind::Dense, MapleKind::Leaf, MapleKind::Range, MapleKind::ARange];
        let number = entry >> TYPE_SHIFT & TYPE_MASK;
        KINDS.into_iter().zip(self.numbers).find(|(_, own)| *own == number).map(|(kind, _)| kind)
    }

    fn body(&self, kind: MapleKind) -> &Body {
        match kind {
            MapleKind::Dense => &self.dense,
            MapleKind::Leaf | MapleKind::Range => &self.range,
            MapleKind::ARange => &self.arange,
        }
    }
}

impl Body {
    fn find(kernel: &Kernel, record: &str) -> Field<Self> {
        let words = |member: &str| -> Field<WordsAt> {
            let found = kernel.member(record, &[member])?;
            let (count, end) = (found.bytes / 8, found.offset.saturating_add(found.bytes));
            if end > NODE_BYTES as u64 {
                return Err(Lacks::implausible(format_args!("{record}.{member} lies outside of a node")));
            }
            Ok(WordsAt { offset: found.offset, count: count as usize })
        };
        Ok(Self {
            slots: words("slot")?,
            // A dense node has neither.
            pivots: words("pivot").unwrap_or_default(),
            gaps: words("gap").unwrap_or_default(),
            end: kernel.offset_of(record, "meta.end").ok(),
            gap: kernel.offset_of(record, "meta.gap").ok(),
        })
    }
}

/// The slots on the way from the topmost node down.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Path {
    depth: u8,
    slots: [u8; MAX_DEPTH],
}

impl Path {
    /// The slots from the topmost node on; of a node, those that lead to it.
    #[must_use]
    pub fn slots(&self) -> &[u8] {
        self.slots.get(..usize::from(self.depth)).unwrap_or_default()
    }

    fn below(mut self, slot: usize) -> Option<Self> {
        *self.slots.get_mut(usize::from(self.depth))? = u8::try_from(slot).ok()?;
        self.depth = self.depth.saturating_add(1);
        Some(self)
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.slots().fmt(f)
    }
}

/// A node, as far as its type says what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapleNode {
    /// Its address.
    pub at: VirtAddr,
    /// The pointer that leads to it, its type included.
    pub entry: u64,
    /// Its type.
    pub kind: MapleKind,
    /// First index that it is about.
    pub first: u64,
    /// Last index that it is about.
    pub last: u64,
    /// Where it hangs.
    pub path: Path,
    /// `parent`, with its type and slot.
    pub parent: u64,
    /// All pivots, used or not: the last index of each slot but the last.
    pub pivots: Vec<u64>,
    /// All slots, used or not.
    pub slots: Vec<u64>,
    /// The largest gap below each slot; empty but in [`MapleKind::ARange`].
    pub gaps: Vec<u64>,
    /// `meta.end`, `meta.gap`.
    pub meta: Option<(u8, u8)>,
}

impl MapleNode {
    /// Whether its slots hold entries, not nodes.
    #[must_use]
    pub fn is_leaf(&self) -> bool {
        matches!(self.kind, MapleKind::Dense | MapleKind::Leaf)
    }

    /// The last slot in use (`ma_data_end` in `lib/maple_tree.c`).
    fn end(&self) -> usize {
        let meta = self.meta.map(|(end, _)| usize::from(end));
        let last_slot = self.slots.len().saturating_sub(1);
        let end = match (self.kind, self.pivots.last()) {
            (MapleKind::ARange, _) => meta.unwrap_or(last_slot),
            (_, Some(0)) => meta.unwrap_or(last_slot),
            (_, Some(last)) if *last == self.last => self.pivots.len().saturating_sub(1),
            _ => last_slot,
        };
        end.min(last_slot)
    }

    /// The ranges of its slots and what these hold, the unused ones left out.
    fn ranges(&self) -> Result<Vec<(u64, u64, u64)>, Broken> {
        let mut ranges = Vec::new();
        let mut first = self.first;
        for (index, slot) in self.slots.iter().enumerate().take(self.end().saturating_add(1)) {
            let last = match (self.kind, self.pivots.get(index)) {
                (MapleKind::Dense, _) => first,
                // The last pivot may be left out (`mas_logical_pivot`).
                (_, Some(0)) if index > 0 => self.last,
                (_, Some(pivot)) => *pivot,
                (_, None) => self.last,
            };
            if last < first || last > self.last {
                return Err(Broken::Node(self.at, "its pivots are not in order"));
            }
            ranges.push((first, last, *slot));
            match last.checked_add(1) {
                Some(next) if last < self.last => first = next,
                _ => break,
            }
        }
        Ok(ranges)
    }
}

/// A range of indices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapleRange {
    /// Its first index.
    pub first: u64,
    /// Its last index.
    pub last: u64,
    /// What it holds; 0 for nothing.
    pub entry: u64,
    /// The slots that lead to it; none, where the root itself is the entry.
    pub path: Path,
}

/// A step of a walk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MapleEvent {
    /// A node; what it holds follows.
    Node(Box<MapleNode>),
    /// A range of a leaf, empty ones included.
    Range(MapleRange),
}

/// What a tree holds, by index. A node that is missing or damaged costs its ranges.
pub fn maple(
    memory: &dyn VirtualMemory,
    layout: MapleLayout,
    root: u64,
) -> impl Iterator<Item = Result<MapleRange, Broken>> {
    maple_events(memory, layout, root).filter_map(|event| match event {
        // Internal entries mark what is about to change (`XA_ZERO_ENTRY`).
        Ok(MapleEvent::Range(range)) => {
            (range.entry != 0 && !(range.entry & 3 == 2 && range.entry <= SMALL)).then_some(Ok(range))
        }
        Ok(MapleEvent::Node(_)) => None,
        Err(broken) => Some(Err(broken)),
    })
}

/// The nodes of a tree from the top down, the ranges of each leaf behind it. `root` is `maple_tree.ma_root`.
#[must_use]
pub fn maple_events(memory: &dyn VirtualMemory, layout: MapleLayout, root: u64) -> Maple<'_> {
    let all = |last| MapleRange { first: 0, last, entry: root, path: Path::default() };
    let is_node = root & 3 == 2 && root > SMALL;
    let top = if is_node { Todo::Node(all(u64::MAX)) } else { Todo::Range(all(0)) };
    Maple { memory, layout, todo: vec![top], seen: Visited::default() }
}

/// See [`maple_events`].
pub struct Maple<'a> {
    memory: &'a dyn VirtualMemory,
    layout: MapleLayout,
    todo: Vec<Todo>,
    seen: Visited,
}

enum Todo {
    Node(MapleRange),
    Range(MapleRange),
}

impl Iterator for Maple<'_> {
    type Item = Result<MapleEvent, Broken>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(match self.todo.pop()? {
            Todo::Range(range) => Ok(MapleEvent::Range(range)),
            Todo::Node(of) => self.open(of).map(|node| MapleEvent::Node(Box::new(node))),
        })
    }
}

impl Maple<'_> {
    fn open(&mut self, of: MapleRange) -> Result<MapleNode, Broken> {
        let node = self.read(of)?;
        let is_leaf = node.is_leaf();
        for (slot, (first, last, entry)) in node.ranges()?.into_iter().enumerate().rev() {
            let path = node
                .path
                .below(slot)
                .ok_or(Broken::Node(node.at, "it lies deeper than a maple tree can be"))?;
            let range = MapleRange { first, last, entry, path };
            match (is_leaf, entry) {
                (true, _) => self.todo.push(Todo::Range(range)),
                (false, 0) => {}
                (false, _) => self.todo.push(Todo::Node(range)),
            }
        }
        Ok(node)
    }

    fn read(&mut self, of: MapleRange) -> Result<MapleNode, Broken> {
        let at = VirtAddr(of.entry & !NODE_MASK);
        let kind = self.layout.kind(of.entry).ok_or(Broken::Node(at, "its type is none that is known"))?;
        if !self.seen.insert(at.0) {
            return Err(Broken::Cycle(at));
        }
        if self.seen.len() > MAX_ELEMENTS {
            self.todo.clear();
            return Err(Broken::TooLong);
        }
        let body = self.layout.body(kind);
        let mut bytes = [0; NODE_BYTES];
        self.memory.read_exact(at, &mut bytes)?;
        let endian = self.memory.endian();
        let byte = |at: Option<u64>| at.and_then(|at| bytes.get(at as usize).copied());
        let MapleRange { first, last, entry, path } = of;
        Ok(MapleNode {
            at,
            entry,
            kind,
            first,
            last,
            path,
            parent: endian.u64(&bytes, 0).unwrap_or_default(),
            pivots: words(endian, &bytes, body.pivots),
            slots: words(endian, &bytes, body.slots),
            gaps: words(endian, &bytes, body.gaps),
            meta: byte(body.end).zip(byte(body.gap)),
        })
    }
}

fn words(endian: Endian, node: &[u8], at: WordsAt) -> Vec<u64> {
    let word = |index: usize| endian.u64(node, (at.offset as usize).saturating_add(index.saturating_mul(8)));
    (0..at.count).map_while(word).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{Said, Words, said};
    use super::*;

    const LAYOUT: MapleLayout = MapleLayout::USUAL;

    /// Nodes of 32 words from 0x2000 on (smaller numbers are no nodes); below, zeros.
    fn memory(nodes: &[[u64; 32]]) -> Words {
        let mut words = vec![0; 0x400];
        nodes.iter().for_each(|node| words.extend(node));
        Words(words)
    }

    fn at(index: usize) -> u64 {
        0x2000 + 256 * index as u64
    }

    /// A pointer to a node of a type.
    fn to(index: usize, kind: u64) -> u64 {
        at(index) | kind << 3 | 4
    }

    /// A leaf or range node: pivots and slots by turns, and `meta.end`.
    fn range(slots: &[(u64, u64)]) -> [u64; 32] {
        let mut node = [0; 32];
        for (index, (pivot, slot)) in slots.iter().enumerate() {
            if index < 15 {
                node[1 + index] = *pivot;
            }
            node[16 + index] = *slot;
        }
        if slots.len() < 16 {
            node[31] = slots.len() as u64 - 1;
        }
        node
    }

    fn walked(nodes: &[[u64; 32]], root: u64) -> Vec<Result<(u64, u64, u64), Said>> {
        let memory = memory(nodes);
        maple(&memory, LAYOUT, root)
            .map(|range| range.map(|range| (range.first, range.last, range.entry)).map_err(said))
            .collect()
    }

    #[test]
    fn a_tree_of_two_levels() {
        let mut top = [0; 32];
        // arange: pivots from word 1, slots from word 10, meta in word 30.
        (top[1], top[10], top[11], top[30]) = (0xfff, to(1, 1), to(2, 1), 1);
        let low = range(&[(0xf, 0), (0x1f, 0xa000), (0xfff, 0xb000)]);
        let high = range(&[(0x1fff, 0xc000), (u64::MAX, 0)]);
        let nodes = [top, low, high];
        let found = walked(&nodes, to(0, 3) | 2);
        assert_eq!(
            found,
            [Ok((0x10, 0x1f, 0xa000)), Ok((0x20, 0xfff, 0xb000)), Ok((0x1000, 0x1fff, 0xc000))]
        );
        let memory = memory(&nodes);
        let events: Vec<_> = maple_events(&memory, LAYOUT, to(0, 3) | 2).flatten().collect();
        assert_eq!(events.len(), 3 + 5, "three nodes, and all ranges of the leaves");
        let MapleEvent::Range(last) = &events[7] else { panic!("no range") };
        assert_eq!((last.path.slots(), last.last), (&[1, 1][..], u64::MAX));
    }

    #[test]
    fn full_dense_and_single() {
        let slots: Vec<(u64, u64)> = (0..16).map(|index| (index * 2 + 1, 0x8000 + index * 8)).collect();
        let found = walked(&[range(&slots)], to(0, 1) | 2);
        assert_eq!(found.len(), 16, "the sixteenth slot has no pivot: {found:?}");
        assert_eq!(found[15], Ok((30, u64::MAX, 0x8078)));
        let mut dense = [0; 32];
        (dense[1], dense[4]) = (0x8000, 0x9000);
        assert_eq!(walked(&[dense], to(0, 0) | 2), [Ok((0, 0, 0x8000)), Ok((3, 3, 0x9000))]);
        assert_eq!(walked(&[], 0xa000), [Ok((0, 0, 0xa000))]);
        assert_eq!(walked(&[], 0), []);
    }

    #[test]
    fn stale_slots_behind_the_end_are_not_read() {
        let mut leaf = range(&[(0xf, 0xa000), (u64::MAX, 0xb000)]);
        leaf[20] = 0xdead;
        assert_eq!(walked(&[leaf], to(0, 1) | 2).len(), 2);
    }

    #[test]
    fn damage_costs_its_own() {
        let top =
            range(&[(9, to(0, 2)), (19, to(1, 1)), (29, to(900, 1)), (39, to(2, 9)), (u64::MAX, to(2, 1))]);
        let backwards = range(&[(15, 0xa000), (12, 0xb000)]);
        let last = range(&[(49, 0xc000), (u64::MAX, 0)]);
        let found = walked(&[top, backwards, last], to(0, 2) | 2);
        assert_eq!(
            found,
            [Err(Said::Cycle), Err(Said::Node), Err(Said::Missing), Err(Said::Node), Ok((40, 49, 0xc000)),]
        );
    }

    proptest! {
        #[test]
        fn every_walk_ends(
            nodes in prop::collection::vec(
                prop::array::uniform32(prop_oneof![0..64_u64, any::<u64>(), (0..6_usize, 0..5_u64).prop_map(|(n, k)| to(n, k))]),
                1..6),
            kind in 0..5_u64,
        ) {
            let found = walked(&nodes, to(0, kind) | 2);
            prop_assert!(found.len() <= nodes.len() * 31 * 2 + 2);
            let whole: Vec<_> = found.into_iter().flatten().collect();
            prop_assert!(whole.windows(2).all(|pair| pair[0].1 < pair[1].0), "{whole:?}");
        }
    }
}
