//! Tasks: maps, status, run queues, timers, System V IPC.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Faults, hexadecimal, inner, near, number, pid, same, text, word};
use crate::lab::truth::Truth;

/// Kilobytes: before 6.2, `/proc` leaves out what a task has not yet added to the counters of its memory.
const UNCOUNTED: u64 = 2048;

/// `400000-401000 r--p 00000000 00:02 6 /bin/rich`
pub(super) fn mappings(truth: &Truth, rows: &[Value]) -> Faults {
    let mut faults = Faults::new();
    // The process that wrote this goes on, and maps its buffers.
    for part in rows.iter().filter(|part| Some(pid(part)) != truth.trigger()) {
        let pid = pid(part);
        let range = |line: &String| {
            let (start, end) = line.split(' ').next()?.split_once('-')?;
            Some((hexadecimal(start)?, hexadecimal(end)?))
        };
        let lines = truth.lines(&format!("{pid}/maps"));
        // No area: a page of the kernel that all processes see.
        let wanted: BTreeSet<_> =
            lines.iter().filter(|line| !line.contains("[vsyscall]")).filter_map(range).collect();
        if wanted.is_empty() {
            continue;
        }
        let found: BTreeSet<_> =
            inner(part).iter().filter_map(|row| Some((number(row, "start")?, number(row, "end")?))).collect();
        if let Some(differs) = wanted.symmetric_difference(&found).next() {
            let (wanted, found) = (wanted.len(), found.len());
            faults.push(format!("{pid}: {found} areas instead of {wanted}, of one only: {differs:x?}"));
        }
        let wanted = status(truth, &pid.to_string(), "VmRSS").and_then(|value| word(value, 0));
        let resident = part.get("header").and_then(|header| number(header, "rss_bytes"));
        let what = format!("RSS of {pid}");
        faults.extend(near(&what, resident.map(|bytes| bytes / 1024), wanted, UNCOUNTED));
    }
    faults
}

/// A line of `/proc/PID/status`, behind its name.
fn status<'t>(truth: &'t Truth, place: &str, name: &str) -> Option<&'t str> {
    let lines = truth.lines(&format!("{place}/status"));
    lines.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim))
}

pub(super) fn signals(truth: &Truth, rows: &[Value]) -> Faults {
    let mut faults = Faults::new();
    for part in rows {
        let Some(row) = inner(part).first() else { continue };
        let thread = pid(part);
        let processes = truth.threads.iter().find(|one| one.tid == thread).map(|one| one.process);
        let Some(process) = processes else { continue };
        let place = match process == thread {
            true => process.to_string(),
            false => format!("{process}/task/{thread}"),
        };
        let shared = row.get("shared");
        let pending = |row: Option<&Value>, name: &str| number(row?.get(name)?, "signal");
        let of = |name: &str, found: Option<u64>| {
            let wanted = status(truth, &place, name).and_then(hexadecimal);
            near(&format!("{name} of {thread}"), found, wanted, 0)
        };
        faults.extend(of("SigBlk", number(row, "blocked")));
        faults.extend(of("SigPnd", pending(Some(row), "private_pending")));
        faults.extend(of("ShdPnd", pending(shared, "pending")));
        faults.extend(of("SigIgn", handled(shared, |handler| handler == "SIG_IGN")));
        faults.extend(of("SigCgt", handled(shared, |handler| !handler.starts_with("SIG_"))));
    }
    faults
}

/// The set of signals with such a handler.
fn handled(shared: Option<&Value>, wanted: impl Fn(&str) -> bool) -> Option<u64> {
    let actions = shared?.get("actions")?.as_array()?;
    let name = |action: &Value| match action.get("handler") {
        Some(Value::String(name)) => name.clone(),
        // A function, by its address.
        _ => String::new(),
    };
    let chosen = actions.iter().filter(|action| wanted(&name(action)));
    Some(chosen.filter_map(|action| number(action, "signal")).fold(0, |set, signal| set | 1 << (signal - 1)))
}

/// The spinners wait behind the process that stopped the kernel.
pub(super) fn run_queues(truth: &Truth, rows: &[Value]) -> Faults {
    let first = rows.iter().find(|row| number(row, "cpu") == Some(0));
    let queued = first.map(Value::to_string).unwrap_or_default();
    let spinners = truth.threads.iter().filter(|thread| thread.name.starts_with("spin-"));
    let missing = spinners.filter(|thread| !queued.contains(&format!("\"{}\"", thread.name)));
    missing.map(|thread| format!("{} {} is not queued on CPU 0", thread.tid, thread.name)).collect()
}

/// ` # expires at 1019101706932-1019101756932 nsecs [in ...]`
pub(super) fn timers(truth: &Truth, rows: &[Value]) -> Faults {
    /// Others may have expired before the dump.
    const FAR: u64 = 60_000_000_000;
    let clocks = rows.iter().filter_map(|row| row.get("clocks")?.as_array()).flatten();
    let all = clocks.filter_map(|clock| clock.get("timers")?.as_array()).flatten();
    let found: BTreeSet<u64> = all.filter_map(|timer| number(timer, "expires_ns")).collect();
    let lines = truth.lines("timer_list");
    // Below the name of its function; the tick is set anew all the time.
    let pairs = lines.iter().zip(lines.iter().skip(1));
    let lines = pairs.filter(|(name, line)| line.contains("expires at") && !name.contains(" tick_"));
    let mut count = 0;
    let mut faults = Faults::new();
    for (_, line) in lines {
        let left = line.split("[in ").nth(1).and_then(|rest| word(rest, 0));
        let expires = line.split("expires at ").nth(1).and_then(|rest| rest.split('-').nth(1));
        let Some(expires) = expires.and_then(|rest| word(rest, 0)) else { continue };
        if left.is_some_and(|left| left > FAR && left < u64::MAX / 4) {
            count += 1;
            if !found.contains(&expires) {
                faults.push(format!("no timer expires at {expires}"));
            }
        }
    }
    if count == 0 {
        faults.push("the words have no timer that is far off".into());
    }
    faults
}

/// `key shmid perms size cpid lpid nattch ...`, and the same of semaphores and messages.
pub(super) fn ipc(truth: &Truth, rows: &[Value]) -> Faults {
    let kinds = [
        ("sysvipc/shm", "shared-memory", [("bytes", 3), ("attached", 6)]),
        ("sysvipc/sem", "semaphores", [("semaphores", 3), ("semaphores", 3)]),
        ("sysvipc/msg", "messages", [("used_bytes", 3), ("messages", 4)]),
    ];
    let mut faults = Faults::new();
    for (key, facility, numbers) in kinds {
        let mut left: BTreeMap<u64, &Value> = rows
            .iter()
            .filter(|row| text(row, "facility") == facility)
            .filter_map(|row| Some((number(row, "id")?, row)))
            .collect();
        for line in truth.lines(key).iter().skip(1) {
            let Some((id, row)) = word(line, 1).and_then(|id| Some((id, left.remove(&id)?))) else {
                faults.push(format!("{facility}: missing: {line}"));
                continue;
            };
            let say = |what: &str| format!("{what} of {facility} {id}");
            // Signed there, unsigned here.
            let wanted = line.split_whitespace().next().and_then(|key| key.parse::<i64>().ok());
            let wanted = wanted.map(|key| u64::from(key as u32));
            faults.extend(near(&say("key"), number(row, "key"), wanted, 0));
            // The mode has flags above its last three digits.
            let mode = line.split_whitespace().nth(2).unwrap_or_default();
            let mode = mode.get(mode.len().saturating_sub(3)..).unwrap_or_default();
            faults.extend(same(&say("mode"), text(row, "permissions"), mode));
            for (name, index) in numbers {
                faults.extend(near(&say(name), number(row, name), word(line, index), 0));
            }
        }
        faults.extend(left.keys().map(|id| format!("{facility} {id} is not in /proc")));
    }
    faults
}
