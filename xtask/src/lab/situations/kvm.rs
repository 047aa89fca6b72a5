//! Virtual machines, as the guest that made one noted it: lines `kvm ...` of the truth, written by `lab/user/kvmguest.c`.

use serde_json::Value;

use super::super::compare::{Faults, Known};
use super::locking::same_address;
use super::stuck::{items, number, text};

/// The lines of one kind, in words.
fn facts<'k>(known: &Known<'k>, kind: &str) -> Vec<Vec<&'k str>> {
    let lines = known.truth.lines("kvm").iter().map(|line| line.split_whitespace().collect::<Vec<_>>());
    lines
        .filter(|words| words.first() == Some(&kind))
        .map(|words| words.into_iter().skip(1).collect())
        .collect()
}

/// `machine PID`, `vcpu NUMBER TID running|halted PORT-WRITES`, `slot NUMBER ADDRESS BYTES USER`, `counter NUMBER NAME VALUE`.
pub(super) fn machine(known: &Known<'_>, rows: &[Value]) -> Faults {
    let [row] = rows else { return vec![format!("{} machines instead of one", rows.len())] };
    let mut faults = Faults::new();
    let pid = |of: &Value| of.pointer("/pid").and_then(Value::as_u64).map(|pid| pid.to_string());
    let owner = row.get("owner").and_then(pid);
    if !facts(known, "machine").iter().any(|words| words.first().copied() == owner.as_deref()) {
        faults.push(format!("the owner is {owner:?}"));
    }
    let vcpus = facts(known, "vcpu");
    if vcpus.len() != items(row, "vcpus").len() || vcpus.is_empty() {
        faults.push(format!("{} processors instead of {}", items(row, "vcpus").len(), vcpus.len()));
    }
    for words in &vcpus {
        let [id, tid, state, _] = words[..] else { continue };
        let Some(found) = items(row, "vcpus").iter().find(|vcpu| number(vcpu, "id") == id.parse().ok())
        else {
            faults.push(format!("no processor {id}"));
            continue;
        };
        if found.get("task").and_then(pid).as_deref() != Some(tid) {
            faults.push(format!("processor {id} has the task {:?}, not {tid}", found.get("task")));
        }
        let states: &[&str] =
            if state == "halted" { &["halted"] } else { &["in-guest", "in-kvm", "preempted"] };
        if !text(found, "state").is_some_and(|found| states.contains(&found)) {
            faults.push(format!("processor {id} is {:?}, not {state}", text(found, "state")));
        }
        if state == "halted" && text(found, "last_exit") != Some("HLT") {
            faults.push(format!("processor {id} left the guest by {:?}", text(found, "last_exit")));
        }
        faults.extend(counters(known, found, id, state == "halted"));
    }
    faults.extend(slots(known, row));
    faults
}

/// The counters of a halted processor stay; one that runs counts on, but writes to no port any more.
fn counters(known: &Known<'_>, vcpu: &Value, id: &str, is_halted: bool) -> Faults {
    let mut faults = Faults::new();
    let value = |name: &str| {
        let mut found = items(vcpu, "counters").iter().filter(|of| text(of, "name") == Some(name));
        found.next().and_then(|of| number(of, "value")).unwrap_or(0)
    };
    let facts = facts(known, "counter").into_iter().filter(|words| words.first() == Some(&id));
    let facts: Vec<(String, u64)> =
        facts.filter_map(|words| Some((words.get(1)?.to_string(), words.get(2)?.parse().ok()?))).collect();
    let told = |name: &str| facts.iter().find(|(fact, _)| fact == name).map(|(_, value)| *value);
    for name in ["exits", "io_exits", "halt_exits", "irq_exits", "insn_emulation", "pf_fixed", "pf_taken"] {
        let Some(told) = told(name) else { continue };
        let stays = is_halted || name == "io_exits";
        let found = value(name);
        if (stays && found != told) || found < told {
            faults.push(format!("processor {id}: {name} is {found}, the guest noted {told}"));
        }
    }
    if told("exits").is_none_or(|exits| exits == 0) || number(vcpu, "exits") != Some(value("exits")) {
        faults.push(format!("processor {id} never left its guest: {:?}", told("exits")));
    }
    faults
}

fn slots(known: &Known<'_>, row: &Value) -> Faults {
    let mut faults = Faults::new();
    let facts = facts(known, "slot");
    let own: Vec<&Value> =
        items(row, "slots").iter().filter(|slot| number(slot, "space") == Some(0)).collect();
    for words in &facts {
        let [id, guest, bytes, user] = words[..] else { continue };
        let is = |slot: &&&Value| {
            number(slot, "id") == id.parse().ok()
                && number(slot, "bytes") == u64::from_str_radix(bytes, 16).ok()
                && text(slot, "user").is_some_and(|found| same_address(found, user))
                && text(slot, "guest").is_some_and(|found| same_address(found, guest))
        };
        if own.iter().filter(is).count() != 1 {
            faults.push(format!("no memory {words:?}"));
        }
    }
    if facts.is_empty() || own.len() < facts.len() {
        faults.push(format!("{} stretches of memory, the guest noted {}", own.len(), facts.len()));
    }
    faults
}
