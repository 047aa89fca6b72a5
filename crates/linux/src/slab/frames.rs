//! What page frames turned out to be, kept: bounded, and shared by threads.

use std::sync::{Arc, RwLock};

use kdive_base::Pfn;
use kdive_target::Field;
use rustc_hash::FxHashMap;

use super::Slab;

/// The slab of a frame, or that it is in none, or why that cannot be told.
type Answer = Field<Option<Arc<Slab>>>;

const SHARDS: usize = 64;
/// Frames kept in a shard: 1 GiB of memory in all, in some 20 MB.
const MOST_FRAMES: usize = (1 << 18) / SHARDS;

/// Answers by frame.
pub(super) struct Frames {
    shards: Vec<RwLock<FxHashMap<Pfn, Answer>>>,
}

impl Default for Frames {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| RwLock::default()).collect() }
    }
}

impl Frames {
    /// The answer for a frame: kept, or found now. `find` may ask for other frames.
    pub(super) fn get_or_find(&self, pfn: Pfn, find: impl FnOnce() -> Answer) -> Answer {
        let Some(shard) = self.shards.get(pfn.0 as usize % SHARDS) else { return find() };
        if let Some(answer) = shard.read().ok().and_then(|frames| frames.get(&pfn).cloned()) {
            return answer;
        }
        // No lock is held meanwhile: two threads may find the same.
        let answer = find();
        if let Ok(mut frames) = shard.write() {
            // Starting over keeps memory bounded; which frames are asked for next cannot be known.
            if frames.len() >= MOST_FRAMES {
                frames.clear();
            }
            frames.insert(pfn, answer.clone());
        }
        answer
    }

    /// How many answers are kept.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.shards.iter().filter_map(|shard| shard.read().ok()).map(|frames| frames.len()).sum()
    }
}
