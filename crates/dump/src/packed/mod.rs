//! Dumps packed as whole files, read at random without unpacking them to disk.
//!
//! What makes that possible differs: gzip gets an index of restart points in one pass over the file ([`gzip`]); xz lists
//! its blocks at its end ([`xz`]); zstd frames and lz4 blocks can be decoded alone and are listed by walking from one to
//! the next ([`zstd`], [`lz4`]). Each makes a table of pieces, and [`Unpacked`] reads through it, keeping the few pieces
//! that were used last. A file that is one large piece is refused, with the way out.

pub(crate) mod age;
mod gzip;
mod lz4;
#[cfg(test)]
mod tests;
mod xz;
mod zstd;

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use kdive_base::{ReadAt, Why};

use crate::OpenError;
use crate::formats::{Peeled, Source, Told, Wrapper};

/// Packings that [`crate::open()`] reads through.
pub(crate) static PACKINGS: &[Wrapper] = &[gzip::WRAPPER, zstd::WRAPPER, xz::WRAPPER, lz4::WRAPPER];

/// The largest piece that is unpacked into memory: `xz -9 -T0` makes blocks of 192 MB, `xz -6 -T0` of 24 MB.
const MAX_PIECE: u64 = 64 << 20;
/// Unpacked pieces that are kept.
const KEPT_BYTES: u64 = 64 << 20;
/// Pieces of one file. Packers make pieces of 64 KiB and more: this is 256 GiB of them.
const MAX_PIECES: usize = 1 << 22;

/// A packed file whose pieces can be decoded one by one.
trait Decode: Send + Sync {
    /// Decodes a piece, which has `bytes` bytes.
    fn decode(&self, piece: usize, bytes: usize) -> io::Result<Vec<u8>>;
}

/// The file inside a packed one.
struct Unpacked<D> {
    decoder: D,
    /// Where each piece ends, in the file inside.
    ends: Vec<u64>,
    /// The pieces used last, the latest at the end.
    recent: Mutex<VecDeque<(usize, Arc<Vec<u8>>)>>,
    keep: usize,
}

impl<D: Decode> Unpacked<D> {
    fn new(decoder: D, ends: Vec<u64>) -> Self {
        let starts = std::iter::once(&0).chain(&ends);
        let largest = starts.zip(&ends).map(|(start, end)| end.saturating_sub(*start)).max().unwrap_or(0);
        let keep = KEPT_BYTES.checked_div(largest).unwrap_or(1).clamp(2, 64) as usize;
        Self { decoder, ends, recent: Mutex::default(), keep }
    }

    fn piece(&self, piece: usize, bytes: usize) -> io::Result<Arc<Vec<u8>>> {
        let recent = || self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kept = recent();
        if let Some(place) = kept.iter().position(|(kept, _)| *kept == piece)
            && let Some(found) = kept.remove(place)
        {
            let data = Arc::clone(&found.1);
            kept.push_back(found);
            return Ok(data);
        }
        drop(kept);
        // Not under the lock: others read what is there meanwhile.
        let data = Arc::new(self.decoder.decode(piece, bytes)?);
        let mut kept = recent();
        while kept.len() >= self.keep {
            kept.pop_front();
        }
        kept.push_back((piece, Arc::clone(&data)));
        Ok(data)
    }
}

impl<D: Decode> ReadAt for Unpacked<D> {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let piece = self.ends.partition_point(|end| *end <= offset);
        let Some(&end) = self.ends.get(piece) else { return Ok(0) };
        let start = piece.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        let bytes = usize::try_from(end.saturating_sub(start)).map_err(io::Error::other)?;
        let data = self.piece(piece, bytes)?;
        let from = usize::try_from(offset.saturating_sub(start)).map_err(io::Error::other)?;
        let rest = data.get(from..).unwrap_or_default();
        let count = rest.len().min(into.len());
        if let (Some(to), Some(from)) = (into.get_mut(..count), rest.get(..count)) {
            to.copy_from_slice(from);
        }
        Ok(count)
    }

    fn len(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }
}

/// The file inside, or why there is none.
fn peeled<D: Decode + 'static>(
    source: &Source,
    wrapper: &'static str,
    unpacked: Unpacked<D>,
    warning: Option<String>,
) -> Result<Peeled, OpenError> {
    if unpacked.is_empty() {
        return Err(OpenError::damaged(
            &source.name,
            wrapper,
            warning.unwrap_or_else(|| "nothing is in it".into()),
        ));
    }
    Ok(Peeled { data: Arc::new(unpacked), warning, told: Told::default() })
}

/// A file that cannot be read at random.
fn one_piece(source: &Source, wrapper: &'static str, what: &str, next: &str) -> OpenError {
    OpenError::NotRandom { name: source.name.clone(), wrapper, what: what.to_owned(), next: next.to_owned() }
}

fn too_many(source: &Source, wrapper: &'static str) -> OpenError {
    OpenError::damaged(&source.name, wrapper, format!("it has more than {MAX_PIECES} pieces"))
}

fn io_error(source: &Source, why: Why) -> OpenError {
    let kind = match why {
        Why::Io(kind) => kind,
        _ => io::ErrorKind::UnexpectedEof,
    };
    OpenError::Io { name: source.name.clone(), source: kind.into() }
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn io_of(why: Why) -> io::Error {
    match why {
        Why::Io(kind) => kind.into(),
        _ => io::ErrorKind::UnexpectedEof.into(),
    }
}
