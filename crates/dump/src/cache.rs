//! A bounded cache that several threads share: shards by key, each with its own lock and its own clock hand.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rustc_hash::FxHashMap;

/// Shards; a power of two.
const SHARDS: usize = 16;
/// Memory for decompressed pages of one dump.
pub(crate) const PAGE_BUDGET: usize = 32 << 20;

/// Values by number. When a shard is full, an entry that was not used since the hand last passed makes room (CLOCK).
pub(crate) struct Cache<V> {
    shards: Vec<Mutex<Shard<V>>>,
    per_shard: usize,
}

struct Shard<V> {
    index: FxHashMap<u64, usize>,
    slots: Vec<Slot<V>>,
    hand: usize,
}

struct Slot<V> {
    key: u64,
    value: V,
    used: bool,
}

impl<V> Cache<V> {
    /// A cache of about `entries` entries; nothing is allocated before they come.
    pub(crate) fn new(entries: usize) -> Self {
        let empty = || Shard { index: FxHashMap::default(), slots: Vec::new(), hand: 0 };
        Self {
            shards: std::iter::repeat_with(|| Mutex::new(empty())).take(SHARDS).collect(),
            per_shard: entries.div_ceil(SHARDS).max(1),
        }
    }

    /// Hands the value of `key` to `read`, under the lock of its shard: for short copies only.
    pub(crate) fn get<R>(&self, key: u64, read: impl FnOnce(&V) -> R) -> Option<R> {
        let mut shard = self.shard(key)?;
        let &slot = shard.index.get(&key)?;
        let slot = shard.slots.get_mut(slot)?;
        slot.used = true;
        Some(read(&slot.value))
    }

    /// Keeps a value.
    pub(crate) fn insert(&self, key: u64, value: V) {
        let per_shard = self.per_shard;
        if let Some(mut shard) = self.shard(key) {
            shard.insert(key, value, per_shard);
        }
    }

    fn shard(&self, key: u64) -> Option<MutexGuard<'_, Shard<V>>> {
        // Fibonacci hashing: neighbouring pages go to different shards.
        let mixed = key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let shard = self.shards.get(usize::try_from(mixed).ok()? & (SHARDS - 1))?;
        Some(shard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<V> Shard<V> {
    fn insert(&mut self, key: u64, value: V, capacity: usize) {
        let slot = Slot { key, value, used: false };
        if let Some(old) = self.index.get(&key).and_then(|&at| self.slots.get_mut(at)) {
            *old = slot;
            return;
        }
        if self.slots.len() < capacity {
            self.index.insert(key, self.slots.len());
            self.slots.push(slot);
            return;
        }
        // Two rounds at most: the first clears every `used`.
        for _ in 0..capacity.saturating_mul(2) {
            let at = self.hand;
            self.hand = at.saturating_add(1).checked_rem(capacity).unwrap_or(0);
            let Some(old) = self.slots.get_mut(at) else { continue };
            if !std::mem::take(&mut old.used) {
                self.index.remove(&old.key);
                *old = slot;
                self.index.insert(key, at);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_within_its_bound_and_keeps_what_is_used() {
        let cache = Cache::new(64);
        for key in 0..10_000_u64 {
            cache.insert(key, key);
            assert_eq!(cache.get(0, |&value| value), Some(0), "the entry used most was thrown out for {key}");
        }
        let held = (0..10_000).filter(|&key| cache.get(key, |_| ()).is_some()).count();
        assert!((32..=64).contains(&held), "{held} entries");
        assert_eq!(cache.get(9_999, |&value| value), Some(9_999));
    }

    #[test]
    fn a_second_value_replaces_the_first() {
        let cache = Cache::new(16);
        cache.insert(7, "old");
        cache.insert(7, "new");
        assert_eq!(cache.get(7, |&value| value), Some("new"));
    }
}
