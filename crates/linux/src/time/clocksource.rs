//! Clock sources: what the kernel reads the time from, and what watches it (kernel/time/clocksource.c).

use kdive_base::{VirtAddr, printable};
use kdive_evidence::LogRecord;
use kdive_target::{Field, Kernel, Load, walk};

use crate::log;

/// A clock source (`struct clocksource`).
#[derive(Clone, Debug)]
pub struct ClockSource {
    /// Its address.
    pub at: VirtAddr,
    /// Its name: `tsc`.
    pub name: Field<String>,
    /// How good it is; the best that is stable is used.
    pub rating: Field<i32>,
    /// Whether the kernel reads the time from it.
    pub is_current: bool,
    /// Whether it must be verified against another.
    pub must_verify: bool,
    /// Whether the kernel found it to be wrong.
    pub is_unstable: bool,
}

#[derive(Clone, Debug, Load)]
#[load(type = "clocksource")]
struct Fields {
    name: Field<VirtAddr>,
    rating: Field<i32>,
    flags: Field<u64>,
}

/// `CLOCK_SOURCE_MUST_VERIFY` and `CLOCK_SOURCE_UNSTABLE` (include/linux/clocksource.h).
const MUST_VERIFY: u64 = 0x02;
const UNSTABLE: u64 = 0x40;

/// The clock sources, the best first as the kernel lists them.
///
/// # Errors
/// The kernel does not say where they are, or their list is damaged.
pub fn clock_sources(kernel: &Kernel) -> Field<Vec<ClockSource>> {
    let memory = kernel.memory();
    let current = kernel.symbol("curr_clocksource").and_then(|at| Ok(memory.pointer(at)?)).ok();
    let (link, loader) = (kernel.offset_of("clocksource", "list")?, kernel.loader::<Fields>());
    let mut found = Vec::new();
    for item in walk::list(memory, kernel.symbol("clocksource_list")?).take(256) {
        let at = item?.sub(link);
        let fields = loader.load(at);
        let flags = fields.flags.unwrap_or(0);
        found.push(ClockSource {
            at,
            name: fields.name.and_then(|at| Ok(printable(&memory.c_string(at, 64)?))),
            rating: fields.rating,
            is_current: current == Some(at),
            must_verify: flags & MUST_VERIFY != 0,
            is_unstable: flags & UNSTABLE != 0,
        });
    }
    Ok(found)
}

/// Which source watches the others: the best that need not be verified itself (`clocksource_select_watchdog`). `None` where
/// there is none to be watched, or none to watch.
#[must_use]
pub fn watchdog(sources: &[ClockSource]) -> Option<&ClockSource> {
    if !sources.iter().any(|source| source.must_verify) {
        return None;
    }
    let able = sources.iter().filter(|source| !source.must_verify && source.rating.is_ok());
    // Of equals the first, as in the kernel's list.
    able.rev().max_by_key(|source| source.rating.clone().unwrap_or(0))
}

/// Time that a hypervisor took from a processor, in nanoseconds (`CPUTIME_STEAL`).
///
/// # Errors
/// The kernel counts none.
pub fn stolen(kernel: &Kernel, cpu: u32) -> Field<u64> {
    let index = u64::try_from(kernel.enumerator("CPUTIME_STEAL")?).unwrap_or(0);
    let at = kernel.per_cpu("kernel_cpustat", cpu)?.add(kernel.offset_of("kernel_cpustat", "cpustat")?);
    Ok(kernel.memory().u64(at.add(index.wrapping_mul(8)))?)
}

/// Records of the log that tell of a clock that jumped, ran wrong or stood still.
///
/// # Errors
/// The log cannot be found.
pub fn suspicious_records(kernel: &Kernel) -> Field<Vec<LogRecord>> {
    let records = log::records(kernel)?;
    Ok(records.flatten().filter(|record| is_suspicious(&record.text)).collect())
}

fn is_suspicious(text: &str) -> bool {
    const SIGNS: &[&str] = &[
        "Marking clocksource",
        "Marking TSC unstable",
        "timekeeping watchdog on CPU",
        "time jumped",
        "time jump",
        "Clock: inserting leap second",
        "hrtimer: interrupt took",
        "sched_clock: Marking unstable",
        "TSC warps detected",
        "time went backwards",
        "Suspended for",
        "watchdog: BUG: soft lockup",
        "kthread starved for",
        "Delta way too big",
        "tsc_sync: ",
        "clocksource: Long readout interval",
    ];
    SIGNS.iter().any(|sign| text.contains(sign))
}

/// A place in the log where time ran backwards: the record before, and the one behind, in nanoseconds.
///
/// # Errors
/// The log cannot be found.
pub fn steps_back(kernel: &Kernel) -> Field<Vec<(u64, u64)>> {
    /// Processors' clocks differ by less.
    const SLACK: u64 = 100_000_000;
    /// While the machine boots the clock is set up, and starts anew.
    const BOOT: u64 = 5_000_000_000;
    let mut found = Vec::new();
    let mut last: Option<u64> = None;
    for record in log::records(kernel)?.flatten() {
        let Some(now) = record.time_ns else { continue };
        if let Some(before) = last.filter(|before| *before > BOOT && before.saturating_sub(now) > SLACK) {
            found.push((before, now));
        }
        last = Some(now);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(name: &str, rating: i32, must_verify: bool) -> ClockSource {
        ClockSource {
            at: VirtAddr(0),
            name: Ok(name.into()),
            rating: Ok(rating),
            is_current: false,
            must_verify,
            is_unstable: false,
        }
    }

    #[test]
    fn the_best_that_needs_no_watch_watches() {
        let sources = [source("tsc", 300, true), source("hpet", 250, false), source("acpi_pm", 200, false)];
        assert_eq!(watchdog(&sources).map(|of| of.name.clone()), Some(Ok("hpet".into())));
        assert!(watchdog(&sources[1..]).is_none());
        assert!(watchdog(&sources[..1]).is_none());
    }

    #[test]
    fn signs_are_found() {
        assert!(is_suspicious(
            "clocksource: timekeeping watchdog on CPU1: Marking clocksource 'tsc' as unstable"
        ));
        assert!(!is_suspicious("clocksource: Switched to clocksource tsc"));
        assert!(!is_suspicious("rtc_cmos: setting system clock"));
    }
}
