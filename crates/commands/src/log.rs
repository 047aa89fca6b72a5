//! `log`: what the kernel said.

pub(crate) mod carved;

use std::fmt;

use kdive_evidence::LogRecord;
use kdive_linux::log::audit::{self, AuditRecord};
use kdive_linux::log::safe::{self, SafeBuffer};
use kdive_linux::log::{self};
use kdive_linux::system::Clock;
use serde::Serialize;

use crate::args::{Args, Opt, UsageError};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::render::date;
use crate::sink::{Render, Sink, SinkExt};

/// Shows the kernel's log.
pub static LOG: Command = Command {
    names: &["log", "dmesg"],
    group: Group::System,
    summary: "the kernel's log",
    operands: "",
    options: &[
        Opt::flag("-T", "wall-clock time instead of seconds since boot"),
        Opt::flag("-t", "no time"),
        Opt::flag("-d", "the device that a record is about, as KEY=value lines behind it"),
        Opt::flag("-m", "the level before each record, as <6>"),
        Opt::flag("-c", "who logged: [T1] thread 1, [C0] CPU 0 outside of any thread"),
        Opt::flag("-a", "audit records that the daemon never got"),
        Opt::flag("-s", "messages left in the per-CPU buffers of printk (Linux 4.10 to 5.14)"),
        Opt::flag("-R", "names of Rust symbols as Rust writes them"),
        Opt::flag(
            "--carve",
            "look for logs in all of memory by their structure, as if nothing told where the log is",
        ),
    ],
    help: include_str!("log.md"),
    run: Run::Once(run),
};

fn run(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    if let Some(word) = args.operands.first() {
        return Err(UsageError::new("log", format!("takes no operands, such as {word}")).into());
    }
    if args.has("-a") {
        return audit_records(cx, out);
    }
    if args.has("-s") {
        return safe_buffers(cx, out);
    }
    if args.has("--carve") {
        return carved::of_memory(cx, args, out);
    }
    records(cx, args, out)
}

/// How records are shown.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct View {
    time: Time,
    level: bool,
    caller: bool,
    dictionary: bool,
    demangle: bool,
}

impl View {
    /// What the options say, but for the time.
    fn of(args: &Args) -> Self {
        Self {
            time: Time::SinceBoot,
            level: args.has("-m"),
            caller: args.has("-c"),
            dictionary: args.has("-d"),
            demangle: args.has("-R"),
        }
    }
}

impl View {
    /// What the options say, where no kernel tells the time of the boot.
    pub(crate) fn without_clock(args: &Args) -> Self {
        let time = if args.has("-t") { Time::Hidden } else { Time::SinceBoot };
        Self { time, ..Self::of(args) }
    }
}

/// The time that the options ask for.
fn time(cx: &mut Cx, args: &Args) -> Time {
    match (args.has("-t"), args.has("-T")) {
        (true, _) => Time::Hidden,
        (false, true) => match cx.known(Clock::find(&cx.kernel), "time of the boot", String::new) {
            Some(clock) => Time::Wall(clock.boot_ns),
            None => Time::SinceBoot,
        },
        (false, false) => Time::SinceBoot,
    }
}

#[derive(Clone, Copy, Debug, Default)]
enum Time {
    /// Seconds since boot.
    #[default]
    SinceBoot,
    /// Wall clock; holds the nanoseconds from 1970 to boot.
    Wall(u64),
    Hidden,
}

fn records(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let records = match log::records(&kernel) {
        Ok(records) => records,
        Err(lacks) => {
            cx.lacks(&lacks, "the log's place, so that all of memory was searched for it", String::new);
            return carved::of_memory(cx, args, out);
        }
    };
    let view = View { time: time(cx, args), ..View::of(args) };
    let mut shown = 0_usize;
    for (index, record) in records.enumerate() {
        if index % 256 == 0 {
            cx.cancel.check()?;
        }
        match record {
            Ok(mut record) => {
                if record.truncated {
                    let place =
                        || record.sequence.map(|number| format!("record {number}")).unwrap_or_default();
                    cx.gaps.note("text of a log record", "cut short in the dump", Some(place()));
                }
                if view.demangle {
                    record.text = demangled(&record.text);
                }
                shown = shown.saturating_add(1);
                out.row(&Row(record), &view)?;
            }
            Err(lacks) => cx.lacks(&lacks, "log record", || format!("number {index} from the oldest")),
        }
    }
    if shown == 0 {
        return carved::of_memory(cx, args, out);
    }
    // What crash shows behind the log: messages that never reached it.
    if let Ok(buffers) = safe::buffers(&kernel) {
        for buffer in buffers.iter().filter(|buffer| !buffer.lines.is_empty()) {
            out.row(&Unflushed { buffer: buffer.name, cpu: buffer.cpu, lines: &buffer.lines }, &())?;
        }
    }
    Ok(())
}

#[derive(Serialize)]
#[serde(transparent)]
pub(crate) struct Row(LogRecord);

impl Render for Row {
    type View = View;

    fn render(&self, view: &View, out: &mut dyn fmt::Write) -> fmt::Result {
        let Self(record) = self;
        let mut prefix = String::new();
        self.prefix(view, &mut prefix)?;
        // Lines after the first stand under the text, as in crash.
        let width = prefix.chars().count();
        for (index, line) in record.text.split('\n').enumerate() {
            match index {
                0 => writeln!(out, "{prefix}{line}")?,
                _ => writeln!(out, "{:width$}{line}", "")?,
            }
        }
        for (key, value) in record.dictionary.iter().filter(|_| view.dictionary) {
            writeln!(out, "{:width$}{key}={value}", "")?;
        }
        Ok(())
    }
}

impl Row {
    fn prefix(&self, view: &View, out: &mut dyn fmt::Write) -> fmt::Result {
        let Self(record) = self;
        match (view.time, record.time_ns) {
            (Time::Hidden, _) | (_, None) => {}
            (Time::SinceBoot, Some(ns)) => {
                let micros = ns / 1000;
                write!(out, "[{:5}.{:06}] ", micros / 1_000_000, micros % 1_000_000)?;
            }
            (Time::Wall(boot), Some(ns)) => {
                write!(out, "[{}] ", date(boot.saturating_add(ns)).as_deref().unwrap_or("no date"))?;
            }
        }
        if let (true, Some(caller)) = (view.caller, &record.caller) {
            write!(out, "[{caller:>6}] ")?;
        }
        if let (true, Some(level)) = (view.level, record.level) {
            write!(out, "<{:x}>", u32::from(record.facility.unwrap_or(0)) << 3 | u32::from(level))?;
        }
        Ok(())
    }
}

#[derive(Serialize)]
struct Unflushed<'a> {
    buffer: &'static str,
    cpu: u32,
    lines: &'a [String],
}

impl Render for Unflushed<'_> {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        self.lines.iter().try_for_each(|line| writeln!(out, "[{}] {line}", self.buffer))
    }
}

fn safe_buffers(cx: &mut Cx, out: &mut dyn Sink) -> Result<(), CommandError> {
    let mut name = "";
    for buffer in safe::buffers(&cx.kernel)? {
        let first = std::mem::replace(&mut name, buffer.name) != buffer.name;
        out.row(&SafeRow(buffer), &first)?;
    }
    Ok(())
}

#[derive(Serialize)]
#[serde(transparent)]
struct SafeRow(SafeBuffer);

impl Render for SafeRow {
    /// Whether it is the first of its variable.
    type View = bool;

    fn render(&self, first: &bool, out: &mut dyn fmt::Write) -> fmt::Result {
        let Self(buffer) = self;
        if *first {
            writeln!(out, "PRINTK_SAFE_SEQ_BUF: {}", buffer.name)?;
        }
        let (length, lost) = (crate::render::Known(buffer.length), crate::render::Known(buffer.lost));
        writeln!(out, "CPU: {}  ADDR: {} LEN: {length}  MESSAGE_LOST: {lost}", buffer.cpu, buffer.address)?;
        if buffer.lines.is_empty() {
            writeln!(out, "  (empty)")?;
        }
        buffer.lines.iter().try_for_each(|line| writeln!(out, "  {line}"))
    }
}

fn audit_records(cx: &mut Cx, out: &mut dyn Sink) -> Result<(), CommandError> {
    let records = audit::records(&cx.kernel)?;
    if records.is_empty() {
        out.heading("(no audit records wait to be sent)\n")?;
    }
    for record in records {
        match record {
            Ok(record) => out.row(&AuditRow(record), &())?,
            Err(lacks) => cx.lacks(&lacks, "audit record", String::new),
        }
    }
    Ok(())
}

#[derive(Serialize)]
#[serde(transparent)]
struct AuditRow(AuditRecord);

impl Render for AuditRow {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "type={} {}", self.0.kind, self.0.text)
    }
}

/// The text with its mangled Rust names (`_R...`, `_ZN...17h...E`) as they are written in Rust.
fn demangled(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("_R").into_iter().chain(rest.find("_ZN")).min() {
        let (before, from) = rest.split_at(at);
        let end = from
            .find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '_' | '$' | '.'))
            .unwrap_or(from.len());
        let (name, behind) = from.split_at(end);
        shown.push_str(before);
        match rustc_demangle::try_demangle(name) {
            Ok(plain) => shown.push_str(&format!("{plain:#}")),
            Err(_) => shown.push_str(name),
        }
        rest = behind;
    }
    shown + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(record: LogRecord, view: View) -> String {
        let mut text = String::new();
        Row(record).render(&view, &mut text).unwrap();
        text
    }

    fn record() -> LogRecord {
        LogRecord {
            time_ns: Some(6_868_012_999),
            level: Some(6),
            facility: Some(0),
            caller: Some("T1".into()),
            text: "one\ntwo".into(),
            dictionary: vec![("SUBSYSTEM".into(), "pci".into())],
            ..LogRecord::default()
        }
    }

    #[test]
    fn records_are_shown_as_crash_shows_them() {
        assert_eq!(shown(record(), View::default()), "[    6.868012] one\n               two\n");
        let all = View { level: true, caller: true, dictionary: true, ..View::default() };
        let lines = shown(record(), all);
        assert!(lines.starts_with("[    6.868012] [    T1] <6>one\n"), "{lines}");
        assert!(lines.ends_with(" SUBSYSTEM=pci\n"), "{lines}");
        let wall = View { time: Time::Wall(1_795_176_879_000_000_000), ..View::default() };
        assert!(shown(record(), wall).starts_with("[Fri Nov 20 12:14:45 UTC 2026] one\n"));
        let text = View { time: Time::Hidden, ..View::default() };
        assert_eq!(shown(record(), text), "one\ntwo\n");
    }

    #[test]
    fn rust_names_are_shown_as_written() {
        let line =
            "  _RNvCs1_4core3fooX+0x10/0x20 _ZN4core3fmt5Write9write_fmt17h0123456789abcdefE+0x5 _Regular";
        let plain = demangled(line);
        assert!(plain.contains("core::fmt::Write::write_fmt+0x5"), "{plain}");
        assert!(plain.ends_with(" _Regular"), "{plain}");
    }
}
