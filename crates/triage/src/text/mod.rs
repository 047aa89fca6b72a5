//! Reads a case out of text: a console log, `dmesg`, `vmcore-dmesg.txt`, a pasted session of crash.
//!
//! ```text
//!   bytes ─▶ phrases ─▶ lines ─▶ session ─┬─▶ interleave ─▶ splat ─┐
//!            (skips)             (crash)  ├─▶ events, system, end ─┴─▶ Case
//! ```
//!
//! A log is mostly of no interest. One automaton over all phrases that begin something finds where to look; the rest is
//! never split into lines. Only while a complaint is open, or in a session of crash, every line is read.

mod assemble;
mod code;
mod context;
mod events;
mod interleave;
mod lines;
mod memory;
mod modules;
mod openings;
mod registers;
mod scan;
mod session;
mod splat;
mod system;
mod trace;
mod trigger;

use std::io;

use kdive_base::ReadAt;
use kdive_evidence::LogRecord;

use self::assemble::Boots;
use self::lines::Line;
use crate::case::Case;

/// Bytes that are read at once.
const CHUNK: usize = 1 << 20;
/// Bytes of one line: longer ones are no log, and are read in pieces.
const LONGEST_LINE: usize = 8 << 10;

/// Reads a case out of text of any length.
///
/// # Errors
///
/// When the input cannot be read.
pub fn read(input: &dyn ReadAt) -> io::Result<Case<'static>> {
    let mut reader = Reader::new();
    let mut buffer = vec![0; CHUNK];
    let mut offset = 0_u64;
    loop {
        let count = input.read_full_at(offset, &mut buffer)?;
        let Some(chunk) = buffer.get(..count).filter(|chunk| !chunk.is_empty()) else { break };
        reader.push(chunk);
        offset = offset.saturating_add(count as u64);
    }
    Ok(reader.finish())
}

/// Reads a case out of text that is in memory.
#[must_use]
pub fn read_bytes(text: &[u8]) -> Case<'static> {
    let mut reader = Reader::new();
    reader.push(text);
    reader.finish()
}

/// Reads a case out of the records of a kernel's log.
pub fn read_records<'r>(records: impl IntoIterator<Item = &'r LogRecord>) -> Case<'static> {
    let mut reader = Reader::new();
    for record in records {
        for text in record.text.split('\n') {
            reader.boots.line(&Line::record(text, record.time_ns, record.caller.as_deref()));
        }
    }
    reader.finish()
}

/// Reads text piece by piece.
#[derive(Debug, Default)]
pub struct Reader {
    boots: Boots,
    /// A line whose end has not come.
    rest: Vec<u8>,
}

impl Reader {
    /// One that has read nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads on.
    pub fn push(&mut self, mut chunk: &[u8]) {
        if !self.rest.is_empty() {
            let end = memchr::memchr(b'\n', chunk).map_or(chunk.len(), |end| end.saturating_add(1));
            let (head, tail) = chunk.split_at_checked(end).unwrap_or((chunk, &[]));
            self.rest.extend_from_slice(head);
            chunk = tail;
            if self.rest.ends_with(b"\n") || self.rest.len() > LONGEST_LINE {
                let whole = std::mem::take(&mut self.rest);
                self.block(&whole);
            }
        }
        let end = memchr::memrchr(b'\n', chunk).map_or(0, |end| end.saturating_add(1));
        let (whole, rest) = chunk.split_at_checked(end).unwrap_or((chunk, &[]));
        self.block(whole);
        self.rest.extend_from_slice(rest);
        if self.rest.len() > LONGEST_LINE {
            let whole = std::mem::take(&mut self.rest);
            self.block(&whole);
        }
    }

    /// What was read.
    #[must_use]
    pub fn finish(mut self) -> Case<'static> {
        let rest = std::mem::take(&mut self.rest);
        self.block(&rest);
        self.boots.finish()
    }

    /// Reads whole lines.
    fn block(&mut self, mut block: &[u8]) {
        // Colours and typography may stand within a phrase: then each line is cleaned before it is looked at.
        let plain = block.is_ascii() && memchr::memchr(0x1b, block).is_none();
        while !block.is_empty() {
            if plain && !self.boots.is_busy() {
                let Some(at) = openings::next_in(block) else { return };
                let start = block.get(..at).and_then(|before| memchr::memrchr3(b'\n', b'\r', 0, before));
                let start =
                    start.map_or(0, |start| start.saturating_add(1)).max(at.saturating_sub(LONGEST_LINE / 2));
                block = block.get(start..).unwrap_or_default();
            }
            let end = line_end(block);
            let (line, rest) = block.split_at_checked(end).unwrap_or((block, &[]));
            block = rest;
            if self.boots.is_busy() || may_matter(line) {
                self.boots.line(&Line::new(line));
            }
        }
    }
}

/// Whether a line that nothing waits for has a phrase, or could have one once it is cleaned: bytes that are no text at all
/// have none behind their damage.
fn may_matter(line: &[u8]) -> bool {
    let damaged = || !line.is_ascii() || memchr::memchr2(0x1b, b'#', line).is_some();
    openings::next_in(line).is_some() || damaged() && std::str::from_utf8(line).is_ok()
}

/// Where the next line begins: behind a line feed, carriage returns, zeroes, or where it is longer than a line can be.
fn line_end(block: &[u8]) -> usize {
    let head = block.get(..LONGEST_LINE).unwrap_or(block);
    let Some(mut end) = memchr::memchr3(b'\n', b'\r', 0, head) else { return head.len() };
    // CR LF, and what serial lines make of it, is one end.
    while block.get(end) == Some(&b'\r') {
        end = end.saturating_add(1);
    }
    if matches!(block.get(end), Some(b'\n' | 0)) {
        end = end.saturating_add(1);
    }
    end
}

#[cfg(test)]
mod tests;
