//! lz4 frames: blocks of 64 KiB to 4 MiB, which can be decoded alone unless the packer linked them (`lz4 -BD`).
//!
//! Blocks are found by walking from one to the next. Only the last of a frame is shorter than the frame's block size, so
//! that nothing but it must be decoded to be counted.
//!
//! Reference: LZ4 Frame Format Description 1.6.1.

use std::io;
use std::sync::Arc;

use kdive_base::{Endian, ReadAt, Why};

use super::{Decode, MAX_PIECES, Unpacked, damaged, io_error, one_piece, peeled, too_many};
use crate::OpenError;
use crate::formats::{Head, Peeled, Source, Wrapper};
use crate::window::{Window, read_up_to};

pub(super) const WRAPPER: Wrapper = Wrapper { name: "lz4", recognises, peel };

const MAGIC: u32 = 0x184d_2204;
const SKIPPABLE: u32 = 0x184d_2a50;
/// The upper bit of a block's length: it is not packed.
const STORED: u32 = 1 << 31;
const NEXT: &str = "unpack it first with `lz4 -d`, or pack it with `lz4 -BI`";

fn recognises(head: &Head<'_>) -> bool {
    Endian::Little.u32(head.bytes, 0) == Some(MAGIC)
}

#[derive(Clone, Copy)]
struct Block {
    start: u64,
    bytes: u32,
    stored: bool,
    /// Bytes that it unpacks to at most.
    most: u32,
}

fn peel(source: &Source) -> Result<Peeled, OpenError> {
    let file = &*source.data;
    let mut walk = Walk { window: Window::new(file, 64), at: 0, blocks: Vec::new() };
    let mut lz4 = Lz4 { file: Arc::clone(&source.data), blocks: Vec::new() };
    let (mut ends, mut total) = (Vec::new(), 0_u64);
    let warning = loop {
        let stop = match walk.frame() {
            Ok(more) => (!more).then_some(None),
            Err(Stop::Io(kind)) => return Err(io_error(source, Why::Io(kind))),
            Err(Stop::Linked) => {
                return Err(one_piece(source, WRAPPER.name, "blocks that need the ones before", NEXT));
            }
            Err(Stop::Cut) => {
                Some(Some(format!("truncated: the lz4 file ends at {} bytes, inside a frame", file.len())))
            }
            Err(Stop::Damaged) => {
                Some(Some(format!("the lz4 file is damaged at {:#x}: what follows is lost", walk.at)))
            }
        };
        let last = walk.blocks.len().checked_sub(1);
        for (index, block) in walk.blocks.drain(..).enumerate() {
            // All but the last of a frame are full.
            let bytes = match Some(index) == last {
                false => block.most,
                true => lz4.unpack(&block).map_or(0, |data| data.len() as u32),
            };
            if bytes > 0 {
                total = total.saturating_add(bytes.into());
                lz4.blocks.push(block);
                ends.push(total);
            }
        }
        if ends.len() > MAX_PIECES {
            return Err(too_many(source, WRAPPER.name));
        }
        if let Some(warning) = stop {
            break warning;
        }
    };
    peeled(source, WRAPPER.name, Unpacked::new(lz4, ends), warning)
}

enum Stop {
    Io(io::ErrorKind),
    Cut,
    Damaged,
    Linked,
}

impl From<Why> for Stop {
    fn from(why: Why) -> Self {
        match why {
            Why::Io(kind) => Self::Io(kind),
            _ => Self::Cut,
        }
    }
}

struct Walk<'a> {
    window: Window<'a>,
    at: u64,
    /// Blocks of the frame that was walked last, those before a cut included.
    blocks: Vec<Block>,
}

impl Walk<'_> {
    /// Walks over one frame. `false` at the end of the file.
    fn frame(&mut self) -> Result<bool, Stop> {
        if self.at >= self.window.file_len() {
            return Ok(false);
        }
        let magic = self.word(0)?;
        if magic & !0xf == SKIPPABLE {
            self.at = self.at.saturating_add(8).saturating_add(self.word(4)?.into());
            return Ok(true);
        }
        let header = *self.window.exact(self.at, 6)?.first_chunk::<6>().ok_or(Stop::Cut)?;
        let [_, _, _, _, flags, descriptor] = header;
        let most = match descriptor >> 4 & 7 {
            4 => 64 << 10,
            5 => 256 << 10,
            6 => 1 << 20,
            7 => 4 << 20,
            _ => return Err(Stop::Damaged),
        };
        if magic != MAGIC || flags >> 6 != 1 {
            return Err(Stop::Damaged);
        }
        if flags & 0x20 == 0 {
            return Err(Stop::Linked);
        }
        let optional =
            if flags & 8 != 0 { 8_u64 } else { 0 }.saturating_add(if flags & 1 != 0 { 4 } else { 0 });
        self.at = self.at.saturating_add(7).saturating_add(optional);
        loop {
            let length = self.word(0)?;
            self.at = self.at.saturating_add(4);
            if length == 0 {
                break;
            }
            let (bytes, stored) = (length & !STORED, length & STORED != 0);
            if bytes > most {
                return Err(Stop::Damaged);
            }
            let end = self.at.saturating_add(bytes.into());
            if end > self.window.file_len() {
                return Err(Stop::Cut);
            }
            if self.blocks.len() > MAX_PIECES {
                return Err(Stop::Damaged);
            }
            self.blocks.push(Block { start: self.at, bytes, stored, most });
            self.at = end.saturating_add(if flags & 0x10 != 0 { 4 } else { 0 });
        }
        self.at = self.at.saturating_add(if flags & 4 != 0 { 4 } else { 0 });
        Ok(true)
    }

    fn word(&mut self, ahead: u64) -> Result<u32, Stop> {
        Endian::Little.u32(self.window.exact(self.at.saturating_add(ahead), 4)?, 0).ok_or(Stop::Cut)
    }
}

struct Lz4 {
    file: Arc<dyn ReadAt>,
    blocks: Vec<Block>,
}

impl Lz4 {
    fn unpack(&self, block: &Block) -> io::Result<Vec<u8>> {
        let packed = read_up_to(&*self.file, block.start, block.bytes.into())?;
        if block.stored {
            return Ok(packed);
        }
        lz4_flex::block::decompress(&packed, block.most as usize).map_err(io::Error::other)
    }
}

impl Decode for Lz4 {
    fn decode(&self, piece: usize, bytes: usize) -> io::Result<Vec<u8>> {
        let block = self.blocks.get(piece).ok_or_else(|| damaged("no such block"))?;
        let mut data = self.unpack(block)?;
        // A block that is shorter than its neighbours say would shift all that follows.
        if data.len() < bytes {
            return Err(damaged("a block of lz4 is shorter than its frame's block size"));
        }
        data.truncate(bytes);
        Ok(data)
    }
}
