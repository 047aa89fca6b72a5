//! What time it was (kernel/time/timekeeping.c).

use kdive_base::VirtAddr;
use kdive_target::{Field, Kernel, Lacks, Load};
use serde::Serialize;

const NANOS: u64 = 1_000_000_000;

/// `struct timekeeper`, whose members have moved since 3.4.
#[derive(Load)]
#[load(type = "timekeeper")]
struct Timekeeper {
    xtime_sec: Field<u64>,
    #[load(any("tkr_mono.xtime_nsec", "xtime_nsec"))]
    xtime_nsec: Field<u64>,
    #[load(any("tkr_mono.shift", "shift"))]
    shift: Field<u32>,
    offs_real: Field<i64>,
    offs_boot: Field<i64>,
}

/// The clocks of the machine when it died.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Clock {
    /// Wall-clock time in nanoseconds since 1970, as of the last tick.
    pub wall_ns: u64,
    /// Wall-clock time of the boot, in nanoseconds since 1970.
    pub boot_ns: u64,
    /// The monotonic clock at the same time: nanoseconds from boot, time asleep left out.
    pub monotonic_ns: u64,
}

impl Clock {
    /// Nanoseconds from boot to death, time asleep included.
    #[must_use]
    pub fn uptime_ns(&self) -> u64 {
        self.wall_ns.saturating_sub(self.boot_ns)
    }

    /// The clocks, from the kernel's timekeeper.
    pub fn find(kernel: &Kernel) -> Field<Self> {
        let mut why = None;
        for place in places(kernel) {
            match place.and_then(|at| Self::read(&kernel.load(at))) {
                Ok(clock) => return Ok(clock),
                // What the last place lacks says most: the first are not there on other kernels.
                Err(lacks) => why = Some(lacks),
            }
        }
        Err(why.unwrap_or_else(|| Lacks::unavailable("no timekeeper was found")))
    }

    fn read(keeper: &Timekeeper) -> Field<Self> {
        /// Seconds below the year 2500.
        const LATEST: u64 = 1 << 34;
        let seconds = keeper.xtime_sec.clone()?;
        let shift = keeper.shift.clone()?;
        if seconds == 0 || seconds > LATEST || shift > 32 {
            return Err(Lacks::implausible("the timekeeper holds no time"));
        }
        let wall_ns = seconds.saturating_mul(NANOS).saturating_add(keeper.xtime_nsec.clone()? >> shift);
        // What to add to the monotonic clock for the wall clock, and for the clock that counts sleep too.
        let real = keeper.offs_real.clone()?;
        let boot = real.saturating_sub(keeper.offs_boot.clone()?);
        let monotonic_ns = wall_ns.saturating_add_signed(real.saturating_neg());
        match u64::try_from(boot) {
            Ok(boot_ns) if boot_ns <= wall_ns => Ok(Self { wall_ns, boot_ns, monotonic_ns }),
            _ => Err(Lacks::implausible("the machine was booted after it died")),
        }
    }
}

/// Where a timekeeper may lie, the surest place first.
fn places(kernel: &Kernel) -> impl Iterator<Item = Field<VirtAddr>> {
    // 6.13: a named structure holds it (`tk_core`, and since 6.17 the first of `timekeeper_data`).
    let named = kernel
        .any_symbol(&["timekeeper_data", "tk_core"])
        .and_then(|at| Ok(at.add(kernel.offset_of("tk_data", "timekeeper")?)));
    // 3.17: it follows the sequence counter in a structure without a name.
    let counters = ["seqcount_raw_spinlock_t", "seqcount_t"];
    let counter = counters.iter().find_map(|name| kernel.size_of(name).ok()).unwrap_or(4);
    let unnamed = kernel.symbol("tk_core").map(|at| at.add(counter.next_multiple_of(8)));
    // The copy that the next update is made in, and the only one before 3.17.
    let alone = kernel.any_symbol(&["shadow_timekeeper", "timekeeper"]);
    [named, unnamed, alone].into_iter()
}

#[derive(Load)]
#[load(type = "clocksource")]
struct ClockSource {
    mult: Field<u32>,
    shift: Field<u32>,
}

/// Timer ticks in a second (`HZ`), which no symbol or type tells: the clock source that counts jiffies knows how many
/// nanoseconds one is.
pub fn ticks_per_second(kernel: &Kernel) -> Field<u64> {
    let source: Field<ClockSource> = kernel.symbol("clocksource_jiffies").map(|at| kernel.load(at));
    let tick_ns = source.and_then(|source| {
        let shift = source.shift?;
        source.mult.map(|mult| u64::from(mult).checked_shr(shift).unwrap_or(0))
    });
    let tick_ns = match tick_ns {
        Ok(nanos) => nanos,
        Err(lacks) => {
            let at = kernel.symbol("tick_usec").map_err(|_| lacks)?;
            kernel.memory().u64(at)?.saturating_mul(1000)
        }
    };
    rate(tick_ns).ok_or_else(|| Lacks::implausible(format_args!("a tick of {tick_ns} ns")))
}

/// The whole number of ticks in a second whose tick is closest to this.
fn rate(tick_ns: u64) -> Option<u64> {
    let rate = NANOS.saturating_add(tick_ns / 2).checked_div(tick_ns)?;
    (24..=10_000).contains(&rate).then_some(rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_is_a_little_off_its_rate() {
        // TICK_NSEC is 3999998 or so where the timer chip cannot divide evenly.
        assert_eq!(rate(3_999_998), Some(250));
        assert_eq!(rate(999_847), Some(1000));
        assert_eq!(rate(3_333_333), Some(300));
        assert_eq!(rate(0), None);
        assert_eq!(rate(1), None);
    }

    #[test]
    fn damaged_clocks_are_refused() {
        let keeper = |seconds, offs_real| Timekeeper {
            xtime_sec: Ok(seconds),
            xtime_nsec: Ok(5 << 24),
            shift: Ok(24),
            offs_real: Ok(offs_real),
            offs_boot: Ok(0),
        };
        let clock = Clock::read(&keeper(1000, 996 * NANOS as i64)).unwrap();
        assert_eq!((clock.wall_ns, clock.uptime_ns()), (1000 * NANOS + 5, 4 * NANOS + 5));
        assert!(Clock::read(&keeper(1000, 2000 * NANOS as i64)).is_err());
        assert!(Clock::read(&keeper(u64::MAX, 0)).is_err());
        assert!(Clock::read(&keeper(1000, -1)).is_err());
    }
}
