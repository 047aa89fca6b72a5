//! The XArray, and the radix tree that it replaced (`include/linux/xarray.h`, `include/linux/radix-tree.h`).

use kdive_base::{VirtAddr, VirtualMemory};

use super::visited::Visited;
use super::{Broken, MAX_ELEMENTS};
use crate::kernel::Kernel;
use crate::lacks::{Field, Lacks};
use crate::load::Member;

/// How a tree marks pointers to its own nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Marks {
    /// Low bits 2, above the small internal entries (4.20).
    XArray,
    /// Low bit 1 (4.7 to 4.19).
    RadixTree,
    /// Low bit 1 at the root; below it, everything above the lowest level is a node (to 4.6).
    Root,
}

/// How a node tells its level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    /// Bits of the index that its slots leave over.
    Shift,
    /// Levels from the lowest, which is 1; in the low bits of `path` from 3.15 to 4.6.
    Height,
}

/// The layout of a tree's nodes in one kernel.
#[derive(Clone, Copy, Debug)]
pub struct XArrayLayout {
    marks: Marks,
    level: Level,
    /// Where a node tells its level, and how wide that is.
    level_at: (u64, u64),
    /// Offset of the first slot in a node.
    slots: u64,
    /// log2 of the number of slots: `XA_CHUNK_SHIFT`.
    slot_bits: u32,
    /// Offset of the root entry in the tree.
    head: u64,
}

/// Slots of a node are `1 << XA_CHUNK_SHIFT`: 64, or 16 on small kernels.
const MAX_SLOTS: u64 = 64;
/// `RADIX_TREE_HEIGHT_MASK`: more than any height, so `height` may be masked too.
const HEIGHT_MASK: u32 = 0xfff;
/// Entries with low bits 2 up to here are internal ones that are no nodes: siblings, retry, zero (`xa_is_node`).
const SMALL: u64 = 4096;

impl XArrayLayout {
    /// An xarray as 64-bit kernels have it today: for tests.
    pub const USUAL: Self = Self {
        marks: Marks::XArray,
        level: Level::Shift,
        level_at: (0, 1),
        slots: 40,
        slot_bits: 6,
        head: 8,
    };

    /// The layout of this kernel's trees.
    pub fn find(kernel: &Kernel) -> Field<Self> {
        let is_xarray = kernel.record("xa_node").is_ok();
        let record = if is_xarray { "xa_node" } else { "radix_tree_node" };
        let slots = kernel.member(record, &["slots"])?;
        let count = slots.bytes / 8;
        if !count.is_power_of_two() || count > MAX_SLOTS {
            return Err(Lacks::implausible(format_args!("{record} has {count} slots")));
        }
        let (level, marks) = match kernel.member(record, &["shift"]) {
            Ok(_) if is_xarray => (Level::Shift, Marks::XArray),
            Ok(_) => (Level::Shift, Marks::RadixTree),
            Err(_) => (Level::Height, Marks::Root),
        };
        let Member { offset, bytes, .. } = kernel.member(record, &["shift", "height", "path"])?;
        let head = kernel
            .offset_of("xarray", "xa_head")
            .or_else(|_| kernel.offset_of("radix_tree_root", "rnode"))?;
        Ok(Self {
            marks,
            level,
            level_at: (offset, bytes),
            slots: slots.offset,
            slot_bits: count.ilog2(),
            head,
        })
    }

    /// The root entry of the tree at `tree`, a `struct xarray` or `struct radix_tree_root`.
    pub fn head(&self, memory: &dyn VirtualMemory, tree: VirtAddr) -> Result<u64, Broken> {
        Ok(memory.u64(tree.add(self.head))?)
    }

    /// The entry that leads to a node. An address that is marked already stays as it is.
    #[must_use]
    pub fn entry_of(&self, node: VirtAddr) -> u64 {
        match self.marks {
            Marks::XArray => node.0 & !3 | 2,
            Marks::RadixTree | Marks::Root => node.0 & !3 | 1,
        }
    }

    /// The node that an entry leads to. `above` is the level of the node that holds it; `None` at the root.
    fn node(&self, entry: u64, above: Option<u32>) -> Option<VirtAddr> {
        let is_node = match (self.marks, above) {
            (Marks::XArray, _) => entry & 3 == 2 && entry > SMALL,
            (Marks::RadixTree, _) | (Marks::Root, None) => entry & 3 == 1,
            (Marks::Root, Some(shift)) => shift > 0 && entry != 0 && entry & 2 == 0,
        };
        is_node.then_some(VirtAddr(entry & !3))
    }

    /// Whether an entry holds neither a value nor a pointer of the user's.
    fn is_internal(&self, entry: u64) -> bool {
        entry == 0 || self.marks == Marks::XArray && entry & 3 == 2
    }

    /// The shift of the node at `at`.
    fn shift(&self, memory: &dyn VirtualMemory, at: VirtAddr) -> Result<u32, Broken> {
        let (offset, bytes) = self.level_at;
        let at = at.add(offset);
        let raw = if bytes == 1 { u32::from(memory.u8(at)?) } else { memory.u32(at)? };
        Ok(match self.level {
            Level::Shift => raw,
            Level::Height => (raw & HEIGHT_MASK).saturating_sub(1).saturating_mul(self.slot_bits),
        })
    }
}

/// What a tree holds at an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XEntry {
    /// The index; the first, where an entry stands for several.
    pub index: u64,
    /// A pointer, or a value marked by low bits (`xa_is_value`: bit 0; exceptional entries of radix trees: bit 1).
    pub entry: u64,
    place: Option<Place>,
}

/// The node that holds an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    /// Its shift.
    shift: u32,
    /// The shift of the topmost node.
    top: u32,
    slot_bits: u32,
}

impl XEntry {
    /// The slots on the way from the topmost node to the entry; none, where the root itself is the entry.
    pub fn slots(&self) -> impl Iterator<Item = u64> {
        let Self { index, place, .. } = *self;
        place.into_iter().flat_map(move |Place { shift, top, slot_bits }| {
            let levels = top.saturating_sub(shift).checked_div(slot_bits).unwrap_or(0);
            (0..=levels).rev().map(move |level| {
                let shift = shift.saturating_add(level.saturating_mul(slot_bits));
                index.checked_shr(shift).unwrap_or(0) & (1_u64 << slot_bits).wrapping_sub(1)
            })
        })
    }
}

/// The entries of a tree by ascending index.
///
/// `head` is the tree's root entry (`xarray.xa_head`, `radix_tree_root.rnode`). A missing node costs its entries.
#[must_use]
pub fn xarray(memory: &dyn VirtualMemory, layout: XArrayLayout, head: u64) -> XArray<'_> {
    XArray {
        memory,
        layout,
        top: 0,
        todo: vec![Todo { index: 0, entry: head, above: None }],
        seen: Visited::default(),
    }
}

/// See [`xarray`].
pub struct XArray<'a> {
    memory: &'a dyn VirtualMemory,
    layout: XArrayLayout,
    /// The topmost node's shift, once it was read.
    top: u32,
    todo: Vec<Todo>,
    seen: Visited,
}

/// An entry to look at.
struct Todo {
    index: u64,
    entry: u64,
    /// The shift of the node that holds it: shifts fall on the way down.
    above: Option<u32>,
}

impl Iterator for XArray<'_> {
    type Item = Result<XEntry, Broken>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Todo { index, entry, above } = self.todo.pop()?;
            match self.layout.node(entry, above) {
                Some(node) => {
                    if let Err(broken) = self.open(node, index, above) {
                        return Some(Err(broken));
                    }
                }
                None if self.layout.is_internal(entry) => {}
                None => {
                    let slot_bits = self.layout.slot_bits;
                    let place = above.map(|shift| Place { shift, top: self.top, slot_bits });
                    return Some(Ok(XEntry { index, entry, place }));
                }
            }
        }
    }
}

impl XArray<'_> {
    fn open(&mut self, node: VirtAddr, index: u64, above: Option<u32>) -> Result<(), Broken> {
        if !self.seen.insert(node.0) {
            return Err(Broken::Cycle(node));
        }
        if self.seen.len() > MAX_ELEMENTS {
            self.todo.clear();
            return Err(Broken::TooLong);
        }
        let shift = self.layout.shift(self.memory, node)?;
        if shift >= above.unwrap_or(u64::BITS) {
            return Err(Broken::Node(node, "its level is not below that of the node above"));
        }
        if above.is_none() {
            self.top = shift;
        }
        let mut slots = [0; MAX_SLOTS as usize * 8];
        let bytes = 8_usize.checked_shl(self.layout.slot_bits).unwrap_or(0);
        let Some(slots) = slots.get_mut(..bytes) else {
            return Err(Broken::Node(node, "it has too many slots"));
        };
        self.memory.read_exact(node.add(self.layout.slots), slots)?;
        let endian = self.memory.endian();
        for slot in (0..bytes / 8).rev() {
            let entry = endian.u64(slots, slot.saturating_mul(8)).unwrap_or(0);
            if entry != 0 {
                let index = index.wrapping_add((slot as u64).wrapping_shl(shift));
                self.todo.push(Todo { index, entry, above: Some(shift) });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use kdive_base::{Missing, Why};
    use proptest::prelude::*;

    use super::super::tests::{Said, said};
    use super::*;

    /// Nodes of 640 bytes at multiples of 0x1000 from 0x2000 on: the level, then 64 slots from byte 40.
    struct Nodes(Vec<(u8, Vec<(usize, u64)>)>);

    const LAYOUT: XArrayLayout = XArrayLayout::USUAL;

    impl VirtualMemory for Nodes {
        fn read(&self, at: VirtAddr, into: &mut [u8]) -> (usize, Option<Missing>) {
            let Some((level, slots)) =
                (at.0 as usize / 0x1000).checked_sub(2).and_then(|index| self.0.get(index))
            else {
                return (0, Some(Missing::new(at, Why::Excluded)));
            };
            let mut node = vec![0; 0x2000];
            node[0] = *level;
            for (slot, entry) in slots {
                node[40 + slot * 8..][..8].copy_from_slice(&entry.to_le_bytes());
            }
            into.copy_from_slice(&node[at.0 as usize % 0x1000..][..into.len()]);
            (into.len(), None)
        }
    }

    fn walked_as(layout: XArrayLayout, nodes: Nodes, head: u64) -> Vec<Result<(u64, u64), Said>> {
        let entries = xarray(&nodes, layout, head);
        entries.map(|item| item.map(|found| (found.index, found.entry)).map_err(said)).collect()
    }

    fn walked(nodes: Vec<(u8, Vec<(usize, u64)>)>, head: u64) -> Vec<Result<(u64, u64), Said>> {
        walked_as(LAYOUT, Nodes(nodes), head)
    }

    #[test]
    fn entries_come_by_index_and_holes_cost_their_own() {
        let nodes = vec![
            (6, vec![(0, 0x3002), (1, 0x9002), (2, 0x4002)]),
            (0, vec![(1, 0xa000), (5, 0xb000), (6, 0x6)]),
            (0, vec![(3, 0xc000)]),
        ];
        let found = walked(nodes, 0x2002);
        assert_eq!(found, [Ok((1, 0xa000)), Ok((5, 0xb000)), Err(Said::Missing), Ok((131, 0xc000))]);
        assert_eq!(walked(vec![], 0xa000), [Ok((0, 0xa000))]);
        assert_eq!(walked(vec![], 0), []);
    }

    #[test]
    fn the_way_to_an_entry_is_told() {
        let nodes = Nodes(vec![
            (12, vec![(1, 0x3002), (2, 0xd000)]),
            (6, vec![(63, 0x4002)]),
            (0, vec![(3, 0xc000)]),
        ]);
        let found: Vec<XEntry> = xarray(&nodes, LAYOUT, 0x2002).flatten().collect();
        let ways: Vec<Vec<u64>> = found.iter().map(|entry| entry.slots().collect()).collect();
        assert_eq!(ways, [vec![1, 63, 3], vec![2]]);
        assert_eq!(found[0].index, 4096 + 63 * 64 + 3);
        let alone = xarray(&nodes, LAYOUT, 0xa000).next().unwrap().unwrap();
        assert_eq!(alone.slots().count(), 0);
    }

    #[test]
    fn old_radix_trees_mark_their_nodes_otherwise() {
        let marked = XArrayLayout { marks: Marks::RadixTree, ..LAYOUT };
        let nodes = || vec![(6, vec![(0, 0x3001), (1, 0xe002)]), (0, vec![(1, 0xa000)])];
        assert_eq!(walked_as(marked, Nodes(nodes()), 0x2001), [Ok((1, 0xa000)), Ok((64, 0xe002))]);
        // Heights instead of shifts; nodes below the root are plain pointers.
        let heights = XArrayLayout { marks: Marks::Root, level: Level::Height, ..LAYOUT };
        let nodes = vec![(2, vec![(0, 0x3000), (1, 0xe002)]), (1, vec![(1, 0xa000)])];
        assert_eq!(walked_as(heights, Nodes(nodes), 0x2001), [Ok((1, 0xa000)), Ok((64, 0xe002))]);
        assert_eq!(walked_as(heights, Nodes(vec![]), 0xa000), [Ok((0, 0xa000))]);
        assert_eq!((heights.entry_of(VirtAddr(0x2000)), LAYOUT.entry_of(VirtAddr(0x2002))), (0x2001, 0x2002));
    }

    #[test]
    fn loops_end() {
        let nodes = vec![(6, vec![(0, 0x2002), (1, 0x3002)]), (6, vec![(0, 0xa000)])];
        assert_eq!(walked(nodes, 0x2002), [Err(Said::Cycle), Err(Said::Node)]);
    }

    proptest! {
        /// Two levels, the lower ones where they are needed.
        #[test]
        fn a_tree_comes_in_order_and_whole(indices in prop::collection::btree_set(0..512_usize, 0..100)) {
            let entry = |index: usize| 0x8_0000 + 8 * index as u64;
            let leaf = |number: usize| {
                let own = indices.iter().filter(|index| **index / 64 == number);
                (0, own.map(|index| (index % 64, entry(*index))).collect())
            };
            let mut nodes = vec![(6, (0..8).map(|slot| (slot, 0x3002 + 0x1000 * slot as u64)).collect())];
            nodes.extend((0..8).map(leaf));
            let expected: Vec<_> = indices.iter().map(|index| Ok((*index as u64, entry(*index)))).collect();
            prop_assert_eq!(walked(nodes, 0x2002), expected);
        }

        #[test]
        fn every_walk_ends(
            nodes in prop::collection::vec(
                (0..70_u8, prop::collection::vec((0..64_usize, 0..0x9000_u64), 0..8)), 1..6),
            head in 0..0x9000_u64,
        ) {
            let bound = nodes.len() * 64 + 1;
            prop_assert!(walked(nodes, head).len() <= bound);
        }
    }
}
