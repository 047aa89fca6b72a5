//! What several commands print alike: crash's line about a task, its times, sizes and dates.

use std::fmt::{self, Write as _};

use jiff::Timestamp;
use kdive_base::VirtAddr;
use kdive_linux::tasks::Task;
use kdive_target::Text;
use serde::{Serialize, Serializer};

use crate::cx::Cx;
use crate::sink::Render;

/// Stands where a value is not known.
pub(crate) const UNKNOWN: &str = "?";

/// A value, or `?`.
pub(crate) struct Known<T>(pub(crate) Option<T>);

impl<T: fmt::Display> fmt::Display for Known<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(value) => value.fmt(f),
            None => f.pad(UNKNOWN),
        }
    }
}

/// Bytes in hexadecimal, with blanks between.
pub(crate) fn hex_bytes(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}

/// What a command says of a task before it says more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct TaskLine {
    /// Its number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pid: Option<i32>,
    /// Its `task_struct`.
    pub(crate) task: VirtAddr,
    /// The processor it ran on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cpu: Option<u32>,
    /// Its command name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) command: Option<String>,
}

/// Names a task as the place of a gap.
pub(crate) fn place(task: &Task) -> String {
    match &task.pid {
        Ok(pid) => format!("PID {pid}"),
        Err(_) => format!("task {}", task.at),
    }
}

impl TaskLine {
    /// The line about a task; what it lacks is noted as a gap.
    pub(crate) fn new(cx: &mut Cx, task: &Task) -> Self {
        let parts = [
            ("PID", task.pid.as_ref().err()),
            ("CPU", task.cpu.as_ref().err()),
            ("COMMAND", task.comm.as_ref().err()),
        ];
        let lacking: Vec<_> =
            parts.into_iter().filter_map(|(what, lacks)| Some((what, lacks?.clone()))).collect();
        cx.lacks_together(&lacking, || format!("task {}", task.at));
        Self {
            pid: task.pid.clone().ok(),
            task: task.at,
            cpu: task.cpu.clone().ok(),
            command: task.comm.clone().ok().map(|Text(name)| name),
        }
    }
}

impl fmt::Display for TaskLine {
    /// `PID: 125      TASK: ff1152e5503d8000  CPU: 0    COMMAND: "insmod"`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (pid, cpu) = (Known(self.pid), Known(self.cpu));
        let command = self.command.as_deref().unwrap_or(UNKNOWN);
        write!(f, "PID: {pid:<7}  TASK: {}  CPU: {cpu:<3}  COMMAND: \"{command}\"", self.task)
    }
}

impl Render for TaskLine {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "{self}")
    }
}

/// A stretch of time as crash prints it: `1 days, 01:35:32`, and less than a day without days.
pub(crate) struct Elapsed {
    /// Whole seconds.
    pub(crate) seconds: u64,
}

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (minutes, seconds) = (self.seconds / 60, self.seconds % 60);
        let (hours, minutes) = (minutes / 60, minutes % 60);
        let (days, hours) = (hours / 24, hours % 24);
        if days > 0 {
            write!(f, "{days} days, ")?;
        }
        write!(f, "{hours:02}:{minutes:02}:{seconds:02}")
    }
}

/// A short stretch of nanoseconds as crash prints it: days, then `00:00:00.003`.
pub(crate) struct Ago(pub(crate) u64);

impl fmt::Display for Ago {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NANOS: u64 = 1_000_000_000;
        let (seconds, millis) = (self.0 / NANOS, self.0 % NANOS / 1_000_000);
        let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
        write!(f, "{days} {hours:02}:{:02}:{:02}.{millis:03}", seconds / 60 % 60, seconds % 60)
    }
}

/// How long something has lasted, in nanoseconds, to two figures: `12 ms`, `3.4 s`, `5m03s`, `2h05m`, `3d04h`.
#[derive(Clone, Copy)]
pub(crate) struct Age(pub(crate) u64);

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (millis, seconds) = (self.0 / 1_000_000, self.0 / 1_000_000_000);
        let text = match seconds {
            0 => format!("{millis} ms"),
            1..60 => format!("{seconds}.{} s", millis % 1000 / 100),
            60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
            3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
            _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
        };
        f.pad(&text)
    }
}

/// A point in time in UTC, the way `date` prints it: `Fri Nov 20 12:14:39 UTC 2026`.
pub(crate) fn date(ns_since_1970: u64) -> Option<String> {
    let time = Timestamp::from_nanosecond(ns_since_1970.into()).ok()?;
    Some(time.strftime("%a %b %e %H:%M:%S UTC %Y").to_string())
}

/// A number that is read in hexadecimal: in JSON a string, as addresses are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hex(pub(crate) u64);

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:#x}", self.0))
    }
}

/// The size of a huge page as crash names it (`2MB`); `None` for a base page.
pub(crate) fn size_of_page(bytes: u64) -> Option<String> {
    match bytes {
        0..=kdive_base::PAGE_SIZE => None,
        bytes if bytes >= 1 << 30 => Some(format!("{}GB", bytes >> 30)),
        bytes => Some(format!("{}MB", bytes >> 20)),
    }
}

/// A number in the middle of a column; what cannot be halved goes before it.
pub(crate) fn centered_number(number: &str, width: usize) -> String {
    let room = width.saturating_sub(number.len());
    let before = room.div_ceil(2);
    format!("{:before$}{number}{:after$}", "", "", after = room.saturating_sub(before))
}

/// Bytes in megabytes or gigabytes with one decimal, which is left out where it is zero.
pub(crate) fn size(bytes: u64) -> String {
    const MB: u64 = 1 << 20;
    const GB: u64 = 1 << 30;
    let (unit, name) = if bytes >= GB { (GB, "GB") } else { (MB, "MB") };
    let mut text = String::new();
    let _ = write!(text, "{:.1}", bytes as f64 / unit as f64);
    format!("{} {name}", text.strip_suffix(".0").unwrap_or(&text))
}

/// Bytes in the largest unit that leaves at least one, with one decimal unless there is none.
pub(crate) fn in_unit(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "KB")];
    match UNITS.into_iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => {
            let text = format!("{:.1}", bytes as f64 / unit as f64);
            format!("{} {name}", text.strip_suffix(".0").unwrap_or(&text))
        }
        None => bytes.to_string(),
    }
}

/// The share of a whole in percent, with one decimal.
pub(crate) fn percent(part: u64, whole: u64) -> f64 {
    (part as f64 * 1000.0 / whole.max(1) as f64).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_about_a_task_is_crashs() {
        let task = VirtAddr(0xff11_52e5_503d_8000);
        let line = TaskLine { pid: Some(125), task, cpu: Some(0), command: Some("insmod".into()) };
        assert_eq!(line.to_string(), r#"PID: 125      TASK: ff1152e5503d8000  CPU: 0    COMMAND: "insmod""#);
        let line = TaskLine { pid: None, task, cpu: None, command: None };
        assert_eq!(line.to_string(), r#"PID: ?        TASK: ff1152e5503d8000  CPU: ?    COMMAND: "?""#);
    }

    #[test]
    fn ages_are_short() {
        let age = |seconds: u64| Age(seconds * 1_000_000_000).to_string();
        assert_eq!(Age(12_900_000).to_string(), "12 ms");
        assert_eq!(Age(3_470_000_000).to_string(), "3.4 s");
        assert_eq!([age(303), age(7_500), age(273_700)], ["5m03s", "2h05m", "3d04h"]);
    }

    #[test]
    fn times_and_sizes() {
        assert_eq!(Elapsed { seconds: 4 }.to_string(), "00:00:04");
        assert_eq!(Elapsed { seconds: 92_132 }.to_string(), "1 days, 01:35:32");
        assert_eq!(date(1_795_176_879_000_000_000).unwrap(), "Fri Nov 20 12:14:39 UTC 2026");
        assert_eq!(size(536_308_736), "511.5 MB");
        assert_eq!(size(4 << 30), "4 GB");
        assert_eq!((in_unit(48 << 10), in_unit(12)), ("48 KB".into(), "12".into()));
        assert!((percent(1, 3) - 33.3).abs() < 1e-9 && percent(0, 0) == 0.0);
    }
}
