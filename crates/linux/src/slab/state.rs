//! Which objects of a slab are free: SLUB's lists of free objects (mm/slub.c).

use std::cell::OnceCell;

use kdive_base::{Endian, VirtAddr};
use kdive_target::{Field, Kernel, Lacks, Load};
use rustc_hash::{FxHashMap, FxHashSet};
use serde::Serialize;

use super::{Keeper, Lists, Slab};

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
    /// Free, and in a processor's sheaf.
    FreeInSheaf(u32),
    /// Freed, and in a processor's sheaf until a grace period of RCU ends.
    FreeAfterRcu(u32),
    /// Free, and in a sheaf of a node's barn.
    FreeInBarn(u32),
}

impl ObjectState {
    const fn kept_by(keeper: Keeper) -> Self {
        match keeper {
            Keeper::Main(cpu) | Keeper::Spare(cpu) => Self::FreeInSheaf(cpu),
            Keeper::Rcu(cpu) => Self::FreeAfterRcu(cpu),
            Keeper::Barn(node) => Self::FreeInBarn(node),
        }
    }
}

#[derive(Clone, Debug, Load)]
#[load(type = "kmem_cache")]
struct Cache {
    /// Where a free object holds the link to the next, in bytes.
    offset: Field<u32>,
    /// What links are mixed with (`CONFIG_SLAB_FREELIST_HARDENED`).
    random: Field<u64>,
}

/// What SLUB counts in a slab.
#[derive(Clone, Debug, Load)]
#[load(type = "slab", type = "page")]
pub struct Counts {
    /// Its first free object; null where it has none, or where a processor took all of them onto its own list.
    pub freelist: Field<VirtAddr>,
    /// Objects in use, those on a processor's own list included.
    pub inuse: Field<u32>,
    /// All objects.
    pub objects: Field<u32>,
}

/// How the free objects of a cache are linked.
#[derive(Clone, Debug)]
struct FreeLinks {
    /// Where an object holds the link, in bytes.
    offset: u64,
    /// How the link may be mixed: the kernel's types do not tell.
    ways: Vec<Links>,
}

impl FreeLinks {
    /// Those of the cache at an address (`struct kmem_cache`).
    ///
    /// # Errors
    /// The allocator is not SLUB, or the structure cannot be read.
    fn find(kernel: &Kernel, cache: VirtAddr) -> Field<Self> {
        let cache: Cache = kernel.load(cache);
        let ways = match &cache.random {
            Ok(random) => [true, false].map(|swapped| Links::Mixed { random: *random, swapped }).to_vec(),
            Err(Lacks::Member { .. }) => vec![Links::Plain],
            Err(lacks) => return Err(lacks.clone()),
        };
        Ok(Self { offset: cache.offset?.into(), ways })
    }
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

/// The free objects of a cache that are kept apart from their slabs, and what is asked of each slab.
pub struct FreeObjects {
    links: FreeLinks,
    /// The slab that each processor allocates from, and the first object of the processor's own list.
    cpus: Vec<(u32, VirtAddr, VirtAddr)>,
    sheaves: FxHashMap<VirtAddr, Keeper>,
}

impl FreeObjects {
    /// Those of a cache.
    ///
    /// # Errors
    /// The allocator is not SLUB, or what is kept cannot be read: then an object that seems in use may be free.
    pub fn find(kernel: &Kernel, cache: VirtAddr, lists: &Lists) -> Field<Self> {
        let links = FreeLinks::find(kernel, cache)?;
        if let Some(lacks) = lists.lacking.first() {
            return Err(lacks.clone());
        }
        let mut cpus = Vec::new();
        for of in &lists.cpus {
            let (slab, first) = (of.slab.clone()?, of.freelist.clone()?);
            if !slab.is_null() {
                cpus.push((of.cpu, slab, first));
            }
        }
        let mut sheaves = FxHashMap::default();
        for sheaf in &lists.sheaves {
            sheaves.extend(sheaf.objects.clone()?.into_iter().map(|object| (object, sheaf.keeper)));
        }
        Ok(Self { links, cpus, sheaves })
    }

    /// Where a free object holds the link to the next, in bytes.
    #[must_use]
    pub fn link_offset(&self) -> usize {
        usize::try_from(self.links.offset).unwrap_or(usize::MAX)
    }

    /// How many objects of a slab are on a processor's own list.
    ///
    /// # Errors
    /// The list cannot be followed.
    pub fn on_cpu(&self, kernel: &Kernel, slab: &Slab, cpu: u32) -> Field<usize> {
        let memory = SlabMemory::new(kernel, slab);
        let of = self.cpus.iter().find(|(of, at, _)| *of == cpu && *at == slab.at);
        of.map_or(Ok(0), |(_, _, first)| Ok(slab.free(&memory, &self.links, *first)?.len()))
    }

    /// The objects of a slab that are free, and who keeps each.
    ///
    /// # Errors
    /// A list of free objects cannot be followed.
    pub fn of_slab(&self, kernel: &Kernel, slab: &Slab) -> Field<FxHashMap<VirtAddr, ObjectState>> {
        let counts: Counts = kernel.load(slab.at);
        let memory = SlabMemory::new(kernel, slab);
        let mut free = FxHashMap::default();
        let cpu = self.cpus.iter().find(|(_, of, _)| *of == slab.at);
        // Only that processor allocates from the slab: what others freed is for it too.
        let state = cpu.map_or(ObjectState::Free, |(cpu, ..)| ObjectState::FreeOnCpu(*cpu));
        let kept = cpu.map_or(VirtAddr(0), |(_, _, first)| *first);
        for first in [counts.freelist?, kept] {
            let listed = slab.free(&memory, &self.links, first)?;
            free.extend(listed.into_iter().map(|object| (object, state)));
        }
        if !self.sheaves.is_empty() {
            let objects = slab.objects()?;
            let kept = objects.into_iter().filter_map(|object| Some((object, self.sheaves.get(&object)?)));
            free.extend(kept.map(|(object, keeper)| (object, ObjectState::kept_by(*keeper))));
        }
        Ok(free)
    }
}

/// The memory of a slab: read at once, for a list of free objects jumps about in it.
struct SlabMemory<'k> {
    kernel: &'k Kernel,
    start: VirtAddr,
    bytes: OnceCell<Vec<u8>>,
    length: usize,
}

impl<'k> SlabMemory<'k> {
    fn new(kernel: &'k Kernel, slab: &Slab) -> Self {
        /// The largest slab that is read whole: 32 KiB is usual.
        const MOST_BYTES: u64 = 1 << 18;
        let objects = slab.objects.clone().unwrap_or(0);
        let length = slab.cache.stride().unwrap_or(0).saturating_mul(objects.into());
        let length = if length > MOST_BYTES { 0 } else { length as usize };
        Self { kernel, start: slab.start, bytes: OnceCell::new(), length }
    }

    fn word(&self, at: VirtAddr) -> Field<u64> {
        let bytes = self.bytes.get_or_init(|| {
            let mut bytes = vec![0; self.length];
            let (count, _) = self.kernel.memory().read(self.start, &mut bytes);
            bytes.truncate(count);
            bytes
        });
        let inside = usize::try_from(at.since(self.start)).ok();
        match inside.and_then(|inside| Endian::Little.u64(bytes, inside)) {
            Some(word) => Ok(word),
            None => Ok(self.kernel.memory().u64(at)?),
        }
    }
}

impl Slab {
    /// Whether an object of this slab is in use. `object` is what [`Slab::object_at`] gives.
    ///
    /// # Errors
    /// The allocator is not SLUB, or its lists cannot be read.
    pub fn state_of(&self, kernel: &Kernel, object: VirtAddr) -> Field<ObjectState> {
        if self.guarded.is_some() {
            return Err(Lacks::unavailable("KFENCE watches the object"));
        }
        let lists = Lists::find(kernel, self.cache.at);
        let free = FreeObjects::find(kernel, self.cache.at, &lists)?.of_slab(kernel, self)?;
        Ok(free.get(&object).copied().unwrap_or(ObjectState::Allocated))
    }

    /// The slab's objects, in order.
    ///
    /// # Errors
    /// The cache's sizes or the slab's count are lacking.
    pub fn objects(&self) -> Field<Vec<VirtAddr>> {
        /// A slab of 4 MiB of objects of 8 bytes.
        const MOST: u32 = 1 << 19;
        if let Some(object) = self.guarded {
            return Ok(vec![object]);
        }
        let (stride, pad, count) = (self.cache.stride()?, self.cache.pad.clone()?, self.objects.clone()?);
        if count > MOST {
            return Err(Lacks::implausible(format_args!("a slab of {count} objects")));
        }
        Ok((0..u64::from(count)).map(|index| self.start.add(index * stride + u64::from(pad))).collect())
    }

    /// The objects on a list of free ones.
    fn free(
        &self,
        memory: &SlabMemory<'_>,
        links: &FreeLinks,
        first: VirtAddr,
    ) -> Field<FxHashSet<VirtAddr>> {
        let mut why = None;
        for way in &links.ways {
            match self.follow(first, &|object| {
                let at = object.add(links.offset);
                Ok(way.decode(memory.word(at)?, at))
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
