//! Page frames: from an address of the direct map to its `struct page`, and back.

use std::sync::Arc;

use kdive_base::VirtAddr;
use kdive_target::{Field, Kernel, Lacks};

/// How this kernel finds the `struct page` of a page frame.
#[derive(Clone, Debug)]
pub struct Pages {}

impl Pages {
    /// The kernel's memory map: found on first use, then shared.
    #[must_use]
    pub fn find(kernel: &Kernel) -> Arc<Self> {
        kernel.once(|_| Self {})
    }

    /// Address of the `struct page` of the page frame behind an address of the direct map.
    ///
    /// # Errors
    /// The address is not in the direct map, or this kernel does not say where its page structures are.
    pub fn page_of(&self, _address: VirtAddr) -> Field<VirtAddr> {
        Err(Lacks::unavailable("page structures are not understood yet"))
    }
}
