//! Addresses that a walk has met.

use rustc_hash::FxHashMap;

/// A set of addresses. Objects of a slab are neighbours, and the words of a page share a bitmap: a list of a million
/// objects is remembered in a megabyte, which a processor's cache holds.
#[derive(Debug, Default)]
pub(super) struct Visited {
    /// Where the bitmap of a page is.
    pages: FxHashMap<u64, usize>,
    /// A bit for each eight bytes of a page.
    bitmaps: Vec<[u64; 8]>,
    count: usize,
}

impl Visited {
    /// Whether the address is new.
    pub(super) fn insert(&mut self, at: u64) -> bool {
        // The low bits take part in the key: addresses that are not aligned have bitmaps of their own.
        let page = at >> 12 << 3 | at & 7;
        let index = *self.pages.entry(page).or_insert_with(|| {
            self.bitmaps.push([0; 8]);
            self.bitmaps.len().saturating_sub(1)
        });
        let word = self.bitmaps.get_mut(index).and_then(|bitmap| bitmap.get_mut((at >> 9 & 7) as usize));
        let Some(word) = word else { return false };
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
