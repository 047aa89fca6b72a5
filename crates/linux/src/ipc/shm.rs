//! Shared memory segments (ipc/shm.c): files of tmpfs or hugetlbfs that have no name.

use kdive_base::{PAGE_SHIFT, PAGE_SIZE, VirtAddr};
use kdive_target::{Field, Kernel, Load};

/// The part of `struct shmid_kernel` that kdive understands.
#[derive(Clone, Debug, Load)]
#[load(type = "shmid_kernel")]
pub struct Segment {
    /// Its size in bytes.
    #[load(any("shm_segsz"))]
    pub bytes: Field<u64>,
    /// How often it is mapped.
    #[load(any("shm_nattch"))]
    pub attached: Field<u64>,
    /// Its file.
    #[load(any("shm_file"))]
    pub file: Field<VirtAddr>,
}

/// `SHM_DEST` in the mode: it goes when the last mapping does.
const DESTROYED: u32 = 0o1000;
/// `SHM_LOCKED` in the mode: its pages are not swapped out.
const LOCKED: u32 = 0o2000;

#[derive(Load)]
#[load(type = "file")]
struct File {
    f_inode: Field<VirtAddr>,
}

#[derive(Load)]
#[load(type = "inode")]
struct Inode {
    i_mapping: Field<VirtAddr>,
    /// log2 of the size of its blocks, which are its pages: huge ones on hugetlbfs.
    i_blkbits: Field<u8>,
}

#[derive(Load)]
#[load(type = "address_space")]
struct Mapping {
    nrpages: Field<u64>,
}

#[derive(Load)]
#[load(type = "shmem_inode_info")]
struct ShmemInode {
    swapped: Field<u64>,
}

/// Where the pages of a segment are.
#[derive(Clone, Debug)]
pub struct Pages {
    /// The inode of its file.
    pub inode: VirtAddr,
    /// Pages that it is large.
    pub allocated: Field<u64>,
    /// Pages in memory.
    pub resident: Field<u64>,
    /// Pages swapped out.
    pub swapped: Field<u64>,
}

impl Segment {
    /// What states of the segment its mode tells: to be destroyed, locked.
    #[must_use]
    pub fn status(mode: u32) -> (bool, bool) {
        (mode & DESTROYED != 0, mode & LOCKED != 0)
    }

    /// Where the pages of the segment are.
    ///
    /// # Errors
    /// The way to its inode is lacking.
    pub fn pages(&self, kernel: &Kernel) -> Field<Pages> {
        let inode = kernel.load::<File>(self.file.clone()?).f_inode?;
        let raw: Inode = kernel.load(inode);
        let huge = u32::from(raw.i_blkbits.unwrap_or(0)).saturating_sub(PAGE_SHIFT);
        let mapped = raw.i_mapping.and_then(|at| kernel.load::<Mapping>(at).nrpages);
        let resident = mapped.map(|pages| resident(pages, self.bytes.as_ref().copied().unwrap_or(0), huge));
        let swapped = match huge {
            0 => kernel
                .offset_of("shmem_inode_info", "vfs_inode")
                .and_then(|inside| kernel.load::<ShmemInode>(inode.sub(inside)).swapped),
            // Huge pages are not swapped out, and their inodes do not count it.
            _ => Ok(0),
        };
        let allocated = self.bytes.clone().map(|bytes| bytes.div_ceil(PAGE_SIZE));
        Ok(Pages { inode, allocated, resident, swapped })
    }
}

/// Base pages in memory of a file whose pages are `1 << huge` base pages large. Until 6.6 `nrpages` counted its own pages,
/// then base pages: more than the file is large are base pages.
fn resident(nrpages: u64, bytes: u64, huge: u32) -> u64 {
    let own = bytes.div_ceil(PAGE_SIZE.checked_shl(huge).unwrap_or(PAGE_SIZE));
    if nrpages > own { nrpages } else { nrpages.checked_shl(huge).unwrap_or(nrpages) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn huge_pages_are_counted_as_base_pages() {
        // One huge page of 2 MB, as 6.1 and 6.12 count it; two of four; small pages.
        assert_eq!((resident(1, 2 << 20, 9), resident(512, 2 << 20, 9)), (512, 512));
        assert_eq!((resident(2, 8 << 20, 9), resident(1024, 8 << 20, 9)), (1024, 1024));
        assert_eq!((resident(3, 12_288, 0), resident(0, 12_345, 0)), (3, 0));
    }
}
