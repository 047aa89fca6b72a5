//! An instruction as a record.

use std::fmt;

use kdive_base::VirtAddr;
use serde::Serialize;

use crate::settings::Radix;
use crate::sink::Render;

/// An instruction.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    /// Source file and line, where they differ from those of the row before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) source: Option<String>,
    pub(super) address: VirtAddr,
    /// The symbol it lies in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) symbol: Option<String>,
    /// Bytes from the symbol's start.
    pub(super) offset: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) module: Option<String>,
    /// Its bytes in hexadecimal, with blanks between them.
    pub(super) bytes: String,
    /// Name and operands.
    pub(super) text: String,
    /// Where it goes to, or whom it calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) target: Option<VirtAddr>,
    /// The function's call of ftrace, switched off.
    pub(super) ftrace_nop: bool,
    /// What it refers to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) refs: Vec<Reference>,
}

/// Data that an instruction refers to.
#[derive(Debug, Serialize)]
pub(super) struct Reference {
    pub(super) address: VirtAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) string: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) symbol: Option<String>,
}

/// How rows are shown.
pub(super) struct View {
    /// Of offsets.
    pub(super) radix: Radix,
    /// Whether the bytes are shown.
    pub(super) bytes: bool,
}

impl Render for Row {
    type View = View;

    /// `0xffffffff81e45480 <vfs_read>:` and the instruction behind a tab.
    fn render(&self, view: &View, out: &mut dyn fmt::Write) -> fmt::Result {
        if let Some(source) = &self.source {
            writeln!(out, "{source}")?;
        }
        // What no symbol names is set in, as gdb does.
        let margin = if self.symbol.is_none() { "   " } else { "" };
        write!(out, "{margin}0x{:x}", self.address.0)?;
        match (&self.symbol, self.offset, view.radix) {
            (None, ..) => {}
            (Some(symbol), 0, _) => write!(out, " <{symbol}>")?,
            (Some(symbol), offset, Radix::Decimal) => write!(out, " <{symbol}+{offset}>")?,
            (Some(symbol), offset, Radix::Hexadecimal) => write!(out, " <{symbol}+{offset:#x}>")?,
        }
        out.write_str(":\t")?;
        if view.bytes {
            // gdb pads to seven bytes.
            write!(out, "{:<19}\t", self.bytes)?;
        }
        out.write_str(&self.text)?;
        if self.ftrace_nop {
            out.write_str(" [FTRACE NOP]")?;
        }
        for (index, reference) in self.refs.iter().enumerate() {
            let mark = if index == 0 && !self.text.contains(" # ") { "        #" } else { "" };
            write!(out, "{mark} {reference}")?;
        }
        out.write_char('\n')
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.string, &self.symbol) {
            (Some(string), _) => write!(f, "\"{string}\""),
            (None, Some(symbol)) => write!(f, "<{symbol}>"),
            (None, None) => write!(f, "0x{:x}", self.address.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        Row {
            source: None,
            address: VirtAddr(0xffff_ffff_95b4_cc50),
            symbol: Some("vfs_read".into()),
            offset: 0,
            module: None,
            bytes: "0f 1f 44 00 00".into(),
            text: "nopl   0x0(%rax,%rax,1)".into(),
            target: None,
            ftrace_nop: true,
            refs: Vec::new(),
        }
    }

    fn text(row: &Row, radix: Radix, bytes: bool) -> String {
        let mut text = String::new();
        row.render(&View { radix, bytes }, &mut text).unwrap();
        text
    }

    #[test]
    fn rows_are_crashs() {
        assert_eq!(
            text(&row(), Radix::Decimal, false),
            "0xffffffff95b4cc50 <vfs_read>:\tnopl   0x0(%rax,%rax,1) [FTRACE NOP]\n"
        );
        let later = Row {
            offset: 32,
            source: Some("fs/read_write.c: 450".into()),
            text: "mov    $0xffffffff82a49eb8,%rdi".into(),
            ftrace_nop: false,
            refs: vec![Reference { address: VirtAddr(1), string: Some("%s\\n".into()), symbol: None }],
            ..row()
        };
        assert_eq!(
            text(&later, Radix::Hexadecimal, true),
            "fs/read_write.c: 450\n0xffffffff95b4cc50 <vfs_read+0x20>:\t0f 1f 44 00 00     \t\
             mov    $0xffffffff82a49eb8,%rdi        # \"%s\\n\"\n"
        );
        let user = Row { symbol: None, ftrace_nop: false, ..row() };
        assert_eq!(text(&user, Radix::Decimal, false), "   0xffffffff95b4cc50:\tnopl   0x0(%rax,%rax,1)\n");
    }
}
