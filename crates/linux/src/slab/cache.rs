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
    /// Objects in every slab of this cache, where the allocator is SLAB (removed in 6.8); SLUB counts in each slab.
    pub slab_objects: Option<Field<u32>>,
}

/// Names are shorter; those of cgroups' caches carry the cgroup's.
const MOST_NAME_BYTES: usize = 256;
/// Position of the order in SLUB's `kmem_cache_order_objects`.
const OO_SHIFT: u32 = 16;

impl SlabCache {
    pub(super) fn load(kernel: &Kernel, at: VirtAddr) -> Self {
        let fields: Fields = kernel.load(at);
        let name = fields.name.and_then(|name| Ok(kernel.memory().c_string(name, MOST_NAME_BYTES)?));
        Self {
            at,
            name: name.map(|name| printable(&name).into()),
            flags: fields.flags,
            size: fields.size,
            object_size: fields.object_size,
            align: fields.align,
            pad: none_without_member(fields.pad),
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
