//! Red-black trees (`include/linux/rbtree.h`).

use std::fmt;

use kdive_base::{VirtAddr, VirtualMemory};

use super::visited::Visited;
use super::{Broken, MAX_ELEMENTS};
use crate::kernel::Kernel;
use crate::lacks::Field;

/// The layout of `struct rb_node`.
#[derive(Clone, Copy, Debug)]
pub struct RbLayout {
    left: u64,
    right: u64,
}

impl RbLayout {
    /// As 64-bit kernels have it: for tests.
    pub const USUAL: Self = Self { left: 16, right: 8 };

    /// The layout in this kernel.
    pub fn find(kernel: &Kernel) -> Field<Self> {
        Ok(Self {
            left: kernel.offset_of("rb_node", "rb_left")?,
            right: kernel.offset_of("rb_node", "rb_right")?,
        })
    }
}

/// The order in which a tree is walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// By key: what is left of a node, the node, what is right of it.
    Sorted,
    /// From the root down: a node, what is left of it, what is right of it.
    TopDown,
}

/// The way from a tree's root to a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Branches {
    depth: u8,
    /// One bit for each turn, the last in the lowest: set where it is to the right.
    turns: u128,
}

impl Branches {
    /// A red-black tree of 2^63 nodes is 126 deep: a deeper one is none.
    const MAX_DEPTH: u8 = 128;

    /// How many nodes lie above.
    #[must_use]
    pub fn depth(self) -> u8 {
        self.depth
    }

    /// The turns from the root on; true is to the right.
    pub fn turns(self) -> impl Iterator<Item = bool> {
        (0..self.depth).rev().map(move |turn| self.turns >> turn & 1 == 1)
    }

    fn below(self, right: bool) -> Option<Self> {
        let depth = self.depth.saturating_add(1);
        (depth <= Self::MAX_DEPTH).then(|| Self { depth, turns: self.turns << 1 | u128::from(right) })
    }
}

impl fmt::Display for Branches {
    /// `root/l/r`: the right child of the root's left child.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("root")?;
        self.turns().try_for_each(|right| f.write_str(if right { "/r" } else { "/l" }))
    }
}

/// A node of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RbNode {
    /// Its `struct rb_node`, not the structure around it.
    pub at: VirtAddr,
    /// Where it hangs.
    pub branches: Branches,
}

/// The nodes of the tree below `root`, the topmost node (`rb_root.rb_node`); none if that is null.
#[must_use]
pub fn rbtree(memory: &dyn VirtualMemory, layout: RbLayout, root: VirtAddr, order: Order) -> RbTree<'_> {
    let root = RbNode { at: root, branches: Branches::default() };
    RbTree { memory, layout, order, todo: vec![Todo::Open(root)], seen: Visited::default() }
}

/// See [`rbtree`].
pub struct RbTree<'a> {
    memory: &'a dyn VirtualMemory,
    layout: RbLayout,
    order: Order,
    todo: Vec<Todo>,
    seen: Visited,
}

enum Todo {
    /// Read it.
    Open(RbNode),
    /// Its left side is done.
    Yield(RbNode),
}

impl Iterator for RbTree<'_> {
    type Item = Result<RbNode, Broken>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.todo.pop()? {
                Todo::Yield(node) => return Some(Ok(node)),
                Todo::Open(node) if node.at.is_null() => {}
                Todo::Open(node) => match (self.open(node), self.order) {
                    (Ok(()), Order::TopDown) => return Some(Ok(node)),
                    (Ok(()), Order::Sorted) => {}
                    (Err(broken), _) => return Some(Err(broken)),
                },
            }
        }
    }
}

impl RbTree<'_> {
    fn open(&mut self, node: RbNode) -> Result<(), Broken> {
        if !self.seen.insert(node.at.0) {
            return Err(Broken::Cycle(node.at));
        }
        if self.seen.len() > MAX_ELEMENTS {
            self.todo.clear();
            return Err(Broken::TooLong);
        }
        let deeper = |right| {
            node.branches
                .below(right)
                .ok_or(Broken::Node(node.at, "it lies deeper than a red-black tree can be"))
        };
        let (to_left, to_right) = (deeper(false)?, deeper(true)?);
        let left = self.memory.pointer(node.at.add(self.layout.left))?;
        let right = self.memory.pointer(node.at.add(self.layout.right))?;
        self.todo.push(Todo::Open(RbNode { at: right, branches: to_right }));
        if self.order == Order::Sorted {
            self.todo.push(Todo::Yield(node));
        }
        self.todo.push(Todo::Open(RbNode { at: left, branches: to_left }));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{Said, Words, said};
    use super::*;

    /// Three words a node: the parent, right, left.
    const LAYOUT: RbLayout = RbLayout::USUAL;

    fn at(index: usize) -> u64 {
        24 * (index as u64 + 1)
    }

    /// A search tree of the keys in the order of their insertion: links as in memory, and the keys by address.
    fn grown(keys: &[u32]) -> Words {
        let mut words = vec![0; 3 * (keys.len() + 1)];
        for (index, key) in keys.iter().enumerate().skip(1) {
            let mut above = 0;
            loop {
                let side = 3 * (above + 1) + if *key < keys[above] { 2 } else { 1 };
                match words[side] {
                    0 => break words[side] = at(index),
                    below => above = below as usize / 24 - 1,
                }
            }
        }
        Words(words)
    }

    fn walked(memory: &Words, root: u64, order: Order) -> Vec<Result<u64, Said>> {
        rbtree(memory, LAYOUT, VirtAddr(root), order)
            .map(|node| node.map(|node| node.at.0).map_err(said))
            .collect()
    }

    #[test]
    fn positions_are_told() {
        let memory = grown(&[4, 2, 6, 3, 5]);
        let nodes: Vec<_> = rbtree(&memory, LAYOUT, VirtAddr(at(0)), Order::TopDown).flatten().collect();
        let told: Vec<_> = nodes.iter().map(|node| node.branches.to_string()).collect();
        assert_eq!(told, ["root", "root/l", "root/l/r", "root/r", "root/r/l"]);
        assert_eq!(walked(&memory, 0, Order::Sorted), []);
    }

    #[test]
    fn a_broken_branch_costs_its_own() {
        // The root's left child points back to the root; its right child is not there.
        let mut words = vec![0; 9];
        (words[4], words[5], words[8]) = (0x9000, at(1), at(0));
        let memory = Words(words);
        assert_eq!(
            walked(&memory, at(0), Order::Sorted),
            [Err(Said::Cycle), Ok(at(1)), Ok(at(0)), Err(Said::Missing)]
        );
        assert_eq!(walked(&memory, 0x9000, Order::TopDown), [Err(Said::Missing)]);
    }

    #[test]
    fn a_list_is_no_tree() {
        let count = 300;
        let mut words = vec![0; 3 * (count + 1)];
        (0..count - 1).for_each(|index| words[3 * (index + 1) + 1] = at(index + 1));
        let found = walked(&Words(words), at(0), Order::TopDown);
        assert_eq!(found.len(), usize::from(Branches::MAX_DEPTH) + 1);
        assert_eq!(found.last(), Some(&Err(Said::Node)));
    }

    proptest! {
        #[test]
        fn a_tree_comes_sorted_and_whole(keys in prop::collection::vec(any::<u32>(), 1..200)) {
            // Insertion in random order keeps it shallow enough.
            let memory = grown(&keys);
            let sorted = walked(&memory, at(0), Order::Sorted);
            let key = |found: &Result<u64, Said>| keys[found.unwrap() as usize / 24 - 1];
            prop_assert_eq!(sorted.len(), keys.len());
            prop_assert!(sorted.windows(2).all(|pair| key(&pair[0]) <= key(&pair[1])));
            let mut top_down = walked(&memory, at(0), Order::TopDown);
            prop_assert_eq!(&top_down[0], &Ok(at(0)));
            top_down.sort();
            top_down.dedup();
            prop_assert_eq!(top_down.len(), keys.len());
        }

        #[test]
        fn every_walk_ends(words in prop::collection::vec(0..40_u64, 1..120), root in 0..40_u64) {
            let count = words.len();
            let memory = Words(words.into_iter().map(|word| word * 24).collect());
            for order in [Order::Sorted, Order::TopDown] {
                prop_assert!(walked(&memory, root * 24, order).len() <= 3 * count + 1);
            }
        }
    }
}
