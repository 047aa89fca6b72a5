//! zstd (RFC 8878): frames, each of which can be decoded alone. `zstd` itself writes one frame for a whole file; pzstd and
//! the seekable format write many.
//!
//! Frames are found by walking from one to the next along the headers of their blocks. A frame that does not say how long
//! it is unpacked is decoded once to be counted.

use std::io::{self, Read as _};
use std::sync::Arc;

use kdive_base::{Endian, ReadAt, Why};

use super::{Decode, MAX_PIECE, MAX_PIECES, Unpacked, damaged, io_error, io_of, one_piece, peeled, too_many};
use crate::OpenError;
use crate::formats::{Head, Peeled, Source, Wrapper};
use crate::window::{Window, read_up_to};

pub(super) const WRAPPER: Wrapper = Wrapper { name: "zstd", recognises, peel };

const MAGIC: u32 = 0xfd2f_b528;
/// The low four bits are free.
const SKIPPABLE: u32 = 0x184d_2a50;
const NEXT: &str = "unpack it first with `zstd -d`, or pack it in frames that can be read alone, with pzstd";

fn recognises(head: &Head<'_>) -> bool {
    match Endian::Little.u32(head.bytes, 0) {
        Some(MAGIC) => true,
        // The seekable format of some writers begins with a skippable frame.
        Some(magic) if magic & !0xf == SKIPPABLE => {
            let next = Endian::Little
                .u32(head.bytes, 4)
                .and_then(|length| usize::try_from(length).ok()?.checked_add(8));
            next.and_then(|next| Endian::Little.u32(head.bytes, next)) == Some(MAGIC)
        }
        _ => false,
    }
}

fn peel(source: &Source) -> Result<Peeled, OpenError> {
    let file = &*source.data;
    let mut walk = Walk { window: Window::new(file, 32), at: 0 };
    let (mut frames, mut ends, mut total) = (Vec::new(), Vec::new(), 0_u64);
    let warning = loop {
        let frame = match walk.frame() {
            Ok(Some(frame)) => frame,
            Ok(None) => break None,
            Err(Stop::Io(kind)) => return Err(io_error(source, Why::Io(kind))),
            Err(Stop::Cut) if ends.is_empty() => {
                return Err(one_piece(source, WRAPPER.name, "one frame, which is cut short", NEXT));
            }
            Err(Stop::Cut) => {
                break Some(format!("truncated: the zstd file ends at {} bytes, inside a frame", file.len()));
            }
            Err(Stop::Damaged) => {
                break Some(format!("the zstd file is damaged at {:#x}: what follows is lost", walk.at));
            }
        };
        let unpacked = match frame.unpacked {
            Some(unpacked) => unpacked,
            None => count(file, &frame)
                .map_err(|error| OpenError::Io { name: source.name.clone(), source: error })?,
        };
        if unpacked > MAX_PIECE {
            let what = format!("a frame of {} MB", unpacked >> 20);
            return Err(one_piece(source, WRAPPER.name, &what, NEXT));
        }
        if unpacked > 0 {
            total = total.saturating_add(unpacked);
            frames.push((frame.start, frame.bytes));
            ends.push(total);
        }
        if frames.len() > MAX_PIECES {
            return Err(too_many(source, WRAPPER.name));
        }
    };
    peeled(
        source,
        WRAPPER.name,
        Unpacked::new(Zstd { file: Arc::clone(&source.data), frames }, ends),
        warning,
    )
}

/// Why the walk ends early.
enum Stop {
    Io(io::ErrorKind),
    Cut,
    Damaged,
}

impl From<Why> for Stop {
    fn from(why: Why) -> Self {
        match why {
            Why::Io(kind) => Self::Io(kind),
            _ => Self::Cut,
        }
    }
}

struct Frame {
    start: u64,
    bytes: u64,
    unpacked: Option<u64>,
}

struct Walk<'a> {
    window: Window<'a>,
    at: u64,
}

impl Walk<'_> {
    /// The next frame that holds data; `None` at the end of the file.
    fn frame(&mut self) -> Result<Option<Frame>, Stop> {
        loop {
            if self.at >= self.window.file_len() {
                return Ok(None);
            }
            let start = self.at;
            let magic = Endian::Little.u32(self.window.exact(start, 4)?, 0).ok_or(Stop::Cut)?;
            if magic & !0xf == SKIPPABLE {
                let length =
                    Endian::Little.u32(self.window.exact(start.saturating_add(4), 4)?, 0).ok_or(Stop::Cut)?;
                self.at = start.saturating_add(8).saturating_add(length.into());
                continue;
            }
            if magic != MAGIC {
                return Err(Stop::Damaged);
            }
            let (unpacked, checksum) = self.header(start.saturating_add(4))?;
            self.blocks()?;
            self.at = self.at.saturating_add(if checksum { 4 } else { 0 });
            if self.at > self.window.file_len() {
                return Err(Stop::Cut);
            }
            return Ok(Some(Frame { start, bytes: self.at.saturating_sub(start), unpacked }));
        }
    }

    /// The header behind the magic: the length unpacked, if it is told, and whether a checksum ends the frame.
    fn header(&mut self, at: u64) -> Result<(Option<u64>, bool), Stop> {
        let header = self.window.get(at, 14)?;
        let descriptor = *header.first().ok_or(Stop::Cut)?;
        let single = descriptor & 0x20 != 0;
        let dictionary = match descriptor & 3 {
            3 => 4_usize,
            bytes => bytes.into(),
        };
        let place = 1_usize.saturating_add(usize::from(!single)).saturating_add(dictionary);
        let (bytes, unpacked) = match (descriptor >> 6, single) {
            (0, false) => (0, None),
            (0, true) => (1, header.get(place).copied().map(u64::from)),
            (1, _) => (2, Endian::Little.u16(header, place).map(|size| u64::from(size).saturating_add(256))),
            (2, _) => (4, Endian::Little.u32(header, place).map(u64::from)),
            _ => (8_u64, Endian::Little.u64(header, place)),
        };
        self.at = at.saturating_add(place as u64).saturating_add(bytes);
        Ok((unpacked, descriptor & 4 != 0))
    }

    fn blocks(&mut self) -> Result<(), Stop> {
        loop {
            let [a, b, c] = *self.window.exact(self.at, 3)?.first_chunk::<3>().ok_or(Stop::Cut)?;
            let header = u32::from_le_bytes([a, b, c, 0]);
            let length = match header >> 1 & 3 {
                1 => 1,
                3 => return Err(Stop::Damaged),
                _ => header >> 3,
            };
            self.at = self.at.saturating_add(3).saturating_add(length.into());
            if header & 1 == 1 {
                return Ok(());
            }
        }
    }
}

/// Bytes that a frame unpacks to, counted up to one more than is taken.
fn count(file: &dyn ReadAt, frame: &Frame) -> io::Result<u64> {
    let packed = InFile { file, at: frame.start, end: frame.start.saturating_add(frame.bytes) };
    let decoder = zstd::stream::read::Decoder::new(packed)?.single_frame();
    io::copy(&mut decoder.take(MAX_PIECE.saturating_add(1)), &mut io::sink())
}

/// A stretch of a file, read from its start to its end.
struct InFile<'a> {
    file: &'a dyn ReadAt,
    at: u64,
    end: u64,
}

impl io::Read for InFile<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let wanted = left.min(into.len());
        let count = self.file.read_at(self.at, into.get_mut(..wanted).unwrap_or_default())?;
        self.at = self.at.saturating_add(count as u64);
        Ok(count)
    }
}

struct Zstd {
    file: Arc<dyn ReadAt>,
    /// Where frames begin, and their length.
    frames: Vec<(u64, u64)>,
}

impl Decode for Zstd {
    fn decode(&self, piece: usize, bytes: usize) -> io::Result<Vec<u8>> {
        let &(start, length) = self.frames.get(piece).ok_or_else(|| damaged("no such frame"))?;
        let packed = read_up_to(&*self.file, start, length)?;
        let mut data = Vec::with_capacity(bytes);
        let decoder = zstd::stream::read::Decoder::with_buffer(&packed[..])?.single_frame();
        decoder.take(bytes as u64).read_to_end(&mut data)?;
        if data.len() < bytes { Err(io_of(Why::Corrupt("zstd frame"))) } else { Ok(data) }
    }
}
