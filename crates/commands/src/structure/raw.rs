//! The words of a record, as `rd` shows memory (`-r`).

use std::fmt;

use kdive_base::{VirtAddr, VirtualMemory};
use serde::Serialize;

use super::operands::Place;
use super::shape::Shape;
use crate::command::CommandError;
use crate::cx::Cx;
use crate::sink::{Render, Sink, SinkExt};

/// Bytes in one line.
const LINE: usize = 16;

#[derive(Serialize)]
struct Words {
    address: VirtAddr,
    /// Hexadecimal, a word each.
    words: Vec<String>,
    #[serde(skip)]
    ascii: String,
    /// Characters of a full line's words.
    #[serde(skip)]
    width: usize,
}

impl Render for Words {
    type View = ();
    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "{}:  {:<3$}   {}", self.address, self.words.join(" "), self.ascii, self.width)
    }
}

/// The record's bytes, or each chosen member's, in words of the largest size that divides them.
pub(super) fn show(
    cx: &mut Cx,
    shape: &Shape,
    memory: &dyn VirtualMemory,
    place: Place,
    out: &mut dyn Sink,
) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let types = shape.types(&kernel)?;
    let members = shape
        .members
        .iter()
        .map(|member| (member.at.byte_offset(), types.size_of(member.at.of).unwrap_or(0)));
    let parts: Vec<(u64, u64)> = match shape.members.is_empty() {
        true => vec![(0, shape.bytes)],
        false => members.collect(),
    };
    for (offset, bytes) in parts {
        part(cx, shape, memory, place.at.add(offset), bytes, out)?;
    }
    Ok(())
}

fn part(
    cx: &mut Cx,
    shape: &Shape,
    memory: &dyn VirtualMemory,
    at: VirtAddr,
    bytes: u64,
    out: &mut dyn Sink,
) -> Result<(), CommandError> {
    let word = [8, 4, 2, 1].into_iter().find(|size| bytes.is_multiple_of(*size as u64)).unwrap_or(1);
    let mut done = 0;
    while done < bytes {
        cx.cancel.check()?;
        let here = at.add(done);
        let mut line = [0; LINE];
        let wanted = (bytes.saturating_sub(done) as usize).min(LINE);
        let Some(into) = line.get_mut(..wanted) else { break };
        match memory.read_exact(here, into) {
            Ok(()) => out.row(&words(here, into, word), &())?,
            Err(missing) => cx.lacks(&missing.into(), &shape.name, || here.to_string()),
        }
        done = done.saturating_add(LINE as u64);
    }
    Ok(())
}

fn words(address: VirtAddr, bytes: &[u8], size: usize) -> Words {
    let hexadecimal = |word: &[u8]| word.iter().rev().map(|byte| format!("{byte:02x}")).collect();
    let shown = |byte: &u8| if (b' '..=b'~').contains(byte) { char::from(*byte) } else { '.' };
    Words {
        address,
        width: LINE
            .checked_div(size)
            .unwrap_or(1)
            .saturating_mul(size.saturating_mul(2).saturating_add(1))
            .saturating_sub(1),
        words: bytes.chunks(size).map(hexadecimal).collect(),
        ascii: bytes.iter().map(shown).collect(),
    }
}
