//! Swap areas (`struct swap_info_struct`, include/linux/swap.h).

use kdive_base::VirtAddr;
use kdive_target::{Field, Kernel, Lacks, Load};

use crate::path;

#[derive(Clone, Debug, Load)]
#[load(type = "swap_info_struct")]
struct Fields {
    swap_file: Field<VirtAddr>,
}

/// The path of the file or device of a swap area, by its number (`swp_type`).
///
/// # Errors
/// There is no such area: the entry stands for a migration, a device page or poisoned memory, or is none. Or what leads
/// to its name is lacking.
pub fn area_path(kernel: &Kernel, area: u8) -> Field<String> {
    let memory = kernel.memory();
    let count = memory.u32(kernel.symbol("nr_swapfiles")?)?;
    if u32::from(area) >= count {
        return Err(Lacks::unavailable(format_args!("there is no swap area {area}")));
    }
    // An array of pointers since 2.6.33.
    let at = memory.pointer(kernel.symbol("swap_info")?.add(u64::from(area).wrapping_mul(8)))?;
    let fields: Fields = kernel.load(at);
    path::of_file(kernel, fields.swap_file?)
}
