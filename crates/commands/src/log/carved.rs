//! Logs that were found by their structure: shown as any log, with a mark at what is doubtful.

use std::collections::BTreeMap;
use std::fmt;

use kdive_base::{Cancel, GapLedger, ReadAt};
use kdive_evidence::{Doubt, LogRecord};
use kdive_linux::log::carve::{self, Carved, Form, Log, MemoryBytes, Pile};
use serde::Serialize;

use super::{Row, View, demangled, time};
use crate::args::Args;
use crate::command::CommandError;
use crate::cx::{Cx, Progress};
use crate::sink::{Render, Sink, SinkExt};

/// Shows the logs that lie in the memory of the dump.
pub(super) fn of_memory(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let memory = MemoryBytes(&**kernel.physical());
    let pile = Pile::memory(&memory, &cx.cancel)?;
    let carved = search(&pile, &cx.cancel, &*cx.progress)?;
    if carved.logs.is_empty() {
        return Err(CommandError::not_found("no log was found in the memory of this dump"));
    }
    let view = View { time: time(cx, args), ..View::of(args) };
    show(&carved, pile.bytes(), &view, &cx.cancel, &mut cx.gaps, out)
}

/// Looks through all bytes, with a bar.
pub(crate) fn search(
    pile: &Pile<'_>,
    cancel: &Cancel,
    progress: &dyn Progress,
) -> Result<Carved, CommandError> {
    let total = pile.len() >> 20;
    Ok(carve::carve(pile, cancel, &|done| progress.step("MB searched for a log", done >> 20, Some(total)))?)
}

/// Shows all logs. Doubts are counted in `gaps`.
pub(crate) fn show(
    carved: &Carved,
    bytes: &dyn ReadAt,
    view: &View,
    cancel: &Cancel,
    gaps: &mut GapLedger,
    out: &mut dyn Sink,
) -> Result<(), CommandError> {
    let several = carved.logs.len() > 1;
    for (index, log) in carved.logs.iter().enumerate() {
        let number = index.saturating_add(1);
        if several {
            out.heading(&format!(
                "{}LOG {number}: {}\n",
                if index == 0 { "" } else { "\n" },
                Summary::of(log)
            ))?;
        }
        if log.records == 0 {
            gaps.note(
                format!("the text of {} log records", log.without_text),
                "only their headers are in the bytes",
                None,
            );
            continue;
        }
        let mut doubts: BTreeMap<Doubt, u64> = BTreeMap::new();
        for (index, mut record) in log.records(bytes).enumerate() {
            if index % 256 == 0 {
                cancel.check()?;
            }
            if view.demangle {
                record.text = demangled(&record.text);
            }
            for doubt in &record.doubts {
                let count = doubts.entry(*doubt).or_default();
                *count = count.saturating_add(1);
            }
            out.row(&CarvedRow { log: number, record: Row(record) }, view)?;
        }
        for (doubt, count) in doubts {
            gaps.note(format!("{count} records of the log are doubtful"), doubt, None);
        }
    }
    if carved.unread > 0 {
        gaps.note(format!("{} bytes", carved.unread), "they cannot be read", None);
    }
    if carved.limited {
        gaps.note("more of what looks like a log", "there is more of it than is kept", None);
    }
    Ok(())
}

/// A log in a few words.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    form: Form,
    /// Offset of its text in the file, or physical address.
    #[serde(serialize_with = "hex")]
    at: u64,
    records: usize,
    /// Records of which only the header was found.
    #[serde(skip_serializing_if = "is_zero")]
    without_text: usize,
}

fn hex<S: serde::Serializer>(at: &u64, out: S) -> Result<S::Ok, S::Error> {
    out.collect_str(&format_args!("{at:#x}"))
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl Summary {
    pub(crate) fn of(log: &Log) -> Self {
        Self { form: log.form, at: log.at, records: log.records, without_text: log.without_text }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {:#x}: {} records", self.form, self.at, self.records)?;
        match self.without_text {
            0 => Ok(()),
            count => write!(f, ", {count} more without their text"),
        }
    }
}

#[derive(Serialize)]
struct CarvedRow {
    /// Which of the logs found.
    log: usize,
    #[serde(flatten)]
    record: Row,
}

impl Render for CarvedRow {
    type View = View;

    fn render(&self, view: &View, out: &mut dyn fmt::Write) -> fmt::Result {
        let Row(LogRecord { doubts, .. }) = &self.record;
        if doubts.is_empty() {
            return self.record.render(view, out);
        }
        let mut text = String::new();
        self.record.render(view, &mut text)?;
        let doubts: Vec<String> = doubts.iter().map(ToString::to_string).collect();
        writeln!(out, "{}   <-- {}", text.trim_end_matches('\n'), doubts.join(", "))
    }
}
