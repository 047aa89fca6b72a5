//! Addresses that a walk has met.

use rustc_hash::FxHashMap;

/// A set of addresses. Objects of a slab are neighbours, and 64 places eight bytes apart share a word: a list of a million
/// objects is remembered in a few megabytes, most of which a processor's cache holds.
#[derive(Debug, Default)]
pub(super) struct Visited {
    words: FxHashMap<u64, u64>,
    count: usize,
}

impl Visited {
    /// Whether the address is new.
    pub(super) fn insert(&mut self, at: u64) -> bool {
        // The low bits take part in the key: addresses that are not aligned have words of their own.
        let word = self.words.entry(at >> 9 << 3 | at & 7).or_default();
        let bit = 1 << (at >> 3 & 63);
        let is_new = *word & bit == 0;
        *word |= bit;
        self.count = self.count.saturating_add(usize::from(is_new));
        is_new
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_set(addresses in prop::collection::vec(prop_oneof![0..2000_u64, any::<u64>()], 0..300)) {
            let (mut visited, mut set) = (Visited::default(), HashSet::new());
            for at in addresses {
                prop_assert_eq!(visited.insert(at), set.insert(at));
            }
            prop_assert_eq!(visited.len(), set.len());
        }
    }
}
