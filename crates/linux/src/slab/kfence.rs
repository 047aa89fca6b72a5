//! KFENCE: sampled allocations, each alone on a page between guard pages (mm/kfence/core.c). They belong to an ordinary
//! cache, but lie at either end of their page, where no cache's layout would put them.

use std::sync::Arc;

use kdive_base::{PAGE_SIZE, VirtAddr};
use kdive_target::{Field, Kernel, Load, Words};

use super::{SlabCache, Slabs};
use crate::pages::DirectMap;

#[derive(Clone, Debug, Load)]
#[load(type = "kfence_metadata")]
struct Metadata {
    addr: Field<VirtAddr>,
}

/// The pool of a kernel that samples.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kfence {
    pool: VirtAddr,
    /// The object on each page between guards, in order.
    objects: Vec<VirtAddr>,
}

/// `CONFIG_KFENCE_NUM_OBJECTS` is at most this.
const MOST_OBJECTS: u64 = 65535;
/// An object's page and the guard page behind it.
const SLOT_BYTES: u64 = 2 * PAGE_SIZE;

impl Kfence {
    /// `None` where KFENCE is not built in, or switched off.
    pub(super) fn find(kernel: &Kernel, direct: &Field<DirectMap>) -> Option<Self> {
        let (pool, table) = table(kernel, direct)?;
        let loader = kernel.loader::<Metadata>();
        let bytes = loader.size().ok()?;
        // Nothing says how many there are, but each one's address is on its page from the start.
        let objects = (0..MOST_OBJECTS).map_while(|index| {
            let object = loader.load(table.add(index * bytes)).addr.ok()?;
            (index_of(pool, object.page_start()) == Some(index)).then_some(object)
        });
        Some(Self { pool, objects: objects.collect() })
    }

    /// Where the object on the page at an address is; `None` for a page that is not of the pool.
    pub(super) fn object_on(&self, page: VirtAddr) -> Option<VirtAddr> {
        let object = self.objects.get(usize::try_from(index_of(self.pool, page)?).ok()?)?;
        Some(*object).filter(|object| object.page_start() == page)
    }
}

/// The pool and the table of its objects.
fn table(kernel: &Kernel, direct: &Field<DirectMap>) -> Option<(VirtAddr, VirtAddr)> {
    let memory = kernel.memory();
    let pool = memory.pointer(kernel.symbol("__kfence_pool").ok()?).ok()?;
    if pool.is_null() {
        return None;
    }
    let table = kernel.symbol("kfence_metadata").ok()?;
    // The array itself, since 6.6 a pointer to it. Its first word is a list link between static objects: only the
    // pointer leads into the direct map.
    let word = memory.pointer(table).ok()?;
    let is_pointer = direct.as_ref().ok()?.phys_of(word).is_some();
    Some((pool, if is_pointer { word } else { table }))
}

/// Who allocated or freed an object, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuardedTrack {
    /// The task.
    pub pid: Option<i32>,
    /// By the scheduler's clock, in nanoseconds since boot (5.18).
    pub when_ns: Option<u64>,
    /// The stack, innermost first.
    pub stack: Vec<VirtAddr>,
}

/// An object of KFENCE that was allocated at least once.
#[derive(Clone, Debug)]
pub struct Guarded {
    /// Its address.
    pub object: VirtAddr,
    /// Its bytes, as asked for.
    pub bytes: Option<u64>,
    /// Its cache.
    pub cache: Option<Arc<SlabCache>>,
    /// Whether it was freed, and its page kept against late uses.
    pub is_freed: bool,
    /// Who allocated it.
    pub allocated: GuardedTrack,
    /// Who freed it.
    pub freed: Option<GuardedTrack>,
}

#[derive(Clone, Debug, Load)]
#[load(type = "kfence_metadata")]
struct Described {
    state: Field<u32>,
    addr: Field<VirtAddr>,
    size: Field<u64>,
    cache: Field<VirtAddr>,
    #[load(any("alloc_track.pid"))]
    alloc_pid: Field<i32>,
    #[load(any("alloc_track.ts_nsec"))]
    alloc_ns: Field<u64>,
    #[load(any("alloc_track.num_stack_entries"))]
    alloc_frames: Field<u32>,
    #[load(any("alloc_track.stack_entries"))]
    alloc_stack: Field<Words>,
    #[load(any("free_track.pid"))]
    free_pid: Field<i32>,
    #[load(any("free_track.ts_nsec"))]
    free_ns: Field<u64>,
    #[load(any("free_track.num_stack_entries"))]
    free_frames: Field<u32>,
    #[load(any("free_track.stack_entries"))]
    free_stack: Field<Words>,
}

/// The objects of KFENCE, by address; `None` where it is not built in or switched off.
///
/// # Errors
/// The kernel's types do not tell what an object's state means.
pub fn guarded(kernel: &Kernel) -> Field<Option<Vec<Guarded>>> {
    let slabs = Slabs::find(kernel);
    let (Some(kfence), Some((_, table))) = (&slabs.kfence, table(kernel, &slabs.pages.direct)) else {
        return Ok(None);
    };
    let value = |name: &str| kernel.enumerator(name).map(|value| u32::try_from(value).unwrap_or(u32::MAX));
    let unused = value("KFENCE_OBJECT_UNUSED")?;
    let allocated = value("KFENCE_OBJECT_ALLOCATED")?;
    let loader = kernel.loader::<Described>();
    let bytes = loader.size()?;
    let mut found = Vec::new();
    for index in 0..kfence.objects.len() as u64 {
        let of = loader.load(table.add(index.saturating_mul(bytes)));
        let (Ok(state), Ok(object)) = (of.state, of.addr) else { continue };
        if state == unused {
            continue;
        }
        let is_freed = state != allocated;
        let cache = of.cache.ok().filter(|at| !at.is_null());
        found.push(Guarded {
            object,
            bytes: of.size.ok(),
            cache: cache.map(|at| slabs.cache(kernel, at)),
            is_freed,
            allocated: track(of.alloc_pid, of.alloc_ns, of.alloc_frames, of.alloc_stack),
            freed: is_freed.then(|| track(of.free_pid, of.free_ns, of.free_frames, of.free_stack)),
        });
    }
    found.sort_by_key(|guarded| guarded.object);
    Ok(Some(found))
}

fn track(pid: Field<i32>, when: Field<u64>, frames: Field<u32>, stack: Field<Words>) -> GuardedTrack {
    let words = stack.map(|Words(words)| words).unwrap_or_default();
    let frames = frames.unwrap_or(0) as usize;
    GuardedTrack {
        pid: pid.ok(),
        when_ns: when.ok().filter(|&ns| ns != 0),
        stack: words.into_iter().take(frames).map(VirtAddr).collect(),
    }
}

impl GuardedTrack {
    /// Where the allocator was called from: the first frame that is not its own.
    #[must_use]
    pub fn caller(&self, kernel: &Kernel) -> Option<VirtAddr> {
        let is_allocator = |at: &VirtAddr| {
            kernel.place(*at).is_some_and(|place| is_allocator(crate::tasks::plain_name(place.symbol.name)))
        };
        self.stack.iter().find(|at| !is_allocator(at)).or(self.stack.first()).copied()
    }
}

fn is_allocator(function: &str) -> bool {
    const BEGINNINGS: [&str; 12] = [
        "kfence_",
        "__kfence_",
        "kmem_cache_",
        "__kmem_cache_",
        "kmalloc",
        "__kmalloc",
        "kfree",
        "krealloc",
        "__krealloc",
        "kvmalloc",
        "__kvmalloc",
        "slab_",
    ];
    BEGINNINGS.iter().any(|beginning| function.starts_with(beginning))
}

/// The number of the object whose page, or the guard page behind it, is at an address: the pool starts with two guards.
fn index_of(pool: VirtAddr, page: VirtAddr) -> Option<u64> {
    (page.0.checked_sub(pool.0)? / SLOT_BYTES).checked_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_found_on_their_pages_between_guards() {
        let pool = VirtAddr(0xffff_8880_1000_0000);
        let objects = vec![pool.add(2 * PAGE_SIZE), pool.add(4 * PAGE_SIZE + 0xf00)];
        let kfence = Kfence { pool, objects: objects.clone() };
        let on = |page: u64| kfence.object_on(pool.add(page * PAGE_SIZE));
        assert_eq!(kfence.object_on(pool.sub(PAGE_SIZE)), None);
        assert_eq!((on(0), on(1), on(3), on(5), on(6)), (None, None, None, None, None));
        assert_eq!((on(2), on(4)), (Some(objects[0]), Some(objects[1])));
    }

    #[test]
    fn callers_are_behind_the_allocator() {
        for name in ["__kmalloc_noprof", "kmem_cache_alloc_noprof", "kfence_guarded_free", "kfree"] {
            assert!(is_allocator(name), "{name}");
        }
        assert!(!is_allocator("hold_guarded") && !is_allocator("kernfs_new_node"));
    }
}
