//! Where a writer's bytes go.

use std::io::{self, Seek, SeekFrom, Write};

/// Takes bytes by their offset in the dump, in any order.
pub trait Sink {
    /// Writes `bytes` at `offset`.
    ///
    /// # Errors
    /// When the output cannot take them.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;

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

impl<W: Write + Seek> Sink for PlainSink<W> {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if self.at.take() != Some(offset) {
            self.output.seek(SeekFrom::Start(offset))?;
        }
        self.output.write_all(bytes)?;
        self.at = offset.checked_add(bytes.len() as u64);
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

    fn record(&mut self, offset: i64, size: i64) -> io::Result<()> {
        self.output.write_all(&offset.to_be_bytes())?;
        self.output.write_all(&size.to_be_bytes())
    }
}

impl<W: Write> Sink for FlattenedSink<W> {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.record(i64::try_from(offset).map_err(io::Error::other)?, bytes.len() as i64)?;
        self.output.write_all(bytes)
    }

    fn finish(&mut self) -> io::Result<()> {
        self.record(-1, -1)?;
        self.output.flush()
    }
}
