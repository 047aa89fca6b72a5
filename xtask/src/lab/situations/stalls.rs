//! Works that do not end, grace periods and processors that do not come on, as the guest named them.

use serde_json::Value;

use super::super::compare::{Faults, Known};
use super::locking::{list, pid, same_address, text};

/// The words behind `crasher: VERB`, for each such line.
pub(super) fn said<'a>(known: &Known<'a>, verb: &str) -> Vec<Vec<&'a str>> {
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

fn of_cpu<'v>(rows: &'v [Value], cpu: &str) -> Option<&'v Value> {
    rows.iter().find(|row| number(row, "cpu") == cpu.parse().ok())
}

/// `crasher: deaf PID cpu CPU`, `crasher: calls PID cpu CPU FUNCTION`.
pub(super) fn calls(known: &Known<'_>, rows: &[Value]) -> Faults {
    let (deaf, calls) = (said(known, "deaf"), said(known, "calls"));
    let deaf = deaf.first().and_then(|words| words.first_chunk::<3>());
    let calls = calls.first().and_then(|words| words.first_chunk::<4>());
    let (Some([deaf, _, cpu]), Some([caller, _, from, function])) = (deaf, calls) else {
        return vec!["the guest named no processors".into()];
    };
    let mut faults = Faults::new();
    let row = of_cpu(rows, cpu).unwrap_or(&Value::Null);
    let off = row.get("interrupts_off") == Some(&Value::Bool(true));
    if deaf.parse().ok() != row.get("task").map(pid) || !off {
        faults.push(format!("CPU {cpu} does not run {deaf} with interrupts off: {row}"));
    }
    let is_it = |call: &Value| {
        let from_pid = call.get("from").map(pid);
        text(call, "function") == *function && from_pid == caller.parse().ok() && text(call, "kind") == "sync"
    };
    if !list(row, "pending").iter().any(is_it) {
        faults.push(format!("CPU {cpu} was not asked for {function} by {caller}: {row}"));
    }
    let waits = of_cpu(rows, from).is_some_and(|row| !text(row, "waits_in").is_empty());
    if !waits {
        faults.push(format!("CPU {from} does not wait"));
    }
    faults
}

/// The deaf processor raised a tasklet before it turned deaf.
pub(super) fn tasklets(known: &Known<'_>, rows: &[Value]) -> Faults {
    let mut faults = Faults::new();
    for words in said(known, "deaf") {
        let row = words.get(2).and_then(|cpu| of_cpu(rows, cpu)).unwrap_or(&Value::Null);
        let raised = list(row, "pending").iter().any(|name| name == "TASKLET");
        let is_it = |tasklet: &Value| text(tasklet, "function") == "late_tasklet_function";
        if !raised || !list(row, "tasklets").iter().any(is_it) {
            faults.push(format!("the tasklet is not pending: {row}"));
        }
    }
    faults
}

/// `crasher: overdue timer TIMER FUNCTION cpu CPU`.
pub(super) fn timers(known: &Known<'_>, rows: &[Value]) -> Faults {
    let mut faults = Faults::new();
    for words in said(known, "overdue") {
        let [_, timer, function, _, cpu] = words.as_slice() else { continue };
        let is_it = |row: &Value| {
            same_address(text(row, "timer"), timer)
                && text(row, "function").starts_with(function)
                && number(row, "cpu") == cpu.parse().ok()
        };
        if !rows.iter().any(is_it) {
            faults.push(format!("{function} at {timer} is not overdue on CPU {cpu}"));
        }
    }
    faults
}
