//! A slab cache (`struct kmem_cache`, mm/slab.h; of SLAB include/linux/slab_def.h).

use std::sync::Arc;

use kdive_base::{VirtAddr, printable};
use kdive_target::{Field, Kernel, Lacks, Load};

#[derive(Clone, Debug, Load)]
#[load(type = "kmem_cache")]
struct Fields {
    name: Field<VirtAddr>,
    flags: Field<u32>,
    #[load(any("size", "buffer_size"))]
    size: Field<u32>,
    #[load(any("object_size", "objsize"))]
    object_size: Field<u32>,
    align: Field<u32>,
    /// SLUB's left red zone; with SLAB, what debugging puts before an object.
    #[load(any("red_left_pad", "obj_offset"))]
    pad: Field<u32>,
    /// Objects in a slab: of SLAB only, whose slabs are all alike.
    num: Field<u32>,
    /// SLUB's order and object count of a slab in one number.
    #[load(any("oo.x"))]
    oo: Field<u32>,
    /// The same of the smallest slab, which is taken when memory is in pieces.
    #[load(any("min.x"))]
    min: Field<u32>,
    #[load(any("gfporder"))]
    order: Field<u32>,
}

/// A slab cache.
#[derive(Clone, Debug)]
pub struct SlabCache {
    /// Address of its `struct kmem_cache`.
    pub at: VirtAddr,
    /// Its name.
    pub name: Field<Arc<str>>,
    /// `SLAB_*` flags (`slab_flags_t`).
    pub flags: Field<u32>,
    /// Distance from one object to the next, in bytes.
    pub size: Field<u32>,
    /// Bytes of an object that its user asked for.
    pub object_size: Field<u32>,
    /// Alignment of objects in bytes.
    pub align: Field<u32>,
    /// Bytes before an object that belong to it: its left red zone. 0 where the kernel has none.
    pub pad: Field<u32>,
    /// Pages of a slab, as log2: the usual ones, while memory lasts.
    pub order: Field<u32>,
    /// Whether its pages come back under pressure (`SLAB_RECLAIM_ACCOUNT`): dentries, inodes.
    pub reclaimable: Field<bool>,
    /// Order and objects of SLUB's usual slab, and of its smallest.
    pub(super) shapes: Field<(Shape, Shape)>,
    /// Objects in every slab of this cache, where the allocator is SLAB (removed in 6.8); SLUB counts in each slab.
    pub slab_objects: Option<Field<u32>>,
}

/// Names are shorter; those of cgroups' caches carry the cgroup's.
const MOST_NAME_BYTES: usize = 256;
/// Position of the order in SLUB's `kmem_cache_order_objects`.
const OO_SHIFT: u32 = 16;

/// A size that slabs of SLUB have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    order: u32,
    objects: u64,
}

impl Shape {
    fn new(oo: u32) -> Self {
        Self { order: oo >> OO_SHIFT, objects: u64::from(oo & ((1 << OO_SHIFT) - 1)) }
    }

    fn pages(self) -> u64 {
        1_u64.checked_shl(self.order).unwrap_or(u64::MAX)
    }
}

/// Pages of slabs with so many objects together: each slab is of the usual size or of the smallest.
fn pages_of(usual: Shape, smallest: Shape, slabs: u64, objects: u64) -> u64 {
    let lacking = slabs.saturating_mul(usual.objects).saturating_sub(objects);
    let small = lacking.checked_div(usual.objects.saturating_sub(smallest.objects)).unwrap_or(0).min(slabs);
    let large = slabs.saturating_sub(small);
    large.saturating_mul(usual.pages()).saturating_add(small.saturating_mul(smallest.pages()))
}

impl SlabCache {
    pub(super) fn load(kernel: &Kernel, at: VirtAddr) -> Self {
        let fields: Fields = kernel.load(at);
        let name = fields.name.and_then(|name| Ok(kernel.memory().c_string(name, MOST_NAME_BYTES)?));
        Self {
            at,
            name: name.map(|name| printable(&name).into()),
            reclaimable: reclaimable(kernel, &fields.flags),
            flags: fields.flags,
            size: fields.size,
            object_size: fields.object_size,
            align: fields.align,
            pad: none_without_member(fields.pad),
            shapes: fields.oo.clone().and_then(|oo| Ok((Shape::new(oo), Shape::new(fields.min?)))),
            order: fields.oo.map(|oo| oo >> OO_SHIFT).or(fields.order),
            slab_objects: match fields.num {
                Err(Lacks::Member { .. } | Lacks::Type(_) | Lacks::Types) => None,
                num => Some(num),
            },
        }
    }

    /// The name, or `?` where it is not in the dump.
    #[must_use]
    pub fn display_name(&self) -> Arc<str> {
        self.name.clone().unwrap_or_else(|_| "?".into())
    }

    /// Pages of its slabs, of which there are so many, with so many objects together.
    ///
    /// # Errors
    /// The cache's sizes are lacking.
    pub fn pages(&self, slabs: u64, objects: u64) -> Field<u64> {
        match &self.shapes {
            Ok((usual, smallest)) => Ok(pages_of(*usual, *smallest, slabs, objects)),
            Err(_) => Ok(slabs.saturating_mul(1_u64.checked_shl(self.order.clone()?).unwrap_or(u64::MAX))),
        }
    }

    /// Distance from one object to the next in bytes, never 0.
    pub(super) fn stride(&self) -> Field<u64> {
        match self.size.clone()? {
            0 => {
                Err(Lacks::implausible(format_args!("the slab cache {:#} has objects without size", self.at)))
            }
            size => Ok(size.into()),
        }
    }
}

/// A kernel built without slab debugging has no such member, and nothing before an object.
fn none_without_member(pad: Field<u32>) -> Field<u32> {
    match pad {
        Err(Lacks::Member { .. }) => Ok(0),
        pad => pad,
    }
}

/// `SLAB_RECLAIM_ACCOUNT`: its bit moves with the kernel's configuration since 6.9, which then has names for it.
fn reclaimable(kernel: &Kernel, flags: &Field<u32>) -> Field<bool> {
    const BEFORE: u32 = 0x0002_0000;
    let named = kernel.enumerator("_SLAB_RECLAIM_ACCOUNT").ok().and_then(|bit| u32::try_from(bit).ok());
    let bit = named.and_then(|bit| 1_u32.checked_shl(bit)).unwrap_or(BEFORE);
    Ok(flags.clone()? & bit != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slabs_that_found_no_large_block_are_small() {
        let (usual, smallest) = (Shape { order: 3, objects: 21 }, Shape { order: 0, objects: 2 });
        assert_eq!(pages_of(usual, smallest, 10, 210), 80);
        assert_eq!(pages_of(usual, smallest, 10, 210 - 3 * 19), 7 * 8 + 3);
        assert_eq!(pages_of(usual, usual, 10, 200), 80);
        assert_eq!(pages_of(usual, smallest, 2, 0), 2);
    }
}
