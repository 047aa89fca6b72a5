//! Lines of source as gdb and crash show them.

use std::fmt;

use kdive_base::VirtAddr;
use serde::Serialize;

use crate::sink::Render;

/// Which line an address is of.
#[derive(Debug, Serialize)]
pub(super) struct Heading {
    pub(super) address: VirtAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) function: Option<String>,
    pub(super) file: String,
    pub(super) line: u32,
}

impl Render for Heading {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let Self { address, function, file, line } = self;
        match function {
            Some(function) => writeln!(out, "0x{:x} is in {function} ({file}:{line}).", address.0),
            None => writeln!(out, "0x{:x} is at {file}:{line}.", address.0),
        }
    }
}

/// File and line, as `dis -s` begins.
#[cfg(feature = "disassemble")]
#[derive(Debug, Serialize)]
pub(super) struct FileLine {
    pub(super) file: String,
    pub(super) line: u32,
}

#[cfg(feature = "disassemble")]
impl Render for FileLine {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "FILE: {}\nLINE: {}\n", self.file, self.line)
    }
}

/// How lines are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// Number, tab, text.
    Gdb,
    /// Two columns for an asterisk before the line that was meant, as `dis -s` shows it.
    #[cfg_attr(not(feature = "disassemble"), allow(dead_code))]
    Marked,
}

/// A line of a source file.
#[derive(Debug, Serialize)]
pub(super) struct Line {
    pub(super) line: u32,
    pub(super) text: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) marked: bool,
}

impl Render for Line {
    type View = Style;

    fn render(&self, style: &Style, out: &mut dyn fmt::Write) -> fmt::Result {
        let Self { line, text, marked } = self;
        match style {
            Style::Gdb => writeln!(out, "{line}\t{text}"),
            Style::Marked => writeln!(out, "{} {line}\t{text}", if *marked { '*' } else { ' ' }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text<R: Render>(record: &R, view: &R::View) -> String {
        let mut text = String::new();
        record.render(view, &mut text).unwrap();
        text
    }

    #[test]
    fn lines_are_gdbs_and_crashs() {
        let heading = Heading {
            address: VirtAddr(0xffff_ffff_8015_3f77),
            function: Some("list_del".into()),
            file: "lib/list_debug.c".into(),
            line: 62,
        };
        assert_eq!(text(&heading, &()), "0xffffffff80153f77 is in list_del (lib/list_debug.c:62).\n");
        let line = Line { line: 62, text: "\tif (x)".into(), marked: true };
        assert_eq!(text(&line, &Style::Gdb), "62\t\tif (x)\n");
        assert_eq!(text(&line, &Style::Marked), "* 62\t\tif (x)\n");
        assert_eq!(text(&Line { marked: false, ..line }, &Style::Marked), "  62\t\tif (x)\n");
    }
}
