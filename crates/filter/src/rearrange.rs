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

/// Writes the file that a flattened stream stands for. Returns its bytes.
///
/// # Errors
/// See [`RearrangeError`].
pub fn rearrange(input: &mut dyn Read, out: &mut dyn Sink, cancel: &Cancel) -> Result<u64, RearrangeError> {
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
            out.write_at(at, piece.get(..got).unwrap_or_default()).map_err(WriteError::from)?;
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
            let early = matches!(done, Err(RearrangeError::NotFlattened | RearrangeError::Cut { .. }));
            prop_assert!(early);
        }
    }
}
