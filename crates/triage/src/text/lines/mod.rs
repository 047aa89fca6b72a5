//! Lines of a log without what carried them: colours, prefixes of syslog and consoles, time stamps, callers.

mod clean;
mod prefix;

use std::borrow::Cow;

pub(super) use clean::clean;

/// Who printed a line (`CONFIG_PRINTK_CALLER`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Caller {
    /// A task, by its number.
    Task(u32),
    /// An interrupt on a processor.
    Cpu(u32),
}

/// A line.
#[derive(Clone, Debug)]
pub(super) struct Line<'t> {
    whole: Cow<'t, str>,
    start: usize,
    /// Nanoseconds since boot.
    pub(super) time_ns: Option<u64>,
    /// Who printed it.
    pub(super) caller: Option<Caller>,
    /// Letters of the whole line, its prefix included: where a terminal would have broken it.
    pub(super) width: usize,
}

impl<'t> Line<'t> {
    /// A line of a log.
    pub(super) fn new(raw: &'t [u8]) -> Self {
        Self::of(clean(raw))
    }

    /// A line that is text already.
    fn of(whole: Cow<'t, str>) -> Self {
        let found = prefix::strip(&whole);
        let start = whole.len().saturating_sub(found.rest.len());
        let width = whole.chars().count();
        Self { start, time_ns: found.time_ns, caller: found.caller, width, whole }
    }

    /// A line of a record of the log, whose time and caller are known: nothing before it is a prefix.
    pub(super) fn record(text: &'t str, time_ns: Option<u64>, caller: Option<&str>) -> Self {
        let whole = clean(text.as_bytes());
        Self {
            start: 0,
            time_ns,
            caller: caller.and_then(prefix::caller),
            width: whole.chars().count(),
            whole,
        }
    }

    /// What the kernel said.
    pub(super) fn text(&self) -> &str {
        self.whole.get(self.start..).unwrap_or_default().trim()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "BUG: soft lockup - CPU#1 stuck for 22s! [a:12]";

    #[test]
    fn every_prefix_is_taken_off() {
        for prefix in [
            "",
            "   ",
            "<4>",
            "\u{1}4",
            "[  123.456789] ",
            "<4>[  123.456789] ",
            "[  123.456789][   T12] ",
            "[  123.456789] [T12] ",
            "[  123.456789 <    0.000012>] ",
            "Dec 15 11:38:22 udb kernel: ",
            "Dec  5 11:38:22 udb kernel: [  123.456789] ",
            "Dec  5 11:38:22 udb kernel[12]: ",
            "Dec 15 2024 11:38:22 udb kernel: ",
            "2024-01-02T03:04:05.678901+00:00 host kernel: [  123.456789] ",
            "2024-01-02T03:04:05Z host kernel: ",
            "2024-01-02 03:04:05.123 ",
            "2024-01-02T03:04:05,678901+00:00 ",
            "Tue 2024-01-02 03:04:05 UTC host kernel: ",
            "<4>1 2024-01-02T03:04:05.6Z host kernel - - - ",
            "<4>Dec 15 11:38:22 udb kernel: ",
            "Dec 15 11:38:22 udb kern.warn kernel: [  123.456789] ",
            "[  123.456789] host kernel: ",
            "[Tue Jan  2 03:04:05 2024] ",
            "[2024-01-02 03:04:05] [  123.456789] ",
            "[03:04:05] ",
            "[03:04:05.678] <4>[  123.456789] ",
            "[Jan 2 03:04] ",
            "[  +0.000012] ",
            "kern  :warn  : [  123.456789] ",
            "kern  :emerg : ",
            "4,1234,123456789,-;",
            "4,1234,123456789,-,caller=T12;",
            "node1 login: [  123.456789] ",
            "udb kernel: ",
            "kernel: ",
            "> [  123.456789] ",
            "> > ",
            "| ",
            "-- MORE --  forward: <SPACE>, <ENTER> or j  backward: b or k  quit: q ",
            "\u{2014} MORE \u{2014} forward: <SPACE>, <ENTER> or j backward: b or k quit: q ",
            "\u{1b}[32m[  123.456789] \u{1b}[0m\u{1b}[33m",
            "#033[32m",
            "^[[1;31m",
            "\u{feff}",
            "<pre>",
            "<span class=\"x\">",
        ] {
            let text = format!("{prefix}{SAID}\r");
            let line = Line::new(text.as_bytes());
            assert_eq!(line.text(), SAID, "{prefix:?}");
            if prefix.contains("123.456789]") || prefix.contains(",123456789,") {
                assert_eq!(line.time_ns, Some(123_456_789_000), "{prefix:?}");
            }
            if prefix.contains("T12") && !prefix.starts_with('2') {
                assert_eq!(line.caller, Some(Caller::Task(12)), "{prefix:?}");
            }
        }
    }

    #[test]
    fn what_only_looks_like_a_prefix_stays() {
        for text in [
            "[<c0126424>] __do_softirq+0x4c/0xb1",
            "<IRQ> [<ffffffff81468e1f>] panic+0x8b/0x10d",
            "<ffffffff801167ee>{timer_interrupt+587}",
            "[d0b03e78] try_crashdump at c013403d",
            "#0 [c03c7e60] netpoll_start_netdump at f89ac570",
            "[exception RIP: list_del+8]",
            "[117] PID: 21797 TASK: db976d30 CPU: 0 COMMAND: \"nodemon\"",
            "> 21797 21790 0 db976d30 RU 0.5 1915760 11156 nodemon",
            "Oops: 0002 [#1]",
            "<89> 50 04 89 02",
            "0xffffffff885133ad <sctp_association_free>: push %r12",
            "175860: 44445320 362e3120 302e322e 3220312d SDD 1.6.2.01 2",
            "PANIC: \"[ 9137.459831] Kernel panic - not syncing: x\"",
            "[ INFO: possible recursive locking detected ]",
            "Modules linked in: a b",
            "Mon pays",
        ] {
            assert_eq!(Line::new(text.as_bytes()).text(), text);
        }
    }

    #[test]
    fn typography_and_markup_are_undone() {
        for (text, expected) in [
            ("PANIC: \u{201c}kernel BUG at a.c:1!\u{201d}", "PANIC: \"kernel BUG at a.c:1!\""),
            ("in process \u{2018}oracle\u{2019}", "in process 'oracle'"),
            ("Kernel panic \u{2013} not syncing", "Kernel panic - not syncing"),
            ("\u{2014} <IRQ stack> \u{2014}", "- <IRQ stack> -"),
            ("BUG:\u{a0}unable", "BUG: unable"),
            ("&lt;IRQ&gt; a&amp;b &#39;c&#39;&nbsp;d", "<IRQ> a&b 'c' d"),
            ("Call Trace:<br/>", "Call Trace:"),
            ("a \u{1b}[31mred\u{1b}[0m word", "a red word"),
            ("\u{1b}]0;title\u{7}text", "text"),
            ("Code: 53 <0f> 0b", "Code: 53 <0f> 0b"),
            ("tab\there", "tab here"),
        ] {
            assert_eq!(Line::new(text.as_bytes()).text(), expected);
        }
        assert_eq!(Line::new(b"comm: a\xff\xfeb").text(), "comm: a\\xff\\xfeb");
        assert_eq!(Line::new(b"a\x07b").text(), "a\\x07b");
    }
}
