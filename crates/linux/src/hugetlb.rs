//! Pools of huge pages (`struct hstate`, include/linux/hugetlb.h).

use kdive_base::VirtAddr;
use kdive_target::{Field, Kernel, Lacks, Load, Text};

/// The pool of one size of huge pages.
#[derive(Clone, Debug, Load)]
#[load(type = "hstate")]
pub struct Hstate {
    /// Address of its `struct hstate`.
    #[load(address)]
    pub at: VirtAddr,
    /// Base pages of a huge page, as log2.
    pub order: Field<u32>,
    /// Huge pages that there are.
    #[load(any("nr_huge_pages"))]
    pub total: Field<u64>,
    /// Those that are free.
    #[load(any("free_huge_pages"))]
    pub free: Field<u64>,
    /// Those promised to mappings that have not touched them yet.
    #[load(any("resv_huge_pages"))]
    pub reserved: Field<u64>,
    /// Those beyond the pool's size.
    #[load(any("surplus_huge_pages"))]
    pub surplus: Field<u64>,
    /// Its name, from the size: `hugepages-2048kB`.
    pub name: Field<Text>,
}

/// `HUGE_MAX_HSTATE` is smaller.
const MOST: u32 = 64;

/// The pools, in the order in which the kernel made them.
///
/// # Errors
/// The kernel has no huge pages built in, or the table is not in the dump.
pub fn pools(kernel: &Kernel) -> Field<Vec<Hstate>> {
    let first = kernel.symbol("hstates")?;
    let count = kernel.memory().u32(kernel.any_symbol(&["hugetlb_max_hstate", "max_hstate"])?)?;
    if count > MOST {
        return Err(Lacks::implausible(format_args!("hugetlb_max_hstate is {count}")));
    }
    let loader = kernel.loader::<Hstate>();
    let bytes = loader.size()?;
    Ok((0..u64::from(count)).map(|index| loader.load(first.add(index.wrapping_mul(bytes)))).collect())
}

/// Base pages in all pools: all of them, and those in free huge pages.
///
/// # Errors
/// As [`pools`].
pub fn pages(kernel: &Kernel) -> Field<(u64, u64)> {
    let (mut total, mut free) = (0_u64, 0_u64);
    for pool in pools(kernel)? {
        let order = pool.order?;
        let pages = |count: u64| count.checked_shl(order).unwrap_or(u64::MAX);
        total = total.saturating_add(pages(pool.total?));
        free = free.saturating_add(pages(pool.free?));
    }
    Ok((total, free))
}
