//! Major numbers of block devices (`struct blk_major_name`, block/genhd.c).

use kdive_base::VirtAddr;
use kdive_target::{Field, Kernel, Load, Text, walk};

/// A number that is taken.
#[derive(Clone, Debug, Load)]
#[load(type = "blk_major_name")]
pub struct BlockMajor {
    /// Its address.
    #[load(address)]
    pub at: VirtAddr,
    /// The number.
    pub major: Field<u32>,
    /// Who took it.
    pub name: Field<Text>,
}

/// `BLKDEV_MAJOR_HASH_SIZE`.
const CHAINS: u64 = 255;

/// All numbers in the order of the kernel's table, which is by number modulo 255; why a chain ends early follows what
/// there is of it.
///
/// # Errors
/// The table cannot be found.
pub fn majors(kernel: &Kernel) -> Field<impl Iterator<Item = Field<BlockMajor>> + '_> {
    let table = kernel.symbol("major_names")?;
    let next = kernel.offset_of("blk_major_name", "next")?;
    let loader = kernel.loader::<BlockMajor>();
    Ok(walk::hash_table(kernel.memory(), table, CHAINS, next).map(move |at| Ok(loader.load(at?))))
}
