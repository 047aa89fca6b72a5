//! Blocks of memory that can go on- and offline (`struct memory_block`, drivers/base/memory.c).

use kdive_base::VirtAddr;
use kdive_target::{Field, Kernel, Load, walk};

/// A block.
#[derive(Clone, Debug, Load)]
#[load(type = "memory_block")]
pub struct MemoryBlock {
    /// Its `struct memory_block`.
    #[load(address)]
    pub at: VirtAddr,
    /// Number of its first section.
    #[load(any("start_section_nr"))]
    pub section: Field<u64>,
    /// `MEM_ONLINE`, `MEM_OFFLINE`...: an enumeration in newer kernels.
    pub state: Field<u32>,
    /// Its node.
    pub nid: Field<i32>,
}

/// The blocks, by number (`memory_blocks`, 5.7).
///
/// # Errors
/// The kernel was built without memory hotplug, or keeps no such tree.
pub fn blocks(kernel: &Kernel) -> Field<Vec<(u64, Field<MemoryBlock>)>> {
    let layout = walk::XArrayLayout::find(kernel)?;
    let head = layout.head(kernel.memory(), kernel.symbol("memory_blocks")?)?;
    let loader = kernel.loader::<MemoryBlock>();
    let found = walk::xarray(kernel.memory(), layout, head).map(|item| match item {
        Ok(entry) => (entry.index, Ok(loader.load(VirtAddr(entry.entry)))),
        Err(broken) => (0, Err(broken.into())),
    });
    Ok(found.collect())
}

/// Sections in a block (`sections_per_block`); 1 where the kernel does not tell.
#[must_use]
pub fn sections_per_block(kernel: &Kernel) -> u64 {
    let at = kernel.symbol("sections_per_block");
    at.ok().and_then(|at| kernel.memory().u32(at).ok()).map_or(1, |count| u64::from(count).clamp(1, 1 << 16))
}
