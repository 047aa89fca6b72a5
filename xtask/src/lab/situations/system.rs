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

/// `clock` of a machine that was paused: `crasher: the clock jumped from NS to NS`, and no other pause.
pub(super) fn pause(known: &Known<'_>, rows: &[Value]) -> Faults {
    /// The guest looks each tenth of a second, and the watchdog of a processor is told of life each 2 s.
    const EARLY: f64 = 5.0;
    /// From the end to the first record about it.
    const LATE: f64 = 3.0;
    let said = known.console.split_once("crasher: the clock jumped from ").map(|(_, said)| said);
    let mut said = said.unwrap_or_default().split_whitespace().filter_map(|word| word.parse::<f64>().ok());
    let (Some(from), Some(to)) = (said.next(), said.next()) else {
        return vec!["the guest did not see its clock jump".into()];
    };
    let near = |found: u64, said: f64, before: f64, behind: f64| {
        let apart = found as f64 / 1e9 - said / 1e9;
        (-before..=behind).contains(&apart)
    };
    let found: Vec<(u64, u64)> = rows
        .iter()
        .filter_map(|row| Some((number(row, "paused_from_ns")?, number(row, "paused_to_ns")?)))
        .collect();
    match found[..] {
        [(began, ended)] if near(began, from, EARLY, 1.0) && near(ended, to, 1.0, LATE) => Faults::new(),
        _ => vec![format!("pauses are {found:?}, the clock jumped from {from} to {to}")],
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
