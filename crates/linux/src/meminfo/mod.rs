//! The machine's memory in numbers, as the kernel counts it itself (fs/proc/meminfo.c): no page is walked for them.

mod account;
mod proc;

use std::ops::Range;

use kdive_base::{PAGE_SHIFT, Pfn, VirtAddr};
use kdive_target::{Field, Kernel, Lacks, Load, MemberAddress, walk};

use rayon::prelude::*;

use crate::pages::{Page, PageArray};
use crate::percpu_counter::PerCpuCounter;
use crate::{hugetlb, vmstat};

pub use account::{Account, Reserved, Share, Use};
pub use proc::{ProcLine, lines};

/// Numbers of pages.
#[derive(Clone, Debug)]
pub struct MemInfo {
    /// RAM that the page allocator was given.
    pub total: Field<u64>,
    /// Free pages.
    pub free: Field<u64>,
    /// The page cache of block devices.
    pub buffers: Field<u64>,
    /// The page cache of files; not of block devices, and not what waits in it for swap.
    pub cached: Field<u64>,
    /// Pages of the slab allocator.
    pub slab: Field<u64>,
    /// Base pages in the pools of huge pages: all, and those that are free.
    pub huge: Field<(u64, u64)>,
    /// Swap space.
    pub swap_total: Field<u64>,
    /// Free swap space.
    pub swap_free: Field<u64>,
    /// What may be promised where memory must not be overcommitted.
    pub commit_limit: Field<u64>,
    /// What is promised.
    pub committed: Field<u64>,
}

impl MemInfo {
    /// The numbers of this kernel.
    #[must_use]
    pub fn find(kernel: &Kernel) -> Self {
        let total = variable(kernel, &["_totalram_pages", "totalram_pages"]);
        let buffers = block_device_pages(kernel);
        let huge = hugetlb::pages(kernel);
        let swap_total = variable(kernel, &["total_swap_pages"]);
        Self {
            free: vmstat::counter(kernel, &["NR_FREE_PAGES"]),
            cached: cached(kernel, &buffers),
            slab: slab(kernel),
            swap_free: variable(kernel, &["nr_swap_pages"]),
            commit_limit: commit_limit(kernel, &total, &huge, &swap_total),
            committed: committed(kernel),
            total,
            buffers,
            huge,
            swap_total,
        }
    }

    /// RAM in use.
    pub fn used(&self) -> Field<u64> {
        Ok(self.total.clone()?.saturating_sub(self.free.clone()?))
    }

    /// Swap space in use.
    pub fn swap_used(&self) -> Field<u64> {
        Ok(self.swap_total.clone()?.saturating_sub(self.swap_free.clone()?))
    }
}

fn variable(kernel: &Kernel, names: &[&str]) -> Field<u64> {
    // A counter may be below zero for a moment.
    Ok(u64::try_from(kernel.memory().u64(kernel.any_symbol(names)?)?.cast_signed()).unwrap_or(0))
}

fn cached(kernel: &Kernel, buffers: &Field<u64>) -> Field<u64> {
    let file = vmstat::counter(kernel, &["NR_FILE_PAGES"])?;
    let swap_cache = vmstat::counter(kernel, &["NR_SWAPCACHE"]).or_else(|_| swap_cache(kernel))?;
    Ok(file.saturating_sub(swap_cache).saturating_sub(buffers.clone()?))
}

/// Since 5.9 these count bytes, in units of pages all the same: the suffix tells what they are updated by.
fn slab(kernel: &Kernel) -> Field<u64> {
    let reclaimable = vmstat::counter(kernel, &["NR_SLAB_RECLAIMABLE_B", "NR_SLAB_RECLAIMABLE"])?;
    let unreclaimable = vmstat::counter(kernel, &["NR_SLAB_UNRECLAIMABLE_B", "NR_SLAB_UNRECLAIMABLE"])?;
    Ok(reclaimable.saturating_add(unreclaimable))
}

#[derive(Clone, Debug, Load)]
#[load(type = "address_space")]
struct Mapping {
    nrpages: Field<u64>,
}

/// Before 5.12 the swap cache is counted by its trees only: for each swap area an array of `struct address_space`.
fn swap_cache(kernel: &Kernel) -> Field<u64> {
    /// `MAX_SWAPFILES` is 32 at most, and a tree has 64 MiB of swap space.
    const MOST_TREES: u32 = 1 << 20;
    let (trees, counts) = (kernel.symbol("swapper_spaces")?, kernel.symbol("nr_swapper_spaces")?);
    let areas = kernel.memory().u32(kernel.symbol("nr_swapfiles")?)?.min(32);
    let loader = kernel.loader::<Mapping>();
    let bytes = loader.size()?;
    let mut pages = 0_u64;
    for area in 0..u64::from(areas) {
        let first = kernel.memory().pointer(trees.add(area * 8))?;
        // What was swapped off has no trees.
        if first.is_null() {
            continue;
        }
        let count = kernel.memory().u32(counts.add(area * 4))?.min(MOST_TREES);
        for tree in 0..u64::from(count) {
            pages = pages.saturating_add(loader.load(first.add(tree.wrapping_mul(bytes))).nrpages?);
        }
    }
    Ok(pages)
}

#[derive(Clone, Debug, Load)]
#[load(type = "super_block")]
struct SuperBlock {
    s_inodes: Field<MemberAddress>,
}

#[derive(Clone, Debug, Load)]
#[load(type = "inode")]
struct Inode {
    i_mapping: Field<VirtAddr>,
}

/// `nr_blockdev_pages` (block/bdev.c).
fn block_device_pages(kernel: &Kernel) -> Field<u64> {
    let memory = kernel.memory();
    let file_system: SuperBlock = kernel.load(memory.pointer(kernel.symbol("blockdev_superblock")?)?);
    let MemberAddress(head) = file_system.s_inodes?;
    let link = kernel.offset_of("inode", "i_sb_list")?;
    let (inodes, mappings) = (kernel.loader::<Inode>(), kernel.loader::<Mapping>());
    let mut pages = 0_u64;
    for inode in walk::list(memory, head) {
        let inode = inodes.load(inode?.sub(link));
        pages = pages.saturating_add(mappings.load(inode.i_mapping?).nrpages?);
    }
    Ok(pages)
}

/// `vm_commit_limit` (mm/util.c).
fn commit_limit(
    kernel: &Kernel,
    total: &Field<u64>,
    huge: &Field<(u64, u64)>,
    swap: &Field<u64>,
) -> Field<u64> {
    let kbytes = variable(kernel, &["sysctl_overcommit_kbytes"]).unwrap_or(0);
    let allowed = if kbytes > 0 {
        kbytes >> (PAGE_SHIFT - 10)
    } else {
        let ratio = kernel.memory().u32(kernel.symbol("sysctl_overcommit_ratio")?)?;
        // A kernel without huge pages has none.
        let huge = match huge {
            Ok((total, _)) => *total,
            Err(Lacks::Symbol(_)) => 0,
            Err(lacks) => return Err(lacks.clone()),
        };
        total.clone()?.saturating_sub(huge).saturating_mul(ratio.into()) / 100
    };
    Ok(allowed.saturating_add(swap.clone()?))
}

fn committed(kernel: &Kernel) -> Field<u64> {
    let sum = PerCpuCounter::find(kernel)?.sum(kernel, kernel.symbol("vm_committed_as")?)?;
    Ok(u64::try_from(sum).unwrap_or(0))
}

/// Pages that are held more than once: by page tables, by the page cache, or both; not those that the kernel reserves
/// for itself. This looks at every page structure.
///
/// # Errors
/// The kernel does not say where its page structures are.
pub fn shared(kernel: &Kernel) -> Field<u64> {
    let (array, loader) = (PageArray::find(kernel)?, kernel.loader::<Page>());
    let reserved = kernel.enumerator("PG_reserved")?;
    let reserved = u32::try_from(reserved).ok().and_then(|bit| 1_u64.checked_shl(bit)).unwrap_or(0);
    let pieces: Vec<_> = array.pieces(PageArray::PIECE).collect();
    let count = |frames: &Range<Pfn>| {
        let chunk = array.read(kernel, frames);
        let shared = chunk.pages().filter(|raw| is_shared(&loader.load_read(raw.at, raw.bytes), reserved));
        shared.count() as u64
    };
    Ok(pieces.par_iter().map(count).sum())
}

fn is_shared(page: &Page, reserved: u64) -> bool {
    page.refcount.as_ref().is_ok_and(|&count| count > 1)
        && page.flags.as_ref().is_ok_and(|&flags| flags & reserved == 0)
}
