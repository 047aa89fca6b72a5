//! `rd -a`: the text in memory.

use std::fmt;

use kdive_base::{Missing, VirtAddr, VirtualMemory};
use kdive_target::Lacks;
use serde::Serialize;

use crate::command::CommandError;
use crate::cx::Cx;
use crate::sink::{Render, Sink, SinkExt};

/// Characters of a line.
const LINE: usize = 60;
const BLOCK: u64 = 4096;

#[derive(Serialize)]
struct Line {
    /// Address of its first character.
    address: VirtAddr,
    text: String,
}

impl Render for Line {
    type View = ();
    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "{:>16x}:  {}", self.address.0, self.text)
    }
}

/// Shows the text at an address: all of it in `bytes` bytes, or up to the first byte that is no text.
pub(super) fn show(
    cx: &mut Cx,
    memory: &dyn VirtualMemory,
    start: u64,
    bytes: Option<u64>,
    out: &mut dyn Sink,
) -> Result<(), CommandError> {
    let mut line = Line { address: VirtAddr(start), text: String::new() };
    let mut left = bytes.unwrap_or(u64::MAX).min((u64::MAX - start).saturating_add(1));
    let mut at = VirtAddr(start);
    while left > 0 {
        cx.cancel.check()?;
        let mut block = vec![0; BLOCK.min(left) as usize];
        let (count, missing) = memory.read(at, &mut block);
        for byte in block.iter().take(count) {
            let is_text = (0x20..0x7f).contains(byte);
            if !line.text.is_empty() && (!is_text || line.text.len() == LINE) {
                out.row(&line, &())?;
                line.text.clear();
            }
            if !is_text && bytes.is_none() {
                return Ok(());
            }
            if is_text {
                if line.text.is_empty() {
                    line.address = at;
                }
                line.text.push(char::from(*byte));
            }
            at = at.add(1);
        }
        left -= count as u64;
        if let Some(missing) = missing {
            return end(cx, missing, at == VirtAddr(start), line, out);
        }
    }
    if !line.text.is_empty() {
        out.row(&line, &())?;
    }
    Ok(())
}

/// Text ends where memory does.
fn end(
    cx: &mut Cx,
    missing: Missing,
    at_once: bool,
    line: Line,
    out: &mut dyn Sink,
) -> Result<(), CommandError> {
    if at_once {
        return Err(Lacks::from(missing).into());
    }
    if !line.text.is_empty() {
        out.row(&line, &())?;
    }
    cx.gaps.note("memory", missing.why, Some(missing.address.to_string()));
    Ok(())
}
