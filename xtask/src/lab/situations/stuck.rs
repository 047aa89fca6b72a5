//! I/O, a journal and packets that do not go on (scenario `stuck`), as the guest's programs noted them: lines `stuck ...`
//! of the truth, written by `lab/user/stuck_*.c`.

use serde_json::Value;

use super::super::compare::{Faults, Known};

/// From the last line of the truth to the crash, in seconds.
const SLACK: f64 = 3.0;
/// An age may fall short of what the guest noted by this: it noted before it asked.
const EARLY: f64 = 0.5;

/// The lines of one kind, in words.
pub(super) fn facts<'k>(known: &Known<'k>, kind: &str) -> Vec<Vec<&'k str>> {
    let lines = known.truth.lines("stuck").iter().map(|line| line.split_whitespace().collect::<Vec<_>>());
    lines
        .filter(|words| words.first() == Some(&kind))
        .map(|words| words.into_iter().skip(1).collect())
        .collect()
}

fn age(known: &Known<'_>, found: Option<u64>, began: &str) -> Option<String> {
    age_within(known, found, began, SLACK)
}

/// Finds a fault in an age in nanoseconds of what began at `began`, also in nanoseconds, where the dump was taken at most
/// `slack` seconds after the last line of the truth.
pub(super) fn age_within(known: &Known<'_>, found: Option<u64>, began: &str, slack: f64) -> Option<String> {
    let began = began.parse::<f64>().ok()? / 1e9;
    let least = known.truth.uptime()? - began - EARLY;
    match found.map(|age| age as f64 / 1e9) {
        Some(age) if (least..least + EARLY + slack).contains(&age) => None,
        Some(age) => Some(format!("is {age:.1} s old, not {least:.1} to {:.1}", least + EARLY + slack)),
        None => Some("has no age".into()),
    }
}

pub(super) fn number(row: &Value, key: &str) -> Option<u64> {
    row.get(key).and_then(Value::as_u64)
}

pub(super) fn text<'v>(row: &'v Value, key: &str) -> Option<&'v str> {
    row.get(key).and_then(Value::as_str)
}

pub(super) fn items<'v>(row: &'v Value, key: &str) -> &'v [Value] {
    row.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// `io PID NAME DEVICE SECTOR BYTES read|write NANOSECONDS`: each is one row, and what is held says why.
pub(super) fn requests(known: &Known<'_>, rows: &[Value]) -> Faults {
    let mut faults = Faults::new();
    let facts = facts(known, "io");
    if facts.len() < 7 {
        faults.push(format!("the guest noted {} requests", facts.len()));
    }
    for fact in &facts {
        let [pid, name, device, sector, bytes, operation, began] = fact[..] else { continue };
        let is = |row: &&Value| {
            text(row, "disk") == Some(device)
                && text(row, "operation") == Some(operation)
                && number(row, "sector") == sector.parse().ok()
                && number(row, "bytes") == bytes.parse().ok()
        };
        let found: Vec<_> = rows.iter().filter(is).collect();
        let [row] = found[..] else {
            faults.push(format!(
                "{name}: {} rows of its {operation} at sector {sector} of {device}",
                found.len()
            ));
            continue;
        };
        let first = items(row, "tasks").first();
        if first.and_then(|task| number(task, "pid")) != pid.parse().ok() {
            faults.push(format!("{name}: issued by {:?} instead of {pid}", first));
        }
        let found = number(row, "age_ns").or_else(|| number(row, "waited_ns"));
        faults.extend(age(known, found, began).map(|fault| format!("{name}: {fault}")));
    }
    // Nothing else but the journal's blocks, on the third mapping.
    let built: Vec<&str> = facts.iter().filter_map(|fact| fact.get(2).copied()).chain(["dm-2"]).collect();
    let others = rows.iter().filter_map(|row| text(row, "disk")).filter(|disk| !built.contains(disk));
    faults.extend(others.map(|disk| format!("I/O of {disk}, where none was built")));
    for (disk, why) in [("dm-0", "suspended"), ("dm-1", "no path"), ("dm-2", "suspended")] {
        let held = rows.iter().filter(|row| text(row, "disk") == Some(disk));
        let says = |row: &Value| {
            items(row, "held_by").iter().any(|held| held.as_str().is_some_and(|held| held.contains(why)))
        };
        if !held.clone().any(says) {
            faults.push(format!("{disk} is not said to be held: {why}"));
        }
    }
    faults
}

/// The three mappings: two suspended, one without a path.
pub(super) fn mappings(_known: &Known<'_>, rows: &[Value]) -> Faults {
    let mut faults = Faults::new();
    for (disk, name, suspended, on) in
        [("dm-0", "held", true, "loop0"), ("dm-1", "paths", false, "sdb"), ("dm-2", "fs", true, "vde")]
    {
        let Some(row) = rows.iter().find(|row| text(row, "disk") == Some(disk)) else {
            faults.push(format!("{disk} is missing"));
            continue;
        };
        if text(row, "name") != Some(name) {
            faults.push(format!("{disk} is called {:?}", text(row, "name")));
        }
        if row.get("suspended").and_then(Value::as_bool) != Some(suspended) {
            faults.push(format!("{disk}: suspended is not {suspended}"));
        }
        if !items(row, "devices").iter().any(|device| device.as_str() == Some(on)) {
            faults.push(format!("{disk} is not on {on}"));
        }
    }
    let target =
        rows.iter().flat_map(|row| items(row, "targets")).find(|of| text(of, "kind") == Some("multipath"));
    let failed = target.is_some_and(|target| {
        number(target, "valid_paths") == Some(0)
            && target.get("queue_if_no_path").and_then(Value::as_bool) == Some(true)
            && items(target, "paths").iter().all(|path| {
                text(path, "device") == Some("sdb")
                    && path.get("active").and_then(Value::as_bool) == Some(false)
            })
    });
    if !failed {
        faults.push("no multipath target whose one path, sdb, failed".into());
    }
    faults
}

/// The read of the slow host is a READ(10) of its sector.
pub(super) fn scsi_commands(known: &Known<'_>, rows: &[Value]) -> Faults {
    let mut faults = Faults::new();
    let commands =
        rows.iter().flat_map(|row| items(row, "devices")).flat_map(|device| items(device, "commands"));
    let found: Vec<_> = commands.filter_map(|command| text(command, "cdb")).collect();
    for fact in facts(known, "io").iter().filter(|fact| fact.get(2) == Some(&"sda")) {
        let sector: u32 = fact.get(3).and_then(|sector| sector.parse().ok()).unwrap_or_default();
        let [a, b, c, d] = sector.to_be_bytes();
        let begin = format!("28 00 {a:02x} {b:02x} {c:02x} {d:02x} ");
        if !matches!(found[..], [cdb] if cdb.starts_with(&begin)) {
            faults.push(format!("commands {found:?} instead of one that begins with {begin}"));
        }
    }
    faults
}

/// The controller that is slow: alive, with queues that are in use.
pub(super) fn controllers(_known: &Known<'_>, rows: &[Value]) -> Faults {
    let is = |row: &&Value| {
        text(row, "name") == Some("nvme0")
            && text(row, "serial") == Some("slow")
            && text(row, "state") == Some("live")
            && text(row, "transport") == Some("pcie")
            && items(row, "queues").len() > 1
            && items(row, "queues")
                .iter()
                .all(|queue| queue.get("enabled").and_then(Value::as_bool) == Some(true))
    };
    let found = rows.iter().filter(is).count();
    if found == 1 && rows.len() == 1 { Faults::new() } else { vec![format!("{rows:?} instead of nvme0")] }
}

/// `array NAME PERSONALITY GOOD FAILED`: an array of two that lost one.
pub(super) fn arrays(known: &Known<'_>, rows: &[Value]) -> Faults {
    let mut faults = Faults::new();
    let facts = facts(known, "array");
    if facts.len() != rows.len() {
        faults.push(format!("{} arrays instead of {}", rows.len(), facts.len()));
    }
    for (fact, row) in facts.iter().zip(rows) {
        let [name, personality, good, failed] = fact[..] else { continue };
        let has = |device: &str, faulty: bool| {
            items(row, "members").iter().any(|member| {
                text(member, "device") == Some(device)
                    && member.get("faulty").and_then(Value::as_bool) == Some(faulty)
            })
        };
        let is = text(row, "disk") == Some(name)
            && text(row, "personality") == Some(personality)
            && number(row, "degraded") == Some(1)
            && has(good, false)
            && has(failed, true);
        if !is {
            faults.push(format!("{row} instead of {name} that lost {failed}"));
        }
    }
    faults
}

/// The slow disk has been given three buffers, which the driver has not got back.
pub(super) fn rings(_known: &Known<'_>, rows: &[Value]) -> Faults {
    let block = rows.iter().filter(|row| text(row, "kind") == Some("block"));
    let outstanding: usize = block.map(|row| items(row, "outstanding").len()).sum();
    if outstanding == 3 { Faults::new() } else { vec![format!("{outstanding} requests outstanding, not 3")] }
}

/// `journal commits|holds PID DISK NANOSECONDS`.
pub(super) fn journals(known: &Known<'_>, rows: &[Value]) -> Faults {
    let mut faults = Faults::new();
    for fact in facts(known, "journal") {
        let [what, pid, disk, began] = fact[..] else { continue };
        let pid = pid.parse::<u64>().ok();
        let prefix = format!("{disk}-");
        let Some(row) =
            rows.iter().find(|row| text(row, "name").is_some_and(|name| name.starts_with(&prefix)))
        else {
            faults.push(format!("no journal of {disk}"));
            continue;
        };
        let transaction = |role| items(row, "transactions").iter().find(|of| text(of, "role") == Some(role));
        if what == "commits" {
            let waits = items(row, "waiters")
                .iter()
                .any(|waiter| number(waiter, "pid") == pid && text(waiter, "waits_for") == Some("commit"));
            if !waits || transaction("committing").is_none() {
                faults.push(format!("{pid:?} does not wait for a commit"));
            }
            continue;
        }
        let holders = transaction("running").map_or(&[][..], |transaction| items(transaction, "holders"));
        match holders {
            [holder] if number(holder, "pid") == pid => {
                faults.extend(
                    age(known, number(holder, "age_ns"), began).map(|fault| format!("the handle {fault}")),
                );
            }
            other => faults.push(format!("holders {other:?} instead of {pid:?}")),
        }
    }
    let idle = rows.iter().filter(|row| text(row, "name").is_some_and(|name| name.starts_with("vdb-")));
    faults
        .extend(idle.filter(|row| !items(row, "waiters").is_empty()).map(|row| format!("waiters of {row}")));
    faults
}
