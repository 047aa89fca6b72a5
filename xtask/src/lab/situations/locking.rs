//! Locks, hangs and stalls, as the guest named them: `crasher: holds PID KIND LOCK`, `crasher: wants PID KIND LOCK`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::super::compare::{Faults, Known};

/// What the guest said of one task.
struct Said<'a> {
    verb: &'a str,
    pid: i64,
    kind: &'a str,
    /// An address, or a name.
    lock: &'a str,
}

/// The lines `crasher: VERB PID KIND LOCK`.
fn said<'a>(known: &Known<'a>) -> Vec<Said<'a>> {
    const VERBS: [&str; 6] = ["holds", "wants", "spins", "stuck", "flushes", "stalls"];
    let lines = known.console.lines().filter_map(|line| line.split_once("crasher: "));
    let parse = |text: &'a str| {
        let mut words = text.split_whitespace();
        let (verb, pid) = (words.next()?, words.next()?.parse().ok()?);
        let (kind, lock) = (words.next()?, words.next()?);
        VERBS.contains(&verb).then_some(Said { verb, pid, kind, lock })
    };
    lines.filter_map(|(_, text)| parse(text)).collect()
}

pub(super) fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

pub(super) fn list<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

pub(super) fn pid(value: &Value) -> i64 {
    value.get("pid").and_then(Value::as_i64).unwrap_or(-1)
}

/// Whether an address of a record is the one that the guest printed.
pub(super) fn same_address(record: &str, guest: &str) -> bool {
    let digits = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok();
    digits(record).is_some() && digits(record) == digits(guest)
}

/// Locks that name their holders, or the last of them.
const WITH_OWNERS: &[&str] = &["mutex", "ww_mutex", "rt_mutex", "rwsem", "futex"];

/// `locks`: each task that wants a lock waits for that lock, which the task holds that says so; nobody else waits.
pub(super) fn locks(known: &Known<'_>, rows: &[Value]) -> Faults {
    let said = said(known);
    let mut faults = Faults::new();
    let mut named = BTreeSet::new();
    for want in said.iter().filter(|said| matches!(said.verb, "wants" | "spins")) {
        named.insert(want.pid);
        let waits = |row: &&Value| list(row, "waiters").iter().any(|waiter| pid(waiter) == want.pid);
        let Some(row) = rows.iter().find(waits) else {
            faults.push(format!("PID {} is not said to wait", want.pid));
            continue;
        };
        let lock = text(row, "lock");
        // The guest knows a futex by its word, the kernel by its own lock.
        let is_it = match want.kind {
            "futex" | "rcu" => true,
            _ if want.lock == "rtnl_mutex" => text(row, "name") == want.lock,
            _ => same_address(lock, want.lock),
        };
        if text(row, "kind") != want.kind || !is_it {
            let (kind, pid) = (text(row, "kind"), want.pid);
            faults.push(format!("PID {pid} waits for {kind} {lock}, not for {} {}", want.kind, want.lock));
        }
        let holders: Vec<i64> = list(row, "holders").iter().map(pid).collect();
        let is_same = |held: &&Said<'_>| held.verb == "holds" && held.lock == want.lock;
        let Some(holder) = said.iter().find(is_same).map(|held| held.pid) else { continue };
        let must = WITH_OWNERS.contains(&want.kind) || want.kind == "spinlock" || !holders.is_empty();
        if must && holders != [holder] {
            faults.push(format!("{} {} is held by {holders:?}, not by {holder}", want.kind, want.lock));
        }
    }
    named.extend(said.iter().filter(|said| matches!(said.verb, "stuck" | "flushes")).map(|said| said.pid));
    let waiters = rows.iter().flat_map(|row| list(row, "waiters"));
    let is_worker = |waiter: &Value| text(waiter, "command").starts_with("kworker/");
    for other in waiters.filter(|waiter| !named.contains(&pid(waiter)) && !is_worker(waiter)) {
        faults.push(format!("PID {} is said to wait, which the guest does not know", pid(other)));
    }
    faults
}

/// `hang`: the deadlocks are those that follow from who holds and who wants what.
pub(super) fn hang(known: &Known<'_>, rows: &[Value]) -> Faults {
    let said = said(known);
    let holder: BTreeMap<&str, i64> =
        said.iter().filter(|said| said.verb == "holds").map(|said| (said.lock, said.pid)).collect();
    let waits: BTreeMap<i64, i64> = said
        .iter()
        .filter(|said| said.verb == "wants")
        .filter_map(|want| Some((want.pid, *holder.get(want.lock)?)))
        .collect();
    let pair = |(from, to): (&i64, &i64)| {
        let is_circle = waits.get(to) == Some(from);
        is_circle.then(|| BTreeSet::from([*from, *to]))
    };
    let wanted: BTreeSet<BTreeSet<i64>> = waits.iter().filter_map(pair).collect();
    let of_cycle = |row: &Value| row.get("cycle").map(|cycle| list(cycle, "tasks").iter().map(pid).collect());
    let found: BTreeSet<BTreeSet<i64>> = rows.iter().filter_map(of_cycle).collect();
    let mut faults = Faults::new();
    if wanted != found {
        faults.push(format!("deadlocks are {found:?}, not {wanted:?}"));
    }
    let hung: BTreeSet<i64> = rows.iter().flat_map(|row| list(row, "tasks")).map(pid).collect();
    // The waiter for the futex can be woken by a signal: it does not hang.
    let deaf =
        said.iter().filter(|said| matches!(said.verb, "wants" | "stuck" | "flushes") && said.kind != "futex");
    for said in deaf.filter(|said| !hung.contains(&said.pid)) {
        faults.push(format!("PID {} is not said to hang", said.pid));
    }
    faults
}

/// The line `crasher: abba_one and abba_two deadlock on LOCK and LOCK`.
fn abba<'a>(known: &Known<'a>) -> Option<[&'a str; 4]> {
    let (before, locks) = known.console.lines().find_map(|line| line.split_once(" deadlock on "))?;
    let (_, names) = before.split_once("crasher: ")?;
    let (one, two) = names.split_once(" and ")?;
    let mut locks = locks.split_whitespace().filter(|word| *word != "and");
    Some([one, two, locks.next()?, locks.next()?])
}

/// `locks` where two threads hold a mutex each and want the other's.
pub(super) fn two_mutexes(known: &Known<'_>, rows: &[Value]) -> Faults {
    let Some([one, two, first, second]) = abba(known) else { return vec!["the guest named no locks".into()] };
    let mut faults = Faults::new();
    for (lock, holder, waiter) in [(first, one, two), (second, two, one)] {
        let row =
            rows.iter().find(|row| same_address(text(row, "lock"), lock) && text(row, "kind") == "mutex");
        let names = |key| -> Vec<&str> {
            row.map_or(&[][..], |row| list(row, key)).iter().map(|task| text(task, "command")).collect()
        };
        if names("holders") != [holder] || names("waiters") != [waiter] {
            let (holders, waiters) = (names("holders"), names("waiters"));
            faults.push(format!("{lock} is held by {holders:?} and wanted by {waiters:?}"));
        }
    }
    if rows.len() != 2 {
        faults.push(format!("{} locks instead of 2", rows.len()));
    }
    faults
}

/// `hang` on the same.
pub(super) fn two_tasks(known: &Known<'_>, rows: &[Value]) -> Faults {
    let Some([one, two, ..]) = abba(known) else { return vec!["the guest named no tasks".into()] };
    let cycles = rows.iter().filter_map(|row| row.get("cycle"));
    let tasks: Vec<BTreeSet<&str>> =
        cycles.map(|cycle| list(cycle, "tasks").iter().map(|task| text(task, "command")).collect()).collect();
    match tasks.as_slice() {
        [only] if *only == BTreeSet::from([one, two]) && rows.len() == 1 => Faults::new(),
        other => vec![format!("deadlocks are {other:?} in {} causes", rows.len())],
    }
}
