//! Commands against the kernel's own words: what `/proc` said in the guest, just before the crash (scenario `rich`).
//!
//! Equal where the value cannot move between the words and the dump, within a stated band where it can.

mod devices;
mod files;
mod memory;
mod net;
mod tasks;

use serde_json::Value;

use super::compare::Faults;
use super::truth::Truth;

/// A command, the key of the words that it is compared with, and how.
struct Check {
    command: &'static str,
    key: &'static str,
    judge: fn(&Truth, &[Value]) -> Faults,
}

const CHECKS: &[Check] = &[
    Check { command: "kmem -i", key: "meminfo", judge: memory::summary },
    Check { command: "kmem -h", key: "meminfo", judge: memory::huge },
    Check { command: "kmem -s", key: "slabinfo", judge: memory::caches },
    Check { command: "kmem -V", key: "vmstat", judge: memory::counters },
    Check { command: "kmem -z", key: "zoneinfo", judge: memory::zones },
    Check { command: "kmem -f", key: "buddyinfo", judge: memory::free_blocks },
    Check { command: "kmem -n", key: "memory_block", judge: memory::blocks },
    Check { command: "kmem -v", key: "vmallocinfo", judge: memory::areas },
    Check { command: "swap", key: "swaps", judge: memory::swaps },
    Check { command: "foreach vm", key: "1/maps", judge: tasks::mappings },
    Check { command: "foreach sig", key: "1/status", judge: tasks::signals },
    Check { command: "runq", key: "sched_debug", judge: tasks::run_queues },
    Check { command: "timer -r", key: "timer_list", judge: tasks::timers },
    Check { command: "ipcs", key: "sysvipc/shm", judge: tasks::ipc },
    Check { command: "foreach files", key: "1/fd", judge: files::descriptors },
    Check { command: "mount", key: "mounts", judge: files::mounts },
    Check { command: "irq -s", key: "interrupts", judge: devices::interrupts },
    Check { command: "irq -a", key: "irq/affinity", judge: devices::affinity },
    Check { command: "dev", key: "devices", judge: devices::numbers },
    Check { command: "bpf", key: "bpf/prog", judge: devices::bpf },
    Check { command: "net", key: "net/dev", judge: net::devices },
    Check { command: "net -a", key: "net/arp", judge: net::neighbours },
    Check { command: "foreach net -s", key: "net/tcp", judge: net::sockets },
];

/// Compares all commands; `run` gives a command's JSON.
pub(super) fn compare(truth: &Truth, run: &dyn Fn(&str) -> Result<String, String>) -> Faults {
    let mut faults = Faults::new();
    for check in CHECKS.iter().filter(|check| !truth.lines(check.key).is_empty()) {
        let found = run(check.command).and_then(|text| rows(check.command, &text));
        let found = match found {
            Ok(rows) if rows.is_empty() => vec!["no rows".into()],
            Ok(rows) => (check.judge)(truth, &rows),
            Err(error) => vec![error],
        };
        faults.extend(found.into_iter().map(|fault| format!("{}: {fault}", check.command)));
    }
    let run = |command: &str| run(command).and_then(|text| rows(command, &text));
    faults.extend(memory::aliases(truth, &run));
    faults.extend(memory::objects(truth, &run));
    faults
}

/// The rows of a command's document; a document of another command means that this one is not known.
pub(super) fn rows(command: &str, text: &str) -> Result<Vec<Value>, String> {
    let document: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let name = command.trim_start_matches("foreach ").split(' ').next();
    let is_other = |part: &Value| part.get("command").and_then(Value::as_str) != name;
    let rows = document.get("rows").and_then(Value::as_array).cloned().unwrap_or_default();
    let is_each = command.starts_with("foreach ");
    if is_each && rows.iter().any(is_other) || !is_each && is_other(&document) {
        return Err("there is no such command".into());
    }
    Ok(rows)
}

/// The inner rows of one task's part.
fn inner(part: &Value) -> &[Value] {
    part.get("rows").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn pid(part: &Value) -> u32 {
    number(part, "pid").and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0)
}

pub(super) fn text<'v>(row: &'v Value, name: &str) -> &'v str {
    row.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// A number, or one in hexadecimal that is a string.
pub(super) fn number(row: &Value, name: &str) -> Option<u64> {
    let value = row.get(name)?;
    value.as_u64().or_else(|| hexadecimal(value.as_str()?))
}

fn hexadecimal(text: &str) -> Option<u64> {
    u64::from_str_radix(text.trim_start_matches("0x"), 16).ok()
}

/// The number in a word of a line, counted from 0.
fn word(line: &str, index: usize) -> Option<u64> {
    line.split_whitespace().nth(index)?.parse().ok()
}

/// Wrong, where it is further away than `band`.
pub(super) fn near(what: &str, found: Option<u64>, wanted: Option<u64>, band: u64) -> Option<String> {
    let wanted = wanted?;
    match found {
        Some(found) if found.abs_diff(wanted) <= band => None,
        Some(found) => Some(format!("{what} is {found} instead of {wanted} (within {band})")),
        None => Some(format!("{what} is missing, not {wanted}")),
    }
}

/// Wrong, where it is another text.
fn same(what: &str, found: &str, wanted: &str) -> Option<String> {
    (found != wanted).then(|| format!("{what} is {found:?} instead of {wanted:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bands_have_two_sides() {
        assert_eq!(near("x", Some(5), Some(5), 0), None);
        assert_eq!(near("x", Some(3), Some(5), 2), None);
        assert!(near("x", Some(8), Some(5), 2).is_some());
        assert!(near("x", None, Some(5), 9).is_some());
        assert_eq!(near("x", None, None, 0), None);
    }

    #[test]
    fn what_a_command_says_is_compared() {
        let truth = Truth::parse(
            "task 1 1 0 S init\r\nswaps Filename Type\r\nswaps /dev/vdc partition 100 4 -2\r\nend\r\n",
        );
        let truth = truth.unwrap();
        let answer = |used: u64| {
            format!(
                r#"{{"command":"swap","rows":[{{"filename":"/dev/vdc","bytes":102400,"used_bytes":{used},"priority":-2}}]}}"#
            )
        };
        let run = |used| move |_: &str| -> Result<String, String> { Ok(answer(used)) };
        assert_eq!(compare(&truth, &run(4096)), Faults::new());
        assert_eq!(compare(&truth, &run(1 << 30)).len(), 1);
        let other = |_: &str| -> Result<String, String> { Ok(r#"{"command":"p","rows":[{}]}"#.into()) };
        assert_eq!(compare(&truth, &other), ["swap: there is no such command"]);
        let nothing = |_: &str| -> Result<String, String> { Ok(r#"{"command":"swap","rows":[]}"#.into()) };
        assert_eq!(compare(&truth, &nothing), ["swap: no rows"]);
    }
}
