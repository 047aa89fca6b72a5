//! The machine as a whole: its kernel, its clocks, its memory, how it died.

mod config;
mod dmi;
mod e820;
mod panic;
mod params;
mod setting;
mod syscalls;
mod sysctl;
mod taint;
mod time;
mod uts;

use kdive_target::{Field, Kernel, Lacks};

pub use crate::mmzone::present_pages;
pub use config::config;
pub use dmi::{DmiString, dmi};
pub use e820::{MapRange, memory_map};
pub use panic::{PanicMessage, panic_message};
pub use params::{Parameter, Parameters, parameters};
pub use setting::Setting;
pub use syscalls::{Syscall, syscalls};
pub use sysctl::{Sysctl, Sysctls, sysctls};
pub use taint::Taint;
pub use time::{Clock, ticks_per_second};
pub use uts::Uts;

/// Runnable tasks averaged over 1, 5 and 15 minutes, in hundredths (`avenrun`, kernel/sched/loadavg.c).
pub fn load_average(kernel: &Kernel) -> Field<[u64; 3]> {
    /// Fixed point with 11 bits behind the point.
    const FSHIFT: u32 = 11;
    /// Half of a hundredth: what `/proc/loadavg` adds before it cuts off.
    const HALF: u64 = (1 << FSHIFT) / 200;
    let at = kernel.symbol("avenrun")?;
    let mut load = [0; 3];
    for (index, value) in load.iter_mut().enumerate() {
        let raw = kernel.memory().u64(at.add(index as u64 * 8))?;
        *value = raw.saturating_add(HALF).saturating_mul(100) >> FSHIFT;
    }
    Ok(load)
}

/// Processor speed in MHz (`cpu_khz`, arch/x86/kernel/tsc.c).
pub fn mhz(kernel: &Kernel) -> Field<u32> {
    match kernel.memory().u32(kernel.symbol("cpu_khz")?)? {
        0 => Err(Lacks::unavailable("the kernel did not measure its processor's speed")),
        khz => Ok(khz / 1000),
    }
}
