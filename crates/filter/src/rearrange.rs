//! From makedumpfile's flattened format, as it comes out of a pipe, to the file that it stands for.
//!
//! A stream cannot be read by offset, so this is not the reader of `kdive-dump`; the layout is there.

use std::io::{self, Read};

use kdive_base::{Cancel, Endian};
use kdive_dump::write::{Sink, WriteError};

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RearrangeError {
    /// The input is something else.
    #[error("the input is not a flattened dump")]
    NotFlattened,
    /// The input ended early. What had come is written, and says that it is incomplete.
    #[error("the input ends without its end mark, after {bytes} bytes of the dump: the dump is incomplete")]
    Cut {
        /// Bytes of the dump that came.
        bytes: u64,
    },
    /// A record cannot be right.
    #[error("the input is damaged after {bytes} bytes of the dump: the dump is incomplete")]
    Damaged {
        /// Bytes of the dump that came before.
        bytes: u64,
    },
    /// Reading failed.
    #[error("reading the flattened dump failed: {0}")]
    Read(io::Error),
    /// Writing failed.
    #[error(transparent)]
    Write(#[from] WriteError),
}

const SIGNATURE: &[u8; 16] = b"makedumpfile\0\0\0\0";
const HEADER: usize = 4096;
const PIECE: usize = 1 << 20;

/// Writes the file that a flattened stream stands for. Returns its bytes. Of a stream that ends early, the file says that it
/// is incomplete.
///
/// # Errors
/// See [`RearrangeError`].
pub fn rearrange(input: &mut dyn Read, out: &mut dyn Sink, cancel: &Cancel) -> Result<u64, RearrangeError> {
    let mut head = Head::default();
    let done = copy(input, out, &mut head, cancel);
    if done.is_err()
        && let Some((at, word)) = head.incomplete()
    {
        // If it cannot be said, there was worse.
        let _ = out.write_at(at, &word.to_le_bytes());
        let _ = out.finish();
    }
    done
}

/// The first bytes of the file, as far as they came.
#[derive(Default)]
struct Head(Vec<u8>);

impl Head {
    const BYTES: usize = 512;

    fn see(&mut self, offset: u64, bytes: &[u8]) {
        let Some(at) = usize::try_from(offset).ok().filter(|at| *at < Self::BYTES) else { return };
        let end = at.saturating_add(bytes.len()).min(Self::BYTES);
        if self.0.len() < end {
            self.0.resize(end, 0);
        }
        let into = self.0.get_mut(at..end).unwrap_or_default();
        into.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    }

    /// Where the header says that a dump is incomplete, and the word that does: in `status` of a 64-bit kdump-compressed
    /// file (flag 8), in `e_flags` of a 64-bit ELF core (flag 1), both little-endian.
    fn incomplete(&self) -> Option<(u64, u32)> {
        let (at, flag) = match () {
            () if self.0.starts_with(b"KDUMP   ") => (424, 8),
            () if self.0.starts_with(b"\x7fELF\x02\x01") => (48, 1),
            () => return None,
        };
        Some((at as u64, Endian::Little.u32(&self.0, at)? | flag))
    }
}

fn copy(
    input: &mut dyn Read,
    out: &mut dyn Sink,
    head: &mut Head,
    cancel: &Cancel,
) -> Result<u64, RearrangeError> {
    let mut header = vec![0; HEADER];
    let got = fill(input, &mut header).map_err(RearrangeError::Read)?;
    if got < HEADER || !header.starts_with(SIGNATURE) || Endian::Big.u64(&header, 16) != Some(1) {
        return Err(RearrangeError::NotFlattened);
    }
    let mut buffer = vec![0; PIECE];
    let mut bytes = 0_u64;
    loop {
        let mut record = [0; 16];
        if fill(input, &mut record).map_err(RearrangeError::Read)? < record.len() {
            return Err(RearrangeError::Cut { bytes });
        }
        let (offset, size) = (Endian::Big.i64(&record, 0), Endian::Big.i64(&record, 8));
        if (offset, size) == (Some(-1), Some(-1)) {
            out.finish().map_err(WriteError::from)?;
            return Ok(bytes);
        }
        let number = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok());
        let (Some(mut at), Some(mut left)) = (number(offset), number(size)) else {
            return Err(RearrangeError::Damaged { bytes });
        };
        while left > 0 {
            cancel.check().map_err(WriteError::from)?;
            let wanted = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
            let piece = buffer.get_mut(..wanted).unwrap_or_default();
            let got = fill(input, piece).map_err(RearrangeError::Read)?;
            let piece = piece.get(..got).unwrap_or_default();
            head.see(at, piece);
            out.write_at(at, piece).map_err(WriteError::from)?;
            bytes = bytes.saturating_add(got as u64);
            if got < wanted {
                return Err(RearrangeError::Cut { bytes });
            }
            at = at.saturating_add(got as u64);
            left -= got as u64;
        }
    }
}

/// Reads until `into` is full or the input ends.
fn fill(input: &mut dyn Read, into: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while let Some(rest) = into.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match input.read(rest) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use kdive_dump::write::{FlattenedSink, PlainSink};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_stream_becomes_its_file_and_a_cut_one_its_beginning(
            records in prop::collection::vec((0_u64..5000, prop::collection::vec(any::<u8>(), 1..600)), 0..12),
            cut in 0_usize..8000,
        ) {
            let (mut stream, mut plain) = (Vec::new(), Vec::new());
            let mut flattened = FlattenedSink::new(&mut stream).unwrap();
            let mut wanted = PlainSink::new(Cursor::new(&mut plain));
            for (offset, bytes) in &records {
                flattened.write_at(*offset, bytes).unwrap();
                wanted.write_at(*offset, bytes).unwrap();
            }
            flattened.finish().unwrap();
            let run = |stream: &[u8]| {
                let mut file = Vec::new();
                let mut sink = PlainSink::new(Cursor::new(&mut file));
                let done = rearrange(&mut &*stream, &mut sink, &Cancel::default());
                (done, file)
            };
            let (done, file) = run(&stream);
            prop_assert_eq!(done.unwrap(), records.iter().map(|(_, bytes)| bytes.len() as u64).sum::<u64>());
            prop_assert_eq!(file, plain);
            let (done, _) = run(&stream[..cut.min(stream.len() - 1)]);
            // A cut stream of anything else than a dump has no place to say so.
            let early = matches!(done, Err(RearrangeError::NotFlattened | RearrangeError::Cut { .. }));
            prop_assert!(early);
        }
    }
    #[test]
    fn a_dump_that_was_cut_says_so() {
        for (header, at, flag) in [(&b"KDUMP   "[..], 424, 8_u8), (b"\x7fELF\x02\x01", 48, 1)] {
            let mut stream = Vec::new();
            let mut head = header.to_vec();
            head.resize(4096, 0);
            head[at] = 0x20;
            let mut flattened = FlattenedSink::new(&mut stream).unwrap();
            flattened.write_at(0, &head).unwrap();
            flattened.write_at(8192, &[1; 100]).unwrap();
            let mut file = Vec::new();
            let mut sink = PlainSink::new(Cursor::new(&mut file));
            let done = rearrange(&mut &*stream, &mut sink, &Cancel::default());
            assert!(matches!(done, Err(RearrangeError::Cut { bytes: 4196 })));
            assert_eq!((file[at], file.len()), (0x20 | flag, 8292));
        }
    }
}
