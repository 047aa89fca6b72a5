//! Open files and mounts.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Faults, inner, number, pid, same, text};
use crate::lab::truth::Truth;

/// `3 /tmp/rich-file`
pub(super) fn descriptors(truth: &Truth, rows: &[Value]) -> Faults {
    let mut faults = Faults::new();
    for part in rows.iter().filter(|part| Some(pid(part)) != truth.trigger()) {
        let pid = pid(part);
        let lines = truth.lines(&format!("{pid}/fd"));
        let wanted: BTreeMap<u64, &str> = lines
            .iter()
            .filter_map(|line| line.trim_end().split_once(' '))
            .filter_map(|(fd, target)| Some((fd.parse().ok()?, target)))
            .collect();
        if wanted.is_empty() {
            continue;
        }
        let mut found: BTreeMap<u64, &Value> =
            inner(part).iter().filter_map(|row| Some((number(row, "fd")?, row))).collect();
        for (fd, target) in wanted {
            match found.remove(&fd) {
                None => faults.push(format!("{pid}: fd {fd} is missing: {target}")),
                Some(row) => faults.extend(other_path(truth, pid, fd, target, row)),
            }
        }
        faults.extend(found.keys().map(|fd| format!("{pid}: fd {fd} is not in /proc")));
    }
    faults
}

/// Files without a name (sockets, pipes, eventfds) have names of each reader's own.
fn other_path(truth: &Truth, pid: u32, fd: u64, target: &str, row: &Value) -> Option<String> {
    let root = truth.lines(&format!("{pid}")).iter().find_map(|line| line.strip_prefix("root "));
    if !target.starts_with('/') || root.is_some_and(|root| root.trim() != "/") {
        return None;
    }
    let (path, deleted) = match target.strip_suffix(" (deleted)") {
        Some(path) => (path, true),
        None => (target, false),
    };
    // A memfd has no directory, only a name.
    if path.starts_with("/memfd:") || path.starts_with("/[") {
        return None;
    }
    let is_marked = row.get("deleted").and_then(Value::as_bool).unwrap_or(false);
    let what = format!("path of fd {fd} of {pid}");
    same(&what, text(row, "path"), path).or_else(|| {
        (is_marked != deleted).then(|| format!("fd {fd} of {pid} is deleted: {deleted}, not {is_marked}"))
    })
}

/// `/dev/vdb /data ext4 rw,relatime 0 0`, in the order in which they were mounted.
pub(super) fn mounts(truth: &Truth, rows: &[Value]) -> Faults {
    let shown: Vec<String> = rows
        .iter()
        .map(|row| format!("{} {} {}", text(row, "device"), text(row, "directory"), text(row, "type")))
        .collect();
    let wanted: Vec<String> = truth
        .lines("mounts")
        .iter()
        .map(|line| line.split(' ').take(3).collect::<Vec<_>>().join(" "))
        .collect();
    // The kernel keeps mounts that no process reaches from its root: 7.2 has one below all others.
    let mut left = shown.iter();
    match wanted.iter().find(|wanted| !left.any(|shown| shown == *wanted)) {
        Some(wanted) => vec![format!("{wanted} is missing, or out of order")],
        None => Faults::new(),
    }
}
