//! Lists: pointers followed from link to link (`include/linux/list.h`, `include/linux/llist.h`).

use kdive_base::{Missing, VirtAddr, VirtualMemory};

use super::visited::Visited;
use super::{Broken, MAX_ELEMENTS};

/// Follows pointers from link to link.
///
/// Yields addresses of links, not of the structures around them. After an error it ends: what lies behind a broken
/// link cannot be known.
pub struct Chain<'a> {
    memory: &'a dyn VirtualMemory,
    /// The next link, or why there is none; `None` at the end.
    next: Option<Result<VirtAddr, Missing>>,
    /// Where the walk ends without an error (the head of a circular list, null), and how many links come before that.
    ends: Vec<(VirtAddr, usize)>,
    /// Whether a link that points to itself is the last.
    ends_at_itself: bool,
    /// Whether an odd address is the end.
    ends_at_odd: bool,
    /// Offset of the next pointer in a link, in bytes.
    next_offset: u64,
    met: Met,
    /// Links yielded so far.
    walked: usize,
}

/// How a loop is noticed.
enum Met {
    /// By remembering every link: at the first that comes twice.
    All(Visited),
    /// R. P. Brent's algorithm, which remembers one link at a time: within three times the list's length.
    One { link: VirtAddr, steps: usize, limit: usize },
}

/// The links of a circular `struct list_head` after `head`, without `head` itself (`include/linux/list.h`).
#[must_use]
pub fn list(memory: &dyn VirtualMemory, head: VirtAddr) -> Chain<'_> {
    from(memory, memory.pointer(head), 0).ending_at(head)
}

/// [`list`] from its last link to its first.
#[must_use]
pub fn list_backwards(memory: &dyn VirtualMemory, head: VirtAddr) -> Chain<'_> {
    const PREV: u64 = 8;
    from(memory, memory.pointer(head.add(PREV)), PREV).ending_at(head)
}

/// The links of a list that ends with null, such as `hlist` and `llist` (`include/linux/list.h`,
/// `include/linux/llist.h`): `first` is the first link, `next_offset` the offset of the next pointer in each.
#[must_use]
pub fn null_terminated(memory: &dyn VirtualMemory, first: VirtAddr, next_offset: u64) -> Chain<'_> {
    chain(memory, first, next_offset).ending_at(VirtAddr(0))
}

/// The links of a hash table: of each of its `chains`, which end with null, one after the other. `table` is the array of
/// first links, `next_offset` the offset of the next pointer in each link. A broken chain costs what lies behind the
/// break; where the array itself is missing, the walk ends.
pub fn hash_table(
    memory: &dyn VirtualMemory,
    table: VirtAddr,
    chains: u64,
    next_offset: u64,
) -> impl Iterator<Item = Result<VirtAddr, Broken>> {
    let heads = heads(memory, table, chains);
    heads.flat_map(move |first| from(memory, first, next_offset).ending_at(VirtAddr(0)))
}

/// [`hash_table`] of lists that end with an odd number, which says in which chain they are (`include/linux/list_nulls.h`):
/// a reader that was carried into another chain notices.
pub fn nulls_table(
    memory: &dyn VirtualMemory,
    table: VirtAddr,
    chains: u64,
) -> impl Iterator<Item = Result<VirtAddr, Broken>> {
    heads(memory, table, chains).flat_map(move |first| Chain { ends_at_odd: true, ..from(memory, first, 0) })
}

/// The first links of a hash table, up to the first that is missing.
fn heads(
    memory: &dyn VirtualMemory,
    table: VirtAddr,
    chains: u64,
) -> impl Iterator<Item = Result<VirtAddr, Missing>> {
    let mut ended = false;
    (0..chains).map_while(move |chain| {
        let first = memory.pointer(table.add(chain.wrapping_mul(8)));
        (!std::mem::replace(&mut ended, first.is_err())).then_some(first)
    })
}

/// The links from `first` on. It ends nowhere but at what breaks it, until [`Chain::ending_at`] says where.
#[must_use]
pub fn chain(memory: &dyn VirtualMemory, first: VirtAddr, next_offset: u64) -> Chain<'_> {
    from(memory, Ok(first), next_offset)
}

fn from(memory: &dyn VirtualMemory, next: Result<VirtAddr, Missing>, next_offset: u64) -> Chain<'_> {
    Chain {
        memory,
        next: Some(next),
        ends: Vec::new(),
        ends_at_itself: false,
        ends_at_odd: false,
        next_offset,
        met: Met::All(Visited::default()),
        walked: 0,
    }
}

impl Chain<'_> {
    /// Ends the walk before the link at this address.
    #[must_use]
    pub fn ending_at(self, end: VirtAddr) -> Self {
        self.ending_back_at(end, 0)
    }

    /// Ends the walk before the link at this address, but not among the first `links`: the first link of a list without
    /// a head is also its end, after the first time.
    #[must_use]
    pub fn ending_back_at(mut self, end: VirtAddr, links: usize) -> Self {
        self.ends.push((end, links));
        self
    }

    /// Ends the walk after a link that points to itself.
    #[must_use]
    pub fn ending_at_itself(mut self) -> Self {
        self.ends_at_itself = true;
        self
    }

    /// Notices loops in constant memory, and late: links of the loop are yielded again before that. See [`Lap::find`].
    #[must_use]
    pub fn remembering_one(mut self) -> Self {
        self.met = Met::One { link: VirtAddr(0), steps: 0, limit: 0 };
        self
    }

    /// Whether the link was met before.
    fn meets_again(&mut self, link: VirtAddr) -> bool {
        match &mut self.met {
            Met::All(visited) => !visited.insert(link.0),
            Met::One { link: kept, steps, limit } => {
                if *steps > 0 && *kept == link {
                    return true;
                }
                if *steps >= *limit {
                    (*kept, *steps, *limit) = (link, 0, limit.saturating_mul(2).max(1));
                }
                *steps = steps.saturating_add(1);
                false
            }
        }
    }
}

impl Iterator for Chain<'_> {
    type Item = Result<VirtAddr, Broken>;

    fn next(&mut self) -> Option<Self::Item> {
        let link = match self.next.take()? {
            Ok(link) if self.ends_at_odd && link.0 & 1 != 0 => return None,
            Ok(link) if self.ends.iter().any(|(end, after)| *end == link && self.walked >= *after) => {
                return None;
            }
            Ok(link) => link,
            Err(missing) => return Some(Err(missing.into())),
        };
        if self.meets_again(link) {
            return Some(Err(Broken::Cycle(link)));
        }
        self.walked = self.walked.saturating_add(1);
        if self.walked > MAX_ELEMENTS {
            return Some(Err(Broken::TooLong));
        }
        let next = self.memory.pointer(link.add(self.next_offset));
        self.next = Some(next).filter(|next| !(self.ends_at_itself && *next == Ok(link)));
        Some(Ok(link))
    }
}

/// A loop in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lap {
    /// Links of the loop.
    pub length: usize,
    /// Links before it.
    pub before: usize,
    /// Its first link.
    pub first: VirtAddr,
}

impl Lap {
    /// Measures the loop that a link is on, in a list that begins at `start`; walks it without memory of its own.
    ///
    /// # Errors
    /// A link that is missing, or a list that is not as it was said to be.
    pub fn find(
        memory: &dyn VirtualMemory,
        start: VirtAddr,
        next_offset: u64,
        on_it: VirtAddr,
    ) -> Result<Self, Broken> {
        let next = |link: VirtAddr| memory.pointer(link.add(next_offset));
        let (mut length, mut ahead) = (1_usize, next(on_it)?);
        while ahead != on_it {
            ahead = next(ahead)?;
            length = length.saturating_add(1);
            if length > MAX_ELEMENTS {
                return Err(Broken::TooLong);
            }
        }
        // Two walkers a lap apart meet where the loop begins.
        let mut ahead = start;
        for _ in 0..length {
            ahead = next(ahead)?;
        }
        let (mut behind, mut before) = (start, 0_usize);
        while behind != ahead {
            (behind, ahead) = (next(behind)?, next(ahead)?);
            before = before.saturating_add(1);
            if before > MAX_ELEMENTS {
                return Err(Broken::TooLong);
            }
        }
        Ok(Self { length, before, first: behind })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{Said, Words, said};
    use super::*;

    fn walked(chain: Chain<'_>) -> Vec<Result<u64, Said>> {
        chain.map(|link| link.map(|link| link.0).map_err(said)).collect()
    }

    #[test]
    fn lists_end_at_their_head_at_null_at_a_cycle_and_at_a_hole() {
        let memory = Words(vec![0, 16, 24, 8, 8]);
        assert_eq!(walked(list(&memory, VirtAddr(8))), [Ok(16), Ok(24)]);
        assert_eq!(walked(list(&memory, VirtAddr(32))), [Ok(8), Ok(16), Ok(24), Err(Said::Cycle)]);
        assert_eq!(walked(list(&memory, VirtAddr(800))), [Err(Said::Missing)]);
        let memory = Words(vec![0, 16, 24, 0, 4000]);
        assert_eq!(walked(null_terminated(&memory, VirtAddr(8), 0)), [Ok(8), Ok(16), Ok(24)]);
        assert_eq!(walked(null_terminated(&memory, VirtAddr(32), 0)), [Ok(32), Ok(4000), Err(Said::Missing)]);
        assert_eq!(walked(null_terminated(&memory, VirtAddr(0), 0)), []);
    }

    #[test]
    fn the_chains_of_a_table_follow_one_another_to_its_end() {
        // Three chains: 40 to 48, none, 48 alone; then the array ends at a hole.
        let memory = Words(vec![40, 0, 48, 0, 0, 48, 0]);
        let table = |chains| hash_table(&memory, VirtAddr(0), chains, 0).map(|link| link.map(|link| link.0));
        assert_eq!(table(3).collect::<Vec<_>>(), [Ok(40), Ok(48), Ok(48)]);
        let all: Vec<_> = table(1000).collect();
        assert_eq!(all.iter().filter(|link| link.is_err()).count(), 1, "{all:?}");
        assert!(all.last().is_some_and(Result::is_err));
    }

    #[test]
    fn a_link_to_itself_is_the_last_or_a_loop() {
        let memory = Words(vec![0, 16, 16]);
        let start = || chain(&memory, VirtAddr(8), 0);
        assert_eq!(walked(start().ending_at_itself()), [Ok(8), Ok(16)]);
        assert_eq!(walked(start()), [Ok(8), Ok(16), Err(Said::Cycle)]);
        assert_eq!(walked(start().ending_at(VirtAddr(16))), [Ok(8)]);
        let circle = Words(vec![0, 16, 24, 8]);
        let from_a_link = chain(&circle, VirtAddr(8), 0).ending_back_at(VirtAddr(8), 1);
        assert_eq!(walked(from_a_link), [Ok(8), Ok(16), Ok(24)]);
        assert_eq!(
            Lap::find(&memory, VirtAddr(8), 0, VirtAddr(16)),
            Ok(Lap { length: 1, before: 1, first: VirtAddr(16) })
        );
    }

    #[test]
    fn poison_is_missing_memory() {
        let memory = Words(vec![0, 16, 0xdead_0000_0000_0100]);
        assert_eq!(
            walked(list(&memory, VirtAddr(8))),
            [Ok(16), Ok(0xdead_0000_0000_0100), Err(Said::Missing)]
        );
    }

    proptest! {
        /// A tail of some links into a loop of some: both ways of noticing it see the same loop.
        #[test]
        fn every_loop_is_noticed_and_measured(tail in 0..40_usize, lap in 1..40_usize) {
            let count = tail + lap;
            let link = |index: usize| 8 * (index as u64 + 1);
            let mut words = vec![0];
            words.extend((0..count).map(|index| if index + 1 < count { link(index + 1) } else { link(tail) }));
            let memory = Words(words);
            let start = || chain(&memory, VirtAddr(link(0)), 0);
            let all: Vec<_> = start().collect();
            prop_assert_eq!(all.len(), count + 1);
            prop_assert_eq!(all.last(), Some(&Err(Broken::Cycle(VirtAddr(link(tail))))));
            let one: Vec<_> = start().remembering_one().collect();
            prop_assert!(one.len() <= 3 * count + 2, "{} links for {count}", one.len());
            let Some(Err(Broken::Cycle(on_it))) = one.last() else { panic!("no loop") };
            let found = Lap::find(&memory, VirtAddr(link(0)), 0, *on_it);
            prop_assert_eq!(found, Ok(Lap { length: lap, before: tail, first: VirtAddr(link(tail)) }));
        }

        /// Memory of random links: every walk ends, and within the number of links.
        #[test]
        fn every_walk_ends(words in prop::collection::vec(0..40_u64, 1..40), start in 0..40_u64) {
            let count = words.len();
            let memory = Words(words.into_iter().map(|word| word * 8).collect());
            prop_assert!(list(&memory, VirtAddr(start * 8)).count() <= count + 2);
            prop_assert!(null_terminated(&memory, VirtAddr(start * 8), 0).remembering_one().count() <= 3 * count + 3);
        }
    }
}
