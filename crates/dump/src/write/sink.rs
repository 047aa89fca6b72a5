//! Where a writer's bytes go.

use std::io::{self, Seek, SeekFrom, Write};

/// Zeros that are written at a time to take room.
const ZEROS: u64 = 1 << 20;

/// Takes bytes by their offset in the dump, in any order.
pub trait Sink: Send {
    /// Writes `bytes` at `offset`.
    ///
    /// # Errors
    /// When the output cannot take them.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Whether every reader sees what was written last, where something was written twice. Of a stream crash sees what came
    /// first; a stream that ends early shows by its end mark, which is not there.
    fn replaces(&self) -> bool {
        true
    }

    /// Takes the room for what will be written at `offset` later, so that a disk that fills up does so now. Outputs that
    /// have no room to take do nothing.
    ///
    /// # Errors
    /// When there is no room.
    fn reserve(&mut self, offset: u64, bytes: u64) -> io::Result<()> {
        let _ = (offset, bytes);
        Ok(())
    }

    /// Ends the output.
    ///
    /// # Errors
    /// When the output cannot take what is left.
    fn finish(&mut self) -> io::Result<()>;
}

/// A file, or something else that can seek.
#[derive(Debug)]
pub struct PlainSink<W> {
    output: W,
    at: Option<u64>,
}

impl<W: Write + Seek> PlainSink<W> {
    /// Writes to `output`, from its start.
    pub fn new(output: W) -> Self {
        Self { output, at: None }
    }
}

impl<W: Write + Seek + Send> Sink for PlainSink<W> {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if self.at.take() != Some(offset) {
            self.output.seek(SeekFrom::Start(offset))?;
        }
        self.output.write_all(bytes)?;
        self.at = offset.checked_add(bytes.len() as u64);
        Ok(())
    }

    fn reserve(&mut self, offset: u64, bytes: u64) -> io::Result<()> {
        let zeros = vec![0; usize::try_from(bytes.min(ZEROS)).unwrap_or(0)];
        let mut done = 0_u64;
        while done < bytes {
            let piece = bytes.saturating_sub(done).min(ZEROS);
            let piece = zeros.get(..usize::try_from(piece).unwrap_or(0)).unwrap_or_default();
            self.write_at(offset.saturating_add(done), piece)?;
            done = done.saturating_add(piece.len() as u64);
        }
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

/// A stream, in makedumpfile's flattened format (see the reader, `flattened.rs`, for its layout).
#[derive(Debug)]
pub struct FlattenedSink<W> {
    output: W,
}

impl<W: Write> FlattenedSink<W> {
    /// Writes the flattened format's header to `output`.
    ///
    /// # Errors
    /// When the output cannot take it.
    pub fn new(mut output: W) -> io::Result<Self> {
        let mut header = Vec::with_capacity(4096);
        header.extend_from_slice(b"makedumpfile\0\0\0\0");
        header.extend_from_slice(&1_i64.to_be_bytes());
        header.extend_from_slice(&1_i64.to_be_bytes());
        header.resize(4096, 0);
        output.write_all(&header)?;
        Ok(Self { output })
    }

    /// What the stream goes to.
    pub(super) fn output(&mut self) -> &mut W {
        &mut self.output
    }

    /// What the stream went to.
    pub(super) fn into_output(self) -> W {
        self.output
    }

    fn record(&mut self, offset: i64, size: i64) -> io::Result<()> {
        self.output.write_all(&offset.to_be_bytes())?;
        self.output.write_all(&size.to_be_bytes())
    }
}

impl<W: Write + Send> Sink for FlattenedSink<W> {
    fn replaces(&self) -> bool {
        false
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        // Of no use, and some readers take it for the end.
        if bytes.is_empty() {
            return Ok(());
        }
        self.record(i64::try_from(offset).map_err(io::Error::other)?, bytes.len() as i64)?;
        self.output.write_all(bytes)
    }

    fn finish(&mut self) -> io::Result<()> {
        self.record(-1, -1)?;
        self.output.flush()
    }
}

/// An output that may not grow beyond a size: a write beyond it fails as on a full disk.
pub struct LimitedSink<'a> {
    inner: &'a mut dyn Sink,
    limit: u64,
}

impl<'a> LimitedSink<'a> {
    /// Lets `inner` grow to `limit` bytes.
    pub fn new(inner: &'a mut dyn Sink, limit: u64) -> Self {
        Self { inner, limit }
    }

    fn check(&self, offset: u64, bytes: u64) -> io::Result<()> {
        let fits = offset.checked_add(bytes).is_some_and(|end| end <= self.limit);
        if fits { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
    }
}

impl Sink for LimitedSink<'_> {
    fn replaces(&self) -> bool {
        self.inner.replaces()
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.check(offset, bytes.len() as u64)?;
        self.inner.write_at(offset, bytes)
    }

    fn reserve(&mut self, offset: u64, bytes: u64) -> io::Result<()> {
        self.check(offset, bytes)?;
        self.inner.reserve(offset, bytes)
    }

    fn finish(&mut self) -> io::Result<()> {
        self.inner.finish()
    }
}

/// Takes everything and keeps nothing: to know what would be written.
#[derive(Debug)]
pub struct VoidSink;

impl Sink for VoidSink {
    fn write_at(&mut self, _offset: u64, _bytes: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}
