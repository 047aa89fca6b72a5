//! Timers: what the kernel means to do later (kernel/time).

pub mod hrtimer;
pub mod wheel;

use kdive_base::VirtAddr;
use kdive_debuginfo::Tag;
use kdive_target::{Field, Kernel, Lacks};

/// Ticks since the kernel started counting, 64 bits wide; it starts 300 seconds before 2^32.
pub fn jiffies(kernel: &Kernel) -> Field<u64> {
    Ok(kernel.memory().u64(kernel.any_symbol(&["jiffies_64", "jiffies"])?)?)
}

/// How many elements of `element` a per-CPU variable has, as its type tells.
fn elements(kernel: &Kernel, variable: &str, element: &str) -> Field<u64> {
    let unknown = || Lacks::unavailable(format_args!("how long {variable} is, is not known"));
    let types = kernel.types()?;
    let of = types.find(Tag::Variable, variable).map_err(|_| unknown())?;
    let count = types.size_of(of).unwrap_or(0).checked_div(kernel.size_of(element)?).ok_or_else(unknown)?;
    if count == 0 || count > 64 { Err(unknown()) } else { Ok(count) }
}

/// A function that a timer calls, by name.
#[must_use]
pub fn function_name(kernel: &Kernel, at: VirtAddr) -> Option<String> {
    let place = kernel.place(at)?;
    (place.offset == 0).then(|| place.symbol.name.to_owned())
}
