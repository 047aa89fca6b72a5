//! Parameters and clocks, against the kernel's log and the way in which the guest was started.

use serde_json::Value;

use super::super::compare::{Faults, Known};
use super::stuck::{number, text};

/// `params crasher`: the module was told the scenario.
pub(super) fn parameters(known: &Known<'_>, rows: &[Value]) -> Faults {
    let scenario = known.truth.fact("scenario");
    match rows {
        [row] if text(row, "name") == Some("crasher.how") && text(row, "value") == scenario => Faults::new(),
        rows => vec![format!("{rows:?} instead of crasher.how, {scenario:?}")],
    }
}

/// `clock`: the clock source that the log switched to last is in use, those that it named are known, and the processors'
/// clocks are as late as the guest was old.
pub(super) fn clocks(known: &Known<'_>, rows: &[Value]) -> Faults {
    /// From the truth to the dump.
    const SLACK: f64 = 30.0;
    let mut faults = Faults::new();
    let said = |after: &str| {
        let lines = known
            .console
            .lines()
            .filter_map(|line| line.split_once(after).map(|(_, rest)| rest.trim_end().to_owned()));
        lines.collect::<Vec<_>>()
    };
    let current: Vec<_> =
        rows.iter().filter(|row| row.get("current").and_then(Value::as_bool) == Some(true)).collect();
    let switched = said("clocksource: Switched to clocksource ");
    match (&current[..], switched.last()) {
        ([row], Some(name)) if text(row, "name") == Some(name) => {}
        (rows, name) => faults.push(format!("{rows:?} in use instead of {name:?}")),
    }
    let named = said("] clocksource: ");
    for name in named.iter().filter_map(|line| line.split_once(": mask: ")).map(|(name, _)| name) {
        // The first one of TSC goes once it was measured.
        if name != "tsc-early" && !rows.iter().any(|row| text(row, "name") == Some(name)) {
            faults.push(format!("no clock source {name}"));
        }
    }
    let clocks: Vec<_> = rows.iter().filter_map(|row| number(row, "scheduler_ns")).collect();
    let uptime = known.truth.uptime().unwrap_or_default();
    let fits = |time: &u64| (uptime - 1.0..uptime + SLACK).contains(&(*time as f64 / 1e9));
    if clocks.is_empty() || !clocks.iter().all(fits) {
        faults.push(format!("clocks of processors are {clocks:?}, at {uptime} s"));
    }
    faults
}
