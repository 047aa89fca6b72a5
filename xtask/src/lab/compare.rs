//! Each command's output against the truth. The output is crash's layout, so crash itself can be put to this test.

use std::collections::{BTreeMap, BTreeSet};

use super::descriptor::Descriptor;
use super::truth::{Thread, Truth, kernel_lines, timestamp};

/// What a check finds wrong; empty when all is well.
pub(crate) type Faults = Vec<String>;

/// Between the last line of a console and the dump.
const UPTIME_SLACK: f64 = 2.0;
/// A system dumped alive is left alone for a while before.
const ALIVE_SLACK: f64 = 8.0;

/// How a fault ends that is a task not listed.
pub(crate) const MISSING: &str = "is missing";
/// Of a name in `task_struct.comm`, without its end mark.
const COMM_LENGTH: usize = 15;

/// The truth about one dump.
pub(crate) struct Known<'a> {
    pub(crate) dump: &'a Descriptor,
    pub(crate) truth: &'a Truth,
    pub(crate) console: &'a str,
}

/// `KEY: value` lines of `sys`.
fn sys_fields(text: &str) -> BTreeMap<&str, &str> {
    text.lines()
        .filter_map(|line| line.split_once(": "))
        .map(|(key, value)| (key.trim(), value.trim()))
        .collect()
}

/// `N days, hh:mm:ss` in seconds.
fn parse_uptime(text: &str) -> Option<f64> {
    let (days, clock) = match text.split_once(" days, ") {
        Some((days, clock)) => (days.parse::<f64>().ok()?, clock),
        None => (0.0, text),
    };
    let mut seconds = 0.0;
    for part in clock.split(':') {
        seconds = seconds * 60.0 + part.parse::<f64>().ok()?;
    }
    Some(days * 86400.0 + seconds)
}

pub(crate) fn sys(known: &Known<'_>, text: &str, ps: &str) -> Faults {
    let fields = sys_fields(text);
    let mut faults = Faults::new();
    for (field, fact) in
        [("RELEASE", "release"), ("VERSION", "version"), ("NODENAME", "nodename"), ("CPUS", "cpus")]
    {
        // `2 [OFFLINE: 1]`: a panic stops the other CPUs.
        let found = fields.get(field).map(|value| value.split(" [OFFLINE").next().unwrap_or(value));
        let wanted = known.truth.fact(fact);
        if found != wanted {
            faults.push(format!("{field} is {} instead of {}", show(found), show(wanted)));
        }
    }
    let machine = fields.get("MACHINE").and_then(|value| value.split_whitespace().next());
    if machine != known.truth.fact("machine") {
        faults.push(format!("MACHINE is {}", show(machine)));
    }
    let tasks = ps_rows(ps).len().to_string();
    if fields.get("TASKS") != Some(&tasks.as_str()) {
        faults.push(format!("TASKS is {}, ps lists {tasks}", show(fields.get("TASKS").copied())));
    }
    faults.extend(uptime(known, fields.get("UPTIME").copied()));
    faults.extend(panic_line(known, fields.get("PANIC").copied()));
    faults
}

/// Scenarios that leave the guest alone for long after its last words, or whose CPUs no longer keep the time.
const NO_TIME: [&str; 4] = ["hung", "spinlock", "rcustall", "deafcpu"];

fn uptime(known: &Known<'_>, field: Option<&str>) -> Option<String> {
    if NO_TIME.contains(&&*known.dump.scenario) {
        return None;
    }
    let wanted = kernel_lines(known.console).iter().filter_map(|line| timestamp(line)).next_back();
    let wanted = if known.dump.panicked { wanted } else { known.truth.uptime() }?;
    // Times in the log stand still on a CPU whose interrupts are off.
    let is_timely = known.dump.panicked && known.dump.scenario != "hardlockup";
    let slack = if is_timely { UPTIME_SLACK } else { ALIVE_SLACK };
    match field.and_then(parse_uptime) {
        // Whole seconds are printed, and the log has a clock of its own.
        Some(found) if found + UPTIME_SLACK >= wanted && found <= wanted + slack => None,
        _ => Some(format!("UPTIME is {}, the console ends at {wanted:.1} s", show(field))),
    }
}

/// The reason in quotes must be something that the kernel said.
fn panic_line(known: &Known<'_>, field: Option<&str>) -> Option<String> {
    if !known.dump.panicked {
        return None;
    }
    let reason = field.and_then(|value| value.split('"').nth(1)).unwrap_or_default();
    let is_said = !reason.is_empty() && known.console.contains(reason);
    (!is_said).then(|| format!("PANIC is {}, which the console does not say", show(field)))
}

/// A row of `ps`.
#[derive(Debug, PartialEq, Eq)]
struct PsRow<'a> {
    pid: u32,
    state: &'a str,
    name: &'a str,
}

/// `>  PID PPID CPU TASK ST %MEM VSZ RSS COMM`
fn ps_rows(text: &str) -> Vec<PsRow<'_>> {
    text.lines().filter_map(ps_row).collect()
}

fn ps_row(line: &str) -> Option<PsRow<'_>> {
    let mut rest = line.trim_start_matches(['>', '-', ' ']);
    let mut columns = Vec::new();
    for _ in 0..8 {
        let (word, tail) = rest.split_once(' ')?;
        columns.push(word);
        rest = tail.trim_start();
    }
    let name = rest.trim_end().trim_start_matches('[').trim_end_matches(']');
    Some(PsRow { pid: columns.first()?.parse().ok()?, state: columns.get(4)?, name })
}

/// crash's two letters for a state of `/proc`.
fn state_letters(state: char) -> Option<&'static str> {
    match state {
        'S' => Some("IN"),
        'D' => Some("UN"),
        'Z' => Some("ZO"),
        'T' => Some("ST"),
        _ => None,
    }
}

pub(crate) fn ps(known: &Known<'_>, text: &str) -> Faults {
    let rows: BTreeMap<u32, PsRow<'_>> =
        ps_rows(text).into_iter().filter(|row| row.pid != 0).map(|row| (row.pid, row)).collect();
    let mut faults = Faults::new();
    let wanted = known.truth.threads.iter().filter(|thread| !thread.is_worker());
    // The OOM killer's victims are gone; nothing else is.
    let kills =
        known.console.contains("Out of memory: Killed process") || known.console.contains("oom-kill:");
    for thread in wanted {
        match rows.get(&thread.tid) {
            None if kills && !thread.is_kernel() => {}
            None => faults.push(format!("{} {} {MISSING}", thread.tid, thread.name)),
            Some(row) if kills && row.state == "ZO" => {}
            // Where no memory is left, whoever runs waits for some.
            Some(row) if EXHAUSTED.contains(&&*known.dump.scenario) && row.state == "UN" => {}
            Some(row) => faults.extend(wrong_row(thread, row)),
        }
    }
    faults.extend(unknown_rows(known, rows.values()));
    if rows.is_empty() {
        faults.truncate(0);
        faults.push("no rows".into());
    }
    faults
}

/// Scenarios that take all memory.
const EXHAUSTED: [&str; 2] = ["oom", "slableak"];

fn wrong_row(thread: &Thread, row: &PsRow<'_>) -> Option<String> {
    // `/proc` has a kernel thread's full name, the task itself only its beginning.
    let wanted: String = thread.name.chars().take(COMM_LENGTH).collect();
    if row.name != wanted {
        return Some(format!("{} is called {} instead of {}", thread.tid, row.name, thread.name));
    }
    // Kernel threads, and whoever waits for a timer, may have been woken since.
    let wanted = state_letters(thread.state).filter(|_| !thread.is_kernel())?;
    let is_right = row.state == wanted || row.state == "RU";
    (!is_right).then(|| format!("{} {} is {} instead of {wanted}", thread.tid, thread.name, row.state))
}

/// Tasks that nobody planted: processes, since kernel threads may be born late.
fn unknown_rows<'a>(known: &Known<'_>, rows: impl Iterator<Item = &'a PsRow<'a>>) -> Option<String> {
    let tids: BTreeSet<u32> = known.truth.threads.iter().map(|thread| thread.tid).collect();
    let last = tids.last().copied().unwrap_or_default();
    let unknown: Vec<String> = rows
        .filter(|row| !tids.contains(&row.pid) && row.pid <= last && !row.name.starts_with("kworker/"))
        .map(|row| format!("{} {}", row.pid, row.name))
        .collect();
    (!unknown.is_empty()).then(|| format!("not in /proc: {}", unknown.join(", ")))
}

pub(crate) fn modules(known: &Known<'_>, text: &str) -> Faults {
    let mut found: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, name, base, size, ..] = words[..] else { continue };
        if let (Ok(base), Ok(size)) = (u64::from_str_radix(base, 16), size.parse()) {
            found.insert(name, (base, size));
        }
    }
    let mut faults = Faults::new();
    for (name, module) in &known.truth.modules {
        match found.remove(name.as_str()) {
            None => faults.push(format!("{name} is missing")),
            Some(row) if row != (module.base, module.size) => faults.push(format!(
                "{name} is at {:x}, {} bytes, instead of {:x}, {} bytes",
                row.0, row.1, module.base, module.size
            )),
            Some(_) => {}
        }
    }
    // It is inserted after the truth is written.
    let crasher = known.dump.called("crasher");
    let is_late = !known.truth.modules.contains_key(crasher);
    if is_late && known.console.contains(&format!("{crasher}: scenario")) && found.remove(crasher).is_none() {
        faults.push(format!("{crasher} is missing"));
    }
    faults.extend(found.keys().map(|name| format!("{name} is not in /proc/modules")));
    faults
}

pub(crate) fn log(known: &Known<'_>, text: &str) -> Faults {
    let found: BTreeSet<&str> = text.lines().map(str::trim).collect();
    let wanted = kernel_lines(known.console);
    // The console repeats the time on each line of a message, the log indents those after the first.
    let is_found = |line: &str| {
        let continued = line.split_once("] ").map_or(line, |(_, text)| text);
        found.contains(line.trim_end()) || found.contains(continued.trim())
    };
    let missing: Vec<&&str> = wanted.iter().filter(|line| !is_found(line)).collect();
    match missing.first() {
        None if wanted.is_empty() => vec!["the console has no kernel lines".into()],
        None => Faults::new(),
        Some(first) => vec![format!(
            "{} of {} console lines missing, the first is: {first}",
            missing.len(),
            wanted.len()
        )],
    }
}

/// The functions of a backtrace, innermost first; `[exception RIP: f+1]` counts as a frame.
fn frames(text: &str) -> Vec<&str> {
    text.lines()
        .filter_map(|line| {
            let line = line.trim_start();
            if let Some(rest) = line.strip_prefix("[exception RIP: ") {
                return rest.split(['+', ']']).next();
            }
            let (_, rest) = line.strip_prefix('#')?.split_once("] ")?;
            rest.split([' ', '+']).next()
        })
        .collect()
}

fn matches(pattern: &str, name: &str) -> bool {
    pattern.split('|').any(|one| match one.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        // A compiler's copy of a function counts as the function.
        None => name == one || name.strip_prefix(one).is_some_and(|rest| rest.starts_with('.')),
    })
}

/// Are these functions there, in this order? Others may be in between.
pub(crate) fn backtrace(wanted: &[String], text: &str) -> Faults {
    let found = frames(text);
    let mut left = found.iter();
    for pattern in wanted {
        if !left.any(|name| matches(pattern, name)) {
            let why =
                if found.iter().any(|name| matches(pattern, name)) { "out of order" } else { "missing" };
            return vec![format!("{pattern} {why} in: {}", found.join(" "))];
        }
    }
    Faults::new()
}

fn show(value: Option<&str>) -> &str {
    value.unwrap_or("missing")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uptimes() {
        assert_eq!(parse_uptime("00:03:48"), Some(228.0));
        assert_eq!(parse_uptime("2 days, 01:00:05"), Some(176_405.0));
        assert_eq!(parse_uptime("soon"), None);
    }

    #[test]
    fn rows_of_ps() {
        let text = "      PID    PPID  CPU       TASK        ST  %MEM      VSZ      RSS  COMM\n\
                    >       0       0   0  ffffffff92210940  RU   0.0        0        0  [swapper/0]\n\
                    \x20     184       1   1  ff25b525c12d4200  IN   0.3     2328     1728  a b\n";
        assert_eq!(
            ps_rows(text),
            [PsRow { pid: 0, state: "RU", name: "swapper/0" }, PsRow { pid: 184, state: "IN", name: "a b" }]
        );
    }

    #[test]
    fn frames_in_order() {
        let text = "PID: 183  COMMAND: \"trigger\"\n #5 [ff67] exc_page_fault at ffffffff912943b6\n\
                    \x20   [exception RIP: write_through+24]\n #7 [ff67] crash_null.part.0+3 at ffffffffc05f5303 [crasher]\n";
        let wanted = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert!(backtrace(&wanted(&["exc_*", "write_through", "a|crash_null"]), text).is_empty());
        assert!(backtrace(&wanted(&["write_through", "exc_page_fault"]), text)[0].contains("out of order"));
        assert!(backtrace(&wanted(&["crash_nul"]), text)[0].contains("missing"));
    }
}
