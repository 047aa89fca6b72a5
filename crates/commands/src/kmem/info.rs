//! `kmem -i`: memory in numbers.

use std::fmt;

use kdive_base::PAGE_SIZE;
use kdive_linux::meminfo::{self, MemInfo};
use kdive_target::{Field, Lacks};
use serde::Serialize;

use crate::args::{Args, UsageError};
use crate::command::CommandError;
use crate::cx::Cx;
use crate::render::{Known, in_unit};
use crate::sink::{Render, Sink, SinkExt};

/// A line of the table.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Row {
    name: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pages: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    /// The share of another line, which is named: none for the lines that others are parts of.
    #[serde(skip_serializing_if = "Option::is_none")]
    percent: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    of: Option<&'static str>,
    /// The first line of a paragraph.
    #[serde(skip)]
    first: bool,
}

impl Render for Row {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        if self.first {
            writeln!(out)?;
        }
        let size = self.bytes.map(in_unit);
        write!(out, "{:>13}{:>9}{:>13}", self.name, Known(self.pages), Known(size))?;
        match self.of {
            None => writeln!(out, "         ----"),
            Some(of) => writeln!(out, "{:>5}% of {of}", Known(self.percent)),
        }
    }
}

impl Row {
    /// A line; `of` is the line that it is a part of, with its pages.
    fn new(name: &'static str, pages: Option<u64>, of: Option<(Option<u64>, &'static str)>) -> Self {
        let share = |(whole, _): (Option<u64>, _)| {
            let percent = u128::from(pages?) * 100 / u128::from(whole?).max(1);
            Some(u64::try_from(percent).unwrap_or(u64::MAX))
        };
        Self {
            name,
            pages,
            bytes: pages.map(|pages| pages.saturating_mul(PAGE_SIZE)),
            percent: of.and_then(share),
            of: of.map(|(_, name)| name),
            first: false,
        }
    }

    fn begins_paragraph(self) -> Self {
        Self { first: true, ..self }
    }
}

pub(super) fn show(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let info = MemInfo::find(&kernel);
    let shared = match args.value("-i") {
        None => None,
        Some("=shared") => Some(meminfo::shared(&kernel)),
        Some(other) => return Err(UsageError::new("kmem", format!("-i{other}: only -i=shared")).into()),
    };
    out.heading(&format!("{:>22}{:>13}{:>16}\n", "PAGES", "TOTAL", "PERCENTAGE"))?;
    for row in rows(cx, &info, shared) {
        cx.cancel.check()?;
        out.row(&row, &())?;
    }
    Ok(())
}

/// The lines in the order of crash.
fn rows(cx: &mut Cx, info: &MemInfo, shared: Option<Field<u64>>) -> Vec<Row> {
    let huge = |part: fn((u64, u64)) -> u64| info.huge.clone().map(part).or_else(without_huge_pages);
    let total = known(cx, "TOTAL MEM", info.total.clone());
    let of = Some((total, "TOTAL MEM"));
    let mut rows = vec![Row::new("TOTAL MEM", total, None)];
    let mut part = |cx: &mut Cx, name, pages| rows.push(Row::new(name, known(cx, name, pages), of));
    part(cx, "FREE", info.free.clone());
    part(cx, "USED", info.used());
    if let Some(shared) = shared {
        part(cx, "SHARED", shared);
    }
    part(cx, "BUFFERS", info.buffers.clone());
    part(cx, "CACHED", info.cached.clone());
    part(cx, "SLAB", info.slab.clone());
    let total = known(cx, "TOTAL HUGE", huge(|(total, _)| total));
    let free = known(cx, "HUGE FREE", huge(|(_, free)| free));
    rows.push(Row::new("TOTAL HUGE", total, None).begins_paragraph());
    rows.push(Row::new("HUGE FREE", free, Some((total, "TOTAL HUGE"))));
    let total = known(cx, "TOTAL SWAP", info.swap_total.clone());
    rows.push(Row::new("TOTAL SWAP", total, None).begins_paragraph());
    let (used, free) = (info.swap_used(), info.swap_free.clone());
    rows.push(Row::new("SWAP USED", known(cx, "SWAP USED", used), Some((total, "TOTAL SWAP"))));
    rows.push(Row::new("SWAP FREE", known(cx, "SWAP FREE", free), Some((total, "TOTAL SWAP"))));
    let limit = known(cx, "COMMIT LIMIT", info.commit_limit.clone());
    rows.push(Row::new("COMMIT LIMIT", limit, None).begins_paragraph());
    let committed = known(cx, "COMMITTED", info.committed.clone());
    rows.push(Row::new("COMMITTED", committed, Some((limit, "TOTAL LIMIT"))));
    rows
}

fn known(cx: &mut Cx, what: &str, pages: Field<u64>) -> Option<u64> {
    cx.known(pages, what, String::new)
}

/// A kernel built without huge pages has none.
fn without_huge_pages(lacks: Lacks) -> Field<u64> {
    match lacks {
        Lacks::Symbol(_) => Ok(0),
        lacks => Err(lacks),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(row: &Row) -> String {
        let mut text = String::new();
        row.render(&(), &mut text).unwrap();
        text
    }

    #[test]
    fn lines_are_crashs() {
        let row = Row::new("TOTAL MEM", Some(118_679), None);
        assert_eq!(line(&row), "    TOTAL MEM   118679     463.6 MB         ----\n");
        let row = Row::new("BUFFERS", Some(12), Some((Some(118_679), "TOTAL MEM")));
        assert_eq!(line(&row), "      BUFFERS       12        48 KB    0% of TOTAL MEM\n");
        let row = Row::new("TOTAL HUGE", Some(0), None).begins_paragraph();
        assert_eq!(line(&row), "\n   TOTAL HUGE        0            0         ----\n");
        let row = Row::new("HUGE FREE", None, Some((Some(0), "TOTAL HUGE")));
        assert_eq!(line(&row), "    HUGE FREE        ?            ?    ?% of TOTAL HUGE\n");
    }

    #[test]
    fn nothing_of_nothing_is_no_share() {
        assert_eq!(Row::new("HUGE FREE", Some(0), Some((Some(0), "TOTAL HUGE"))).percent, Some(0));
        assert_eq!(Row::new("FREE", Some(u64::MAX), Some((Some(2), "TOTAL MEM"))).percent, Some(u64::MAX));
    }
}
