//! The XArray, and the radix tree that it replaced (`include/linux/xarray.h`, `include/linux/radix-tree.h`).

use kdive_base::{VirtAddr, VirtualMemory};
use rustc_hash::FxHashSet;

use super::Broken;
use crate::kernel::Kernel;
use crate::lacks::{Field, Lacks};

/// How a tree marks pointers to its own nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Marks {
    /// Low bits 2, above the small internal entries (4.20).
    XArray,
    /// Low bit 1 (4.6 to 4.19).
    RadixTree,
}

/// The layout of a tree's nodes in one kernel.
#[derive(Clone, Copy, Debug)]
pub struct XArrayLayout {
    marks: Marks,
    shift: u64,
    slots: u64,
    count: u64,
}

/// Slots of a node: `1 << XA_CHUNK_SHIFT` is 64, or 16 on small kernels.
const MAX_SLOTS: u64 = 64;
/// Nodes of a tree with as many entries as memory has pages.
const MAX_NODES: usize = 16 << 20;

impl XArrayLayout {
    /// The layout of this kernel's trees.
    pub fn find(kernel: &Kernel) -> Field<Self> {
        let (record, marks) = match kernel.record("xa_node") {
            Ok(_) => ("xa_node", Marks::XArray),
            Err(_) => ("radix_tree_node", Marks::RadixTree),
        };
        let slots = kernel.member(record, &["slots"])?;
        let count = slots.bytes / 8;
        if count == 0 || count > MAX_SLOTS {
            return Err(Lacks::implausible(format_args!("{record} has {count} slots")));
        }
        Ok(Self { marks, shift: kernel.offset_of(record, "shift")?, slots: slots.offset, count })
    }

    fn node(self, entry: u64) -> Option<VirtAddr> {
        /// Sibling, retry and zero entries are small numbers shifted by two.
        const SMALL: u64 = 4096;
        match self.marks {
            Marks::XArray if entry & 3 == 2 && entry > SMALL => Some(VirtAddr(entry & !3)),
            Marks::RadixTree if entry & 3 == 1 => Some(VirtAddr(entry & !3)),
            _ => None,
        }
    }

    /// Whether an entry holds neither a value nor a pointer of the user's.
    fn is_internal(self, entry: u64) -> bool {
        entry == 0 || self.marks == Marks::XArray && entry & 3 == 2
    }
}

/// The entries of a tree by ascending index: the index and the entry, which is a pointer, or a value marked by low bits.
///
/// `head` is the tree's root entry (`xarray.xa_head`, `radix_tree_root.rnode`). A node that is missing costs its entries.
pub fn xarray(memory: &dyn VirtualMemory, layout: XArrayLayout, head: u64) -> XArray<'_> {
    XArray { memory, layout, todo: vec![(0, head, u32::from(u8::MAX))], seen: FxHashSet::default() }
}

/// See [`xarray`].
pub struct XArray<'a> {
    memory: &'a dyn VirtualMemory,
    layout: XArrayLayout,
    /// Index, entry, and the shift of the node above: shifts fall on the way down.
    todo: Vec<(u64, u64, u32)>,
    seen: FxHashSet<u64>,
}

impl Iterator for XArray<'_> {
    type Item = Result<(u64, u64), Broken>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (index, entry, above) = self.todo.pop()?;
            match self.layout.node(entry) {
                Some(node) => {
                    if let Err(broken) = self.open(node, index, above) {
                        return Some(Err(broken));
                    }
                }
                None if self.layout.is_internal(entry) => {}
                None => return Some(Ok((index, entry))),
            }
        }
    }
}

impl XArray<'_> {
    fn open(&mut self, node: VirtAddr, index: u64, above: u32) -> Result<(), Broken> {
        if !self.seen.insert(node.0) {
            return Err(Broken::Cycle(node));
        }
        if self.seen.len() > MAX_NODES {
            self.todo.clear();
            return Err(Broken::TooLong);
        }
        let shift = u32::from(self.memory.u8(node.add(self.layout.shift))?);
        if shift >= above || shift >= u64::BITS {
            return Err(Broken::Cycle(node));
        }
        let mut slots = vec![0; self.layout.count as usize * 8];
        self.memory.read_exact(node.add(self.layout.slots), &mut slots)?;
        let words = slots.chunks_exact(8).enumerate().rev();
        for (slot, word) in words {
            let entry = word.try_into().map(u64::from_le_bytes).unwrap_or(0);
            if entry != 0 {
                self.todo.push((index.wrapping_add((slot as u64).wrapping_shl(shift)), entry, shift));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use kdive_base::{Missing, Why};

    use super::*;

    /// Nodes of 640 bytes at multiples of 0x1000: the shift, then 64 slots from byte 40.
    struct Nodes(Vec<(u8, Vec<(usize, u64)>)>);

    const LAYOUT: XArrayLayout = XArrayLayout { marks: Marks::XArray, shift: 0, slots: 40, count: 64 };

    impl VirtualMemory for Nodes {
        fn read(&self, at: VirtAddr, into: &mut [u8]) -> (usize, Option<Missing>) {
            let Some((shift, slots)) =
                (at.0 as usize / 0x1000).checked_sub(2).and_then(|index| self.0.get(index))
            else {
                return (0, Some(Missing::new(at, Why::Excluded)));
            };
            let mut node = vec![0; 640];
            node[0] = *shift;
            for (slot, entry) in slots {
                node[40 + slot * 8..][..8].copy_from_slice(&entry.to_le_bytes());
            }
            into.copy_from_slice(&node[at.0 as usize % 0x1000..][..into.len()]);
            (into.len(), None)
        }
    }

    fn walked(nodes: Vec<(u8, Vec<(usize, u64)>)>, head: u64) -> Vec<Result<(u64, u64), &'static str>> {
        let nodes = Nodes(nodes);
        let word = |broken| match broken {
            Broken::Missing(_) => "missing",
            Broken::Cycle(_) => "cycle",
            Broken::TooLong => "too long",
        };
        xarray(&nodes, LAYOUT, head).map(|item| item.map_err(word)).collect()
    }

    #[test]
    fn entries_come_by_index_and_holes_cost_their_own() {
        let nodes = vec![
            (6, vec![(0, 0x3002), (1, 0x9002), (2, 0x4002)]),
            (0, vec![(1, 0xa000), (5, 0xb000), (6, 0x6)]),
            (0, vec![(3, 0xc000)]),
        ];
        let found = walked(nodes, 0x2002);
        assert_eq!(found, [Ok((1, 0xa000)), Ok((5, 0xb000)), Err("missing"), Ok((131, 0xc000))]);
        assert_eq!(walked(vec![], 0xa000), [Ok((0, 0xa000))]);
        assert_eq!(walked(vec![], 0), []);
    }

    #[test]
    fn loops_end() {
        let nodes = vec![(6, vec![(0, 0x2002), (1, 0x3002)]), (6, vec![(0, 0xa000)])];
        assert_eq!(walked(nodes, 0x2002), [Err("cycle"), Err("cycle")]);
    }
}
