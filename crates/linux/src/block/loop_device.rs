//! Loop devices (drivers/block/loop.c): files that serve as disks.

use kdive_base::VirtAddr;
use kdive_target::{Field, Kernel, Load};

use super::disk::Disk;

/// The part of `struct loop_device` that kdive understands.
#[derive(Clone, Debug, Load)]
#[load(type = "loop_device", module)]
pub struct LoopDevice {
    /// Its address.
    #[load(address)]
    pub at: VirtAddr,
    /// Its number.
    #[load(any("lo_number"))]
    pub number: Field<u32>,
    /// Where the disk begins in the file, in bytes.
    #[load(any("lo_offset"))]
    pub offset: Field<u64>,
    /// `LO_FLAGS_*` (include/uapi/linux/loop.h).
    #[load(any("lo_flags"))]
    pub flags: Field<u32>,
    /// The file (`struct file`); null for none.
    #[load(any("lo_backing_file"))]
    pub file: Field<VirtAddr>,
    /// 0 unbound, 1 bound, 2 being unbound, 3 deleting.
    #[load(any("lo_state"))]
    pub state: Field<u32>,
}

impl LoopDevice {
    /// The loop device that a disk is; `None` for other disks.
    #[must_use]
    pub fn of(kernel: &Kernel, disk: &Disk) -> Option<Self> {
        let operations = kernel.place(disk.operations.clone().ok()?)?;
        (operations.symbol.name == "lo_fops")
            .then(|| disk.private.clone().ok())
            .flatten()
            .map(|at| kernel.load(at))
    }
}
