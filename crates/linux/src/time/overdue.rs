//! Timers whose time has come and that have not run.

use kdive_base::VirtAddr;
use kdive_target::{Kernel, Lacks};
use rayon::prelude::*;
use serde::Serialize;

use super::hrtimer::cpu_base;
use super::wheel::wheels;
use super::{function_name, jiffies, jiffies_to_ns};
use crate::system::Clock;
use crate::tasks::Tasks;

/// A timer that should have run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Overdue {
    /// The processor that it is to run on.
    pub cpu: u32,
    /// The `struct timer_list` or `struct hrtimer`.
    pub timer: VirtAddr,
    /// Whether it is a high-resolution timer.
    pub high_resolution: bool,
    /// Whether it may wait for as long as its processor idles (`TIMER_DEFERRABLE`).
    pub deferrable: bool,
    /// What it calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// How long ago its time came, in nanoseconds.
    pub late_ns: u64,
}

/// The timers that are late by at least so many nanoseconds, the latest first; and what could not be told.
#[must_use]
pub fn overdue(kernel: &Kernel, least_ns: u64) -> (Vec<Overdue>, Vec<Lacks>) {
    let tasks = Tasks::find(kernel);
    let now = (jiffies(kernel), Clock::find(kernel).map(|clock| clock.monotonic_ns));
    let cpus: Vec<u32> = tasks.processors().iter().map(|of| of.cpu).collect();
    let each: Vec<_> = cpus
        .into_par_iter()
        .map(|cpu| {
            let (mut found, mut lacks) = (Vec::new(), Vec::new());
            if let Err(why) = low(kernel, cpu, &now.0, &mut found, &mut lacks) {
                lacks.push(why);
            }
            if let Err(why) = high(kernel, cpu, &now.1, &mut found, &mut lacks) {
                lacks.push(why);
            }
            found.retain(|timer: &Overdue| timer.late_ns >= least_ns);
            (found, lacks)
        })
        .collect();
    let (mut found, mut lacks) = (Vec::new(), Vec::new());
    for (timers, why) in each {
        found.extend(timers);
        lacks.extend(why);
    }
    found.sort_by_key(|timer: &Overdue| (std::cmp::Reverse(timer.late_ns), timer.timer));
    (found, lacks)
}

fn low(
    kernel: &Kernel,
    cpu: u32,
    now: &Result<u64, Lacks>,
    found: &mut Vec<Overdue>,
    lacks: &mut Vec<Lacks>,
) -> Result<(), Lacks> {
    let now = now.clone()?;
    for wheel in wheels(kernel, cpu)? {
        lacks.extend(wheel.lacks);
        for timer in &wheel.timers {
            let late = now.wrapping_sub(timer.expires);
            // Half of all numbers lie ahead.
            if late == 0 || late >> 63 == 1 {
                continue;
            }
            found.push(Overdue {
                cpu,
                timer: timer.at,
                high_resolution: false,
                deferrable: wheel.name == "BASE_DEF",
                function: function_name(kernel, timer.function),
                late_ns: jiffies_to_ns(kernel, late)?,
            });
        }
    }
    Ok(())
}

fn high(
    kernel: &Kernel,
    cpu: u32,
    now: &Result<u64, Lacks>,
    found: &mut Vec<Overdue>,
    lacks: &mut Vec<Lacks>,
) -> Result<(), Lacks> {
    let now = now.clone()?;
    for clock in cpu_base(kernel, cpu)?.clocks {
        lacks.extend(clock.lacks);
        let Ok(offset) = clock.offset else { continue };
        let current = now.saturating_add_signed(offset);
        for timer in &clock.timers {
            let late_ns = current.saturating_sub(timer.expires);
            if late_ns > 0 {
                found.push(Overdue {
                    cpu,
                    timer: timer.at,
                    high_resolution: true,
                    deferrable: false,
                    function: function_name(kernel, timer.function),
                    late_ns,
                });
            }
        }
    }
    Ok(())
}
