//! Which objects of a slab are free: SLUB's lists of free objects (mm/slub.c).

use kdive_base::VirtAddr;
use kdive_target::{Field, Kernel, Lacks, Load};
use rustc_hash::FxHashSet;
use serde::Serialize;

use super::Slab;

/// Whether an object is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ObjectState {
    /// In use.
    Allocated,
    /// On its slab's list of free objects.
    Free,
    /// Free, and kept by a processor that allocates from the slab.
    FreeOnCpu(u32),
}

#[derive(Clone, Debug, Load)]
#[load(type = "kmem_cache")]
struct Cache {
    /// Where a free object holds the link to the next, in bytes.
    offset: Field<u32>,
    /// What links are mixed with (`CONFIG_SLAB_FREELIST_HARDENED`).
    random: Field<u64>,
    /// Per-CPU: where each processor allocates from.
    cpu_slab: Field<VirtAddr>,
}

#[derive(Clone, Debug, Load)]
#[load(type = "kmem_cache_cpu")]
struct CpuSlab {
    freelist: Field<VirtAddr>,
    #[load(any("slab", "page"))]
    slab: Field<VirtAddr>,
}

#[derive(Clone, Debug, Load)]
#[load(type = "slab", type = "page")]
struct Fields {
    freelist: Field<VirtAddr>,
}

/// How a link is told from the word that holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Links {
    Plain,
    /// Mixed with a number and the address of the word: as it is (4.14), or with its bytes swapped (5.7).
    Mixed {
        random: u64,
        swapped: bool,
    },
}

impl Links {
    fn decode(self, word: u64, at: VirtAddr) -> VirtAddr {
        VirtAddr(match self {
            Self::Plain => word,
            Self::Mixed { random, swapped: false } => word ^ random ^ at.0,
            Self::Mixed { random, swapped: true } => word ^ random ^ at.0.swap_bytes(),
        })
    }
}

impl Slab {
    /// Whether an object of this slab is in use. `object` is what [`Slab::object_at`] gives.
    ///
    /// # Errors
    /// The allocator is not SLUB, keeps free objects where kdive does not look, or its lists cannot be read.
    pub fn state_of(&self, kernel: &Kernel, object: VirtAddr) -> Field<ObjectState> {
        if self.guarded.is_some() {
            return Err(Lacks::unavailable("KFENCE watches the object"));
        }
        if kernel.offset_of("kmem_cache", "cpu_sheaves").is_ok() {
            return Err(Lacks::unavailable("processors of this kernel keep free objects in sheaves"));
        }
        let cache: Cache = kernel.load(self.cache.at);
        let fields: Fields = kernel.load(self.at);
        if self.free(kernel, &cache, fields.freelist?)?.contains(&object) {
            return Ok(ObjectState::Free);
        }
        let (cpus, variable, loader) = (kernel.cpus()?, cache.cpu_slab.clone()?, kernel.loader::<CpuSlab>());
        for cpu in cpus.possible.iter().filter(|&cpu| cpu < cpus.limit) {
            let of_cpu = loader.load(cpus.per_cpu(variable, cpu)?);
            if of_cpu.slab? == self.at && self.free(kernel, &cache, of_cpu.freelist?)?.contains(&object) {
                return Ok(ObjectState::FreeOnCpu(cpu));
            }
        }
        Ok(ObjectState::Allocated)
    }

    /// The objects on a list of free ones.
    fn free(&self, kernel: &Kernel, cache: &Cache, first: VirtAddr) -> Field<FxHashSet<VirtAddr>> {
        let link = u64::from(cache.offset.clone()?);
        let ways = match &cache.random {
            Ok(random) => [true, false].map(|swapped| Links::Mixed { random: *random, swapped }).to_vec(),
            Err(Lacks::Member { .. }) => vec![Links::Plain],
            Err(lacks) => return Err(lacks.clone()),
        };
        let mut why = None;
        for way in ways {
            match self.follow(first, &|object| {
                let at = object.add(link);
                Ok(way.decode(kernel.memory().u64(at)?, at))
            }) {
                Ok(found) => return Ok(found),
                Err(lacks) => why = why.or(Some(lacks)),
            }
        }
        Err(why.unwrap_or(Lacks::Types))
    }

    /// Follows links from object to object of this slab until null.
    fn follow(
        &self,
        first: VirtAddr,
        next: &dyn Fn(VirtAddr) -> Field<VirtAddr>,
    ) -> Field<FxHashSet<VirtAddr>> {
        let mut found = FxHashSet::default();
        let mut object = first;
        while !object.is_null() {
            if self.object_at(object)? != Some(object) || !found.insert(object) {
                return Err(Lacks::implausible("a list of free objects that leaves its slab or loops"));
            }
            object = next(object)?;
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::slab;
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn lists_end_or_say_that_they_are_damaged(links in proptest::collection::vec(0_u64..12, 10)) {
            let slab = slab(Ok(64), Ok(0), Ok(10));
            // 10 stands for the end, 11 for an address in the middle of an object.
            let address = |link: u64| match link {
                10 => VirtAddr(0),
                11 => slab.start.add(8),
                index => slab.start.add(index * 64),
            };
            let next = |object: VirtAddr| Ok(address(links[(object.since(slab.start) / 64) as usize]));
            if let Ok(found) = slab.follow(address(links[0]), &next) {
                prop_assert!(found.len() <= 10);
                let mut at = address(links[0]);
                while !at.is_null() {
                    prop_assert!(found.contains(&at));
                    at = next(at).unwrap();
                }
            }
        }

        #[test]
        fn links_are_what_the_kernel_mixed(next: u64, at: u64, random: u64) {
            let mixed = next ^ random ^ at.swap_bytes();
            prop_assert_eq!(Links::Mixed { random, swapped: true }.decode(mixed, VirtAddr(at)), VirtAddr(next));
            prop_assert_eq!(Links::Plain.decode(next, VirtAddr(at)), VirtAddr(next));
        }
    }
}
