//! Times in which no processor ran at all: the machine was paused, or who runs it did not run it.
//!
//! Linux does not notice a pause in which its clocks stand still too. Where they go on, the timers that watch processors
//! and clock sources fire late, on all processors at once, and the log is silent before.

use kdive_evidence::LogRecord;
use kdive_target::{Field, Kernel};

use crate::log;

const SECOND: u64 = 1_000_000_000;
/// What the watchdog of soft lockups takes for a second.
const WATCHDOG_SECOND: u64 = 1 << 30;
/// Signs of one pause come together.
const TOGETHER: u64 = 2 * SECOND;
/// The watchdog of soft lockups is told of life each fifth of twice `watchdog_thresh`, 4 s as a rule.
const SLACK: u64 = 5 * SECOND;
/// The watchdog of clock sources looks twice a second.
const LEAST: u64 = 3 * SECOND;

/// A time in which no processor ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pause {
    /// When the log says that it may have begun, by the log's clock in nanoseconds.
    pub from_ns: u64,
    /// When the first of its signs was logged.
    pub to_ns: u64,
    /// What tells of it.
    pub signs: Vec<String>,
}

/// The pauses that the log shows.
///
/// # Errors
/// The log or the processors cannot be found.
pub fn pauses(kernel: &Kernel) -> Field<Vec<Pause>> {
    let records: Vec<LogRecord> = log::records(kernel)?.flatten().collect();
    let cpus = kernel.cpus()?.online.as_ref().map_err(Clone::clone)?.count();
    let cpus = usize::try_from(cpus).unwrap_or(usize::MAX);
    let timed = records.iter().filter_map(|record| Some((record.time_ns?, &*record.text)));
    Ok(find(&timed.collect::<Vec<_>>(), cpus))
}

/// A record that tells how long a processor or a timer did not run.
enum Sign {
    /// A processor's watchdog: its number, and for how long.
    Processor(u32, u64),
    /// A timer that should run twice a second.
    Timer(u64),
}

impl Sign {
    fn of(text: &str) -> Option<Self> {
        let number = |after: &str| -> Option<u64> {
            let (_, rest) = text.split_once(after)?;
            let digits = rest.trim_start().split(|letter: char| !letter.is_ascii_digit()).next()?;
            digits.parse().ok()
        };
        if text.contains("BUG: soft lockup") {
            let cpu = u32::try_from(number("CPU#")?).ok()?;
            return Some(Self::Processor(cpu, number("stuck for ")?.saturating_mul(WATCHDOG_SECOND)));
        }
        let lasted = text.contains("Long readout interval").then(|| number("cs_nsec:"))??;
        (lasted >= LEAST).then_some(Self::Timer(lasted))
    }

    fn lasted(&self) -> u64 {
        match self {
            Self::Processor(_, ns) | Self::Timer(ns) => *ns,
        }
    }
}

/// Pauses in records, each with its time.
fn find(records: &[(u64, &str)], cpus: usize) -> Vec<Pause> {
    let mut found: Vec<Pause> = Vec::new();
    let mut before: Option<u64> = None;
    for (index, &(at, text)) in records.iter().enumerate() {
        let last = before.replace(at);
        let (Some(last), Some(sign)) = (last, Sign::of(text)) else { continue };
        // Somebody wrote to the log meanwhile, so somebody ran.
        if at.saturating_sub(last) < sign.lasted().saturating_sub(SLACK).max(LEAST) {
            continue;
        }
        let near = records.iter().skip(index).take_while(|(time, _)| time.saturating_sub(at) <= TOGETHER);
        let signs: Vec<(Sign, &str)> = near.filter_map(|(_, text)| Some((Sign::of(text)?, *text))).collect();
        let is_timer = signs.iter().any(|(sign, _)| matches!(sign, Sign::Timer(_)));
        let processors: std::collections::BTreeSet<u32> = signs
            .iter()
            .filter_map(|(sign, _)| match sign {
                Sign::Processor(cpu, _) => Some(*cpu),
                Sign::Timer(_) => None,
            })
            .collect();
        if !is_timer && processors.len() < cpus.max(2) {
            continue;
        }
        found.push(Pause {
            from_ns: last.max(at.saturating_sub(sign.lasted())),
            to_ns: at,
            signs: signs.iter().map(|(_, text)| (*text).to_owned()).collect(),
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: (u64, &str) = (20 * SECOND, "random: crng init done");
    const FIRST: &str = "watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [init:1]";
    const SECOND_CPU: &str = "watchdog: BUG: soft lockup - CPU#1 stuck for 27s! [sh:7]";
    const TIMER: &str = "clocksource: Long readout interval, skipping watchdog check: cs_nsec: 25496124436 wd_nsec: 25496089310";

    #[test]
    fn all_processors_at_once_were_paused() {
        let records = [QUIET, (50 * SECOND, FIRST), (50 * SECOND + 9, SECOND_CPU)];
        let found = find(&records, 2);
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].from_ns, found[0].to_ns, found[0].signs.len()),
            (50 * SECOND - 26 * WATCHDOG_SECOND, 50 * SECOND, 2)
        );
    }

    #[test]
    fn one_processor_alone_hangs() {
        assert_eq!(find(&[QUIET, (50 * SECOND, FIRST)], 2), []);
        assert_eq!(find(&[QUIET, (50 * SECOND, FIRST), (55 * SECOND, SECOND_CPU)], 2), []);
    }

    #[test]
    fn a_machine_that_writes_runs() {
        assert_eq!(
            find(&[QUIET, (45 * SECOND, "x"), (50 * SECOND, FIRST), (50 * SECOND, SECOND_CPU)], 2),
            []
        );
    }

    #[test]
    fn a_late_timer_is_enough() {
        let found = find(&[QUIET, (46 * SECOND, TIMER)], 2);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].from_ns, 46 * SECOND - 25_496_124_436);
        assert_eq!(
            find(&[QUIET, (46 * SECOND, "clocksource: Long readout interval: cs_nsec: 1200000000")], 2),
            []
        );
    }
}
