//! Walkers over the kernel's linked structures: iterators that end on cycles, on missing memory, and at a bound.
//!
//! A chain ends where it breaks, for what lies behind a broken link cannot be known. A tree goes on: a node that is
//! missing or damaged costs what lies below it, is told as [`Broken`], and its siblings follow.

use kdive_base::{Missing, VirtAddr};

use crate::lacks::Lacks;

mod chain;
mod maple;
mod rbtree;
mod visited;
mod xarray;

pub use chain::{Chain, Lap, chain, hash_table, list, list_backwards, null_terminated, nulls_table};
pub use maple::{
    Maple, MapleEvent, MapleKind, MapleLayout, MapleNode, MapleRange, MapleRoot, Path, maple, maple_events,
};
pub use rbtree::{Branches, Order, RbLayout, RbNode, RbTree, rbtree};
pub use xarray::{XArray, XArrayLayout, XEntry, xarray};

/// Why a walk ended early, or what of a tree is left out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// A link is not in the dump.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// A link was met twice.
    #[error("the list loops: {0:#} is reached twice")]
    Cycle(VirtAddr),
    /// Longer than any real list.
    #[error("the list does not end")]
    TooLong,
    /// A node contradicts itself or those above it.
    #[error("the node at {0:#} is damaged: {1}")]
    Node(VirtAddr, &'static str),
}

impl From<Broken> for Lacks {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Missing(missing) => Self::Missing(missing),
            other => Self::implausible(other),
        }
    }
}

/// More elements than any list or tree of a kernel has: a longer one is damaged, or the dump is hostile.
const MAX_ELEMENTS: usize = 64 << 20;

#[cfg(test)]
mod tests;
