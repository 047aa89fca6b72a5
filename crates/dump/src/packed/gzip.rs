//! gzip (RFC 1952): one stream, or several one after the other.
//!
//! A stream has no places to begin at. One pass over the file keeps the decoder's state every few megabytes of what comes
//! out (with its window of 32 KiB, some 44 KiB each), and reading goes on from the nearest. Where the states would become
//! too many, every second one is dropped: memory stays within 24 MB however long the file is.

use std::io;
use std::sync::Arc;

use kdive_base::{Endian, ReadAt, Why};
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_HAS_MORE_INPUT;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

use super::{Decode, Unpacked, damaged, io_of, peeled};
use crate::OpenError;
use crate::formats::{Head, Peeled, Source, Wrapper};
use crate::window::Window;

pub(super) const WRAPPER: Wrapper = Wrapper { name: "gzip", recognises, peel };

const MAGIC: &[u8; 3] = b"\x1f\x8b\x08";
/// deflate looks back as far.
const WINDOW: usize = 32 << 10;
/// Input that is read at a time.
const AHEAD: usize = 64 << 10;
/// What comes out between two states, at first.
const MIN_SPACING: u64 = 1 << 20;
const MAX_STATES: usize = 512;
/// Name and comment of a member are no longer.
const MAX_HEADER: usize = 64 << 10;

fn recognises(head: &Head<'_>) -> bool {
    head.bytes.starts_with(MAGIC)
}

fn peel(source: &Source) -> Result<Peeled, OpenError> {
    let index = Index::build(&*source.data)
        .map_err(|error| OpenError::Io { name: source.name.clone(), source: error })?;
    let ends = index.states.iter().skip(1).map(|state| state.out).chain([index.bytes]).collect();
    let decoder = Gzip { file: Arc::clone(&source.data), states: index.states };
    peeled(source, WRAPPER.name, Unpacked::new(decoder, ends), index.warning)
}

/// A decoder between two bytes.
#[derive(Clone)]
struct State {
    inflater: Box<DecompressorOxide>,
    window: Box<[u8]>,
    /// Offset of the next byte to read.
    input: u64,
    /// Bytes that have come out.
    out: u64,
    /// Bytes that have come out of this member.
    member: u64,
    in_member: bool,
}

/// What a step of the decoder led to.
enum Step {
    /// Bytes came out, at this place of the window.
    Out(usize, usize),
    /// A member ended, with this checksum.
    Member(u32),
    /// The last member ended before.
    End,
    /// The file ends too early.
    Cut,
    /// The file makes no sense.
    Damaged,
}

impl State {
    fn new() -> Self {
        Self {
            inflater: Box::default(),
            window: vec![0; WINDOW].into_boxed_slice(),
            input: 0,
            out: 0,
            member: 0,
            in_member: false,
        }
    }

    fn step(&mut self, file: &mut Window<'_>) -> Result<Step, Why> {
        if !self.in_member {
            return self.header(file);
        }
        let at = (self.member & (WINDOW as u64).wrapping_sub(1)) as usize;
        let more = file.file_len() > self.input.saturating_add(AHEAD as u64);
        let input = file.get(self.input, AHEAD)?;
        let flags = if more { TINFL_FLAG_HAS_MORE_INPUT } else { 0 };
        let (status, read, written) = decompress(&mut self.inflater, input, &mut self.window, at, flags);
        self.input = self.input.saturating_add(read as u64);
        self.out = self.out.saturating_add(written as u64);
        self.member = self.member.saturating_add(written as u64);
        match status {
            // What came out before an end or an error counts; the next step meets it again.
            _ if written > 0 => Ok(Step::Out(at, written)),
            TINFLStatus::Done => self.trailer(file),
            TINFLStatus::NeedsMoreInput if read > 0 => Ok(Step::Out(at, 0)),
            TINFLStatus::NeedsMoreInput | TINFLStatus::FailedCannotMakeProgress => Ok(Step::Cut),
            _ => Ok(Step::Damaged),
        }
    }

    fn trailer(&mut self, file: &mut Window<'_>) -> Result<Step, Why> {
        let Some(sum) = Endian::Little.u32(file.get(self.input, 8)?, 0) else { return Ok(Step::Cut) };
        self.input = self.input.saturating_add(8);
        self.in_member = false;
        Ok(Step::Member(sum))
    }

    /// The header of a member: flags, time, and what the flags announce.
    fn header(&mut self, file: &mut Window<'_>) -> Result<Step, Why> {
        let bytes = file.get(self.input, MAX_HEADER)?;
        // Tapes pad with zeros.
        if !bytes.starts_with(MAGIC) {
            let at_end = bytes.is_empty() || self.input > 0 && bytes.iter().all(|&byte| byte == 0);
            return Ok(if at_end { Step::End } else { Step::Damaged });
        }
        let Some(length) = header_length(bytes) else { return Ok(Step::Cut) };
        self.input = self.input.saturating_add(length as u64);
        *self.inflater = DecompressorOxide::default();
        self.member = 0;
        self.in_member = true;
        Ok(Step::Out(0, 0))
    }
}

fn header_length(bytes: &[u8]) -> Option<usize> {
    let flags = *bytes.get(3)?;
    let mut at = 10_usize;
    if flags & 4 != 0 {
        at = at.checked_add(2)?.checked_add(Endian::Little.u16(bytes, at)?.into())?;
    }
    for text in [8, 16] {
        if flags & text != 0 {
            at = at.checked_add(bytes.get(at..)?.iter().position(|&byte| byte == 0)?)?.checked_add(1)?;
        }
    }
    if flags & 2 != 0 {
        at = at.checked_add(2)?;
    }
    (at <= bytes.len()).then_some(at)
}

/// What one pass over the file finds.
struct Index {
    states: Vec<State>,
    /// Bytes that come out in all.
    bytes: u64,
    warning: Option<String>,
}

impl Index {
    fn build(file: &dyn ReadAt) -> io::Result<Self> {
        let mut window = Window::new(file, AHEAD);
        let mut state = State::new();
        let mut states = vec![state.clone()];
        let mut spacing = MIN_SPACING;
        let mut sum = flate2::Crc::new();
        let warning = loop {
            let last = states.last().map_or(0, |state| state.out);
            if state.out.saturating_sub(last) >= spacing {
                if states.len() >= MAX_STATES {
                    let mut index = 0_usize;
                    states.retain(|_| {
                        index = index.wrapping_add(1);
                        index & 1 == 1
                    });
                    spacing = spacing.saturating_mul(2);
                }
                states.push(state.clone());
            }
            match state.step(&mut window).map_err(io_of)? {
                Step::Out(at, count) => {
                    sum.update(state.window.get(at..at.saturating_add(count)).unwrap_or_default());
                }
                Step::Member(expected) if expected == sum.sum() => sum.reset(),
                Step::Member(_) => {
                    sum.reset();
                    break Some("gzip: the checksum is wrong: some of it is damaged".to_owned());
                }
                Step::End => break None,
                Step::Cut => {
                    break Some(format!(
                        "truncated: the gzip file ends at {} bytes without its end",
                        file.len()
                    ));
                }
                Step::Damaged => {
                    break Some(format!(
                        "the gzip file is damaged at {:#x}: what follows is lost",
                        state.input
                    ));
                }
            }
        };
        Ok(Self { states, bytes: state.out, warning })
    }
}

struct Gzip {
    file: Arc<dyn ReadAt>,
    states: Vec<State>,
}

impl Decode for Gzip {
    fn decode(&self, piece: usize, bytes: usize) -> io::Result<Vec<u8>> {
        let mut state = self.states.get(piece).cloned().ok_or_else(|| damaged("no such piece"))?;
        let mut window = Window::new(&*self.file, AHEAD);
        let mut data = Vec::with_capacity(bytes);
        while data.len() < bytes {
            match state.step(&mut window).map_err(io_of)? {
                Step::Out(at, count) => {
                    data.extend_from_slice(
                        state.window.get(at..at.saturating_add(count)).unwrap_or_default(),
                    );
                }
                Step::Member(_) => {}
                _ => return Err(damaged("the gzip file has changed")),
            }
        }
        data.truncate(bytes);
        Ok(data)
    }
}
