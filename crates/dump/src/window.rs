//! Small reads out of big ones: one `pread` serves the records that follow one another.

use kdive_base::{ReadAt, Why};

/// A buffer over a stretch of a file.
pub struct Window<'a> {
    file: &'a dyn ReadAt,
    ahead: usize,
    start: u64,
    filled: usize,
    buffer: Vec<u8>,
}

impl<'a> Window<'a> {
    /// Reads `file`, at least `ahead` bytes at a time.
    #[must_use]
    pub fn new(file: &'a dyn ReadAt, ahead: usize) -> Self {
        Self { file, ahead, start: 0, filled: 0, buffer: Vec::new() }
    }

    /// Length of the file.
    #[must_use]
    pub fn file_len(&self) -> u64 {
        self.file.len()
    }

    /// Up to `len` bytes at `offset`: fewer where the file ends. The caller bounds `len`.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn get(&mut self, offset: u64, len: usize) -> Result<&[u8], Why> {
        if self.held(offset, len).is_none() {
            let wanted = len.max(self.ahead);
            if self.buffer.len() < wanted {
                self.buffer.resize(wanted, 0);
            }
            let into = self.buffer.get_mut(..wanted).unwrap_or_default();
            self.filled = 0;
            self.filled = self.file.read_full_at(offset, into).map_err(|error| Why::Io(error.kind()))?;
            self.start = offset;
        }
        let at = usize::try_from(offset.saturating_sub(self.start)).unwrap_or(usize::MAX);
        let end = at.saturating_add(len).min(self.filled);
        Ok(self.buffer.get(at..end).unwrap_or_default())
    }

    /// Exactly `len` bytes at `offset`, or why not.
    ///
    /// # Errors
    /// When the file ends before, or cannot be read.
    pub fn exact(&mut self, offset: u64, len: usize) -> Result<&[u8], Why> {
        let bytes = self.get(offset, len)?;
        if bytes.len() == len { Ok(bytes) } else { Err(Why::BeyondFileEnd) }
    }

    fn held(&self, offset: u64, len: usize) -> Option<()> {
        let at = usize::try_from(offset.checked_sub(self.start)?).ok()?;
        (at.checked_add(len)? <= self.filled).then_some(())
    }
}

/// Up to `len` bytes at `offset`, cut to what the file can hold before anything is allocated.
pub(crate) fn read_up_to(file: &dyn ReadAt, offset: u64, len: u64) -> std::io::Result<Vec<u8>> {
    let len = len.min(file.len().saturating_sub(offset));
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
    let count = file.read_full_at(offset, &mut bytes)?;
    bytes.truncate(count);
    Ok(bytes)
}
