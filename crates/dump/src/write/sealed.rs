//! Sealed outputs: encrypted streams, and files with a seal behind them.

use std::collections::VecDeque;
use std::io::{self, Write};

use kdive_base::ReadAt;
use rayon::prelude::*;
use sha2::{Digest as _, Sha256};

use super::{FlattenedSink, Sink};
use crate::age::{Encryptor, Recipient};
use crate::seal::{BLOCK_BYTES, BlockHasher, Manifest, Record, Sign, seal};
use crate::window::read_up_to;

/// Stretches of the dump that are written at the same time: headers, descriptors, pages.
const STRETCHES: usize = 3;
/// Bytes of a record, about: the list of records of a terabyte stays small.
const RECORD_BYTES: usize = 1 << 20;
/// Of a flattened stream: its own header, and that of a record.
const STREAM_HEADER: u64 = 4096;

/// Writes a dump encrypted, in one pass, as a flattened stream with a seal behind it. Until it is finished, what was
/// written opens as a dump that was cut.
pub struct EncryptedSink<'a, W: Write> {
    stream: Option<FlattenedSink<Hashing<Encryptor<W>>>>,
    open: VecDeque<Stretch>,
    records: Vec<Record>,
    manifest: Manifest,
    sign: Option<Sign<'a>>,
}

/// Bytes that follow one another and are not written yet.
struct Stretch {
    offset: u64,
    bytes: Vec<u8>,
}

impl Stretch {
    fn end(&self) -> u64 {
        self.offset.saturating_add(self.bytes.len() as u64)
    }
}

impl<'a, W: Write + Send> EncryptedSink<'a, W> {
    /// Begins a stream for `recipients`.
    ///
    /// # Errors
    /// When the output fails, or nothing can be encrypted for them.
    pub fn new(
        output: W,
        recipients: &[Recipient],
        manifest: Manifest,
        sign: Option<Sign<'a>>,
    ) -> io::Result<Self> {
        let hashing = Hashing { output: Encryptor::new(output, recipients)?, hasher: BlockHasher::default() };
        let stream = Some(FlattenedSink::new(hashing)?);
        Ok(Self { stream, open: VecDeque::new(), records: Vec::new(), manifest, sign })
    }

    fn put(&mut self, stretch: &Stretch) -> io::Result<()> {
        let Some(stream) = &mut self.stream else { return Err(io::ErrorKind::BrokenPipe.into()) };
        stream.write_at(stretch.offset, &stretch.bytes)?;
        let bytes = stretch.bytes.len() as u64;
        let at = stream.output().hasher.bytes.saturating_sub(bytes);
        self.records.push(Record { at, offset: stretch.offset, bytes });
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        // They do not overlap, so any order will do. Descriptors are fewer bytes than their pages: before these they are of
        // use to what is left of a file that is cut.
        self.open.make_contiguous().sort_by_key(|stretch| stretch.bytes.len());
        while let Some(stretch) = self.open.pop_front() {
            self.put(&stretch)?;
        }
        Ok(())
    }
}

impl<W: Write + Send> Sink for EncryptedSink<'_, W> {
    fn replaces(&self) -> bool {
        false
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let end = offset.saturating_add(bytes.len() as u64);
        // What is written last wins, so what would be under it has to go out before.
        if self.open.iter().any(|stretch| stretch.offset < end && offset < stretch.end()) {
            self.flush()?;
        }
        if let Some(at) = self.open.iter().position(|stretch| stretch.end() == offset)
            && let Some(stretch) = self.open.get_mut(at)
        {
            stretch.bytes.extend_from_slice(bytes);
            // All of them: pages without their descriptors would be lost with what a cut takes away.
            if stretch.bytes.len() >= RECORD_BYTES {
                self.flush()?;
            }
            return Ok(());
        }
        if self.open.len() >= STRETCHES
            && let Some(oldest) = self.open.pop_front()
        {
            self.put(&oldest)?;
        }
        self.open.push_back(Stretch { offset, bytes: bytes.to_vec() });
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        self.flush()?;
        let Some(mut stream) = self.stream.take() else { return Err(io::ErrorKind::BrokenPipe.into()) };
        stream.finish()?;
        let Hashing { mut output, hasher } = stream.into_output();
        let sealed = hasher.bytes.max(STREAM_HEADER);
        output.write_all(&seal(sealed, &hasher.finish(), &self.records, &self.manifest, self.sign)?)?;
        output.finish()?.flush()
    }
}

/// Hashes what goes through it.
struct Hashing<W> {
    output: W,
    hasher: BlockHasher,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.output.write(bytes)?;
        self.hasher.update(bytes.get(..count).unwrap_or_default());
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

/// The seal of a file that is complete: reads it through, on all threads. It belongs at the end of the file.
///
/// # Errors
/// When the file cannot be read.
pub fn seal_of(file: &dyn ReadAt, manifest: &Manifest, sign: Option<Sign<'_>>) -> io::Result<Vec<u8>> {
    let sealed = file.len();
    let count = sealed.div_ceil(BLOCK_BYTES.into());
    let hash = |number: u64| {
        let at = number.saturating_mul(BLOCK_BYTES.into());
        // The file ends inside the last one.
        let block = read_up_to(file, at, BLOCK_BYTES.into())?;
        Ok(Sha256::digest(&block).into())
    };
    let hashes: io::Result<Vec<[u8; 32]>> = (0..count).into_par_iter().map(hash).collect();
    seal(sealed, &hashes?, &[], manifest, sign)
}
