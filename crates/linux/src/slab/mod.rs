//! Slab caches: which cache's object holds an address, and the list of caches (mm/slab.h, mm/slub.c).
//!
//! Design constraints:
//! - Asking is cheap: `bt -F` asks for every word of every stack. What a page frame turned out to be is kept, the frames
//!   that are no slab's too, in a bounded table that threads share.
//! - "In no object" and "cannot be told" are different answers.

pub mod aliases;
mod cache;
mod frames;
mod kfence;
pub mod leaks;
mod lists;
mod scan;
mod state;
pub mod tracks;
mod usage;

use std::sync::{Arc, RwLock};

use kdive_base::{Missing, Pfn, VirtAddr, Why};
use kdive_target::{Field, Kernel, Lacks, Load, walk};
use rustc_hash::FxHashMap;

use crate::pages::{Page, Pages};
pub use cache::SlabCache;
use frames::Frames;
use kfence::Kfence;
pub use kfence::{Guarded, GuardedTrack, guarded};
pub use lists::{CpuSlabs, Keeper, Lists, NodeSlabs, Sheaf, SlabList};
pub use scan::AllSlabs;
pub use state::{Counts, FreeObjects, ObjectState};
pub use usage::{Usage, slab_usage};

/// An object of a slab cache: what an address points into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlabObject {
    /// The cache (`struct kmem_cache`).
    pub cache: VirtAddr,
    /// Its name; `?` where it is lacking ([`SlabCache::name`] says why). Kernels merge caches of like objects under the
    /// name of the first, unless `slab_nomerge` is set.
    pub cache_name: Arc<str>,
    /// The slab that holds the object: its `struct slab`, before 5.17 its `struct page`.
    pub slab: VirtAddr,
    /// The object's first byte. The address may lie before it, in the object's left red zone, or behind its
    /// [`SlabCache::object_size`], in what the allocator keeps there. Lacking where the cache's sizes are.
    pub object: Field<VirtAddr>,
}

/// A slab: pages that hold the objects of one cache.
#[derive(Clone, Debug)]
pub struct Slab {
    /// Its `struct slab`, before 5.17 its `struct page`: the two share their address.
    pub at: VirtAddr,
    /// The first byte of the first object's slot, in the direct map.
    pub start: VirtAddr,
    /// How many objects it has room for.
    pub objects: Field<u32>,
    /// Where the only object of the page is, if KFENCE watches it.
    pub guarded: Option<VirtAddr>,
    /// The cache.
    pub cache: Arc<SlabCache>,
}

impl Slab {
    /// First byte of the object that an address of this slab lies in; `None` in the waste behind the last object.
    ///
    /// # Errors
    /// The cache's sizes are lacking.
    pub fn object_at(&self, address: VirtAddr) -> Field<Option<VirtAddr>> {
        if self.guarded.is_some() {
            return Ok(self.guarded);
        }
        let (stride, pad) = (self.cache.stride()?, self.cache.pad.clone()?);
        // Where the slab's count is lacking the waste is taken for an object: at worst a wrong neighbour of the last one.
        let objects = self.objects.as_ref().map_or(u64::MAX, |&objects| objects.into());
        let index = address.0.checked_sub(self.start.0).map(|inside| inside / stride);
        Ok(index
            .filter(|&index| index < objects)
            .map(|index| self.start.add(index * stride + u64::from(pad))))
    }
}

/// The part of `struct slab` that kdive understands: the slab's view of its first `struct page`.
#[derive(Clone, Debug, Load)]
#[load(type = "slab", type = "page")]
struct SlabFields {
    slab_cache: Field<VirtAddr>,
    /// The count that SLUB keeps in each slab.
    objects: Field<u32>,
    /// Where SLAB put the first object.
    s_mem: Field<VirtAddr>,
}

/// The kernel's slab caches, as far as their list could be followed.
#[derive(Clone, Debug)]
pub struct SlabCaches {
    /// The caches, the newest first as the kernel lists them.
    pub list: Vec<Arc<SlabCache>>,
    /// Why caches may be lacking from the list.
    pub incomplete: Option<Lacks>,
}

/// What is known of slabs: kept between questions.
pub struct Slabs {
    pages: Arc<Pages>,
    kfence: Option<Kfence>,
    frames: Frames,
    caches: RwLock<FxHashMap<VirtAddr, Arc<SlabCache>>>,
}

/// No kernel has more caches: a damaged dump must not fill memory with them.
const MOST_CACHES: usize = 1 << 16;

impl Slabs {
    /// The kernel's slabs: set up on first use, then shared.
    #[must_use]
    pub fn find(kernel: &Kernel) -> Arc<Self> {
        let slabs = kernel.once(|kernel| {
            let pages = Pages::find(kernel);
            let kfence = Kfence::find(kernel, &pages.direct);
            Arc::new(Self { pages, kfence, frames: Frames::default(), caches: RwLock::default() })
        });
        slabs.clone()
    }

    /// The slab object that an address lies in; `None` for an address that is in none. Only the direct map holds slabs:
    /// text, static data, stacks in vmalloc space and user addresses are answered at once.
    ///
    /// # Errors
    /// What would tell is lacking: page structures that the dump leaves out, types, symbols.
    pub fn object_at(&self, kernel: &Kernel, address: VirtAddr) -> Field<Option<SlabObject>> {
        let Some(slab) = self.slab_at(kernel, address)? else { return Ok(None) };
        let object = match slab.object_at(address) {
            Ok(None) => return Ok(None),
            Ok(Some(object)) => Ok(object),
            Err(lacks) => Err(lacks),
        };
        let cache_name = slab.cache.display_name();
        Ok(Some(SlabObject { cache: slab.cache.at, cache_name, slab: slab.at, object }))
    }

    /// The slab that an address lies in; `None` for an address that is in none.
    ///
    /// # Errors
    /// As for [`Slabs::object_at`].
    pub fn slab_at(&self, kernel: &Kernel, address: VirtAddr) -> Field<Option<Arc<Slab>>> {
        let direct = self.pages.direct.as_ref().map_err(Lacks::clone)?;
        match direct.phys_of(address) {
            Some(phys) => self.slab_of(kernel, phys.pfn()),
            None => Ok(None),
        }
    }

    fn slab_of(&self, kernel: &Kernel, pfn: Pfn) -> Field<Option<Arc<Slab>>> {
        self.frames.get_or_find(pfn, || match self.look_at(kernel, pfn) {
            // No page structure is mapped there: the machine has no such frame. (Level 0: there are no page tables to tell.)
            Err(Lacks::Missing(Missing { why: Why::NotMapped { level: 1.. }, .. })) => Ok(None),
            answer => answer,
        })
    }

    fn look_at(&self, kernel: &Kernel, pfn: Pfn) -> Field<Option<Arc<Slab>>> {
        let map = self.pages.map.as_ref().map_err(Lacks::clone)?;
        let page: Page = kernel.load(map.page_of(pfn));
        if page.is_tail()? {
            let head = page.head()?;
            return match map.pfn_of(head).filter(|&head| head < pfn) {
                // Once more at most: what is asked for next is the head, or damaged.
                Some(head) => self
                    .frames
                    .get_or_find(head, || self.look_at_head(kernel, &kernel.load(map.page_of(head)))),
                None => Err(Lacks::implausible(format_args!("the page structure {:#} has no head", page.at))),
            };
        }
        self.look_at_head(kernel, &page)
    }

    /// The slab whose `struct slab` (before 5.17 `struct page`) is at an address; `None` where none is.
    ///
    /// # Errors
    /// As for [`Slabs::object_at`].
    pub fn slab(&self, kernel: &Kernel, at: VirtAddr) -> Field<Option<Arc<Slab>>> {
        let page: Page = kernel.load(at);
        if page.is_tail()? {
            return Ok(None);
        }
        self.look_at_head(kernel, &page)
    }

    fn look_at_head(&self, kernel: &Kernel, page: &Page) -> Field<Option<Arc<Slab>>> {
        if !self.pages.is_slab(page)? {
            return Ok(None);
        }
        let fields: SlabFields = kernel.load(page.at);
        let cache = fields.slab_cache?;
        if cache.is_null() {
            return Ok(None);
        }
        let cache = self.cache(kernel, cache);
        // Each allocator leaves the other's members in the shared structure: what the cache says decides.
        let (start, objects) = match &cache.slab_objects {
            Some(objects) => (fields.s_mem?, objects.clone()),
            None => (self.pages.address_of(page.at)?, fields.objects),
        };
        let guarded = self.kfence.as_ref().and_then(|kfence| kfence.object_on(start.page_start()));
        Ok(Some(Arc::new(Slab { at: page.at, start, objects, guarded, cache })))
    }

    /// The cache whose `struct kmem_cache` is at an address.
    pub fn cache(&self, kernel: &Kernel, at: VirtAddr) -> Arc<SlabCache> {
        if let Some(cache) = self.caches.read().ok().and_then(|caches| caches.get(&at).cloned()) {
            return cache;
        }
        let cache = Arc::new(SlabCache::load(kernel, at));
        if let Ok(mut caches) = self.caches.write()
            && caches.len() < MOST_CACHES
        {
            caches.insert(at, cache.clone());
        }
        cache
    }

    /// All caches on the kernel's list.
    ///
    /// # Errors
    /// The kernel has no such list, or its layout is not known.
    pub fn caches(&self, kernel: &Kernel) -> Field<SlabCaches> {
        let head = kernel.any_symbol(&["slab_caches", "cache_chain"])?;
        let link = kernel.member("kmem_cache", &["list", "next"])?.offset;
        let mut caches = SlabCaches { list: Vec::new(), incomplete: None };
        for item in walk::list(kernel.memory(), head) {
            match item {
                Ok(at) if caches.list.len() < MOST_CACHES => {
                    caches.list.push(self.cache(kernel, at.sub(link)))
                }
                Ok(_) => break,
                Err(broken) => caches.incomplete = Some(broken.into()),
            }
        }
        Ok(caches)
    }
}

#[cfg(test)]
mod tests;
