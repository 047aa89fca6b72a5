//! Walkers over the kernel's linked structures. Each stops on a cycle, on missing memory, and at a bound.

use kdive_base::{Missing, VirtAddr, VirtualMemory};
use rustc_hash::FxHashSet;

use crate::lacks::Lacks;

mod xarray;

pub use xarray::{XArray, XArrayLayout, xarray};

/// More elements than any list of a kernel has: a longer one is damaged, or the dump is hostile.
const MAX_ELEMENTS: usize = 64 << 20;

/// Why a walk ended early.
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
}

impl From<Broken> for Lacks {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Missing(missing) => Self::Missing(missing),
            other => Self::implausible(other),
        }
    }
}

/// Follows pointers from link to link.
///
/// Yields addresses of links, not of the structures around them. After an error it ends: what lies behind a broken
/// link cannot be known.
pub struct Chain<'a> {
    memory: &'a dyn VirtualMemory,
    /// The next link, or why there is none; `None` at the end.
    next: Option<Result<VirtAddr, Missing>>,
    /// Ends the walk without an error: the head of a circular list, or null.
    end: VirtAddr,
    /// Offset of the next pointer in a link, in bytes.
    next_offset: u64,
    seen: FxHashSet<u64>,
}

/// The links of a circular `struct list_head` after `head`, without `head` itself (`include/linux/list.h`).
#[must_use]
pub fn list(memory: &dyn VirtualMemory, head: VirtAddr) -> Chain<'_> {
    chain(memory, memory.pointer(head), head, 0)
}

/// [`list`] from its last link to its first.
#[must_use]
pub fn list_backwards(memory: &dyn VirtualMemory, head: VirtAddr) -> Chain<'_> {
    const PREV: u64 = 8;
    chain(memory, memory.pointer(head.add(PREV)), head, PREV)
}

/// The links of a list that ends with null, such as `hlist` and `llist` (`include/linux/list.h`,
/// `include/linux/llist.h`): `first` is the first link, `next_offset` the offset of the next pointer in each.
#[must_use]
pub fn null_terminated(memory: &dyn VirtualMemory, first: VirtAddr, next_offset: u64) -> Chain<'_> {
    chain(memory, Ok(first), VirtAddr(0), next_offset)
}

fn chain(
    memory: &dyn VirtualMemory,
    next: Result<VirtAddr, Missing>,
    end: VirtAddr,
    next_offset: u64,
) -> Chain<'_> {
    Chain { memory, next: Some(next), end, next_offset, seen: FxHashSet::default() }
}

impl Iterator for Chain<'_> {
    type Item = Result<VirtAddr, Broken>;

    fn next(&mut self) -> Option<Self::Item> {
        let link = match self.next.take()? {
            Ok(link) if link == self.end => return None,
            Ok(link) => link,
            Err(missing) => return Some(Err(missing.into())),
        };
        if !self.seen.insert(link.0) {
            return Some(Err(Broken::Cycle(link)));
        }
        if self.seen.len() > MAX_ELEMENTS {
            return Some(Err(Broken::TooLong));
        }
        self.next = Some(self.memory.pointer(link.add(self.next_offset)));
        Some(Ok(link))
    }
}

#[cfg(test)]
mod tests {
    use kdive_base::Why;

    use super::*;

    /// Words at multiples of eight.
    struct Words(Vec<u64>);

    impl VirtualMemory for Words {
        fn read(&self, at: VirtAddr, into: &mut [u8]) -> (usize, Option<Missing>) {
            match self.0.get(at.0 as usize / 8) {
                Some(word) if into.len() == 8 => {
                    into.copy_from_slice(&word.to_le_bytes());
                    (8, None)
                }
                _ => (0, Some(Missing::new(at, Why::NotMapped { level: 1 }))),
            }
        }
    }

    fn walked(chain: Chain<'_>) -> Vec<Result<u64, &'static str>> {
        chain
            .map(|link| match link {
                Ok(link) => Ok(link.0),
                Err(Broken::Missing(_)) => Err("missing"),
                Err(Broken::Cycle(_)) => Err("cycle"),
                Err(Broken::TooLong) => Err("too long"),
            })
            .collect()
    }

    #[test]
    fn lists_end_at_their_head_at_null_at_a_cycle_and_at_a_hole() {
        let memory = Words(vec![0, 16, 24, 8, 8]);
        assert_eq!(walked(list(&memory, VirtAddr(8))), [Ok(16), Ok(24)]);
        assert_eq!(walked(list(&memory, VirtAddr(32))), [Ok(8), Ok(16), Ok(24), Err("cycle")]);
        assert_eq!(walked(list(&memory, VirtAddr(800))), [Err("missing")]);
        let memory = Words(vec![0, 16, 24, 0, 4000]);
        assert_eq!(walked(null_terminated(&memory, VirtAddr(8), 0)), [Ok(8), Ok(16), Ok(24)]);
        assert_eq!(walked(null_terminated(&memory, VirtAddr(32), 0)), [Ok(32), Ok(4000), Err("missing")]);
        assert_eq!(walked(null_terminated(&memory, VirtAddr(0), 0)), []);
    }
}
