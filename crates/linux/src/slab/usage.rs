//! How much of a cache is in use: from the counters and lists that the allocator keeps, without a look at full slabs.

use kdive_base::VirtAddr;
use kdive_target::{Field, Kernel, Lacks, Load, Loader, MemberAddress};

use crate::mmzone::Nodes;

use super::{AllSlabs, Counts, FreeObjects, Lists, SlabCache, Slabs};

/// A cache in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Slabs.
    pub slabs: u64,
    /// Objects that they have room for.
    pub objects: u64,
    /// Objects that are free.
    pub free: u64,
}

impl Usage {
    /// Objects in use.
    #[must_use]
    pub const fn allocated(&self) -> u64 {
        self.objects.saturating_sub(self.free)
    }

    /// The numbers of a cache, of SLUB or of SLAB.
    ///
    /// # Errors
    /// As for each of the two.
    pub fn find(kernel: &Kernel, cache: &SlabCache) -> Field<Self> {
        match cache.slab_objects {
            Some(_) => slab_usage(kernel, cache),
            None => Self::of(kernel, cache, &Lists::find(kernel, cache.at)),
        }
    }

    /// The numbers of a cache of SLUB.
    ///
    /// # Errors
    /// Neither the kernel's counters nor its page structures can be read.
    pub fn of(kernel: &Kernel, cache: &SlabCache, lists: &Lists) -> Field<Self> {
        if let Some(lacks) = lists.lacking.first() {
            return Err(lacks.clone());
        }
        let loader = kernel.loader::<Counts>();
        let mut usage = Self::total(kernel, cache, lists, &loader)?;
        let free_of = |slab: VirtAddr| -> Field<u64> {
            let counts = loader.load(slab);
            Ok(u64::from(counts.objects?).saturating_sub(counts.inuse?.into()))
        };
        let partial = lists.nodes.iter().map(|of| &of.partial).chain(lists.cpus.iter().map(|of| &of.partial));
        for list in partial {
            for slab in &list.slabs {
                usage.free = usage.free.saturating_add(free_of(*slab)?);
            }
        }
        let links = FreeObjects::find(kernel, cache.at, lists)?;
        for of in &lists.cpus {
            let slab = of.slab.clone()?;
            if slab.is_null() {
                continue;
            }
            usage.free = usage.free.saturating_add(free_of(slab)?);
            if let Some(slab) = Slabs::find(kernel).slab(kernel, slab)? {
                let kept = links.on_cpu(kernel, &slab, of.cpu)?;
                usage.free = usage.free.saturating_add(kept as u64);
            }
        }
        for sheaf in &lists.sheaves {
            usage.free = usage.free.saturating_add(sheaf.objects.clone()?.len() as u64);
        }
        Ok(usage)
    }

    /// Slabs and objects: the nodes count them where SLUB can be debugged, else the page structures tell.
    fn total(kernel: &Kernel, cache: &SlabCache, lists: &Lists, loader: &Loader<'_, Counts>) -> Field<Self> {
        let mut usage = Self::default();
        for node in &lists.nodes {
            match (&node.slabs, &node.objects) {
                (Ok(slabs), Ok(objects)) => {
                    usage.slabs = usage.slabs.saturating_add(*slabs);
                    usage.objects = usage.objects.saturating_add(*objects);
                }
                (Err(Lacks::Member { .. }), _) | (_, Err(Lacks::Member { .. })) => {
                    let all = AllSlabs::find(kernel)?;
                    let slabs = all.of(cache.at);
                    let mut objects = 0_u64;
                    for slab in slabs {
                        objects = objects.saturating_add(loader.load(*slab).objects?.into());
                    }
                    return Ok(Self { slabs: slabs.len() as u64, objects, free: 0 });
                }
                (Err(lacks), _) | (_, Err(lacks)) => return Err(lacks.clone()),
            }
        }
        Ok(usage)
    }
}

#[derive(Clone, Debug, Load)]
#[load(type = "kmem_cache")]
struct SlabFields {
    node: Field<MemberAddress>,
}

#[derive(Clone, Debug, Load)]
#[load(type = "kmem_cache_node")]
struct NodeFields {
    total_slabs: Field<u64>,
    free_objects: Field<u64>,
}

/// The numbers of a cache of SLAB (removed in 6.8): its nodes count free objects. Those that processors keep count as
/// used, as in the kernel's own `/proc/slabinfo`.
///
/// # Errors
/// The counters cannot be read.
pub fn slab_usage(kernel: &Kernel, cache: &SlabCache) -> Field<Usage> {
    let lacks = || Lacks::unavailable("the allocator is not SLAB");
    let per_slab = cache.slab_objects.clone().unwrap_or_else(|| Err(lacks()))?;
    let fields: SlabFields = kernel.load(cache.at);
    let MemberAddress(table) = fields.node?;
    let loader = kernel.loader::<NodeFields>();
    let mut usage = Usage::default();
    for (node, _) in &Nodes::find(kernel)?.list {
        let at = kernel.memory().pointer(table.add(u64::from(node.id.clone()?).wrapping_mul(8)))?;
        if at.is_null() {
            continue;
        }
        let counts = loader.load(at);
        usage.slabs = usage.slabs.saturating_add(counts.total_slabs?);
        usage.free = usage.free.saturating_add(counts.free_objects?);
    }
    usage.objects = usage.slabs.saturating_mul(per_slab.into());
    Ok(usage)
}
