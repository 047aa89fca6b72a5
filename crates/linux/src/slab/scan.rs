//! All slabs of a kernel, by cache: found through the page structures, for full slabs are on no list.

use std::sync::Arc;

use kdive_base::{Endian, VirtAddr};
use kdive_target::{Field, Kernel, Lacks};
use rayon::prelude::*;
use rustc_hash::FxHashMap;

use crate::pages::{Page, PageArray, Pages};

/// Every slab, by the address of its cache; each cache's in the order of memory.
#[derive(Debug, Default)]
pub struct AllSlabs {
    caches: FxHashMap<VirtAddr, Vec<VirtAddr>>,
    /// Page structures that could not be read, in which there may be more slabs: how many, and why the first could not.
    pub incomplete: Option<(u64, Lacks)>,
}

impl AllSlabs {
    /// The slabs of the kernel: looked for on the first call, then shared.
    ///
    /// # Errors
    /// The kernel does not say where its page structures are, or how it marks slabs.
    pub fn find(kernel: &Kernel) -> Field<Arc<Self>> {
        kernel.once(|kernel| Self::scan(kernel).map(Arc::new)).clone()
    }

    fn scan(kernel: &Kernel) -> Field<Self> {
        let (array, pages) = (PageArray::find(kernel)?, Pages::find(kernel));
        let page = kernel.loader::<Page>();
        let cache =
            kernel.member("slab", &["slab_cache"]).or_else(|_| kernel.member("page", &["slab_cache"]))?;
        let cache_at = cache.offset as usize;
        let compound_at = page.member(Page::COMPOUND).map(|member| member.offset as usize);
        let pieces: Vec<_> = array.pieces(PageArray::PIECE).collect();
        let found: Vec<_> = pieces
            .par_iter()
            .map(|frames| {
                let chunk = array.read(kernel, frames);
                let mut slabs = Vec::new();
                for raw in chunk.pages() {
                    let word = |at: usize| Endian::Little.u64(raw.bytes, at).unwrap_or(0);
                    let is_tail = compound_at.as_ref().is_ok_and(|&at| word(at) & 1 == 1);
                    let cache = VirtAddr(word(cache_at));
                    // Most pages are told by two words. A cache is an object of the kernel's.
                    if is_tail || cache.0 >> 63 == 0 || cache.0 & 7 != 0 {
                        continue;
                    }
                    if pages.is_slab(&page.load_read(raw.at, raw.bytes)) == Ok(true) {
                        slabs.push((cache, raw.at));
                    }
                }
                let missing: u64 =
                    chunk.missing.iter().map(|(frames, _)| frames.end.0 - frames.start.0).sum();
                let why = chunk.missing.into_iter().next().map(|(_, why)| Lacks::from(why));
                (slabs, why.map(|why| (missing, why)))
            })
            .collect();
        let mut all = Self::default();
        for (slabs, missing) in found {
            for (cache, slab) in slabs {
                all.caches.entry(cache).or_default().push(slab);
            }
            all.incomplete = match (all.incomplete.take(), missing) {
                (Some((count, why)), Some((more, _))) => Some((count.saturating_add(more), why)),
                (one, other) => one.or(other),
            };
        }
        Ok(all)
    }

    /// The slabs of a cache.
    #[must_use]
    pub fn of(&self, cache: VirtAddr) -> &[VirtAddr] {
        self.caches.get(&cache).map_or(&[], Vec::as_slice)
    }
}
