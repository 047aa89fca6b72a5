//! Timers: what the kernel means to do later (kernel/time).

pub mod clocksource;
pub mod hrtimer;
pub mod overdue;
pub mod pauses;
pub mod wheel;

use kdive_base::VirtAddr;
use kdive_debuginfo::Tag;
use kdive_target::{Field, Kernel, Lacks};

/// Ticks since the kernel started counting, 64 bits wide; it starts 300 seconds before 2^32.
pub fn jiffies(kernel: &Kernel) -> Field<u64> {
    Ok(kernel.memory().u64(kernel.any_symbol(&["jiffies_64", "jiffies"])?)?)
}

/// A number of ticks in nanoseconds.
pub fn jiffies_to_ns(kernel: &Kernel, ticks: u64) -> Field<u64> {
    let rate = crate::system::ticks_per_second(kernel)?;
    let nanos = u128::from(ticks).saturating_mul(1_000_000_000) / u128::from(rate.max(1));
    Ok(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// How many elements of `element` a per-CPU variable has, as its type tells; as the next variable tells, where the kernel
/// does not describe this one (BTF of 5.10).
fn elements(kernel: &Kernel, variable: &str, element: &str) -> Field<u64> {
    let types = kernel.types()?;
    let typed = types.find(Tag::Variable, variable).ok().and_then(|of| types.size_of(of));
    let up_to_next = || {
        let at = kernel.symbol(variable).ok()?;
        Some(kernel.symbol_table().ok()?.next(at)?.address.since(at))
    };
    let bytes = typed.or_else(up_to_next).unwrap_or(0);
    let count = bytes.checked_div(kernel.size_of(element)?).unwrap_or(0);
    match count {
        1..=MOST_BASES => Ok(count),
        _ => Err(Lacks::unavailable(format_args!("how long {variable} is, is not known"))),
    }
}

/// A processor has three wheels at most.
const MOST_BASES: u64 = 8;

/// A function that a timer calls, by name; with the distance where it is none's beginning.
#[must_use]
pub fn function_name(kernel: &Kernel, at: VirtAddr) -> Option<String> {
    let place = kernel.place(at)?;
    Some(match place.offset {
        0 => place.symbol.name.to_owned(),
        offset => format!("{}+{offset}", place.symbol.name),
    })
}
