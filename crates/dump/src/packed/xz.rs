//! xz: blocks that can be decoded alone, listed in an index at the end of the file. `xz -T0` writes many, plain `xz` of
//! old versions one for the whole file.
//!
//! Reference: The .xz File Format, version 1.2.1 (tukaani.org).

use std::io::{self, Read as _};
use std::sync::Arc;

use kdive_base::{Endian, ReadAt, Why};
use liblzma::read::XzDecoder;
use liblzma::stream::Stream;

use super::{Decode, MAX_PIECE, MAX_PIECES, Unpacked, damaged, io_error, io_of, one_piece, peeled, too_many};
use crate::OpenError;
use crate::formats::{Head, Peeled, Source, Wrapper};
use crate::window::read_up_to;

pub(super) const WRAPPER: Wrapper = Wrapper { name: "xz", recognises, peel };

const MAGIC: &[u8; 6] = b"\xfd7zXZ\0";
const FOOTER_MAGIC: &[u8; 2] = b"YZ";
/// Stream header and stream footer have the same length.
const EDGE: u64 = 12;
/// An index of [`MAX_PIECES`] records, each of two numbers of up to 9 bytes.
const MAX_INDEX: u64 = 64 << 20;
/// For the decoder: a dictionary of 64 MB, and what goes with it.
const MAX_MEMORY: u64 = 128 << 20;
const NEXT: &str = "unpack it first with `xz -d`, or pack it in blocks that can be read alone, with `xz -T0`";

fn recognises(head: &Head<'_>) -> bool {
    head.bytes.starts_with(MAGIC)
}

fn peel(source: &Source) -> Result<Peeled, OpenError> {
    let file = &*source.data;
    let mut blocks: Vec<Block> = Vec::new();
    let mut end = file.len();
    while end > 0 {
        let Some(stream) = stream_before(file, end).map_err(|why| io_error(source, why))? else {
            let what = "a file that was cut or damaged: the list of its blocks, at its end, is lost";
            return Err(one_piece(
                source,
                WRAPPER.name,
                what,
                "copy it again; what `xz -dc` gives of it is the beginning",
            ));
        };
        end = stream.start;
        blocks.extend(stream.blocks.into_iter().rev());
        if blocks.len() > MAX_PIECES {
            return Err(too_many(source, WRAPPER.name));
        }
    }
    blocks.reverse();
    let largest = blocks.iter().map(|block| block.unpacked).max().unwrap_or(0);
    if largest > MAX_PIECE {
        return Err(one_piece(source, WRAPPER.name, &format!("blocks of up to {} MB", largest >> 20), NEXT));
    }
    let mut total = 0_u64;
    let ends = blocks.iter().map(|block| {
        total = total.saturating_add(block.unpacked);
        total
    });
    let ends = ends.collect();
    peeled(source, WRAPPER.name, Unpacked::new(Xz { file: Arc::clone(&source.data), blocks }, ends), None)
}

#[derive(Clone, Copy)]
struct Block {
    start: u64,
    /// Length with its padding.
    bytes: u64,
    unpacked: u64,
    /// The two bytes of the stream's header that say how blocks are checked.
    flags: [u8; 2],
}

struct XzStream {
    start: u64,
    blocks: Vec<Block>,
}

/// The stream that ends at `end`, before padding; `None` where none does.
fn stream_before(file: &dyn ReadAt, end: u64) -> Result<Option<XzStream>, Why> {
    let read = |at, bytes| read_up_to(file, at, bytes).map_err(|error| Why::Io(error.kind()));
    let mut end = end;
    let footer = loop {
        let Some(at) = end.checked_sub(EDGE) else { return Ok(None) };
        let footer = read(at, EDGE)?;
        if footer.ends_with(FOOTER_MAGIC) {
            break footer;
        }
        // Streams may be padded with zeros, four at a time.
        if !footer.ends_with(&[0; 4]) {
            return Ok(None);
        }
        end = end.saturating_sub(4);
    };
    let fields =
        Endian::Little.u32(&footer, 4).zip(footer.get(8..10).and_then(|flags| flags.first_chunk::<2>()));
    let Some((backward, flags)) = fields else { return Ok(None) };
    let index_bytes = u64::from(backward).saturating_add(1).saturating_mul(4);
    let Some(index_at) = end.checked_sub(EDGE).and_then(|at| at.checked_sub(index_bytes)) else {
        return Ok(None);
    };
    if index_bytes > MAX_INDEX {
        return Ok(None);
    }
    let Some(records) = records(&read(index_at, index_bytes)?) else { return Ok(None) };
    let total =
        records.iter().try_fold(0_u64, |sum, (bytes, _)| sum.checked_add(bytes.checked_next_multiple_of(4)?));
    let start = total.and_then(|total| index_at.checked_sub(total)?.checked_sub(EDGE));
    let Some(start) = start else { return Ok(None) };
    if !read(start, EDGE)?.starts_with(MAGIC) {
        return Ok(None);
    }
    let mut at = start.saturating_add(EDGE);
    let blocks = records.into_iter().map(|(bytes, unpacked)| {
        let block = Block { start: at, bytes: bytes.next_multiple_of(4), unpacked, flags: *flags };
        at = at.saturating_add(block.bytes);
        block
    });
    Ok(Some(XzStream { start, blocks: blocks.collect() }))
}

/// The records of an index: length packed without padding, and length unpacked.
fn records(index: &[u8]) -> Option<Vec<(u64, u64)>> {
    let (&0, mut rest) = index.split_first()? else { return None };
    let count = number(&mut rest)?;
    // Each takes two bytes at least.
    if count > (rest.len() / 2) as u64 {
        return None;
    }
    (0..count).map(|_| Some((number(&mut rest)?, number(&mut rest)?))).collect()
}

/// A number of seven bits to the byte, the lowest first.
fn number(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..63).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

struct Xz {
    file: Arc<dyn ReadAt>,
    blocks: Vec<Block>,
}

impl Decode for Xz {
    fn decode(&self, piece: usize, bytes: usize) -> io::Result<Vec<u8>> {
        let block = self.blocks.get(piece).ok_or_else(|| damaged("no such block"))?;
        // A stream of that block alone: its header, the block, and no index, which is never reached.
        let mut header = MAGIC.to_vec();
        header.extend(block.flags);
        let mut sum = flate2::Crc::new();
        sum.update(&block.flags);
        header.extend(sum.sum().to_le_bytes());
        let packed = read_up_to(&*self.file, block.start, block.bytes)?;
        let stream = Stream::new_stream_decoder(MAX_MEMORY, 0).map_err(io::Error::other)?;
        let decoder = XzDecoder::new_stream(header.chain(&packed[..]), stream);
        let mut data = Vec::with_capacity(bytes);
        decoder.take(bytes as u64).read_to_end(&mut data)?;
        if data.len() < bytes { Err(io_of(Why::Corrupt("xz block"))) } else { Ok(data) }
    }
}
