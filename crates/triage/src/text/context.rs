//! Lines that say who ran where: processor, task, taint, release, machine.

use kdive_base::VirtAddr;
use kdive_evidence::Splat;

use super::scan::{after, between, decimal, hex_after, number_after, word};

/// What such lines tell that a splat has no place for.
#[derive(Clone, Debug, Default)]
pub(super) struct Context {
    /// The `task_struct`.
    pub(super) task: Option<VirtAddr>,
}

/// Takes a line of context. Whether it was one.
pub(super) fn line(text: &str, splat: &mut Splat, context: &mut Context) -> bool {
    if let Some(rest) = text.strip_prefix("CPU:").or_else(|| text.strip_prefix("CPU ")) {
        return cpu(rest, splat);
    }
    if let Some(rest) = text.strip_prefix("Pid:").or_else(|| text.strip_prefix("PID: ")) {
        keep(&mut splat.pid, decimal(rest.trim_start()).and_then(|(pid, _)| i32::try_from(pid).ok()));
        return comm(rest, splat);
    }
    if let Some(rest) = text.strip_prefix("Process ") {
        return process(rest, splat, context);
    }
    if let Some(rest) = text.strip_prefix("Hardware name:") {
        keep(&mut splat.machine, Some(rest.trim().to_owned()));
        return true;
    }
    if text.starts_with("Tainted: [") {
        return true;
    }
    if let Some(rest) = text.strip_prefix("Comm:") {
        return comm(&format!("Comm:{rest}"), splat);
    }
    if text.starts_with("Not tainted") || text.starts_with("Tainted: ") {
        taint(text, splat, false);
        return true;
    }
    false
}

/// `CPU: 1 UID: 0 PID: 123 Comm: insmod Tainted: G  OE  6.12 #1`, `CPU:    0`, `CPU 3`.
fn cpu(rest: &str, splat: &mut Splat) -> bool {
    let Some((number, rest)) = decimal(rest.trim_start()) else { return false };
    if !rest.is_empty() && !rest.starts_with(' ') && rest != ":" {
        return false;
    }
    let rest = rest.trim_start();
    if !rest.is_empty() && !["UID:", "PID:", "Comm:", ":", "VPID"].iter().any(|mark| rest.starts_with(mark)) {
        return false;
    }
    keep(&mut splat.cpu, u32::try_from(number).ok());
    keep(&mut splat.pid, number_after(rest, "PID: ").and_then(|pid| i32::try_from(pid).ok()));
    comm(rest, splat);
    true
}

/// `comm: qemu-kvm Not tainted 2.6.35.12-88.fc14.x86_64 #1 Dell Inc. PowerEdge`: names may have spaces.
fn comm(text: &str, splat: &mut Splat) -> bool {
    let Some(rest) = after(text, "omm: ") else { return false };
    let end = [" Tainted: ", " Not tainted"].iter().filter_map(|mark| rest.find(mark)).min();
    let (name, rest) = rest.split_at_checked(end.unwrap_or(rest.len())).unwrap_or((rest, ""));
    // Since 4.x kernels with a crash kernel loaded say so here.
    let name = name.trim();
    let name = name.strip_suffix("Kdump: loaded").unwrap_or(name).trim_end();
    keep(&mut splat.comm, Some(name.to_owned()));
    taint(rest.trim_start(), splat, text.contains("comm: "));
    true
}

/// `Tainted: P   W  O 3.10.0 #1`, `Not tainted (2.6.25 #1)`, `Not tainted VLI`. Until 3.9 the machine stands behind the build.
pub(super) fn taint(text: &str, splat: &mut Splat, with_machine: bool) {
    let (clean, rest) = match text.strip_prefix("Not tainted") {
        Some(rest) => (true, rest),
        None => match after(text, "Tainted:") {
            Some(rest) => (false, rest),
            None => return,
        },
    };
    let mut letters = String::new();
    let mut rest = rest.trim_start().trim_start_matches(':').trim_start();
    while !rest.is_empty() {
        let (token, behind) = word(rest);
        let flags = token.len() <= 20 && token.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-');
        if !flags {
            break;
        }
        // Very long instructions: a mark of the code's format.
        if token != "VLI" {
            letters.extend(token.chars().filter(char::is_ascii_uppercase));
        }
        rest = behind;
    }
    keep(&mut splat.taint, Some(if clean { String::new() } else { letters }));
    release(rest, splat);
    if with_machine
        && let Some((build, machine)) = after(rest, "#").and_then(|rest| rest.split_once(' '))
        && build.bytes().all(|byte| byte.is_ascii_digit())
        && splat
            .release
            .as_deref()
            .is_some_and(|release| release.starts_with("2.") || release.starts_with("3."))
    {
        let machine = machine.trim().trim_end_matches(')');
        keep(&mut splat.machine, (!machine.is_empty()).then(|| machine.to_owned()));
    }
}

/// The release at the start of a text, also in parentheses.
pub(super) fn release(text: &str, splat: &mut Splat) {
    let text = text.trim_start().trim_start_matches('(');
    let token = text.split([' ', ')', '/']).next().unwrap_or_default();
    let numbered =
        token.split('.').take(2).filter(|part| part.starts_with(|letter: char| letter.is_ascii_digit()));
    if numbered.count() == 2 {
        keep(&mut splat.release, Some(token.to_owned()));
    }
}

/// `nodemon (pid: 21797, threadinfo=c03c7000 task=db976d30)`.
fn process(rest: &str, splat: &mut Splat, context: &mut Context) -> bool {
    let Some((name, rest)) = rest.split_once(" (pid:") else { return false };
    keep(&mut splat.comm, Some(name.trim().to_owned()));
    keep(&mut splat.pid, decimal(rest.trim_start()).and_then(|(pid, _)| i32::try_from(pid).ok()));
    let task = between(rest, " task", ")")
        .and_then(|task| hex_after(&format!("={}", task.trim_start_matches('=').trim()), "="));
    keep(&mut context.task, task.map(VirtAddr));
    true
}

fn keep<T>(slot: &mut Option<T>, value: Option<T>) {
    if slot.is_none() {
        *slot = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Splat, Context) {
        let (mut splat, mut context) = Default::default();
        assert!(line(text, &mut splat, &mut context), "{text}");
        (splat, context)
    }

    #[test]
    fn tasks_of_all_ages_are_read() {
        for (text, cpu, pid, comm, taint, release) in [
            (
                "CPU: 1 UID: 0 PID: 123 Comm: insmod Tainted: G           OE       6.12.117+deb12-cloud-amd64 #1  Debian 6.12.117-1",
                Some(1),
                Some(123),
                Some("insmod"),
                Some("GOE"),
                Some("6.12.117+deb12-cloud-amd64"),
            ),
            (
                "CPU: 3 PID: 7 Comm: a b Not tainted 5.10.0-43-cloud-amd64 #1 Debian 5.10",
                Some(3),
                Some(7),
                Some("a b"),
                Some(""),
                Some("5.10.0-43-cloud-amd64"),
            ),
            (
                "Pid: 15652, comm: scopeux Tainted: P 2.6.9-89.ELsmp",
                None,
                Some(15652),
                Some("scopeux"),
                Some("P"),
                Some("2.6.9-89.ELsmp"),
            ),
            ("Pid: 12, comm: x Not tainted (2.6.25 #1)", None, Some(12), Some("x"), Some(""), Some("2.6.25")),
            ("CPU:    0", Some(0), None, None, None, None),
            ("CPU 3", Some(3), None, None, None, None),
            (
                "Process emagent (pid: 27221, threadinfo=e03d9000 task=ca340db0)",
                None,
                Some(27221),
                Some("emagent"),
                None,
                None,
            ),
        ] {
            let (splat, _) = read(text);
            assert_eq!(
                (
                    splat.cpu,
                    splat.pid,
                    splat.comm.as_deref(),
                    splat.taint.as_deref(),
                    splat.release.as_deref()
                ),
                (cpu, pid, comm, taint, release),
                "{text}"
            );
        }
    }

    #[test]
    fn old_lines_name_task_and_machine() {
        assert_eq!(
            read("Process emagent (pid: 27221, threadinfo=e03d9000 task=ca340db0)").1.task,
            Some(VirtAddr(0xca34_0db0))
        );
        assert_eq!(
            read("Process swapper (pid: 0, threadinfo ffff88022a56c000, task ffff88022a568aa0)").1.task,
            Some(VirtAddr(0xffff_8802_2a56_8aa0))
        );
        let (splat, _) = read(
            "Pid: 0, comm: swapper Not tainted 2.6.32-279.14.1.el6.x86_64 #1 Dell Inc. PowerEdge R410/01V648",
        );
        assert_eq!(splat.machine.as_deref(), Some("Dell Inc. PowerEdge R410/01V648"));
    }

    #[test]
    fn other_lines_are_none() {
        for text in [
            "CPU0: Thermal monitoring enabled",
            "CPU#0 is frozen.",
            "CPU: 0 is down",
            "Process accounting resumed",
        ] {
            let (mut splat, mut context) = Default::default();
            assert!(!line(text, &mut splat, &mut context), "{text}");
        }
    }
}
