//! Disks (`struct gendisk`, include/linux/blkdev.h).

use kdive_base::VirtAddr;
use kdive_target::{Field, Kernel, Lacks, Load, Text};

use crate::device;

/// The part of `struct gendisk` that kdive understands.
#[derive(Clone, Debug, Load)]
#[load(type = "gendisk")]
pub struct Disk {
    /// Its address.
    #[load(address)]
    pub at: VirtAddr,
    /// Its major number.
    pub major: Field<u32>,
    /// The number of the whole disk; its partitions follow.
    pub first_minor: Field<u32>,
    /// Its name: `vda`.
    #[load(any("disk_name"))]
    pub name: Field<Text>,
    /// Its requests (`struct request_queue`).
    pub queue: Field<VirtAddr>,
    /// What it does (`struct block_device_operations`).
    #[load(any("fops"))]
    pub operations: Field<VirtAddr>,
    /// What the driver keeps of it.
    #[load(any("private_data"))]
    pub private: Field<VirtAddr>,
}

/// The disks of a machine.
pub struct Disks {
    /// In the order in which they came.
    pub all: Vec<Disk>,
    /// Why not all are known, where they are not.
    pub incomplete: Vec<Lacks>,
}

/// How a device of the class `block` leads to its disk.
enum Way {
    /// In a `struct block_device` (5.11): `bd_device`, `bd_disk`.
    BlockDevice { device: u64, disk: u64, whole: u64 },
    /// In a `struct hd_struct`, of which the whole disk has one inside: `__dev`, `partno`, `gendisk.part0`.
    Partition { device: u64, number: u64, inside: u64 },
}

impl Way {
    fn find(kernel: &Kernel) -> Field<Self> {
        if let Ok(device) = kernel.offset_of("block_device", "bd_device") {
            let disk = kernel.offset_of("block_device", "bd_disk")?;
            return Ok(Self::BlockDevice { device, disk, whole: kernel.offset_of("gendisk", "part0")? });
        }
        Ok(Self::Partition {
            device: kernel.offset_of("hd_struct", "__dev")?,
            number: kernel.offset_of("hd_struct", "partno")?,
            inside: kernel.offset_of("gendisk", "part0")?,
        })
    }

    /// The disk that a device is; `None` for a partition.
    fn disk(&self, kernel: &Kernel, at: VirtAddr) -> Field<Option<VirtAddr>> {
        let memory = kernel.memory();
        match *self {
            Self::BlockDevice { device, disk, whole } => {
                let own = at.sub(device);
                let disk = memory.pointer(own.add(disk))?;
                let whole = memory.pointer(disk.add(whole))?;
                Ok(Some(disk).filter(|_| whole == own))
            }
            Self::Partition { device, number, inside } => {
                let own = at.sub(device);
                let number = memory.u32(own.add(number))?;
                Ok(Some(own.sub(inside)).filter(|_| number == 0))
            }
        }
    }
}

#[derive(Load)]
#[load(type = "block_device")]
struct BlockDevice {
    bd_disk: Field<VirtAddr>,
    /// The partition's number is its low byte (6.10).
    #[load(any("__bd_flags.counter"))]
    flags: Field<u8>,
    #[load(any("bd_partno"))]
    partition: Field<u8>,
}

/// The name of a `struct block_device`: `vda`, `vda1`, `nvme0n1p2`.
///
/// # Errors
/// It cannot be read.
pub fn name_of(kernel: &Kernel, device: VirtAddr) -> Field<String> {
    let device: BlockDevice = kernel.load(device);
    let Text(disk) = kernel.load::<Disk>(device.bd_disk?).name?;
    // Before 5.11 a partition was no block device of its own.
    let number = device.partition.or(device.flags).unwrap_or(0);
    Ok(partition_name(disk, number))
}

fn partition_name(disk: String, number: u8) -> String {
    match (number, disk.ends_with(|last: char| last.is_ascii_digit())) {
        (0, _) => disk,
        (_, false) => format!("{disk}{number}"),
        (_, true) => format!("{disk}p{number}"),
    }
}

impl Disks {
    /// All disks, loop devices among them (`block_class`).
    ///
    /// # Errors
    /// Their list cannot be found.
    pub fn find(kernel: &Kernel) -> Field<Self> {
        let (devices, broken) = device::of_class(kernel, "block_class")?;
        let way = Way::find(kernel)?;
        let mut disks = Self { all: Vec::new(), incomplete: broken.into_iter().collect() };
        for device in devices {
            match way.disk(kernel, device) {
                Ok(disk) => disks.all.extend(disk.map(|at| kernel.load::<Disk>(at))),
                Err(lacks) => disks.incomplete.push(lacks),
            }
        }
        Ok(disks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_named_as_the_kernel_names_them() {
        assert_eq!(partition_name("vda".into(), 0), "vda");
        assert_eq!(partition_name("vda".into(), 1), "vda1");
        assert_eq!(partition_name("nvme0n1".into(), 2), "nvme0n1p2");
    }
}
