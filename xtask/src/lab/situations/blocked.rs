//! Servers, logs, queues and grace periods that do not go on (scenario `blocked`), as the guest noted them: lines `stuck
//! ...` of the truth, written by `lab/user/blocked*.c`, and lines `crasher: ...` of the console.

use std::collections::BTreeMap;

use serde_json::Value;

use super::super::compare::{Faults, Known};
use super::locking::{list, pid, same_address, text};
use super::stuck::{age_within, facts, number};

/// From the last line of the truth to the dump, in seconds: the system stays alive, and the lab waits for it to settle.
const SLACK: f64 = 30.0;

fn says(row: &Value, key: &str) -> bool {
    row.get(key).and_then(Value::as_bool) == Some(true)
}

fn pids(rows: &[Value]) -> Vec<i64> {
    let mut all: Vec<i64> = rows.iter().map(pid).collect();
    all.sort_unstable();
    all
}

/// `nfs PID NAME SERVER VERSION NANOSECONDS` and `unanswered XID PROGRAM VERSION PROCEDURE NANOSECONDS`, which the server
/// noted: each process waits for one call to its server, and the server knows that call.
pub(super) fn calls(known: &Known<'_>, rows: &[Value]) -> Faults {
    let mut faults = Faults::new();
    let (waiting, unanswered) = (facts(known, "nfs"), facts(known, "unanswered"));
    if waiting.len() != 3 || waiting.len() != rows.len() {
        faults.push(format!("{} calls for {} processes", rows.len(), waiting.len()));
    }
    for fact in &waiting {
        let [process, name, server, version, began] = fact[..] else { continue };
        let is_its = |row: &&Value| pids(list(row, "tasks")) == [process.parse::<i64>().unwrap_or(-1)];
        let found: Vec<&Value> = rows.iter().filter(is_its).collect();
        let [row] = found[..] else {
            faults.push(format!("{name}: {} calls that {process} waits for", found.len()));
            continue;
        };
        if text(row, "address") != server || number(row, "version") != version.parse().ok() {
            faults.push(format!("{name}: a call to {} instead of version {version} of {server}", row));
        }
        if text(row, "port") != "2049" || text(row, "connection") != "connected" {
            faults.push(format!("{name}: the connection is {row}"));
        }
        // The server answers no call of another kind.
        let is_it = |noted: &&Vec<&str>| match noted[..] {
            [xid, program, version, procedure, _] => {
                text(row, "xid") == format!("0x{xid}")
                    && number(row, "program_number") == program.parse().ok()
                    && number(row, "version") == version.parse().ok()
                    && number(row, "procedure_number") == procedure.parse().ok()
            }
            _ => false,
        };
        let times = unanswered.iter().filter(is_it).count();
        if times == 0 || number(row, "times_sent").is_none_or(|sent| sent < times as u64) {
            faults.push(format!("{name}: the server has {times} times not answered {row}"));
        }
        let found = number(row, "age_ns");
        faults
            .extend(age_within(known, found, began, SLACK).map(|fault| format!("{name}: the call {fault}")));
    }
    let named = rows.iter().filter(|row| text(row, "procedure").is_empty());
    faults.extend(named.map(|row| format!("a call without a name: {row}")));
    faults
}

/// Each server is there, with as many calls as processes wait for it.
pub(super) fn servers(known: &Known<'_>, rows: &[Value]) -> Faults {
    let mut wanted: BTreeMap<&str, u64> = BTreeMap::new();
    for fact in facts(known, "nfs") {
        *wanted.entry(fact.get(2).copied().unwrap_or_default()).or_default() += 1;
    }
    let mut faults = Faults::new();
    for (server, count) in wanted {
        let own = rows.iter().filter(|row| text(row, "address") == server);
        let calls: u64 = own.filter_map(|row| number(row, "calls")).sum();
        if calls != count {
            faults.push(format!("{calls} calls to {server} instead of {count}"));
        }
    }
    faults
}

/// Who waits for a server hangs on that server, the processes of one server together.
pub(super) fn hung_on(known: &Known<'_>, rows: &[Value]) -> Faults {
    let mut wanted: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
    for fact in facts(known, "nfs") {
        let [process, _, server, ..] = fact[..] else { continue };
        wanted.entry(server).or_default().push(process.parse().unwrap_or(-1));
    }
    let mut faults = Faults::new();
    for (server, mut processes) in wanted {
        processes.sort_unstable();
        let is_its = |row: &&Value| {
            text(row, "cause") == "event"
                && text(row, "kind") == "rpc"
                && text(row, "name").rsplit(' ').next() == Some(server)
        };
        let found: Vec<Vec<i64>> = rows.iter().filter(is_its).map(|row| pids(list(row, "tasks"))).collect();
        if found != [processes.clone()] {
            faults.push(format!("{found:?} hang on {server}, not {processes:?}"));
        }
    }
    for [waiter, ..] in said(known, "awaits").iter().filter_map(|words| words.first_chunk::<3>()) {
        let waiter = waiter.parse().unwrap_or(-1);
        if !rows.iter().any(|row| list(row, "tasks").iter().any(|task| pid(task) == waiter)) {
            faults.push(format!("{waiter} is not said to hang"));
        }
    }
    faults
}

/// The words behind `crasher: VERB`, for each such line.
fn said<'a>(known: &Known<'a>, verb: &str) -> Vec<Vec<&'a str>> {
    super::stalls::said(known, verb)
}

/// `crasher: reads PID srcu|rcu_tasks ADDRESS`, `crasher: awaits PID srcu|rcu_tasks ADDRESS`.
pub(super) fn grace_periods(known: &Known<'_>, rows: &[Value]) -> Faults {
    let mut faults = Faults::new();
    for [waiter, flavour, address] in
        said(known, "awaits").iter().filter_map(|words| words.first_chunk::<3>())
    {
        let waiter = waiter.parse::<i64>().unwrap_or(-1);
        let waits = |row: &&Value| pids(list(row, "waiters")) == [waiter];
        let Some(row) = rows.iter().find(waits) else {
            faults.push(format!("{waiter} is not said to wait"));
            continue;
        };
        let is_it = text(row, "kind") == "rcu"
            && text(row, "name").split(' ').next() == Some(flavour)
            && (*flavour != "srcu" || same_address(text(row, "lock"), address));
        if !is_it {
            faults.push(format!("{waiter} waits for {row}, not for {flavour} {address}"));
        }
        let reader = said(known, "reads").iter().find(|words| words.get(1) == Some(flavour)).cloned();
        let reader: Vec<i64> = reader.iter().filter_map(|words| words.first()?.parse().ok()).collect();
        if pids(list(row, "holders")) != reader {
            faults.push(format!("{flavour} is held out by {:?}, not {reader:?}", list(row, "holders")));
        }
    }
    faults
}

/// The same in `rcu`: one reader inside, one task that has not switched.
pub(super) fn flavours(known: &Known<'_>, rows: &[Value]) -> Faults {
    let mut faults = Faults::new();
    for [waiter, flavour, address] in
        said(known, "awaits").iter().filter_map(|words| words.first_chunk::<3>())
    {
        let reader = said(known, "reads").iter().find(|words| words.get(1) == Some(flavour)).cloned();
        let reader: Vec<i64> = reader.iter().filter_map(|words| words.first()?.parse().ok()).collect();
        let is_its = |row: &&Value| match *flavour {
            "srcu" => same_address(text(row, "srcu"), address) && number(row, "readers") == Some(1),
            _ => text(row, "flavour") == *flavour && pids(list(row, "holdouts")) == reader,
        };
        let Some(row) = rows.iter().find(is_its) else {
            faults.push(format!("no {flavour} {address} with one that holds it out"));
            continue;
        };
        if !says(row, "in_progress") || pids(list(row, "waiters")) != [waiter.parse::<i64>().unwrap_or(-1)] {
            faults.push(format!("{waiter} does not wait for it: {row}"));
        }
    }
    faults
}

/// `log xfs|btrfs PID NAME DISK NANOSECONDS`: who changed the file system waits for it, or commits it.
pub(super) fn logs(known: &Known<'_>, rows: &[Value]) -> Faults {
    let mut faults = Faults::new();
    let facts = facts(known, "log");
    if facts.len() != 4 {
        faults.push(format!("the guest noted {} changes", facts.len()));
    }
    for fact in &facts {
        let [kind, process, name, disk, _] = fact[..] else { continue };
        let is_its = |row: &&Value| text(row, "file_system") == kind && text(row, "disk") == disk;
        let Some(row) = rows.iter().find(is_its) else {
            faults.push(format!("no {kind} on {disk}"));
            continue;
        };
        let process = process.parse::<i64>().unwrap_or(-1);
        let waits = list(row, "waiters").iter().any(|waiter| pid(waiter) == process);
        let commits = list(row, "transactions")
            .iter()
            .filter(|of| text(of, "role") == "committing")
            .flat_map(|of| list(of, "holders"))
            .any(|holder| pid(holder) == process);
        if !waits && !commits {
            faults.push(format!("{name} ({process}) neither waits nor commits: {row}"));
        }
    }
    let idle = rows.iter().filter(|row| text(row, "name").starts_with("vdb-"));
    faults.extend(idle.filter(|row| !list(row, "waiters").is_empty()).map(|row| format!("waiters of {row}")));
    let healthy =
        rows.iter().filter(|row| says(row, "shut_down") || row.get("error").is_some_and(|of| of != 0));
    faults.extend(healthy.map(|row| format!("said to have failed: {row}")));
    faults
}

/// `frozen freezes|waits PID DISK NANOSECONDS`: both wait for the queue of the disk, which is held for that.
pub(super) fn frozen(known: &Known<'_>, rows: &[Value]) -> Faults {
    let facts = facts(known, "frozen");
    let mut wanted: Vec<i64> = facts.iter().filter_map(|fact| fact.get(1)?.parse().ok()).collect();
    wanted.sort_unstable();
    let disk = facts.first().and_then(|fact| fact.get(2)).copied().unwrap_or_default();
    let held = |row: &&Value| {
        let by = list(row, "held_by").iter().filter_map(Value::as_str).any(|by| by.contains("frozen"));
        text(row, "disk") == disk && by
    };
    let found: Vec<Vec<i64>> = rows.iter().filter(held).map(|row| pids(list(row, "waiters"))).collect();
    if found == [wanted.clone()] && wanted.len() == 2 {
        Faults::new()
    } else {
        vec![format!("{found:?} wait for {disk} to be thawed, not {wanted:?}")]
    }
}

/// The queue itself.
pub(super) fn frozen_queue(_known: &Known<'_>, rows: &[Value]) -> Faults {
    match rows {
        [row] if number(row, "freeze_depth").is_some_and(|depth| depth > 0) => Faults::new(),
        rows => vec![format!("{rows:?} instead of one frozen queue")],
    }
}

/// `scsi failing|slow PID HOST DISK NANOSECONDS`: the first host handles the error of one command, the second runs.
pub(super) fn recovering_host(known: &Known<'_>, rows: &[Value]) -> Faults {
    let mut faults = Faults::new();
    for fact in facts(known, "scsi") {
        let [what, _, host, ..] = fact[..] else { continue };
        let Some(row) = rows.iter().find(|row| number(row, "number") == host.parse().ok()) else {
            faults.push(format!("no host {host}"));
            continue;
        };
        let (state, failed) = if what == "failing" { ("recovery", 1) } else { ("running", 0) };
        let is_it = text(row, "state") == state
            && number(row, "failed") == Some(failed)
            && says(row, "recovering") == (what == "failing");
        let timed_out: u64 = list(row, "devices").iter().filter_map(|of| number(of, "timeouts")).sum();
        // The count came with 6.5; the lab's older kernel has it too.
        if !is_it || (what == "failing") != (timed_out > 0) {
            faults.push(format!("host {host} is not in {state} with {failed} commands: {row}"));
        }
    }
    faults
}

/// `crasher: stopped DEVICE queue QUEUE at NANOSECONDS`, and a line `crasher: timeout DEVICE ...` each time that the watchdog
/// found it stuck.
pub(super) fn stopped_queue(known: &Known<'_>, rows: &[Value]) -> Faults {
    let mut faults = Faults::new();
    let stopped = said(known, "stopped");
    let Some([device, _, queue, _, at]) = stopped.first().and_then(|words| words.first_chunk::<5>()) else {
        return vec!["the guest named no queue".into()];
    };
    let is_stopped = |row: &&Value| list(row, "queues").iter().any(|of| says(of, "stopped"));
    let found: Vec<&Value> = rows.iter().filter(is_stopped).collect();
    let [row] = found[..] else { return vec![format!("{} devices with stopped queues", found.len())] };
    let [own] = list(row, "queues") else { return vec![format!("queues of {row}")] };
    if text(row, "device") != *device && text(row, "name") != *device
        || !same_address(text(own, "netdev_queue"), queue)
    {
        faults.push(format!("{row} instead of {device} {queue}"));
    }
    faults.extend(
        age_within(known, number(own, "last_sent_ns"), at, SLACK)
            .map(|fault| format!("the last packet {fault}")),
    );
    let timeouts = said(known, "timeout").len() as u64;
    if number(own, "timeouts").is_none_or(|own| own.abs_diff(timeouts) > 1) {
        faults.push(format!("found stuck {:?} times, not {timeouts}", own.get("timeouts")));
    }
    faults
}

/// What the kernel's own listing says of one processor: the functions in the order in which they were entered, and how long
/// they took in the order in which they ended.
#[derive(Debug, Default, PartialEq, Eq)]
struct Graph {
    entered: Vec<String>,
    took: Vec<String>,
}

/// ` 1)   2.223 us    |          __cond_resched();`
fn listed(lines: &[String]) -> BTreeMap<u64, Graph> {
    let mut all: BTreeMap<u64, Graph> = BTreeMap::new();
    for line in lines {
        let Some((left, right)) = line.split_once('|') else { continue };
        let Some((cpu, duration)) = left.split_once(')') else { continue };
        let Ok(cpu) = cpu.trim().parse() else { continue };
        let graph = all.entry(cpu).or_default();
        let code = right.trim();
        if let Some((name, _)) = code.split_once('(').filter(|_| !code.starts_with('}')) {
            graph.entered.push(name.to_owned());
        }
        let digits =
            duration.split_whitespace().find(|word| word.as_bytes().first().is_some_and(u8::is_ascii_digit));
        graph.took.extend(digits.map(str::to_owned));
    }
    all
}

/// The events of `function_graph`, against the kernel's listing of them.
pub(super) fn function_graph(known: &Known<'_>, rows: &[Value]) -> Faults {
    let wanted = listed(known.truth.lines("trace"));
    let mut found: BTreeMap<u64, Graph> = BTreeMap::new();
    for row in rows {
        let Some(cpu) = number(row, "cpu") else { continue };
        let (graph, said) = (found.entry(cpu).or_default(), text(row, "text").trim());
        match text(row, "event") {
            "funcgraph_exit" => {
                let micros = said.strip_suffix(" us").and_then(|said| said.rsplit(' ').next());
                graph.took.extend(micros.map(str::to_owned));
            }
            event if event.starts_with("funcgraph") => {
                graph.entered.extend(said.split_once('(').map(|(name, _)| name.to_owned()));
            }
            _ => {}
        }
    }
    let mut faults = Faults::new();
    if wanted.values().map(|graph| graph.entered.len()).sum::<usize>() < 100 {
        faults.push("the kernel listed fewer than 100 functions".into());
    }
    for (cpu, wanted) in &wanted {
        let Some(found) = found.get(cpu) else {
            faults.push(format!("no functions of CPU {cpu}"));
            continue;
        };
        if found.entered != wanted.entered {
            let at = found.entered.iter().zip(&wanted.entered).position(|(found, wanted)| found != wanted);
            let (ours, theirs) = (found.entered.len(), wanted.entered.len());
            faults.push(format!(
                "CPU {cpu}: {ours} functions entered, not {theirs}; the first other is {at:?}"
            ));
        }
        // The kernel writes no more than seven digits.
        let same = |(found, wanted): (&String, &String)| found.starts_with(wanted.as_str());
        if found.took.len() != wanted.took.len() || !found.took.iter().zip(&wanted.took).all(same) {
            let at = found.took.iter().zip(&wanted.took).position(|pair| !same(pair));
            faults.push(format!(
                "CPU {cpu}: {} times, not {}; the first other is {at:?}",
                found.took.len(),
                wanted.took.len()
            ));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_and_times_are_read_from_the_kernels_listing() {
        let lines = [
            "# CPU  DURATION                  FUNCTION CALLS",
            " 1)               |  do_sys_openat2() {",
            " 1)   2.223 us    |    __cond_resched();",
            " 0) ! 545.978 us  |  mutex_unlock();",
            " 1) + 12.538 us   |  }",
        ];
        let found = listed(&lines.map(String::from));
        let graph = |entered: &[&str], took: &[&str]| Graph {
            entered: entered.iter().map(|of| (*of).to_owned()).collect(),
            took: took.iter().map(|of| (*of).to_owned()).collect(),
        };
        assert_eq!(found[&0], graph(&["mutex_unlock"], &["545.978"]));
        assert_eq!(found[&1], graph(&["do_sys_openat2", "__cond_resched"], &["2.223", "12.538"]));
    }
}
