//! Objects that look lost: many of one cache with the same content, to which nothing in the kernel's memory points.
//!
//! Many objects of the same content are suspicious, and no more: healthy kernels have thousands of them. But an object
//! that is in use and that nothing points to can never be freed. Both together are what is reported.

use std::hash::Hasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kdive_base::{Cancel, Endian, PAGE_SIZE, Pfn, VirtAddr};
use kdive_target::{Field, Kernel, Lacks};
use rayon::prelude::*;
use rustc_hash::{FxHashMap, FxHasher};

use crate::pages::{DirectMap, Kinds, Page, PageArray, PageKind, Pages};

use super::{AllSlabs, FreeObjects, Lists, Slab, SlabCache, Slabs};

/// From where on equal objects are looked at more closely.
#[derive(Clone, Copy, Debug)]
pub struct Threshold {
    /// So many objects of the same content.
    pub objects: u64,
    /// Or so many bytes of them.
    pub bytes: u64,
}

/// Objects of one cache with the same content.
#[derive(Clone, Debug)]
pub struct Suspect {
    /// The cache.
    pub cache: Arc<SlabCache>,
    /// Objects in use with this content.
    pub objects: u64,
    /// Those of them to which nothing points.
    pub unreferenced: u64,
    /// Memory of those.
    pub bytes: u64,
    /// One of those.
    pub example: VirtAddr,
    /// Its first bytes.
    pub content: Vec<u8>,
}

/// What was found, and how far the search went.
#[derive(Debug, Default)]
pub struct Leaks {
    /// The most memory first.
    pub suspects: Vec<Suspect>,
    /// Objects in use that were compared.
    pub compared: u64,
    /// Pages that were searched for pointers; 0 where no objects were alike.
    pub searched_pages: u64,
    /// Pages of the kernel that could not be searched: pointers may be in them.
    pub unread_pages: u64,
    /// Caches whose objects could not be told from free ones, and why the first could not.
    pub skipped: Option<(u64, Lacks)>,
}

/// Objects are compared up to here.
const MOST_COMPARED: usize = 4096;
/// Bytes of an example that are kept.
const MOST_CONTENT: usize = 96;
/// Of ten suspects, those that nothing may point to: a stale pointer on a stack must not hide a leak of thousands.
const TENTHS: u64 = 9;

/// Looks for lost objects.
///
/// # Errors
/// The kernel's slabs or page structures cannot be found.
pub fn find(kernel: &Kernel, threshold: Threshold, cancel: &Cancel) -> Field<Leaks> {
    let slabs = Slabs::find(kernel);
    let all = AllSlabs::find(kernel)?;
    let direct = Pages::find(kernel).direct.clone()?;
    let caches = slabs.caches(kernel)?.list;
    let compared: Vec<(u64, Field<Vec<Group>>)> = caches
        .par_iter()
        .map(|cache| match cancel.is_cancelled() {
            true => (0, Ok(Vec::new())),
            false => compare(kernel, &slabs, cache, all.of(cache.at), threshold),
        })
        .collect();
    let mut leaks = Leaks::default();
    let mut groups = Vec::new();
    for (count, found) in compared {
        leaks.compared = leaks.compared.saturating_add(count);
        match found {
            Ok(found) => groups.extend(found),
            Err(lacks) => {
                let (count, why) = leaks.skipped.take().unwrap_or((0, lacks));
                leaks.skipped = Some((count.saturating_add(1), why));
            }
        }
    }
    if groups.is_empty() {
        return Ok(leaks);
    }
    let candidates = Candidates::new(&groups, &direct);
    (leaks.searched_pages, leaks.unread_pages) = search(kernel, &candidates, &direct, cancel)?;
    leaks.suspects = groups
        .iter()
        .enumerate()
        .filter_map(|(index, group)| candidates.suspect(kernel, index, group))
        .collect();
    leaks.suspects.sort_by_key(|suspect| std::cmp::Reverse(suspect.bytes));
    Ok(leaks)
}

/// Objects of the same content.
struct Group {
    cache: Arc<SlabCache>,
    stride: u64,
    bytes: u64,
    objects: Vec<VirtAddr>,
}

/// The groups of a cache that are large enough, and how many objects were compared.
fn compare(
    kernel: &Kernel,
    slabs: &Slabs,
    cache: &Arc<SlabCache>,
    of_cache: &[VirtAddr],
    threshold: Threshold,
) -> (u64, Field<Vec<Group>>) {
    let mut by_content: FxHashMap<u64, Vec<VirtAddr>> = FxHashMap::default();
    let mut count = 0_u64;
    let mut compare_all = || -> Field<u64> {
        let stride = cache.stride()?;
        if of_cache.is_empty() {
            return Ok(stride);
        }
        let lists = Lists::find(kernel, cache.at);
        let free = FreeObjects::find(kernel, cache.at, &lists)?;
        let size = (cache.object_size.clone()? as usize).min(MOST_COMPARED);
        for at in of_cache {
            let Some(slab) = slabs.slab(kernel, *at)?.filter(|slab| slab.guarded.is_none()) else { continue };
            let taken = free.of_slab(kernel, &slab)?;
            let content = Content::read(kernel, &slab, stride);
            for object in slab.objects()?.into_iter().filter(|object| !taken.contains_key(object)) {
                let Some(bytes) = content.of(object, size) else { continue };
                count = count.saturating_add(1);
                by_content.entry(hash(bytes, free.link_offset())).or_default().push(object);
            }
        }
        Ok(stride)
    };
    let stride = match compare_all() {
        Ok(stride) => stride,
        Err(lacks) => return (count, Err(lacks)),
    };
    let large = |objects: &[VirtAddr]| {
        let count = objects.len() as u64;
        count >= threshold.objects || count > 1 && count.saturating_mul(stride) >= threshold.bytes
    };
    let groups = by_content.into_values().filter(|objects| large(objects));
    let bytes = cache.object_size.clone().map_or(0, u64::from);
    (count, Ok(groups.map(|objects| Group { cache: cache.clone(), stride, bytes, objects }).collect()))
}

/// The memory of a slab, read at once.
struct Content {
    start: VirtAddr,
    bytes: Vec<u8>,
}

impl Content {
    fn read(kernel: &Kernel, slab: &Slab, stride: u64) -> Self {
        /// The largest slab that is read whole.
        const MOST_BYTES: u64 = 1 << 20;
        let objects = u64::from(slab.objects.clone().unwrap_or(0));
        let mut bytes = vec![0; objects.saturating_mul(stride).min(MOST_BYTES) as usize];
        let (count, _) = kernel.memory().read(slab.start, &mut bytes);
        bytes.truncate(count);
        Self { start: slab.start, bytes }
    }

    fn of(&self, object: VirtAddr, size: usize) -> Option<&[u8]> {
        let from = usize::try_from(object.since(self.start)).ok()?;
        self.bytes.get(from..from.checked_add(size)?)
    }
}

/// Of the content without the word that linked the object while it was free: nobody may have overwritten it since.
fn hash(bytes: &[u8], link: usize) -> u64 {
    let mut hasher = FxHasher::default();
    for (index, word) in bytes.chunks(8).enumerate() {
        let is_link = index.saturating_mul(8) == link;
        hasher.write(if is_link { &[] } else { word });
        hasher.write_usize(word.len());
    }
    hasher.finish()
}

/// The objects of all groups, by the frame that they lie in.
struct Candidates {
    /// Position of the object, and the group: sorted by address.
    objects: Vec<(u64, u32)>,
    /// Length of each group's objects.
    lengths: Vec<u64>,
    referenced: Vec<AtomicU64>,
    /// The frames that they lie in, 64 to a word: memory may have holes of any size.
    frames: FxHashMap<u64, u64>,
}

impl Candidates {
    fn new(groups: &[Group], direct: &DirectMap) -> Self {
        let mut objects = Vec::new();
        for (index, group) in groups.iter().enumerate() {
            objects.extend(group.objects.iter().map(|object| (object.0, index as u32)));
        }
        objects.sort_unstable();
        let lengths: Vec<u64> = groups.iter().map(|group| group.bytes.max(1)).collect();
        let frames_of = |at: u64| (at.saturating_sub(direct.start.0)) / PAGE_SIZE;
        let mut frames: FxHashMap<u64, u64> = FxHashMap::default();
        for (at, group) in &objects {
            let length = lengths.get(*group as usize).copied().unwrap_or(1);
            for frame in frames_of(*at)..=frames_of(at.saturating_add(length).saturating_sub(1)) {
                *frames.entry(frame / 64).or_default() |= 1 << (frame % 64);
            }
        }
        let referenced = (0..objects.len().div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Self { objects, lengths, referenced, frames }
    }

    /// Notes what a word found at an address points to; an object's pointers to itself hold nothing.
    fn note(&self, word: u64, found_at: u64, direct: &DirectMap) {
        let Some(inside) = word.checked_sub(direct.start.0) else { return };
        let frame = inside / PAGE_SIZE;
        let bits = self.frames.get(&(frame / 64)).copied().unwrap_or(0);
        if bits >> (frame % 64) & 1 == 0 {
            return;
        }
        let Some((index, start, end)) = self.object_at(word) else { return };
        if (start..end).contains(&found_at) {
            return;
        }
        if let Some(bits) = self.referenced.get(index / 64) {
            bits.fetch_or(1 << (index % 64), Ordering::Relaxed);
        }
    }

    fn object_at(&self, address: u64) -> Option<(usize, u64, u64)> {
        let index = self.objects.partition_point(|(at, _)| *at <= address).checked_sub(1)?;
        let (start, group) = self.objects.get(index)?;
        let end = start.saturating_add(*self.lengths.get(*group as usize)?);
        (address < end).then_some((index, *start, end))
    }

    fn is_referenced(&self, index: usize) -> bool {
        let bits = self.referenced.get(index / 64).map_or(u64::MAX, |bits| bits.load(Ordering::Relaxed));
        bits >> (index % 64) & 1 == 1
    }

    /// A group, if hardly anything points to its objects.
    fn suspect(&self, kernel: &Kernel, number: usize, group: &Group) -> Option<Suspect> {
        let lost: Vec<VirtAddr> = group
            .objects
            .iter()
            .filter(|object| {
                let found = self.objects.binary_search(&(object.0, number as u32));
                found.is_ok_and(|index| !self.is_referenced(index))
            })
            .copied()
            .collect();
        let (unreferenced, objects) = (lost.len() as u64, group.objects.len() as u64);
        if unreferenced.saturating_mul(10) < objects.saturating_mul(TENTHS) {
            return None;
        }
        let example = *lost.first()?;
        let mut content = vec![0; (group.bytes as usize).min(MOST_CONTENT)];
        let (count, _) = kernel.memory().read(example, &mut content);
        content.truncate(count);
        Some(Suspect {
            cache: group.cache.clone(),
            objects,
            unreferenced,
            bytes: unreferenced.saturating_mul(group.stride),
            example,
            content,
        })
    }
}

/// Searches all memory of the kernel for pointers to candidates: its image, slabs, stacks, vmalloc, page structures. Memory
/// of users holds no pointers of the kernel. Gives the pages searched, and those that could not be.
fn search(
    kernel: &Kernel,
    candidates: &Candidates,
    direct: &DirectMap,
    cancel: &Cancel,
) -> Field<(u64, u64)> {
    /// Frames that one thread reads at a time, their contents too: small, so that threads end together.
    const PIECE: u64 = 1 << 13;
    let (array, kinds, loader) = (PageArray::find(kernel)?, Kinds::find(kernel)?, kernel.loader::<Page>());
    let pieces: Vec<_> = array.pieces(PIECE).collect();
    let counts: Vec<(u64, u64)> = pieces
        .par_iter()
        .map(|frames| {
            let chunk = array.read(kernel, frames);
            let (mut searched, mut unread, mut skip) = (0_u64, 0_u64, 0_u64);
            let mut buffer = vec![0; PAGE_SIZE as usize];
            for raw in chunk.pages() {
                if let Some(left) = skip.checked_sub(1) {
                    skip = left;
                    continue;
                }
                let (kind, more) = kinds.of(kernel, &loader.load_read(raw.at, raw.bytes));
                if kind == PageKind::Free {
                    skip = more;
                }
                if cancel.is_cancelled() || !holds_pointers(kind) {
                    continue;
                }
                match read_page(kernel, direct, raw.pfn, &mut buffer) {
                    Some(at) => {
                        searched = searched.saturating_add(1);
                        for (index, word) in (0_u64..).zip(buffer.chunks_exact(8)) {
                            let word = Endian::Little.u64(word, 0).unwrap_or(0);
                            candidates.note(word, at.0.saturating_add(index.saturating_mul(8)), direct);
                        }
                    }
                    // Firmware's, and never mapped.
                    None if kind == PageKind::Reserved => {}
                    None => unread = unread.saturating_add(1),
                }
            }
            (searched, unread)
        })
        .collect();
    Ok(counts.into_iter().fold((0, 0), |sum, one| (sum.0.saturating_add(one.0), sum.1.saturating_add(one.1))))
}

const fn holds_pointers(kind: PageKind) -> bool {
    matches!(kind, PageKind::Slab | PageKind::Kernel | PageKind::Reserved)
}

fn read_page(kernel: &Kernel, direct: &DirectMap, pfn: Pfn, buffer: &mut [u8]) -> Option<VirtAddr> {
    let at = direct.address_of(pfn.start())?;
    kernel.memory().read_exact(at, buffer).ok()?;
    Some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_compared_without_the_link_of_free_objects() {
        let object = |link: u64| [1_u64, link, 3].map(u64::to_le_bytes).concat();
        assert_eq!(hash(&object(7), 8), hash(&object(9), 8));
        assert_ne!(hash(&object(7), 0), hash(&object(9), 0));
        assert_ne!(hash(&object(7), 8), hash(&object(7)[..20], 8));
    }

    fn candidates() -> (Candidates, DirectMap) {
        let direct =
            DirectMap { start: VirtAddr(0xffff_8880_0000_0000), end: VirtAddr(0xffff_8880_1000_0000) };
        let group = Group {
            cache: super::super::tests::slab(Ok(64), Ok(0), Ok(10)).cache,
            stride: 64,
            bytes: 48,
            objects: (0..4).map(|index| direct.start.add(0x5000 + index * 64)).collect(),
        };
        (Candidates::new(&[group], &direct), direct)
    }

    #[test]
    fn a_pointer_into_an_object_holds_it_but_not_its_own() {
        let (found, direct) = candidates();
        let at = |inside: u64| direct.start.0 + 0x5000 + inside;
        found.note(at(16), 1, &direct);
        found.note(at(64), at(64 + 8), &direct);
        found.note(at(128 + 50), 1, &direct);
        found.note(at(192), at(0), &direct);
        assert_eq!(
            (0..4).map(|index| found.is_referenced(index)).collect::<Vec<_>>(),
            [true, false, false, true]
        );
    }

    #[test]
    fn words_that_are_no_pointers_are_nothing() {
        let (found, direct) = candidates();
        for word in [0, u64::MAX, direct.start.0, direct.end.0, direct.start.0 + 0x4fff] {
            found.note(word, 0, &direct);
        }
        assert!((0..4).all(|index| !found.is_referenced(index)));
    }
}
