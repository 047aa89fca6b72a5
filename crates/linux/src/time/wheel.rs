//! The timer wheels: timers by ticks (kernel/time/timer.c, since 4.8).

use kdive_base::{Endian, VirtAddr};
use kdive_target::walk::null_terminated;
use kdive_target::{Bytes, Field, Kernel, Lacks, Load, Loader};

/// A timer that waits (`struct timer_list`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timer {
    /// Where it lies.
    pub at: VirtAddr,
    /// When it is due, in jiffies.
    pub expires: u64,
    /// What it calls.
    pub function: VirtAddr,
}

/// One wheel of one processor (`struct timer_base`).
#[derive(Clone, Debug)]
pub struct Wheel {
    /// The processor.
    pub cpu: u32,
    /// Its name: `BASE_STD`, `BASE_LOCAL`.
    pub name: &'static str,
    /// Where it lies.
    pub at: VirtAddr,
    /// The timers in it by the time at which they are due.
    pub timers: Vec<Timer>,
    /// Why timers may be lacking.
    pub lacks: Vec<Lacks>,
}

#[derive(Load)]
#[load(type = "timer_base")]
struct Base {
    /// `struct hlist_head[WHEEL_SIZE]`: the first timer of each slot.
    vectors: Field<Bytes>,
}

#[derive(Load)]
#[load(type = "timer_list")]
struct TimerList {
    #[load(address)]
    at: VirtAddr,
    expires: Field<u64>,
    function: Field<VirtAddr>,
}

/// The names of a processor's wheels: `BASE_*` are macros, and their number changed in 6.10.
fn names(count: u64) -> &'static [&'static str] {
    match count {
        // Without CONFIG_NO_HZ_COMMON there is one.
        1 => &["BASE_STD"],
        2 => &["BASE_STD", "BASE_DEF"],
        _ => &["BASE_LOCAL", "BASE_GLOBAL", "BASE_DEF"],
    }
}

/// The wheels of a processor.
///
/// # Errors
/// The kernel has none (before 4.8), or where they lie is not known.
pub fn wheels(kernel: &Kernel, cpu: u32) -> Field<Vec<Wheel>> {
    let first = kernel.per_cpu("timer_bases", cpu)?;
    let bytes = kernel.size_of("timer_base")?;
    let names = names(super::elements(kernel, "timer_bases", "timer_base")?);
    let link = kernel.offset_of("timer_list", "entry")?;
    let (base, timer) = (kernel.loader::<Base>(), kernel.loader::<TimerList>());
    let wheel = |(index, name): (u64, &'static str)| {
        let at = first.add(bytes.wrapping_mul(index));
        let mut wheel = Wheel { cpu, name, at, timers: Vec::new(), lacks: Vec::new() };
        match base.load(at).vectors {
            Ok(Bytes(slots)) => wheel.fill(kernel, &slots, link, &timer),
            Err(lacks) => wheel.lacks.push(lacks),
        }
        wheel
    };
    Ok((0..).zip(names.iter().copied()).map(wheel).collect())
}

impl Wheel {
    fn fill(&mut self, kernel: &Kernel, slots: &[u8], link: u64, timer: &Loader<'_, TimerList>) {
        let firsts = slots.chunks_exact(8).filter_map(|slot| Endian::Little.u64(slot, 0));
        for first in firsts.filter(|first| *first != 0) {
            for entry in null_terminated(kernel.memory(), VirtAddr(first), 0) {
                let found = entry.map_err(Lacks::from).and_then(|entry| {
                    let raw = timer.load(entry.sub(link));
                    Ok(Timer { at: raw.at, expires: raw.expires?, function: raw.function? })
                });
                match found {
                    Ok(timer) => self.timers.push(timer),
                    Err(lacks) => self.lacks.push(lacks),
                }
            }
        }
        self.timers.sort_by_key(|timer| timer.expires);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wheels_are_named_by_their_number() {
        assert_eq!(names(1), ["BASE_STD"]);
        assert_eq!(names(2), ["BASE_STD", "BASE_DEF"]);
        assert_eq!(names(3), ["BASE_LOCAL", "BASE_GLOBAL", "BASE_DEF"]);
    }
}
