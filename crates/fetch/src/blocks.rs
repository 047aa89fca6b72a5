//! Packings that next to nothing but kernel images uses: lz4 as it was before it had frames, and lzop.

use std::io::{self, Read};

/// Bytes of a block unpacked, at most: lz4's legacy format has 8 MiB, lzop 256 KiB and up to 64 MiB by option.
const MAX_BLOCK: usize = 64 << 20;

/// Unpacks block after block.
pub(crate) struct Blocks<'a> {
    packed: &'a [u8],
    next: Next,
    block: Vec<u8>,
    at: usize,
}

/// Takes the next block off the packed bytes; `None` at the end.
type Next = Box<dyn FnMut(&mut &[u8]) -> io::Result<Option<Vec<u8>>> + Send>;

impl Read for Blocks<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.at >= self.block.len() {
            match (self.next)(&mut self.packed)? {
                Some(block) => (self.block, self.at) = (block, 0),
                None => return Ok(0),
            }
        }
        let count = self.block.get(self.at..).unwrap_or_default().read(into)?;
        self.at = self.at.saturating_add(count);
        Ok(count)
    }
}

/// lz4's legacy format: a magic, then blocks behind their packed lengths. Kernels put their own unpacked length behind it.
pub(crate) fn legacy_lz4(packed: &[u8]) -> Blocks<'_> {
    const MAGIC: u32 = 0x184c_2102;
    const BLOCK: usize = 8 << 20;
    let next = |packed: &mut &[u8]| {
        let Some(mut length) = u32_le(packed) else { return Ok(None) };
        while length == MAGIC {
            let Some(next) = u32_le(packed) else { return Ok(None) };
            length = next;
        }
        let length = usize::try_from(length).map_err(io::Error::other)?;
        let Some(block) = packed.split_off(..length).filter(|block| !block.is_empty()) else {
            return Ok(None);
        };
        lz4_flex::block::decompress(block, BLOCK).map(Some).map_err(io::Error::other)
    };
    Blocks { packed, next: Box::new(next), block: Vec::new(), at: 0 }
}

/// lzop: a header, then blocks behind their lengths and checksums (lib/decompress_unlzo.c).
pub(crate) fn lzop(packed: &[u8]) -> io::Result<Blocks<'_>> {
    let mut rest = packed;
    let flags = lzop_header(&mut rest).ok_or_else(|| bad("lzop header"))?;
    let sums = |bits: [u32; 2]| bits.into_iter().filter(|bit| flags & bit != 0).count().saturating_mul(4);
    // Checksums (Adler-32, CRC-32) of what is unpacked, and of what is packed.
    let (plain, stored) = (sums([1, 0x100]), sums([2, 0x200]));
    let next = move |packed: &mut &[u8]| {
        let Some(length) = u32_be(packed).filter(|&length| length > 0) else { return Ok(None) };
        let held = u32_be(packed).ok_or_else(|| bad("lzop block"))?;
        let (length, held) = (length as usize, held as usize);
        let sums = if held < length { plain.saturating_add(stored) } else { plain };
        let block = packed.split_off(..sums).and_then(|_| packed.split_off(..held));
        let block =
            block.filter(|_| held <= length && length <= MAX_BLOCK).ok_or_else(|| bad("lzop block"))?;
        if held == length {
            return Ok(Some(block.to_vec()));
        }
        let mut unpacked = vec![0; length];
        let count = lzo::decompress_into(block, &mut unpacked).map_err(|_| bad("lzop block"))?;
        if count == length { Ok(Some(unpacked)) } else { Err(bad("lzop block")) }
    };
    Ok(Blocks { packed: rest, next: Box::new(next), block: Vec::new(), at: 0 })
}

/// Passes over the header, to its flags.
fn lzop_header(rest: &mut &[u8]) -> Option<u32> {
    /// Versions from here on have a level and an upper half of the time.
    const LEVELS: u16 = 0x940;
    const FILTER: u32 = 0x800;
    rest.split_off(..b"\x89LZO\0\r\n\x1a\n".len())?;
    let version = u16::from_be_bytes(*rest.split_off(..2)?.first_chunk::<2>()?);
    let has_level = version >= LEVELS;
    rest.split_off(..if has_level { 6 } else { 3 })?;
    let flags = u32_be(rest)?;
    let fixed = if flags & FILTER == 0 { 8_usize } else { 12 };
    rest.split_off(..fixed.saturating_add(if has_level { 4 } else { 0 }))?;
    let name = usize::from(*rest.split_off_first()?);
    rest.split_off(..name.saturating_add(4))?;
    Some(flags)
}

fn u32_le(rest: &mut &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(*rest.split_off(..4)?.first_chunk::<4>()?))
}

fn u32_be(rest: &mut &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(*rest.split_off(..4)?.first_chunk::<4>()?))
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("a {what} makes no sense"))
}
