//! Works that do not end, grace periods and processors that do not come on, as the guest named them.

use serde_json::Value;

use super::super::compare::{Faults, Known};
use super::locking::{list, pid, same_address, text};

/// The words behind `crasher: VERB`, for each such line.
fn said<'a>(known: &Known<'a>, verb: &str) -> Vec<Vec<&'a str>> {
    let lines = known.console.lines().filter_map(|line| line.split_once("crasher: "));
    let words = lines.map(|(_, text)| text.split_whitespace().collect::<Vec<_>>());
    words
        .filter(|words| words.first() == Some(&verb))
        .map(|words| words.into_iter().skip(1).collect())
        .collect()
}

fn number(value: &Value, key: &str) -> Option<u64> {
    value.get(key).and_then(Value::as_u64)
}

/// `crasher: stuck PID work WORK FUNCTION`, `crasher: pending work WORK FUNCTION`.
pub(super) fn works(known: &Known<'_>, rows: &[Value]) -> Faults {
    let Some(row) = rows.iter().find(|row| text(row, "name") == "crasher_wq") else {
        return vec!["crasher_wq is missing".into()];
    };
    let mut faults = Faults::new();
    for words in said(known, "stuck") {
        let [worker, _, work, function] = words.as_slice() else { continue };
        let is_it = |running: &Value| {
            same_address(text(running, "work"), work)
                && text(running, "function") == *function
                && worker.parse() == Ok(pid(running))
        };
        if !list(row, "running").iter().any(is_it) {
            faults.push(format!("{function} does not run in {worker}: {row}"));
        }
    }
    let pending = said(known, "pending");
    let waiting = list(row, "waiting");
    let same = |(words, waiting): (&Vec<&str>, &Value)| match words.as_slice() {
        [_, work, function] => {
            same_address(text(waiting, "work"), work) && text(waiting, "function") == *function
        }
        _ => false,
    };
    if pending.len() != waiting.len() || !pending.iter().zip(waiting).all(same) {
        faults.push(format!("{pending:?} do not wait: {row}"));
    }
    faults
}

/// `crasher: stalls PID rcu cpu CPU`, `crasher: callbacks COUNT FUNCTION`.
pub(super) fn grace_period(known: &Known<'_>, rows: &[Value]) -> Faults {
    let mut faults = Faults::new();
    let holds_out = |row: &&Value| row.get("holds_out") == Some(&Value::Bool(true));
    let held: Vec<(Option<u64>, i64)> =
        rows.iter().filter(holds_out).map(|row| (number(row, "cpu"), pid(row))).collect();
    let stalls = said(known, "stalls");
    let wanted: Vec<(Option<u64>, i64)> = stalls
        .iter()
        .filter_map(|words| match words.as_slice() {
            [reader, _, _, cpu] => Some((cpu.parse().ok(), reader.parse().ok()?)),
            _ => None,
        })
        .collect();
    if held != wanted {
        faults.push(format!("{held:?} hold out, not {wanted:?}"));
    }
    for words in said(known, "callbacks") {
        let [count, function] = words.as_slice() else { continue };
        let mut functions = rows.iter().flat_map(|row| list(row, "functions"));
        let is_it = |of: &Value| {
            of.get(0).and_then(Value::as_str) == Some(function)
                && of.get(1).and_then(Value::as_u64) == count.parse().ok()
        };
        if !functions.any(is_it) {
            faults.push(format!("no CPU is to call {function} {count} times"));
        }
    }
    faults
}
