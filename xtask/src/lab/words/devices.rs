//! Interrupts, device numbers, BPF.

use serde_json::Value;

use super::{Faults, near, number, same, text, word};
use crate::lab::truth::Truth;

/// `  3:      56711          0   IO-APIC   3-edge      ttyS1`
pub(super) fn interrupts(truth: &Truth, rows: &[Value]) -> Faults {
    let mut faults = Faults::new();
    for line in truth.lines("interrupts") {
        let Some((irq, rest)) = line.split_once(':') else { continue };
        let Ok(irq) = irq.trim().parse::<u64>() else { continue };
        // The words go out through this port, and its interrupt goes when they are through.
        if rest.trim_end().ends_with("ttyS1") {
            continue;
        }
        let Some(row) = rows.iter().find(|row| number(row, "irq") == Some(irq)) else {
            faults.push(format!("{irq} is missing: {rest}"));
            continue;
        };
        let counts = row.get("counts").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let found: u64 = counts.iter().filter_map(|count| number(count, "count")).sum();
        let wanted = (0..counts.len()).filter_map(|index| word(rest, index)).sum();
        faults.extend(near(&format!("count of {irq}"), Some(found), Some(wanted), 500));
        let handlers: Vec<&str> = row
            .get("handlers")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let is_named = handlers.iter().all(|handler| rest.contains(handler));
        if !is_named || handlers.is_empty() {
            faults.push(format!("handlers of {irq} are {handlers:?}: {rest}"));
        }
    }
    faults
}

/// `0 0-1`
pub(super) fn affinity(truth: &Truth, rows: &[Value]) -> Faults {
    let check = |row: &Value| {
        let irq = number(row, "irq")?;
        let lines = truth.lines("irq/affinity");
        let wanted = lines.iter().find_map(|line| line.strip_prefix(&format!("{irq} ")))?;
        same(&format!("affinity of {irq}"), text(row, "affinity"), wanted.trim())
    };
    rows.iter().filter_map(check).collect()
}

/// `Character devices:`, then `  1 mem`; the same of block devices.
pub(super) fn numbers(truth: &Truth, rows: &[Value]) -> Faults {
    let said = Value::from(rows.to_vec()).to_string();
    let names = truth.lines("devices").iter().filter(|line| word(line, 0).is_some());
    let names = names.filter_map(|line| line.split_whitespace().nth(1));
    let missing: Vec<&str> = names.filter(|name| !said.contains(&format!("\"{name}\""))).collect();
    if missing.is_empty() { Faults::new() } else { vec![format!("missing: {}", missing.join(" "))] }
}

/// `1 type 1 name rich_filter uid 0 ...`: names, each followed by its value.
fn value<'l>(line: &'l str, name: &str) -> &'l str {
    line.split_whitespace().skip_while(|word| *word != name).nth(1).unwrap_or_default()
}

pub(super) fn bpf(truth: &Truth, rows: &[Value]) -> Faults {
    let mut faults = Faults::new();
    let kinds = [
        (
            "bpf/prog",
            "prog",
            &[("xlated", "xlated"), ("jited", "jited"), ("load_time", "load_time"), ("uid", "uid")][..],
        ),
        (
            "bpf/map",
            "map",
            &[("key_size", "key"), ("value_size", "value"), ("max_entries", "entries"), ("flags", "flags")][..],
        ),
    ];
    for (key, member, numbers) in kinds {
        let shown: Vec<&Value> = rows.iter().filter(|row| row.get(member).is_some()).collect();
        if shown.len() != truth.lines(key).len() {
            faults.push(format!("{} of {key} instead of {}", shown.len(), truth.lines(key).len()));
        }
        for line in truth.lines(key) {
            let id = word(line, 0);
            let Some(row) = shown.iter().find(|row| number(row, "id") == id) else {
                faults.push(format!("{key}: missing: {line}"));
                continue;
            };
            let say = |what: &str| format!("{what} of {member} {}", id.unwrap_or(0));
            faults.extend(same(&say("name"), text(row, "name"), value(line, "name")));
            for (field, word) in numbers {
                faults.extend(near(&say(field), number(row, field), value(line, word).parse().ok(), 0));
            }
            if member == "prog" {
                faults.extend(same(&say("tag"), text(row, "tag"), value(line, "tag")));
                let maps = row.get("used_maps").map(Value::to_string).unwrap_or_default();
                faults.extend(same(&say("maps"), maps.trim_matches(['[', ']']), value(line, "maps")));
            }
        }
    }
    faults
}
