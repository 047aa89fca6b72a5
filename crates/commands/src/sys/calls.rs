//! The table of system calls.

use std::fmt;

use kdive_base::VirtAddr;
use kdive_linux::system::{Syscall, syscalls};
use kdive_target::Kernel;
use serde::Serialize;

use crate::args::UsageError;
use crate::command::CommandError;
use crate::cx::Cx;
use crate::operand;
use crate::render::Known;
use crate::settings::Radix;
use crate::sink::{Render, Sink, SinkExt};
use crate::source_lines;

#[derive(Serialize)]
struct CallRow {
    number: u32,
    handler: VirtAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
}

impl CallRow {
    fn new(kernel: &Kernel, call: Syscall) -> Self {
        // Where no debuginfo was given, no lines are expected either.
        let place = source_lines::place(kernel, call.handler).ok().flatten();
        let line = place.as_ref().map(|place| place.line).filter(|line| *line > 0);
        Self {
            number: call.number,
            handler: call.handler,
            name: kernel.place(call.handler).map(|place| place.to_string()),
            file: place.map(|place| place.file),
            line,
        }
    }
}

impl Render for CallRow {
    type View = Radix;

    fn render(&self, radix: &Radix, out: &mut dyn fmt::Write) -> fmt::Result {
        match radix {
            Radix::Decimal => write!(out, "{:>3}", self.number)?,
            Radix::Hexadecimal => write!(out, "{:>3x}", self.number)?,
        }
        let name = Known(self.name.as_ref());
        match (&self.file, self.line) {
            (Some(file), Some(line)) => writeln!(out, "  {name:<26} ../{file}: {line}"),
            _ => writeln!(out, "  {name}"),
        }
    }
}

/// All system calls, those whose name contains the word, or the one with the number.
pub(super) fn show(cx: &mut Cx, words: &[&str], out: &mut dyn Sink) -> Result<(), CommandError> {
    let word = match words {
        [] => None,
        [word] => Some(*word),
        _ => return Err(UsageError::new("sys", "-c takes one name or number").into()),
    };
    let kernel = cx.kernel.clone();
    let number = word.and_then(operand::number);
    let named = |call: &Syscall, part: &str| {
        kernel.place(call.handler).is_some_and(|place| place.symbol.name.contains(part))
    };
    let wanted = |call: &Syscall| match (number, word) {
        (Some(number), _) => u64::from(call.number) == number,
        (None, Some(part)) => named(call, part),
        (None, None) => true,
    };
    let mut any = false;
    for call in syscalls(&kernel)?.into_iter().filter(wanted) {
        cx.cancel.check()?;
        if !any {
            out.heading("NUM  SYSTEM CALL                FILE AND LINE NUMBER\n")?;
        }
        any = true;
        out.row(&CallRow::new(&kernel, call), &cx.settings.radix)?;
    }
    match word {
        Some(word) if !any => Err(CommandError::not_found(format!("sys: {word} is no system call"))),
        _ => Ok(()),
    }
}
