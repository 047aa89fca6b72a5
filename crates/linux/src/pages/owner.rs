//! Whom a page belongs to, told by its structure alone: the slab cache, or the control group that it is charged to.

use std::sync::{Mutex, PoisonError};

use kdive_base::VirtAddr;
use kdive_target::{Field, Kernel};
use rustc_hash::{FxHashMap, FxHashSet};

use super::excludable::{Place, place};
use super::page::TypeMark;
use crate::cgroup::Cgroups;

/// Bit 0 of `page.compound_head`: a tail page, whose own fields say nothing.
const TAIL: u64 = 1;
/// Bit 0 of `page.memcg_data`: a slab's table of what each object is charged to (`MEMCG_DATA_OBJEXTS`).
const TABLE: u64 = 1;
/// The flags in the low bits of `page.memcg_data`.
const CHARGE_FLAGS: u64 = 7;
/// `struct obj_cgroup`s that are remembered: a group has a few.
const MOST_CHARGES: usize = 1 << 16;

/// How this kernel tells whom a page belongs to. Bound to offsets once, since it is asked of every page.
#[derive(Clone, Debug)]
pub struct PageOwners {
    flags: Place,
    compound: Option<Place>,
    page_type: Option<Place>,
    slab: TypeMark,
    cache: Field<Place>,
    charge: Field<Place>,
}

impl PageOwners {
    /// The members of this kernel's page structure.
    ///
    /// # Errors
    /// Nothing tells where the flags of a page are, or how slabs are marked.
    pub fn find(kernel: &Kernel) -> Field<Self> {
        let of_page = |names: &[&str], width| place(kernel, "page", names, width);
        Ok(Self {
            flags: of_page(&["flags.f", "flags"], 8)?,
            compound: of_page(&["compound_head", "compound_info"], 8).ok(),
            page_type: of_page(&["page_type", "_mapcount.counter"], 4).ok(),
            slab: super::Pages::find(kernel).slab.clone()?,
            cache: place(kernel, "slab", &["slab_cache"], 8).or_else(|_| of_page(&["slab_cache"], 8)),
            // `mem_cgroup` before 5.11.
            charge: of_page(&["memcg_data", "mem_cgroup"], 8),
        })
    }

    /// Whether pages tell their slab cache.
    ///
    /// # Errors
    /// The kernel's types do not say where.
    pub fn know_caches(&self) -> Field<()> {
        self.cache.as_ref().map(|_| ()).map_err(Clone::clone)
    }

    /// Whether pages tell their control group.
    ///
    /// # Errors
    /// The kernel's types do not say where, or it charges no pages.
    pub fn know_groups(&self) -> Field<()> {
        self.charge.as_ref().map(|_| ()).map_err(Clone::clone)
    }

    fn is_tail(&self, bytes: &[u8]) -> bool {
        self.compound.and_then(|place| place.of(bytes)).is_some_and(|link| link & TAIL != 0)
    }

    fn is_slab(&self, bytes: &[u8]) -> bool {
        let kind = self.page_type.and_then(|place| place.of(bytes)).unwrap_or(u64::MAX) as u32;
        self.flags.of(bytes).is_some_and(|flags| self.slab.matches(flags, kind))
    }

    /// The `struct kmem_cache` of a slab, by its first page's structure, with which `bytes` begin. `None` of other pages.
    #[must_use]
    pub fn cache(&self, bytes: &[u8]) -> Option<VirtAddr> {
        let cache = self.cache.as_ref().ok()?.of(bytes).filter(|cache| *cache != 0)?;
        (!self.is_tail(bytes) && self.is_slab(bytes)).then_some(VirtAddr(cache))
    }

    /// What a page is charged to: a `struct mem_cgroup`, or a `struct obj_cgroup` (of the kernel's own pages since 5.11,
    /// of all since 7.1). `None` of slabs, whose objects are charged one by one, and of pages that are charged to none.
    #[must_use]
    pub fn charge(&self, bytes: &[u8]) -> Option<VirtAddr> {
        let charge = self.charge.as_ref().ok()?.of(bytes).filter(|charge| charge & TABLE == 0)?;
        let at = charge & !CHARGE_FLAGS;
        (at != 0 && !self.is_tail(bytes) && !self.is_slab(bytes)).then_some(VirtAddr(at))
    }
}

/// Tells the control group behind what a page is charged to.
#[derive(Debug)]
pub struct Charges {
    /// The `struct mem_cgroup`s of all groups.
    groups: FxHashSet<VirtAddr>,
    /// Where a `struct obj_cgroup` says whose it is.
    group_of: Option<u64>,
    known: Mutex<FxHashMap<VirtAddr, Option<VirtAddr>>>,
}

impl Charges {
    /// For the groups of a kernel.
    #[must_use]
    pub fn new(kernel: &Kernel, groups: &Cgroups) -> Self {
        let all = groups.hierarchies.iter().flat_map(|of| &of.groups);
        Self {
            groups: all.filter_map(|group| Some(group.memory.as_ref()?.at)).collect(),
            group_of: kernel.offset_of("obj_cgroup", "memcg").ok(),
            known: Mutex::default(),
        }
    }

    /// The `struct mem_cgroup` that [`PageOwners::charge`] leads to.
    #[must_use]
    pub fn group(&self, kernel: &Kernel, charge: VirtAddr) -> Option<VirtAddr> {
        if self.groups.contains(&charge) {
            return Some(charge);
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(group) = known.get(&charge) {
            return *group;
        }
        if known.len() >= MOST_CHARGES {
            known.clear();
        }
        let group = self.group_of.and_then(|offset| kernel.memory().pointer(charge.add(offset)).ok());
        let group = group.filter(|group| self.groups.contains(group));
        known.insert(charge, group);
        group
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLAB: u32 = 0xf5 << 24;
    const CACHE: u64 = 0xffff_8880_0004_2000;

    fn owners() -> PageOwners {
        PageOwners {
            flags: Place { at: 0, width: 8 },
            compound: Some(Place { at: 8, width: 8 }),
            page_type: Some(Place { at: 48, width: 4 }),
            slab: TypeMark::Type { mask: 0xff << 24, value: SLAB },
            cache: Ok(Place { at: 8, width: 8 }),
            charge: Ok(Place { at: 56, width: 8 }),
        }
    }

    /// The second word is the link to the head, or of a slab its cache.
    fn page(second: u64, kind: u32, charge: u64) -> Vec<u8> {
        let mut bytes = vec![0; 64];
        bytes[8..16].copy_from_slice(&second.to_le_bytes());
        bytes[48..52].copy_from_slice(&kind.to_le_bytes());
        bytes[56..].copy_from_slice(&charge.to_le_bytes());
        bytes
    }

    #[test]
    fn a_slab_tells_its_cache_and_nothing_else_does() {
        assert_eq!(owners().cache(&page(CACHE, SLAB, 0)), Some(VirtAddr(CACHE)));
        assert_eq!(owners().cache(&page(CACHE, u32::MAX, 0)), None);
        assert_eq!(owners().cache(&page(CACHE | TAIL, SLAB, 0)), None);
        assert_eq!(owners().cache(&page(0, SLAB, 0)), None);
        assert_eq!(owners().cache(&page(CACHE, SLAB, 0)[..40]), None);
    }

    #[test]
    fn a_page_tells_its_charge_and_a_slab_has_none_as_a_whole() {
        assert_eq!(owners().charge(&page(0, u32::MAX, CACHE | 2)), Some(VirtAddr(CACHE)));
        assert_eq!(owners().charge(&page(0, u32::MAX, CACHE | TABLE)), None);
        assert_eq!(owners().charge(&page(CACHE, SLAB, CACHE)), None);
        assert_eq!(owners().charge(&page(CACHE | TAIL, u32::MAX, CACHE)), None);
        assert_eq!(owners().charge(&page(0, u32::MAX, 0)), None);
    }
}
