//! What was found, as crash shows it.

use std::fmt;

use kdive_base::{VirtAddr, VirtualMemory};
use kdive_target::Kernel;
use serde::Serialize;

use super::pattern::{Hit, Pattern};
use super::query::Query;
use crate::rd::rows::{self, Range, Row, View};
use crate::render::TaskLine;
use crate::sink::Render;

/// Characters that are shown of a text.
const TEXT: usize = 56;

/// One match.
#[derive(Serialize)]
pub(super) struct Shown {
    address: VirtAddr,
    /// The number found.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<VirtAddr>,
    /// The symbol or expression whose value it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// The text found and what follows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// The numbers before it, with `-x`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    before: Vec<Row>,
    /// The numbers behind it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    after: Vec<Row>,
    /// Bytes of a number.
    #[serde(skip)]
    size: usize,
}

impl Shown {
    pub(super) fn new(kernel: &Kernel, query: &Query, memory: &dyn VirtualMemory, hit: &Hit) -> Self {
        let size = query.size;
        let mut shown = Self {
            address: VirtAddr(hit.at),
            value: None,
            name: None,
            text: None,
            before: Vec::new(),
            after: Vec::new(),
            size,
        };
        if let Pattern::Texts(_) = query.pattern {
            let mut bytes = [0; TEXT];
            let (count, _) = memory.read(VirtAddr(hit.at), &mut bytes);
            shown.text = Some(bytes.iter().take(count).map(|&byte| rows::printable(byte)).collect());
            return shown;
        }
        shown.value = Some(VirtAddr(hit.value));
        shown.name = query.names.get(hit.which).cloned().flatten();
        if let Some(count) = query.context {
            let bytes = count.saturating_mul(size as u64);
            let start = hit.at.saturating_sub(bytes);
            shown.before = context(kernel, memory, start, hit.at.saturating_sub(start), size);
            shown.after = context(kernel, memory, hit.at.saturating_add(size as u64), bytes, size);
        }
        shown
    }
}

/// Rows of the numbers in a range. Gaps in it are marked in the rows, and are none of the search.
fn context(kernel: &Kernel, memory: &dyn VirtualMemory, start: u64, bytes: u64, size: usize) -> Vec<Row> {
    let mut range = Range::new(kernel, memory, start, bytes, &View::plain(size));
    std::iter::from_fn(|| range.next_row()).collect()
}

impl Render for Shown {
    /// Whether numbers around it are shown.
    type View = bool;
    fn render(&self, context: &bool, out: &mut dyn fmt::Write) -> fmt::Result {
        let view = View::plain(self.size.max(1));
        self.before.iter().try_for_each(|row| row.render(&view, out))?;
        match context {
            true => write!(out, "{:>16x}:  ", self.address.0)?,
            false => write!(out, "{:x}: ", self.address.0)?,
        }
        match (&self.value, &self.name, &self.text) {
            (_, _, Some(text)) => writeln!(out, "{text}")?,
            (Some(value), Some(name), None) => writeln!(out, "{:x} ({name})", value.0)?,
            (Some(value), None, None) => writeln!(out, "{:x} ", value.0)?,
            (None, ..) => writeln!(out)?,
        }
        self.after.iter().try_for_each(|row| row.render(&view, out))?;
        if *context { writeln!(out) } else { Ok(()) }
    }
}

/// The matches on a task's stack.
#[derive(Serialize)]
pub(super) struct TaskHits {
    #[serde(flatten)]
    pub(super) task: TaskLine,
    pub(super) found: Vec<Shown>,
}

pub(super) struct TaskView {
    /// Whether numbers around each match are shown.
    pub(super) context: bool,
    /// Whether it is the first task.
    pub(super) first: bool,
}

impl Render for TaskHits {
    type View = TaskView;
    fn render(&self, view: &TaskView, out: &mut dyn fmt::Write) -> fmt::Result {
        if !view.first {
            writeln!(out)?;
        }
        writeln!(out, "{}", self.task)?;
        self.found.iter().try_for_each(|found| found.render(&view.context, out))
    }
}
