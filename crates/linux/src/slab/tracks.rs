//! Who allocated objects: the tracks that SLUB keeps while it is debugged (`slab_debug=U`; `struct track`, mm/slub.c), and
//! their stacks in the stack depot (lib/stackdepot.c).

use std::sync::Arc;

use kdive_base::{Cancel, Endian, VirtAddr};
use kdive_target::{Field, Kernel, Lacks, Load, Loader, MemberAddress, Words};
use rayon::prelude::*;
use rustc_hash::FxHashMap;

use super::{AllSlabs, FreeObjects, Lists, SlabCache, Slabs};

/// The objects in use of one cache that one place in the kernel allocated.
#[derive(Clone, Debug)]
pub struct Owner {
    /// The cache.
    pub cache: Arc<SlabCache>,
    /// Where the allocator was called from.
    pub caller: VirtAddr,
    /// The stack, innermost first; empty where the kernel kept none, or where it was not asked for.
    pub stack: Vec<VirtAddr>,
    /// Objects.
    pub objects: u64,
    /// Their memory, with what the allocator adds.
    pub bytes: u64,
    /// When the oldest and the newest were allocated, in jiffies.
    pub when: (u64, u64),
    /// The task that allocated the newest.
    pub pid: Option<i32>,
    /// The newest.
    pub example: VirtAddr,
}

/// What the tracks say.
#[derive(Debug, Default)]
pub struct Owners {
    /// The most memory first.
    pub list: Vec<Owner>,
    /// Caches with tracks.
    pub tracked_caches: u64,
    /// All caches.
    pub caches: u64,
    /// Objects in use whose track is empty.
    pub unknown: u64,
    /// Caches whose objects could not be told from free ones, and why the first could not.
    pub skipped: Option<(u64, Lacks)>,
}

#[derive(Clone, Debug, Load)]
#[load(type = "track")]
struct Track {
    addr: Field<VirtAddr>,
    /// In the stack depot (6.0).
    handle: Field<u32>,
    /// The stack itself (before 6.0).
    addrs: Field<Words>,
    pid: Field<i32>,
    when: Field<u64>,
}

#[derive(Clone, Debug, Load)]
#[load(type = "kmem_cache")]
struct CacheFields {
    flags: Field<u32>,
    offset: Field<u32>,
    inuse: Field<u32>,
}

impl CacheFields {
    /// Where the tracks of an object begin, from its first byte on (`get_info_end`): behind the object, and behind the link
    /// of free ones where that has a place of its own.
    fn tracks_at(&self, store_user: u32) -> Field<Option<u64>> {
        if self.flags.clone()? & store_user == 0 {
            return Ok(None);
        }
        let (offset, inuse) = (self.offset.clone()?, u64::from(self.inuse.clone()?));
        Ok(Some(if u64::from(offset) >= inuse { inuse.saturating_add(8) } else { inuse }))
    }
}

/// `SLAB_STORE_USER`: its bit moves with the kernel's configuration since 6.9, which then has names for it.
fn store_user(kernel: &Kernel) -> u32 {
    const BEFORE: u32 = 0x0001_0000;
    let named = kernel.enumerator("_SLAB_STORE_USER").ok().and_then(|bit| u32::try_from(bit).ok());
    named.and_then(|bit| 1_u32.checked_shl(bit)).unwrap_or(BEFORE)
}

/// What is told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Callers of the allocator.
    Caller,
    /// The whole stacks.
    Stack,
}

/// The owners of all objects in use of all caches with tracks.
///
/// # Errors
/// The kernel's slabs cannot be found.
pub fn owners(kernel: &Kernel, by: By, cancel: &Cancel) -> Field<Owners> {
    let slabs = Slabs::find(kernel);
    let caches = slabs.caches(kernel)?.list;
    let (bit, loader) = (store_user(kernel), kernel.loader::<CacheFields>());
    let mut tracked = Vec::new();
    for cache in &caches {
        if let Some(at) = loader.load(cache.at).tracks_at(bit).ok().flatten() {
            tracked.push((cache.clone(), at));
        }
    }
    let mut found =
        Owners { caches: caches.len() as u64, tracked_caches: tracked.len() as u64, ..Owners::default() };
    if tracked.is_empty() {
        return Ok(found);
    }
    let all = AllSlabs::find(kernel)?;
    let depot = match by {
        By::Caller => None,
        By::Stack => Some(StackDepot::find(kernel)),
    };
    let of_caches: Vec<Field<(Vec<Owner>, u64)>> = tracked
        .par_iter()
        .map(|(cache, at)| match cancel.is_cancelled() {
            true => Ok((Vec::new(), 0)),
            false => of_cache(kernel, &slabs, cache, all.of(cache.at), *at, depot.as_ref()),
        })
        .collect();
    for of in of_caches {
        match of {
            Ok((owners, unknown)) => {
                found.list.extend(owners);
                found.unknown = found.unknown.saturating_add(unknown);
            }
            Err(lacks) => {
                let (count, why) = found.skipped.take().unwrap_or((0, lacks));
                found.skipped = Some((count.saturating_add(1), why));
            }
        }
    }
    found.list.sort_by_key(|owner| (std::cmp::Reverse(owner.bytes), owner.caller));
    Ok(found)
}

/// The owners of a cache's objects, and how many objects have none.
fn of_cache(
    kernel: &Kernel,
    slabs: &Slabs,
    cache: &Arc<SlabCache>,
    of_cache: &[VirtAddr],
    tracks_at: u64,
    depot: Option<&Field<StackDepot<'_>>>,
) -> Field<(Vec<Owner>, u64)> {
    let loader = kernel.loader::<Track>();
    let lists = Lists::find(kernel, cache.at);
    let free = FreeObjects::find(kernel, cache.at, &lists)?;
    let stride = cache.stride()?;
    let (mut found, mut unknown) = (FxHashMap::<(VirtAddr, Vec<VirtAddr>, u32), Owner>::default(), 0_u64);
    for at in of_cache {
        let Some(slab) = slabs.slab(kernel, *at)?.filter(|slab| slab.guarded.is_none()) else { continue };
        let taken = free.of_slab(kernel, &slab)?;
        for object in slab.objects()?.into_iter().filter(|object| !taken.contains_key(object)) {
            let track = loader.load(object.add(tracks_at));
            let caller = track.addr.clone().unwrap_or(VirtAddr(0));
            if caller.0 >> 63 == 0 {
                unknown = unknown.saturating_add(1);
                continue;
            }
            let key = match depot {
                Some(_) => (caller, inline_stack(&track), track.handle.clone().unwrap_or(0)),
                None => (caller, Vec::new(), 0),
            };
            let when = track.when.clone().unwrap_or(0);
            let owner = found.entry(key).or_insert_with(|| Owner {
                cache: cache.clone(),
                caller,
                stack: Vec::new(),
                objects: 0,
                bytes: 0,
                when: (u64::MAX, 0),
                pid: None,
                example: object,
            });
            owner.objects = owner.objects.saturating_add(1);
            owner.bytes = owner.bytes.saturating_add(stride);
            owner.when.0 = owner.when.0.min(when);
            if when >= owner.when.1 {
                (owner.when.1, owner.pid, owner.example) = (when, track.pid.clone().ok(), object);
            }
        }
    }
    let named = found.into_iter().map(|((_, inline, handle), owner)| {
        let stack = match (inline.is_empty(), depot) {
            (true, Some(Ok(depot))) => depot.stack(handle).unwrap_or_default(),
            _ => inline,
        };
        Owner { stack, ..owner }
    });
    Ok((named.collect(), unknown))
}

/// The stack of a track that holds it itself: up to the first empty entry.
fn inline_stack(track: &Track) -> Vec<VirtAddr> {
    match &track.addrs {
        Ok(Words(words)) => {
            words.iter().take_while(|word| **word >> 63 == 1).map(|word| VirtAddr(*word)).collect()
        }
        Err(_) => Vec::new(),
    }
}

/// The stack depot: stacks by their handle.
pub struct StackDepot<'k> {
    kernel: &'k Kernel,
    record: Loader<'k, Record>,
    pool: Part,
    /// Pools are counted from 1 (6.9).
    from_one: bool,
    offset: Part,
    pools: VirtAddr,
}

#[derive(Clone, Debug, Load)]
#[load(type = "stack_record")]
struct Record {
    size: Field<u32>,
    #[load(any("handle.handle"))]
    handle: Field<u32>,
    entries: Field<MemberAddress>,
}

/// Some bits of a handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    first: u32,
    width: u32,
}

impl Part {
    fn of(self, handle: u32) -> u64 {
        let mask = 1_u64.checked_shl(self.width).unwrap_or(0).wrapping_sub(1);
        u64::from(handle).checked_shr(self.first).unwrap_or(0) & mask
    }
}

/// `DEPOT_STACK_ALIGN`.
const ALIGN: u32 = 4;
/// `CONFIG_STACKDEPOT_MAX_FRAMES` is 256 at most.
const MOST_FRAMES: u32 = 256;

impl<'k> StackDepot<'k> {
    /// The depot of this kernel.
    ///
    /// # Errors
    /// It was built without, or its layout is not known.
    pub fn find(kernel: &'k Kernel) -> Field<Self> {
        let part = |names: &[&str]| -> Field<Part> {
            let member = kernel.member("handle_parts", names)?;
            let (first, width) = member.bits.unwrap_or((0, (member.bytes as u32).saturating_mul(8)));
            Ok(Part { first: (member.offset as u32).saturating_mul(8).saturating_add(first), width })
        };
        let from_one = part(&["pool_index_plus_1"]);
        Ok(Self {
            kernel,
            record: kernel.loader(),
            from_one: from_one.is_ok(),
            pool: from_one.or_else(|_| part(&["pool_index", "slabindex"]))?,
            offset: part(&["offset"])?,
            pools: kernel.any_symbol(&["stack_pools", "stack_slabs"])?,
        })
    }

    /// The stack of a handle, innermost first.
    ///
    /// # Errors
    /// There is no such stack.
    pub fn stack(&self, handle: u32) -> Field<Vec<VirtAddr>> {
        let memory = self.kernel.memory();
        let number = self.pool.of(handle).checked_sub(u64::from(self.from_one));
        let none = || Lacks::implausible(format_args!("the stack depot has no stack {handle:#x}"));
        let number = number.filter(|_| handle != 0).ok_or_else(none)?;
        let offset = self.offset.of(handle) << ALIGN;
        // An array of pointers to pools, or a pointer to such an array: the right one leads to a record of this handle.
        let tables = [Some(self.pools), memory.pointer(self.pools).ok()];
        for table in tables.into_iter().flatten() {
            let Ok(pool) = memory.pointer(table.add(number.wrapping_mul(8))) else { continue };
            let record = self.record.load(pool.add(offset));
            let same = |found: u32| {
                self.pool.of(found) == self.pool.of(handle) && self.offset.of(found) == self.offset.of(handle)
            };
            if pool.is_null() || !record.handle.is_ok_and(same) {
                continue;
            }
            let (count, MemberAddress(at)) = (record.size?.min(MOST_FRAMES), record.entries?);
            let bytes = memory.bytes(at, count as usize * 8)?;
            let words = (0..count as usize).filter_map(|index| Endian::Little.u64(&bytes, index * 8));
            return Ok(words.map(VirtAddr).collect());
        }
        Err(none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tracks_lie_behind_the_object_and_its_link() {
        let cache = |flags, offset| CacheFields { flags: Ok(flags), offset: Ok(offset), inuse: Ok(192) };
        assert_eq!(cache(0x0001_0000, 96).tracks_at(0x0001_0000), Ok(Some(192)));
        assert_eq!(cache(0x0001_0000, 192).tracks_at(0x0001_0000), Ok(Some(200)));
        assert_eq!(cache(0, 192).tracks_at(0x0001_0000), Ok(None));
    }

    #[test]
    fn handles_have_parts() {
        // 16 bits of a pool, 10 of an offset: 6.12.
        let (pool, offset) = (Part { first: 0, width: 17 }, Part { first: 17, width: 10 });
        let handle = 5 | 77 << 17 | 1 << 27;
        assert_eq!((pool.of(handle), offset.of(handle)), (5, 77));
    }
}
