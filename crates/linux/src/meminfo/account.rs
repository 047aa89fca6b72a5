//! An account of all RAM: what has each page, as far as the kernel counts it; the rest is unaccounted.

use kdive_base::{PAGE_SHIFT, PAGE_SIZE, VirtAddr};
use kdive_target::{Field, Kernel, Lacks, Load, walk};
use serde::Serialize;

use crate::mmzone;
use crate::sparse;
use crate::vmstat::Settled;

use super::MemInfo;

/// What a share of RAM is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Use {
    /// Never given to the page allocator: the kernel's image, page structures, a crash kernel's reservation, what
    /// firmware and boot-time allocations keep.
    Reserved,
    /// Free.
    Free,
    /// Free, and kept by processors for their next allocations: free pages that `MemFree` leaves out.
    FreeOnCpus,
    /// Memory of processes: heaps, stacks, private copies.
    Anonymous,
    /// The page cache of files on disks and on the network.
    Files,
    /// The page cache of block devices (`Buffers`).
    Buffers,
    /// tmpfs, shared memory, memfd.
    Shmem,
    /// Anonymous pages that swap has too, and no process maps now.
    SwapCache,
    /// Slab caches that give memory back under pressure: dentries, inodes.
    SlabReclaimable,
    /// Slab caches that do not.
    SlabUnreclaimable,
    /// Kernel stacks of tasks.
    KernelStacks,
    /// Page tables, those of virtual machines and IOMMUs included.
    PageTables,
    /// vmalloc and modules, without kernel stacks.
    Vmalloc,
    /// Per-CPU memory beyond what was set up at boot.
    PerCpu,
    /// zsmalloc: what zram and zswap hold, compressed.
    Zsmalloc,
    /// Pools of huge pages, in use or not.
    HugePages,
    /// Pages that a driver would give back if asked (`NR_KERNEL_MISC_RECLAIMABLE`).
    OtherReclaimable,
    /// Graphics memory (7.1).
    Gpu,
    /// Given back to the hypervisor (7.0).
    Balloon,
    /// Taken out of use after memory errors.
    Poisoned,
}

/// One share.
#[derive(Clone, Debug)]
pub struct Share {
    /// What it is used for.
    pub of: Use,
    /// How many pages.
    pub pages: Field<u64>,
}

/// Known parts of what the page allocator was never given, in pages.
#[derive(Clone, Debug)]
pub struct Reserved {
    /// The kernel's text and data, without what was freed after boot.
    pub kernel_image: Field<u64>,
    /// Page structures.
    pub page_structures: Field<u64>,
    /// Reserved for a crash kernel.
    pub crash_kernel: Field<u64>,
}

/// Where all of RAM went. Numbers are pages.
#[derive(Clone, Debug)]
pub struct Account {
    /// All of it.
    pub ram: Field<u64>,
    /// The shares, of which none holds a page of another.
    pub shares: Vec<Share>,
    /// Parts of [`Use::Reserved`].
    pub reserved: Reserved,
}

impl Account {
    /// The account of this kernel.
    ///
    /// # Errors
    /// The kernel's counters cannot be read.
    pub fn find(kernel: &Kernel, info: &MemInfo) -> Field<Self> {
        let counters = Settled::find(kernel)?;
        let ram = mmzone::present_pages(kernel);
        let reserved = ram.clone().and_then(|ram| Ok(ram.saturating_sub(info.total.clone()?)));
        let mut shares = vec![Share { of: Use::Reserved, pages: reserved }];
        let mut add = |of, pages| shares.push(Share { of, pages });
        add(Use::Free, counters.get(&["NR_FREE_PAGES"]));
        add(Use::FreeOnCpus, free_on_cpus(kernel));
        user_pages(kernel, info, &counters).into_iter().for_each(|(of, pages)| add(of, pages));
        let one = |names: &[&str]| counters.get(names);
        add(Use::SlabReclaimable, one(&["NR_SLAB_RECLAIMABLE_B", "NR_SLAB_RECLAIMABLE"]));
        add(Use::SlabUnreclaimable, one(&["NR_SLAB_UNRECLAIMABLE_B", "NR_SLAB_UNRECLAIMABLE"]));
        let stacks = stacks(&counters);
        add(Use::KernelStacks, stacks.clone());
        add(
            Use::PageTables,
            one(&["NR_PAGETABLE"])
                .map(|pages| pages.saturating_add(counters.sum(&["NR_SECONDARY_PAGETABLE"]))),
        );
        add(Use::Vmalloc, vmalloc(kernel, &counters, &stacks));
        add(Use::PerCpu, per_cpu(kernel));
        add(Use::Zsmalloc, counted(&counters, &["NR_ZSPAGES"]));
        add(Use::HugePages, none_without(info.huge.clone().map(|(total, _)| total)));
        add(Use::OtherReclaimable, counted(&counters, &["NR_KERNEL_MISC_RECLAIMABLE"]));
        add(Use::Gpu, counted(&counters, &["NR_GPU_ACTIVE", "NR_GPU_RECLAIM"]));
        add(Use::Balloon, counted(&counters, &["NR_BALLOON_PAGES"]));
        add(Use::Poisoned, none_without(super::variable(kernel, &["num_poisoned_pages"])));
        Ok(Self { ram, shares, reserved: Reserved::find(kernel) })
    }

    /// What nobody is known to have: pages that drivers and subsystems took straight from the page allocator. Below zero
    /// where counters overlap or were caught on the way.
    ///
    /// # Errors
    /// A share is lacking.
    pub fn unaccounted(&self) -> Field<i64> {
        let mut rest = i64::try_from(self.ram.clone()?).unwrap_or(i64::MAX);
        for share in &self.shares {
            rest = rest.saturating_sub(i64::try_from(share.pages.clone()?).unwrap_or(i64::MAX));
        }
        Ok(rest)
    }
}

/// The sum of counters that not every kernel has; a kernel without them has no such pages, or counts them elsewhere.
fn counted(counters: &Settled, names: &[&str]) -> Field<u64> {
    Ok(counters.sum(names))
}

/// A kernel without the symbol was built without what it counts.
fn none_without(pages: Field<u64>) -> Field<u64> {
    match pages {
        Err(Lacks::Symbol(_)) => Ok(0),
        pages => pages,
    }
}

/// The memory of users, each page once: an anonymous page that a process maps may be in the swap cache as well, and the
/// kernel counts it in both. The LRU lists hold each page once, and tell how many are both.
fn user_pages(kernel: &Kernel, info: &MemInfo, counters: &Settled) -> Vec<(Use, Field<u64>)> {
    let anonymous = counters.get(&["NR_ANON_MAPPED", "NR_ANON_PAGES"]);
    let shmem = counters.get(&["NR_SHMEM"]);
    let swap_cache = counters.get(&["NR_SWAPCACHE"]).or_else(|_| super::swap_cache(kernel)).unwrap_or(0);
    let unmapped = counters.get(&["NR_FILE_PAGES"]).and_then(|file| {
        const LISTS: &[&str] = &[
            "NR_INACTIVE_ANON",
            "NR_ACTIVE_ANON",
            "NR_INACTIVE_FILE",
            "NR_ACTIVE_FILE",
            "NR_UNEVICTABLE",
            "NR_ISOLATED_ANON",
            "NR_ISOLATED_FILE",
        ];
        let both = file.saturating_add(anonymous.clone()?).saturating_sub(counters.sum(LISTS));
        Ok(swap_cache.saturating_sub(both))
    });
    let files = info.cached.clone().and_then(|cached| Ok(cached.saturating_sub(shmem.clone()?)));
    vec![
        (Use::Anonymous, anonymous),
        (Use::Files, files),
        (Use::Buffers, info.buffers.clone()),
        (Use::Shmem, shmem),
        (Use::SwapCache, unmapped),
    ]
}

fn stacks(counters: &Settled) -> Field<u64> {
    match counters.get(&["NR_KERNEL_STACK_KB"]) {
        Ok(kbytes) => Ok(kbytes >> (PAGE_SHIFT - 10)),
        // Before 4.9 the number of stacks, of four pages each on x86.
        Err(_) => Ok(counters.get(&["NR_KERNEL_STACK"])?.saturating_mul(4)),
    }
}

fn vmalloc(kernel: &Kernel, counters: &Settled, stacks: &Field<u64>) -> Field<u64> {
    let all = counters.get(&["NR_VMALLOC"]).or_else(|_| super::variable(kernel, &["nr_vmalloc_pages"]))?;
    // Stacks come from vmalloc where a task has an area for its own.
    match kernel.offset_of("task_struct", "stack_vm_area") {
        Ok(_) => Ok(all.saturating_sub(stacks.clone()?)),
        Err(_) => Ok(all),
    }
}

#[derive(Clone, Debug, Load)]
#[load(type = "per_cpu_pages")]
struct PerCpuPages {
    count: Field<u32>,
}

/// Pages on the lists that each processor keeps for a zone.
fn free_on_cpus(kernel: &Kernel) -> Field<u64> {
    let loader = kernel.loader::<PerCpuPages>();
    let mut pages = 0_u64;
    for lists in mmzone::per_cpu_pages(kernel)? {
        pages = pages.saturating_add(loader.load(lists).count?.into());
    }
    Ok(pages)
}

#[derive(Clone, Debug, Load)]
#[load(type = "pcpu_chunk")]
struct Chunk {
    nr_populated: Field<u32>,
}

/// Pages behind per-CPU chunks (mm/percpu.c) but the first: that, and the part of it for modules, were there before the
/// page allocator.
fn per_cpu(kernel: &Kernel) -> Field<u64> {
    /// `pcpu_nr_slots` is some 20.
    const MOST_SLOTS: u32 = 256;
    let memory = kernel.memory();
    let lists = memory.pointer(kernel.any_symbol(&["pcpu_chunk_lists", "pcpu_slot"])?)?;
    let slots = memory.u32(kernel.symbol("pcpu_nr_slots")?)?.min(MOST_SLOTS);
    let units = memory.u32(kernel.symbol("pcpu_nr_units")?)?;
    let at_boot = ["pcpu_first_chunk", "pcpu_reserved_chunk"]
        .map(|name| kernel.symbol(name).ok().and_then(|at| memory.pointer(at).ok()));
    let (link, loader) = (kernel.offset_of("pcpu_chunk", "list")?, kernel.loader::<Chunk>());
    let mut populated = 0_u64;
    for slot in 0..u64::from(slots) {
        for item in walk::list(memory, lists.add(slot.wrapping_mul(16))) {
            let chunk: VirtAddr = item?.sub(link);
            if !at_boot.contains(&Some(chunk)) {
                populated = populated.saturating_add(loader.load(chunk).nr_populated?.into());
            }
        }
    }
    Ok(populated.saturating_mul(units.into()))
}

#[derive(Clone, Debug, Load)]
#[load(type = "resource")]
struct Resource {
    start: Field<u64>,
    end: Field<u64>,
}

impl Reserved {
    fn find(kernel: &Kernel) -> Self {
        let between = |first: &str, last: &str| -> Field<u64> {
            Ok(kernel.symbol(last)?.0.saturating_sub(kernel.symbol(first)?.0) >> PAGE_SHIFT)
        };
        let image = between("_text", "_end")
            .map(|pages| pages.saturating_sub(between("__init_begin", "__init_end").unwrap_or(0)));
        Self {
            kernel_image: image,
            page_structures: page_structures(kernel),
            crash_kernel: crash_kernel(kernel),
        }
    }
}

fn page_structures(kernel: &Kernel) -> Field<u64> {
    let frames: u64 =
        sparse::mapped_frames(kernel)?.iter().map(|range| range.end.0.saturating_sub(range.start.0)).sum();
    Ok(frames.saturating_mul(kernel.size_of("page")?).div_ceil(PAGE_SIZE))
}

fn crash_kernel(kernel: &Kernel) -> Field<u64> {
    let bytes = |name: &str| -> Field<u64> {
        let resource: Resource = kernel.load(kernel.symbol(name)?);
        Ok(match (resource.start?, resource.end?) {
            (0, 0) => 0,
            (start, end) => end.saturating_sub(start).saturating_add(1),
        })
    };
    Ok(bytes("crashk_res")?.saturating_add(bytes("crashk_low_res").unwrap_or(0)) >> PAGE_SHIFT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(ram: u64, shares: &[u64]) -> Account {
        let none = || Ok(0);
        Account {
            ram: Ok(ram),
            shares: shares.iter().map(|pages| Share { of: Use::Free, pages: Ok(*pages) }).collect(),
            reserved: Reserved { kernel_image: none(), page_structures: none(), crash_kernel: none() },
        }
    }

    #[test]
    fn the_sum_is_all_of_memory() {
        assert_eq!(account(100, &[10, 20, 30]).unaccounted(), Ok(40));
        assert_eq!(account(100, &[90, 20]).unaccounted(), Ok(-10));
        let mut lacking = account(100, &[1]);
        lacking.shares.push(Share { of: Use::Files, pages: Err(Lacks::Types) });
        assert_eq!(lacking.unaccounted(), Err(Lacks::Types));
    }
}
