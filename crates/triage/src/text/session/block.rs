//! The block that crash begins with: kernel, dump, machine, and who panicked.

use kdive_base::VirtAddr;

use crate::case::System;
use crate::text::scan::{decimal, hex, unquoted, word};
use crate::text::system::keep;

/// The system block.
#[derive(Debug, Default)]
pub(in crate::text) struct Block {
    /// Its lines follow each other.
    open: bool,
    system: System,
    /// The panic line.
    pub(in crate::text) panic: Option<String>,
    pub(in crate::text) pid: Option<i32>,
    pub(in crate::text) comm: Option<String>,
    pub(in crate::text) task: Option<VirtAddr>,
    pub(in crate::text) cpu: Option<u32>,
    /// `TASK_RUNNING (PANIC)`.
    pub(in crate::text) state: Option<String>,
    /// Some block was seen.
    pub(in crate::text) seen: bool,
}

const FIRST: [&str; 6] = ["KERNEL", "DEBUG KERNEL", "SYSTEM MAP", "DUMPFILE", "DEBUGINFO", "DUMPFILES"];

impl Block {
    /// Takes a line. Whether it was one of the block.
    pub(super) fn line(&mut self, text: &str) -> bool {
        let Some((key, value)) = text.split_once(':') else {
            self.open &= text.is_empty();
            return false;
        };
        let (key, value) = (key.trim(), value.trim());
        if FIRST.contains(&key) {
            self.open = true;
            self.seen = true;
            return true;
        }
        let known = self.open && self.field(key, value);
        self.open = known;
        known
    }

    /// A prompt ends it.
    pub(super) fn end(&mut self) {
        self.open = false;
    }

    fn field(&mut self, key: &str, value: &str) -> bool {
        let system = &mut self.system;
        match key {
            "CPUS" => keep(&mut system.cpus, decimal(value).and_then(|(cpus, _)| u32::try_from(cpus).ok())),
            "UPTIME" => keep(&mut system.uptime_s, uptime(value)),
            "NODENAME" => keep(&mut system.nodename, Some(value.to_owned())),
            "RELEASE" => keep(&mut system.release, Some(value.to_owned())),
            "VERSION" => keep(&mut system.version, Some(value.to_owned())),
            "MACHINE" => keep(&mut system.machine, Some(word(value).0.to_owned())),
            "MEMORY" => keep(&mut system.memory_bytes, size(value)),
            "PANIC" => {
                keep(&mut self.panic, Some(panic_line(value).to_owned()).filter(|line| !line.is_empty()))
            }
            // The heading of a backtrace begins likewise.
            "PID" if value.contains("TASK:") => return false,
            "PID" => keep(&mut self.pid, decimal(value).and_then(|(pid, _)| i32::try_from(pid).ok())),
            "COMMAND" => keep(&mut self.comm, Some(unquoted(value).to_owned())),
            "TASK" => keep(&mut self.task, hex(value).map(|(task, ..)| VirtAddr(task))),
            "CPU" => keep(&mut self.cpu, decimal(value).and_then(|(cpu, _)| u32::try_from(cpu).ok())),
            "STATE" => keep(&mut self.state, Some(value.to_owned())),
            "DATE" | "LOAD AVERAGE" | "TASKS" | "MEMORY USAGE" | "PANIC MESSAGE" | "TIMEZONE" | "BOOTID" => {}
            _ => return false,
        }
        true
    }

    pub(super) fn finish(&mut self, system: &mut System) {
        let mut own = std::mem::take(&mut self.system);
        macro_rules! prefer {
            ($($field:ident),*) => { $(if own.$field.is_some() { system.$field = own.$field.take(); })* };
        }
        prefer!(release, version, machine, nodename, uptime_s, cpus, memory_bytes);
    }
}

/// `"Oops: 0002 [#1]" (check log for details)`: without quotes, remark and time stamp.
fn panic_line(value: &str) -> &str {
    let value = value.strip_suffix("(check log for details)").unwrap_or(value);
    let line = unquoted(value);
    let stamped = line.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    match stamped {
        Some((time, rest)) if time.trim().bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') => {
            rest.trim()
        }
        _ => line,
    }
}

/// `171 days, 10:40:23`, `14:34:12`.
fn uptime(value: &str) -> Option<u64> {
    let (days, clock) = match value.split_once(" day") {
        Some((days, rest)) => (decimal(days)?.0, rest.trim_start_matches(['s', ',', ' '])),
        None => (0, value),
    };
    let mut seconds = 0_u64;
    for part in clock.split(':') {
        seconds = seconds.checked_mul(60)?.checked_add(decimal(part.trim())?.0)?;
    }
    days.checked_mul(86_400)?.checked_add(seconds)
}

/// `12.5 GB`.
pub(super) fn size(value: &str) -> Option<u64> {
    let (number, unit) = word(value);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let unit = match word(unit).0 {
        "KB" | "kB" => 1_u64 << 10,
        "MB" => 1 << 20,
        "GB" => 1 << 30,
        "TB" => 1 << 40,
        _ => return None,
    };
    let tenths = decimal(fraction.get(..1)?)?.0;
    decimal(whole)?.0.checked_mul(unit)?.checked_add(tenths.checked_mul(unit)? / 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_the_block_are_read() {
        assert_eq!(uptime("171 days, 10:40:23"), Some(171 * 86_400 + 38_423));
        assert_eq!(uptime("00:00:12"), Some(12));
        assert_eq!(size("12.5 GB"), Some((25 << 30) / 2));
        assert_eq!(size("512 MB"), Some(512 << 20));
        assert_eq!(panic_line("\"Oops: 0002 [#1]\" (check log for details)"), "Oops: 0002 [#1]");
        assert_eq!(
            panic_line("\"[ 9137.459831] Kernel panic - not syncing: x\""),
            "Kernel panic - not syncing: x"
        );
        assert_eq!(panic_line("\"\""), "");
    }

    #[test]
    fn fields_count_only_within_the_block() {
        let mut block = Block::default();
        assert!(!block.line("CPU: 0"));
        assert!(block.line("KERNEL: vmlinux"));
        assert!(block.line("CPUS: 4"));
        assert!(block.line("CPU: 3"));
        assert!(!block.line("Linux version 2.4.21"));
        assert!(!block.line("CPU: 1"));
        assert_eq!(block.cpu, Some(3));
    }
}
