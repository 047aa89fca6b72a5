//! Swap areas (`struct swap_info_struct`, include/linux/swap.h).

use kdive_base::VirtAddr;
use kdive_target::{Field, Kernel, Lacks, Load};

use crate::path;

/// A swap area.
#[derive(Clone, Debug, Load)]
#[load(type = "swap_info_struct")]
pub struct SwapArea {
    /// Address of its `swap_info_struct`.
    #[load(address)]
    pub at: VirtAddr,
    /// `SWP_*` flags.
    flags: Field<u64>,
    /// Areas of higher priority are filled first.
    #[load(any("prio"))]
    pub priority: Field<i16>,
    /// Pages that it has room for.
    pub pages: Field<u64>,
    #[load(any("inuse_pages.counter", "inuse_pages"))]
    inuse_pages: Field<u64>,
    swap_file: Field<VirtAddr>,
}

#[derive(Clone, Debug, Load)]
#[load(type = "file")]
struct SwapFile {
    #[load(any("f_inode"))]
    inode: Field<VirtAddr>,
}

#[derive(Clone, Debug, Load)]
#[load(type = "inode")]
struct Inode {
    i_mode: Field<u32>,
}

impl SwapArea {
    /// Pages in use.
    pub fn used(&self) -> Field<u64> {
        Ok(count_of(self.inuse_pages.clone()?, self.pages.clone()?))
    }

    /// The path of its file or device.
    pub fn path(&self, kernel: &Kernel) -> Field<String> {
        path::of_file(kernel, self.swap_file.clone()?)
    }

    /// Whether it is a device, and not a file on one.
    pub fn is_device(&self, kernel: &Kernel) -> Field<bool> {
        /// `S_IFMT` and `S_IFBLK`.
        const KIND: u32 = 0o170_000;
        const BLOCK: u32 = 0o060_000;
        let file: SwapFile = kernel.load(self.swap_file.clone()?);
        let inode: Inode = kernel.load(file.inode?);
        Ok(inode.i_mode? & KIND == BLOCK)
    }
}

/// The count in `inuse_pages`: `SWAP_USAGE_OFFLIST_BIT` (6.13) lies among its bits, set while an area is not on the list of
/// those with room.
const fn count_of(inuse_pages: u64, pages: u64) -> u64 {
    const OFF_LIST: u64 = 1 << 30;
    if inuse_pages > pages { inuse_pages & !OFF_LIST } else { inuse_pages }
}

/// `MAX_SWAPFILES` is 32 at most.
const MOST_AREAS: u32 = 64;

/// How many areas the table has, those that were given up included.
fn count(kernel: &Kernel) -> Field<u32> {
    let count = kernel.memory().u32(kernel.symbol("nr_swapfiles")?)?;
    if count > MOST_AREAS {
        return Err(Lacks::implausible(format_args!("nr_swapfiles is {count}")));
    }
    Ok(count)
}

/// The areas in use, by number.
///
/// # Errors
/// The kernel was built without swap, or its table is not in the dump.
pub fn areas(kernel: &Kernel) -> Field<Vec<Field<SwapArea>>> {
    /// `SWP_USED`.
    const USED: u64 = 1;
    let loader = kernel.loader::<SwapArea>();
    let area = |number: u32| -> Field<Option<SwapArea>> {
        let at = area_at(kernel, number)?;
        if at.is_null() {
            return Ok(None);
        }
        let area = loader.load(at);
        let used = area.flags.clone()? & USED != 0;
        Ok(used.then_some(area))
    };
    Ok((0..count(kernel)?).filter_map(|number| area(number).transpose()).collect())
}

/// The `swap_info_struct` of an area: an array of pointers since 2.6.33.
fn area_at(kernel: &Kernel, number: u32) -> Field<VirtAddr> {
    Ok(kernel.memory().pointer(kernel.symbol("swap_info")?.add(u64::from(number).wrapping_mul(8)))?)
}

/// The path of the file or device of a swap area, by its number (`swp_type`).
///
/// # Errors
/// There is no such area: the entry stands for a migration, a device page or poisoned memory, or is none. Or what leads
/// to its name is lacking.
pub fn area_path(kernel: &Kernel, area: u8) -> Field<String> {
    if u32::from(area) >= count(kernel)? {
        return Err(Lacks::unavailable(format_args!("there is no swap area {area}")));
    }
    kernel.load::<SwapArea>(area_at(kernel, area.into())?).path(kernel)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_area_counts_its_pages_and_not_its_flag() {
        assert_eq!(count_of(100, 65_535), 100);
        assert_eq!(count_of(65_535 | 1 << 30, 65_535), 65_535);
        // An area of 8 TiB has that many pages.
        assert_eq!(count_of(1 << 30, 1 << 31), 1 << 30);
    }
}
