//! `NAME.truth`: the facts that the guest wrote down before it broke; and what its console said.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// A thread of the guest, from `/proc/PID/task/TID/stat`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Thread {
    pub(crate) tid: u32,
    pub(crate) process: u32,
    pub(crate) parent: u32,
    pub(crate) state: char,
    pub(crate) name: String,
}

/// The process number of `kthreadd`, which is every kernel thread's parent.
const KTHREADD: u32 = 2;

impl Thread {
    pub(crate) fn is_kernel(&self) -> bool {
        self.tid == KTHREADD || self.parent == KTHREADD
    }

    /// Workers come and go, and `/proc` appends their work to their name.
    pub(crate) fn is_worker(&self) -> bool {
        self.is_kernel() && self.name.starts_with("kworker/")
    }
}

/// A loaded module, from `/proc/modules`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Module {
    pub(crate) size: u64,
    pub(crate) base: u64,
}

/// Everything that the guest wrote.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    /// The lines of each key, as they stand behind it.
    lines: BTreeMap<String, Vec<String>>,
    pub(crate) threads: Vec<Thread>,
    pub(crate) modules: BTreeMap<String, Module>,
}

impl Truth {
    pub(crate) fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&String::from_utf8_lossy(&text)).with_context(|| path.display().to_string())
    }

    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut truth = Self::default();
        let mut has_end = false;
        for line in text.lines() {
            let (key, rest) = line.split_once(' ').unwrap_or((line, ""));
            match key {
                "task" => truth.threads.extend(parse_thread(rest)),
                "module" => truth.modules.extend(parse_module(rest)),
                "end" => has_end = true,
                _ => truth.lines.entry(key.into()).or_default().push(rest.trim_end_matches('\r').into()),
            }
        }
        if !has_end || truth.threads.is_empty() {
            bail!("the guest did not finish writing it");
        }
        Ok(truth)
    }

    /// A fact of one line; of several lines, the first.
    pub(crate) fn fact(&self, key: &str) -> Option<&str> {
        self.lines(key).first().map(|line| line.trim())
    }

    /// All lines of a key.
    pub(crate) fn lines(&self, key: &str) -> &[String] {
        self.lines.get(key).map_or(&[], Vec::as_slice)
    }

    /// Seconds since boot when the truth was written.
    pub(crate) fn uptime(&self) -> Option<f64> {
        self.fact("uptime")?.split_whitespace().next()?.parse().ok()
    }

    /// The process that broke the kernel.
    pub(crate) fn trigger(&self) -> Option<u32> {
        self.fact("trigger")?.parse().ok()
    }
}

/// `TID PID PARENT STATE NAME`, and the name may hold spaces.
fn parse_thread(rest: &str) -> Option<Thread> {
    let mut words = rest.splitn(5, ' ');
    let tid = words.next()?.parse().ok()?;
    let process = words.next()?.parse().ok()?;
    let parent = words.next()?.parse().ok()?;
    let state = words.next()?.chars().next()?;
    Some(Thread { tid, process, parent, state, name: words.next()?.trim_end_matches('\r').to_string() })
}

/// `NAME SIZE USES USERS STATE BASE`
fn parse_module(rest: &str) -> Option<(String, Module)> {
    let words: Vec<&str> = rest.split_whitespace().collect();
    let base = words.get(5)?.trim_start_matches("0x");
    let module = Module { size: words.get(1)?.parse().ok()?, base: u64::from_str_radix(base, 16).ok()? };
    Some(((*words.first()?).to_string(), module))
}

/// The kernel's lines on the console: from the crashing kernel only, and only what begins a line, because the guest's
/// programs print there too.
pub(crate) fn kernel_lines(console: &str) -> Vec<&str> {
    let mut versions = 0;
    console
        .lines()
        .map(|line| line.trim_end_matches('\r'))
        .filter(|line| timestamp(line).is_some())
        .take_while(|line| {
            versions += usize::from(line.contains("] Linux version "));
            versions < 2
        })
        .collect()
}

/// The seconds in front of a line of the kernel's log: `[   10.509192] text`.
pub(crate) fn timestamp(line: &str) -> Option<f64> {
    let (stamp, _) = line.strip_prefix('[')?.split_once("] ")?;
    stamp.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_guest_writes() {
        let text = "scenario null\r\nuptime 10.47 7.80\ntrigger 184\nswap /dev/vdc partition 1 2 3\n\
                    module bridge 372736 0 - Live 0xffffffffc047d000\n\
                    task 1 1 0 S init\ntask 9 9 2 I kworker/0:1-events\ntask 181 175 1 S a b) c\nend\n";
        let truth = Truth::parse(text).unwrap();
        assert_eq!(truth.uptime(), Some(10.47));
        assert_eq!(truth.fact("scenario"), Some("null"));
        assert_eq!(truth.threads.len(), 3);
        assert_eq!(truth.threads[2].name, "a b) c");
        assert!(truth.threads[1].is_worker() && !truth.threads[0].is_kernel());
        assert_eq!(truth.modules["bridge"], Module { size: 372_736, base: 0xffff_ffff_c047_d000 });
        assert!(Truth::parse("scenario null\ntask 1 1 0 S init\n").is_err(), "cut short");
    }

    #[test]
    fn the_capture_kernels_lines_are_not_the_crashing_kernels() {
        let console = "[    0.000000] Linux version 6.1\r\n[    1.5] one\r\nLAB-READY\r\nx[    2.0] two\r\n\
                       [    0.000000] Linux version 6.1\r\n[    0.5] other\r\n";
        assert_eq!(kernel_lines(console), ["[    0.000000] Linux version 6.1", "[    1.5] one"]);
        assert_eq!(timestamp("[   10.509192] crasher: scenario null"), Some(10.509_192));
    }
}
