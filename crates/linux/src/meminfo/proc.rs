//! The lines of `/proc/meminfo` (fs/proc/meminfo.c), from the counters that the kernel itself would print.

use kdive_base::PAGE_SHIFT;
use kdive_target::{Field, Kernel};

use crate::mmzone::Nodes;
use crate::vmstat;

use super::MemInfo;

/// A line: its name, and its value in KiB.
#[derive(Clone, Debug)]
pub struct ProcLine {
    /// As the kernel names it.
    pub name: &'static str,
    /// In KiB.
    pub kbytes: Field<u64>,
}

/// Counters that are a line each, in pages.
const PLAIN: &[(&str, &[&str])] = &[
    ("Unevictable", &["NR_UNEVICTABLE"]),
    ("Mlocked", &["NR_MLOCK"]),
    ("Dirty", &["NR_FILE_DIRTY"]),
    ("Writeback", &["NR_WRITEBACK"]),
    ("AnonPages", &["NR_ANON_MAPPED", "NR_ANON_PAGES"]),
    ("Mapped", &["NR_FILE_MAPPED"]),
    ("Shmem", &["NR_SHMEM"]),
    ("SReclaimable", &["NR_SLAB_RECLAIMABLE_B", "NR_SLAB_RECLAIMABLE"]),
    ("SUnreclaim", &["NR_SLAB_UNRECLAIMABLE_B", "NR_SLAB_UNRECLAIMABLE"]),
    ("PageTables", &["NR_PAGETABLE"]),
    ("SecPageTables", &["NR_SECONDARY_PAGETABLE"]),
];

/// The lines that this kernel has, in its order as far as they are known.
#[must_use]
pub fn lines(kernel: &Kernel, info: &MemInfo) -> Vec<ProcLine> {
    let counter = |name: &str| vmstat::counter(kernel, &[name]);
    let sum = |names: [&str; 2]| Ok(counter(names[0])?.saturating_add(counter(names[1])?));
    let mut lines = Vec::new();
    let mut add = |name, pages: Field<u64>| {
        lines.push(ProcLine { name, kbytes: pages.map(|pages| pages << (PAGE_SHIFT - 10)) });
    };
    add("MemTotal", info.total.clone());
    add("MemFree", info.free.clone());
    add("MemAvailable", available(kernel));
    add("Buffers", info.buffers.clone());
    add("Cached", info.cached.clone());
    add("SwapCached", counter("NR_SWAPCACHE").or_else(|_| super::swap_cache(kernel)));
    add("Active", sum(["NR_ACTIVE_ANON", "NR_ACTIVE_FILE"]));
    add("Inactive", sum(["NR_INACTIVE_ANON", "NR_INACTIVE_FILE"]));
    add("SwapTotal", info.swap_total.clone());
    add("SwapFree", info.swap_free.clone());
    add("Slab", info.slab.clone());
    for (name, counters) in PLAIN {
        // A kernel that does not count it prints no such line.
        if let Ok(pages) = vmstat::counter(kernel, counters) {
            add(name, Ok(pages));
        }
    }
    add("CommitLimit", info.commit_limit.clone());
    add("Committed_AS", info.committed.clone());
    let vmalloc = counter("NR_VMALLOC").or_else(|_| super::variable(kernel, &["nr_vmalloc_pages"]));
    add("VmallocUsed", vmalloc);
    let stacks = ProcLine { name: "KernelStack", kbytes: counter("NR_KERNEL_STACK_KB") };
    lines.push(stacks);
    lines
}

/// `si_mem_available` (mm/show_mem.c): what can be had without swapping.
fn available(kernel: &Kernel) -> Field<u64> {
    let counter = |names: &[&str]| vmstat::counter(kernel, names);
    let mut low = 0_u64;
    for (_, zone) in Nodes::find(kernel)?.zones() {
        low = low.saturating_add(zone.watermarks.clone()?.0.get(1).copied().unwrap_or(0));
    }
    let reserve = super::variable(kernel, &["totalreserve_pages"])?;
    let cache = counter(&["NR_ACTIVE_FILE"])?.saturating_add(counter(&["NR_INACTIVE_FILE"])?);
    let slab = counter(&["NR_SLAB_RECLAIMABLE_B", "NR_SLAB_RECLAIMABLE"])?
        .saturating_add(counter(&["NR_KERNEL_MISC_RECLAIMABLE"]).unwrap_or(0));
    let free = counter(&["NR_FREE_PAGES"])?.saturating_sub(reserve);
    Ok(free.saturating_add(usable(cache, low)).saturating_add(usable(slab, low)))
}

/// What may be taken of a cache: some of it is in use, and taking all would make the system thrash.
fn usable(pages: u64, low_watermark: u64) -> u64 {
    pages.saturating_sub((pages / 2).min(low_watermark))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_a_small_cache_may_be_taken() {
        assert_eq!(usable(100, 1000), 50);
        assert_eq!(usable(10_000, 1000), 9_000);
        assert_eq!(usable(0, 1000), 0);
    }
}
