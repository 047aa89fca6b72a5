//! AVML version 2: ranges as in LiME, each compressed in snappy's framing format.
//!
//! After the header of a range come the frames, then the length of the frames as a little-endian u64. The only way to the
//! next range is along the frames. Each frame holds up to 64 KiB: u8 type, u24 length; of data frames a CRC-32C, then the
//! bytes, raw or compressed, which begin with their uncompressed length as a varint (snappy's framing_format.txt). Ranges
//! that were all zero are left out, so a hole may be zeros.

use std::io::Read;
use std::sync::Arc;

use kdive_base::{Endian, Missing, PhysAddr, ReadAt, Why};

use crate::cache::{Cache, PAGE_BUDGET};
use crate::extents::{Extent, Extents};
use crate::facts::Facts;
use crate::formats::{Format, Head, Source, single};
use crate::lime::{HEADER_BYTES, RangeHeader, check_not_empty};
use crate::memory::{PhysicalMemory, Run, RunState, read_in_pieces};
use crate::notes::Notes;
use crate::open::Opened;
use crate::window::Window;
use crate::{Hints, OpenError};

pub(crate) const FORMAT: Format = Format { name: "AVML", recognises, open };

const MAGIC: u32 = 0x4c4d_5641;
const VERSION: u32 = 2;
/// Uncompressed bytes of a frame at most, by snappy's framing format.
const MAX_FRAME: usize = 64 << 10;
/// A compressed frame is longer than what it holds in the worst case (snappy's `MaxCompressedLength`), plus the CRC.
const MAX_PACKED: usize = 32 + MAX_FRAME + MAX_FRAME / 6 + 4;
const STREAM_IDENTIFIER: &[u8; 10] = b"\xff\x06\0\0sNaPpY";
const COMPRESSED: u8 = 0;
const UNCOMPRESSED: u8 = 1;
/// Frame types that a reader must not skip (2 to 0x7f).
const UNSKIPPABLE: std::ops::RangeInclusive<u8> = 2..=0x7f;

fn recognises(head: &Head<'_>) -> bool {
    RangeHeader::parse(head.bytes).is_some_and(|header| (header.magic, header.version) == (MAGIC, VERSION))
}

fn open(sources: &[Source], hints: &Hints) -> Result<Opened, OpenError> {
    let source = single(sources, FORMAT.name)?;
    let mut index = Index::default();
    let warning = match index.walk(&*source.data) {
        Ok(()) => None,
        Err(Stop::Io(kind)) => return Err(OpenError::Io { name: source.name.clone(), source: kind.into() }),
        Err(Stop::Cut) => {
            Some(format!("truncated: the file ends at {} bytes, inside a range", source.data.len()))
        }
        Err(Stop::Damaged(at)) => Some(format!("damaged at {at:#x}: what follows is lost")),
    };
    let facts = Facts {
        format: FORMAT.name,
        version: Some(VERSION),
        wrappers: source.wrappers.clone(),
        compression: vec!["snappy"],
        warnings: warning.into_iter().collect(),
        ..Facts::default()
    };
    let frames = Extents::overlay(index.extents);
    check_not_empty(source, FORMAT.name, &frames)?;
    let memory = AvmlMemory {
        file: Arc::clone(&source.data),
        frames,
        decoded: Cache::new(PAGE_BUDGET / MAX_FRAME),
        zero_excluded: hints.zero_excluded,
    };
    Ok(Opened::new(Arc::new(memory), facts, Notes::default()))
}

/// Why the walk along the frames stopped early.
enum Stop {
    Io(std::io::ErrorKind),
    Cut,
    Damaged(u64),
}

impl From<Why> for Stop {
    fn from(why: Why) -> Self {
        match why {
            Why::Io(kind) => Self::Io(kind),
            _ => Self::Cut,
        }
    }
}

/// What one walk over the file finds: an extent of memory for each data frame. Its offset is that of the frame; of a part
/// of it that is left where ranges overlap, it is moved by as much as the part's start.
#[derive(Default)]
struct Index {
    extents: Vec<Extent<Frame>>,
}

/// What holds an extent of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Frame {
    /// A frame that begins at this offset of the file and at this address.
    At { offset: u64, start: u64 },
    /// Nothing: the file was cut or damaged before.
    Lost(Why),
}

impl Index {
    fn walk(&mut self, file: &dyn ReadAt) -> Result<(), Stop> {
        let mut window = Window::new(file, 16);
        let mut at = 0_u64;
        while at < file.len() {
            let header = RangeHeader::parse(window.exact(at, HEADER_BYTES)?)
                .filter(|header| (header.magic, header.version) == (MAGIC, VERSION))
                .ok_or(Stop::Damaged(at))?;
            let (start, end) = (header.start, header.start.saturating_add(header.bytes));
            let mut done = start;
            let frames = self.range(&mut window, at.saturating_add(HEADER_BYTES as u64), &mut done, end);
            at = frames.inspect_err(|stop| {
                let why = if matches!(stop, Stop::Damaged(_)) {
                    Why::Corrupt("snappy frame")
                } else {
                    Why::BeyondFileEnd
                };
                self.extents.push(Extent { start: done, end, offset: 0, tag: Frame::Lost(why) });
            })?;
            at = at.saturating_add(8); // The length of the frames: the walk has just told it.
        }
        Ok(())
    }

    /// Notes the frames at `at` until they have filled the memory from `done` to `end`. Returns where they stop.
    fn range(&mut self, window: &mut Window<'_>, mut at: u64, done: &mut u64, end: u64) -> Result<u64, Stop> {
        let file_len = window.file_len();
        while *done < end {
            let (kind, length) = frame_header(window.exact(at, 4)?).ok_or(Stop::Damaged(at))?;
            let next = at.saturating_add(4).saturating_add(length as u64);
            if next > file_len {
                return Err(Stop::Cut);
            }
            let held = match kind {
                COMPRESSED => {
                    let begin = window.get(at.saturating_add(8), 5)?;
                    snap::raw::decompress_len(begin).map_err(|_| Stop::Damaged(at))?
                }
                UNCOMPRESSED => length.checked_sub(4).ok_or(Stop::Damaged(at))?,
                kind if UNSKIPPABLE.contains(&kind) => return Err(Stop::Damaged(at)),
                _ => 0,
            };
            if held > MAX_FRAME || (held > 0 && length > MAX_PACKED) {
                return Err(Stop::Damaged(at));
            }
            if held > 0 {
                let frame_end = done.saturating_add(held as u64).min(end);
                let tag = Frame::At { offset: at, start: *done };
                self.extents.push(Extent { start: *done, end: frame_end, offset: 0, tag });
                *done = frame_end;
            }
            at = next;
        }
        Ok(at)
    }
}

/// Type and length of a frame.
fn frame_header(bytes: &[u8]) -> Option<(u8, usize)> {
    let word = Endian::Little.u32(bytes, 0)?;
    Some(((word & 0xff) as u8, (word >> 8) as usize))
}

struct AvmlMemory {
    file: Arc<dyn ReadAt>,
    frames: Extents<Frame>,
    /// Decompressed frames by their offset in the file.
    decoded: Cache<Vec<u8>>,
    zero_excluded: bool,
}

impl AvmlMemory {
    fn piece(&self, at: u64, into: &mut [u8]) -> Result<usize, Why> {
        let until = |end: u64| usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX).min(into.len());
        let extent = match self.frames.from(at) {
            Ok(extent) => extent,
            Err(Some(next)) if self.zero_excluded => {
                let count = until(next.start);
                into.get_mut(..count).unwrap_or_default().fill(0);
                return Ok(count);
            }
            Err(Some(_)) => return Err(Why::ZeroOrExcluded),
            Err(None) => return Err(Why::NeverPresent),
        };
        let (offset, start) = match extent.tag {
            Frame::At { offset, start } => (offset, start),
            Frame::Lost(why) => return Err(why),
        };
        let count = until(extent.end);
        let into = into.get_mut(..count).unwrap_or_default();
        let from = usize::try_from(at.saturating_sub(start)).unwrap_or(usize::MAX);
        let mut copy = |frame: &Vec<u8>| {
            let held = frame.get(from..).unwrap_or_default();
            into.iter_mut().zip(held).map(|(to, from)| *to = *from).count()
        };
        if let Some(count) = self.decoded.get(offset, &mut copy) {
            return Ok(count);
        }
        let frame = self.decode(offset)?;
        let count = copy(&frame);
        self.decoded.insert(offset, frame);
        if count == 0 { Err(Why::Corrupt("snappy frame")) } else { Ok(count) }
    }

    /// Decompresses a frame and checks its CRC.
    fn decode(&self, offset: u64) -> Result<Vec<u8>, Why> {
        let mut window = Window::new(&*self.file, 4096);
        let (_, length) = frame_header(window.exact(offset, 4)?).ok_or(Why::Corrupt("snappy frame"))?;
        if length > MAX_PACKED {
            return Err(Why::Corrupt("snappy frame"));
        }
        let frame = window.exact(offset, length.saturating_add(4))?;
        // A frame alone, behind the identifier that every stream begins with, is a whole stream.
        let mut decoder =
            snap::read::FrameDecoder::new(STREAM_IDENTIFIER.chain(frame)).take(MAX_FRAME as u64);
        let mut bytes = Vec::with_capacity(MAX_FRAME);
        decoder.read_to_end(&mut bytes).map_err(|_| Why::Corrupt("snappy frame"))?;
        Ok(bytes)
    }
}

impl PhysicalMemory for AvmlMemory {
    fn read(&self, at: PhysAddr, into: &mut [u8]) -> (usize, Option<Missing>) {
        let (done, missing) = read_in_pieces(at.0, into, |at, into| self.piece(at, into));
        (done, missing.map(|(at, why)| Missing::new(PhysAddr(at), why)))
    }

    fn next_run(&self, from: PhysAddr) -> Option<Run> {
        self.frames.run(from.0, Why::ZeroOrExcluded, |frame| match frame {
            Frame::At { .. } => RunState::Present,
            Frame::Lost(why) => RunState::Missing(why),
        })
    }
}
