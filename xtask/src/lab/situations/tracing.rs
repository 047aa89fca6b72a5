//! What tracing noted, against the kernel's own listing of it (`/sys/kernel/tracing/trace`, lines `trace` of the truth).

use serde_json::Value;

use super::super::boot::MACHINE_CHECKS;
use super::super::compare::{Faults, Known};
use super::stuck::{items, number, text};

/// A line of the kernel's listing: `sleep-255 [000] ..... 29.812940: sched_process_exit: comm=sleep`.
#[derive(Debug, PartialEq)]
struct Line {
    pid: u64,
    cpu: u64,
    context: String,
    micros: u64,
    rest: String,
}

fn parse(line: &str) -> Option<Line> {
    let (task, rest) = line.split_once(" [")?;
    let (cpu, rest) = rest.split_once("] ")?;
    let (context, rest) = rest.split_once(' ')?;
    let (time, rest) = rest.split_once(": ")?;
    let (seconds, micros) = time.trim().split_once('.')?;
    Some(Line {
        pid: task.trim().rsplit_once('-')?.1.parse().ok()?,
        cpu: cpu.parse().ok()?,
        context: context.to_owned(),
        micros: seconds.parse::<u64>().ok()? * 1_000_000 + micros.parse::<u64>().ok()?,
        rest: rest.trim_end().to_owned(),
    })
}

/// The kernel's lines, each with what follows it (stacks).
fn listed(lines: &[String]) -> Vec<Line> {
    let mut found: Vec<Line> = Vec::new();
    for line in lines.iter().filter(|line| !line.starts_with('#')) {
        match (parse(line), found.last_mut()) {
            (Some(line), _) => found.push(line),
            (None, Some(last)) if line.trim_start().starts_with("=> ") => {
                last.rest.push('\n');
                last.rest.push_str(line.trim());
            }
            _ => {}
        }
    }
    found
}

/// Text without what the kernel writes in another way: `function+0x1/0x20 [module]`, where the size is not in kallsyms;
/// pointers, which it hides; arguments of calls, which it writes with or without `0x`.
fn plain(text: &str) -> String {
    let is_pointer = |word: &str| word.len() == 16 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let text = text.replace(" [crasher]", "");
    let words = text.split_whitespace().map(|word| {
        let (start, value) = word.split_once('=').map_or(("", word), |(start, value)| (start, value));
        if is_pointer(value) {
            return format!("{start}=?");
        }
        let end = if word.ends_with(')') { ")" } else { "" };
        match word.split_once('/') {
            Some((place, size)) if place.contains("+0x") && size.starts_with("0x") => {
                format!("{place}{end}")
            }
            _ => word.replace("0x", ""),
        }
    });
    words.collect::<Vec<_>>().join(" ").replace("+0x", "+")
}

/// Whether the text of an event is the kernel's.
fn same_text(row: &Value, wanted: &str) -> bool {
    let (event, said) = (text(row, "event").unwrap_or_default(), text(row, "text").unwrap_or_default());
    let (short, long) = (plain(said), plain(&format!("{event}: {said}")));
    let same = |wanted: &str| wanted == short || wanted == long;
    // Since 6.19 the kernel names the flags of a call: there the call and the string that it was given are compared.
    let of_call = |text: &str| {
        let string = text.split('"').nth(1)?;
        Some((text.split_once('(')?.0.to_owned(), string.to_owned()))
    };
    let is_call = event.starts_with("sys_enter_");
    same(&plain(wanted)) || is_call && of_call(wanted).is_some_and(|wanted| Some(wanted) == of_call(said))
}

/// Every line of the kernel's, in its order; what came after the listing was made may follow.
fn compare(lines: &[String], rows: &[Value]) -> Faults {
    let listed = listed(lines);
    let mut faults = Faults::new();
    if listed.is_empty() {
        faults.push("the guest lists no events".into());
    }
    for (line, row) in listed.iter().zip(rows.iter().map(Some).chain(std::iter::repeat(None))) {
        let Some(row) = row else {
            faults.push(format!("{} of {} events", rows.len(), listed.len()));
            break;
        };
        let same = number(row, "pid") == Some(line.pid)
            && number(row, "cpu") == Some(line.cpu)
            && text(row, "context") == Some(&line.context)
            && number(row, "time").is_some_and(|time| (time + 500) / 1000 == line.micros)
            && same_text(row, &line.rest);
        if !same {
            faults.push(format!("{row} instead of {line:?}"));
        }
    }
    faults
}

/// `ftrace`: the listing of the first instance.
pub(super) fn events(known: &Known<'_>, rows: &[Value]) -> Faults {
    compare(known.truth.lines("trace"), rows)
}

/// `ftrace -i spy`: that of the second one, whose buffer ran over.
pub(super) fn events_of_spy(known: &Known<'_>, rows: &[Value]) -> Faults {
    compare(known.truth.lines("spy"), rows)
}

/// `kprobes`: lines `kprobe ADDRESS k|r PLACE [FLAGS]` of `/sys/kernel/debug/kprobes/list`, and `uprobe p:NAME FILE:OFFSET`.
pub(super) fn probes(known: &Known<'_>, rows: &[Value]) -> Faults {
    let flag = |row: &Value, key: &str| row.get(key).and_then(Value::as_bool) == Some(true);
    let address = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok();
    let is_user = |row: &&Value| text(row, "kind") == Some("user");
    let found = rows.iter().filter(|row| !is_user(row)).map(|row| {
        let at = text(row, "address").and_then(address);
        let by = text(row, "by").unwrap_or_default().to_owned();
        (at, flag(row, "is_return"), by, flag(row, "disabled"))
    });
    let wanted = known.truth.lines("kprobe").iter().map(|line| {
        let mut words = line.split_whitespace();
        let (at, kind) = (words.next().and_then(address), words.next());
        let by = match line {
            line if line.contains("[FTRACE]") => "ftrace",
            line if line.contains("[OPTIMIZED]") => "jump",
            _ => "breakpoint",
        };
        (at, kind == Some("r"), by.to_owned(), line.contains("[DISABLED]"))
    });
    let (mut found, mut wanted): (Vec<_>, Vec<_>) = (found.collect(), wanted.collect());
    found.sort();
    wanted.sort();
    let mut faults = Faults::new();
    if found != wanted || wanted.len() < 8 {
        faults.push(format!("{found:?} instead of {wanted:?}"));
    }
    for event in ["lab/opened", "lab/was_opened"] {
        if !rows.iter().any(|row| text(row, "event") == Some(event)) {
            faults.push(format!("no probe makes the event {event}"));
        }
    }
    let uprobe = known.truth.fact("uprobe").and_then(|line| line.rsplit_once(":0x"));
    let user: Vec<_> = rows.iter().filter(is_user).collect();
    let same = matches!((uprobe, &user[..]), (Some((_, offset)), [row])
        if number(row, "offset") == address(offset)
            && text(row, "file").is_some_and(|file| file.ends_with("bin/trigger"))
            && items(row, "consumers").iter().any(|of| of.as_str() == Some("lab/user")));
    if !same {
        faults.push(format!("{user:?} instead of {uprobe:?}"));
    }
    faults
}

/// `livepatch`: one patch of two functions, held up by the processes whose `patch_state` is 0: one of them, which the
/// module named, is in a replaced function.
pub(super) fn live_patch(known: &Known<'_>, rows: &[Value]) -> Faults {
    let [patch] = rows else { return vec![format!("{} patches", rows.len())] };
    let functions = items(patch, "objects").iter().flat_map(|object| items(object, "functions"));
    let names: Vec<_> = functions.filter_map(|function| text(function, "name")).collect();
    let mut faults = Faults::new();
    if text(patch, "name") != Some("patcher") || names != ["cmdline_proc_show", "replaced_function"] {
        faults.push(format!("{:?} replaces {names:?}", text(patch, "name")));
    }
    let held = |line: &String| {
        let (pid, state) = line.split_once(' ')?;
        (state.trim() == "0").then(|| pid.parse().ok())?
    };
    let mut wanted: Vec<u64> = known.truth.lines("patch_state").iter().filter_map(held).collect();
    let holdouts = items(patch, "holdouts");
    let mut found: Vec<u64> =
        holdouts.iter().filter_map(|of| of.get("task").and_then(|task| number(task, "pid"))).collect();
    found.sort_unstable();
    wanted.sort_unstable();
    if found != wanted {
        faults.push(format!("held up by {found:?} instead of {wanted:?}"));
    }
    let named = known
        .console
        .split_once("crasher: patch holdout ")
        .and_then(|(_, said)| said.split_whitespace().next());
    let inside = holdouts.iter().filter(|of| text(of, "inside") == Some("replaced_function"));
    let inside: Vec<_> =
        inside.filter_map(|of| of.get("task").and_then(|task| number(task, "pid"))).collect();
    if named.and_then(|pid| pid.parse().ok()).is_none_or(|pid: u64| inside != [pid]) {
        faults.push(format!("{inside:?} are in the replaced function instead of {named:?}"));
    }
    faults
}

/// `hw`: the machine checks that the lab injected, and nothing else; of the last one the machine died.
pub(super) fn machine_checks(_known: &Known<'_>, rows: &[Value]) -> Faults {
    let checks: Vec<_> = rows.iter().filter(|row| text(row, "kind") == Some("machine-check")).collect();
    let mut faults = Faults::new();
    if checks.len() != MACHINE_CHECKS.len() {
        faults.push(format!("{} machine checks", checks.len()));
    }
    for check in MACHINE_CHECKS {
        let words: Vec<_> = check.split_whitespace().collect();
        let [cpu, bank, status, _, address, misc] = words[..] else { continue };
        let is = |row: &&&Value| {
            number(row, "cpu") == cpu.parse().ok()
                && number(row, "bank") == bank.parse().ok()
                && text(row, "status") == Some(status)
                && text(row, "address") == Some(address)
                && text(row, "misc") == Some(misc)
        };
        if checks.iter().filter(is).count() != 1 {
            faults.push(format!("{checks:?} instead of {check}"));
        }
    }
    faults
}

/// `ftrace -l`: what `rich.sh` switched on.
pub(super) fn settings(_known: &Known<'_>, rows: &[Value]) -> Faults {
    let is = |row: &&Value| {
        let events: Vec<_> = items(row, "events").iter().filter_map(|event| text(event, "name")).collect();
        let functions: Vec<_> = items(row, "functions").iter().filter_map(Value::as_str).collect();
        text(row, "tracer") == Some("function")
            && events == ["sched_process_exit"]
            && functions == ["do_epoll_wait", "vfs_fsync"]
            && row.get("on").and_then(Value::as_bool) == Some(true)
    };
    if rows.iter().filter(is).count() == 1 && rows.len() == 1 {
        Faults::new()
    } else {
        vec![format!("{rows:?} instead of the function tracer on two functions, and one event")]
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_kernels_listing_is_compared() {
        let lines = [
            "# tracer: nop".to_owned(),
            "           a-b-7       [001] d..1.     2.000003: probe: (f+0x0/0x20) x=1 p=00000000abcdef01"
                .to_owned(),
            "           a-b-7       [001] d..1.     2.000004: <stack trace>".to_owned(),
            " => f".to_owned(),
        ];
        let row = |micros: u64, event: &str, text: &str| json!({ "pid": 7, "cpu": 1, "context": "d..1.", "time": micros * 1000 - 500, "event": event, "text": text });
        let rows = [
            row(2_000_003, "probe", "(f+0x0) x=1 p=ffff888000000000"),
            row(2_000_004, "kernel_stack", "<stack trace>\n => f"),
        ];
        assert_eq!(compare(&lines, &rows), Faults::new());
        assert_eq!(compare(&lines, &rows[..1]).len(), 1);
        assert_eq!(compare(&lines, &[row(2_000_003, "probe", "(f+0x0) x=2"), rows[1].clone()]).len(), 1);
        assert_eq!(compare(&[], &rows).len(), 1, "a guest that says nothing");
    }
}
