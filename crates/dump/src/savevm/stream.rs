//! A cursor over a stream of big-endian numbers and names.

use std::io::ErrorKind;

use kdive_base::{Endian, ReadAt, Why};

use crate::window::Window;

/// Why the stream cannot be followed further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The file ends.
    Cut,
    /// The file cannot be read.
    Io(ErrorKind),
    /// Something that cannot be passed over.
    Odd { at: u64, what: String },
}

/// The stream from an offset on.
pub(super) struct Stream<'a> {
    window: Window<'a>,
    pub(super) at: u64,
}

/// Bytes of the stream that are read at once.
const AHEAD: usize = 256 << 10;

impl<'a> Stream<'a> {
    pub(super) fn new(file: &'a dyn ReadAt, at: u64) -> Self {
        Self { window: Window::new(file, AHEAD), at }
    }

    /// The next bytes.
    pub(super) fn take(&mut self, count: usize) -> Result<&[u8], Stop> {
        let at = self.at;
        self.at = at.saturating_add(count as u64);
        self.window.exact(at, count).map_err(|why| match why {
            Why::Io(kind) => Stop::Io(kind),
            _ => Stop::Cut,
        })
    }

    /// Passes over bytes, all of which must be there.
    pub(super) fn skip(&mut self, count: u64) -> Result<(), Stop> {
        self.at = self.at.checked_add(count).filter(|at| *at <= self.window.file_len()).ok_or(Stop::Cut)?;
        Ok(())
    }

    /// Length of the file.
    pub(super) fn file_len(&self) -> u64 {
        self.window.file_len()
    }

    /// The next byte, which stays the next.
    pub(super) fn peek(&mut self) -> Result<u8, Stop> {
        let at = self.at;
        let byte = self.u8();
        self.at = at;
        byte
    }

    pub(super) fn u8(&mut self) -> Result<u8, Stop> {
        self.take(1).map(|bytes| Endian::Big.u8(bytes, 0).unwrap_or(0))
    }

    pub(super) fn u16(&mut self) -> Result<u16, Stop> {
        self.take(2).map(|bytes| Endian::Big.u16(bytes, 0).unwrap_or(0))
    }

    pub(super) fn u32(&mut self) -> Result<u32, Stop> {
        self.take(4).map(|bytes| Endian::Big.u32(bytes, 0).unwrap_or(0))
    }

    pub(super) fn u64(&mut self) -> Result<u64, Stop> {
        self.take(8).map(|bytes| Endian::Big.u64(bytes, 0).unwrap_or(0))
    }

    /// A name behind a byte that counts its bytes.
    pub(super) fn name(&mut self) -> Result<String, Stop> {
        let count = self.u8()?;
        Ok(String::from_utf8_lossy(self.take(count.into())?).into_owned())
    }

    /// The stop at the place before the last `back` bytes.
    pub(super) fn odd(&self, back: u64, what: impl Into<String>) -> Stop {
        Stop::Odd { at: self.at.saturating_sub(back), what: what.into() }
    }
}
