//! An index from names to the numbers of the things they name, built in linear time over names that live elsewhere.

use std::hash::Hasher as _;

use kdive_base::printable;
use rustc_hash::FxHasher;

/// Buckets of item numbers by the hash of their names. The names themselves stay where they are: the caller compares
/// the few candidates of a bucket.
#[derive(Debug, Default)]
pub(crate) struct NameIndex {
    /// Where each bucket starts in `items`, and the end.
    starts: Vec<u32>,
    items: Vec<u32>,
}

impl NameIndex {
    /// Indexes `(hash, item)` pairs: see [`hash_name`].
    pub(crate) fn new(pairs: &[(u32, u32)]) -> Self {
        let buckets = pairs.len().next_power_of_two().max(1);
        let mask = (buckets as u32).wrapping_sub(1);
        let mut starts = vec![0_u32; buckets.saturating_add(1)];
        for &(hash, _) in pairs {
            if let Some(count) = starts.get_mut((hash & mask) as usize) {
                *count = count.saturating_add(1);
            }
        }
        let mut sum = 0_u32;
        for start in &mut starts {
            sum = sum.saturating_add(*start);
            *start = sum;
        }
        // Each start now is its bucket's end; filling from the back turns it into the start and keeps item order.
        let mut items = vec![0_u32; pairs.len()];
        for &(hash, item) in pairs.iter().rev() {
            if let Some(start) = starts.get_mut((hash & mask) as usize) {
                *start = start.saturating_sub(1);
                if let Some(slot) = items.get_mut(*start as usize) {
                    *slot = item;
                }
            }
        }
        Self { starts, items }
    }

    /// Items whose name may have this hash, in the order in which they were given.
    pub(crate) fn candidates(&self, hash: u32) -> &[u32] {
        let mask = (self.starts.len() as u32).wrapping_sub(2);
        let bucket = (hash & mask) as usize;
        match (self.starts.get(bucket), self.starts.get(bucket.saturating_add(1))) {
            (Some(&start), Some(&end)) => self.items.get(start as usize..end as usize).unwrap_or_default(),
            _ => &[],
        }
    }
}

/// The hash that [`NameIndex`] expects.
pub(crate) fn hash_name(name: &[u8]) -> u32 {
    let mut hasher = FxHasher::default();
    hasher.write(name);
    let hash = hasher.finish();
    (hash ^ (hash >> 32)) as u32
}

/// A name out of a dump as text that is safe to print: what is not printable ASCII is escaped (C names never need it).
pub(crate) fn safe_name(name: &[u8]) -> Box<str> {
    match std::str::from_utf8(name) {
        Ok(text) if name.iter().all(|byte| (0x20..0x7f).contains(byte)) => text.into(),
        _ => printable(name).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_found_under_its_hash_in_order() {
        let names = ["a", "b", "a", "cc", "a", "ddd"];
        let pairs: Vec<_> =
            names.iter().enumerate().map(|(i, n)| (hash_name(n.as_bytes()), i as u32)).collect();
        let index = NameIndex::new(&pairs);
        for name in names {
            let found: Vec<_> = index
                .candidates(hash_name(name.as_bytes()))
                .iter()
                .filter(|&&item| names[item as usize] == name)
                .copied()
                .collect();
            let wanted: Vec<_> = (0..names.len() as u32).filter(|&i| names[i as usize] == name).collect();
            assert_eq!(found, wanted);
        }
        assert!(NameIndex::new(&[]).candidates(7).is_empty());
        assert!(NameIndex::default().candidates(7).is_empty());
    }
}
