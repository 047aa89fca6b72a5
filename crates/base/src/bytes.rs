//! Endian-aware, bounds-checked reading of integers out of byte slices.

use serde::Serialize;

/// Byte order of the dumped machine or of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub enum Endian {
    /// Least significant byte first (x86, and arm64, riscv as Linux runs them).
    #[default]
    Little,
    /// Most significant byte first (s390x).
    Big,
}

macro_rules! read_integer {
    ($($(#[$doc:meta])* $name:ident: $ty:ty),* $(,)?) => {
        impl Endian {$(
            $(#[$doc])*
            #[must_use]
            pub fn $name(self, bytes: &[u8], at: usize) -> Option<$ty> {
                let end = at.checked_add(size_of::<$ty>())?;
                let raw = bytes.get(at..end)?.try_into().ok()?;
                Some(match self {
                    Self::Little => <$ty>::from_le_bytes(raw),
                    Self::Big => <$ty>::from_be_bytes(raw),
                })
            }
        )*}

        impl ByteReader<'_> {$(
            $(#[$doc])*
            /// Moves past it; `None`, and no move, at the end.
            pub fn $name(&mut self) -> Option<$ty> {
                let value = self.endian.$name(self.bytes, self.at)?;
                self.at = self.at.checked_add(size_of::<$ty>())?;
                Some(value)
            }
        )*}
    };
}

read_integer! {
    /// The byte at an offset; `None` past the end.
    u8: u8,
    /// The 16-bit unsigned integer at an offset; `None` past the end.
    u16: u16,
    /// The 32-bit unsigned integer at an offset; `None` past the end.
    u32: u32,
    /// The 64-bit unsigned integer at an offset; `None` past the end.
    u64: u64,
    /// The 16-bit signed integer at an offset; `None` past the end.
    i16: i16,
    /// The 32-bit signed integer at an offset; `None` past the end.
    i32: i32,
    /// The 64-bit signed integer at an offset; `None` past the end.
    i64: i64,
}

impl Endian {
    /// An unsigned integer of 1, 2, 4 or 8 bytes at an offset; `None` past the end or for another width.
    #[must_use]
    pub fn unsigned(self, bytes: &[u8], at: usize, width: usize) -> Option<u64> {
        match width {
            1 => self.u8(bytes, at).map(u64::from),
            2 => self.u16(bytes, at).map(u64::from),
            4 => self.u32(bytes, at).map(u64::from),
            8 => self.u64(bytes, at),
            _ => None,
        }
    }
}

/// A cursor over bytes that never runs past their end.
#[derive(Clone, Debug)]
pub struct ByteReader<'a> {
    bytes: &'a [u8],
    at: usize,
    endian: Endian,
}

impl<'a> ByteReader<'a> {
    /// A cursor at the first of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8], endian: Endian) -> Self {
        Self { bytes, at: 0, endian }
    }

    /// Offset of the next byte from the start.
    #[must_use]
    pub fn position(&self) -> usize {
        self.at
    }

    /// Moves to an offset from the start; past the end is allowed and makes every read `None`.
    pub fn seek(&mut self, at: usize) {
        self.at = at;
    }

    /// Bytes not yet read.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.bytes.len().saturating_sub(self.at)
    }

    /// The next `count` bytes, moving past them.
    pub fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(count)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    /// Moves over `count` bytes.
    pub fn skip(&mut self, count: usize) -> Option<()> {
        self.take(count).map(drop)
    }

    /// Moves to the next multiple of `alignment` from the start (a power of two).
    pub fn align(&mut self, alignment: usize) -> Option<()> {
        self.at = self.at.checked_next_multiple_of(alignment)?;
        Some(())
    }
}

/// The bytes before the first NUL, or all of them.
#[must_use]
pub fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|&byte| byte == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_stop_at_the_end() {
        let bytes = [1, 2, 3, 4, 5];
        assert_eq!(Endian::Little.u32(&bytes, 0), Some(0x0403_0201));
        assert_eq!(Endian::Big.u16(&bytes, 3), Some(0x0405));
        assert_eq!(Endian::Little.u32(&bytes, 2), None);
        assert_eq!(Endian::Little.u64(&bytes, usize::MAX), None);
        let mut reader = ByteReader::new(&bytes, Endian::Little);
        assert_eq!(reader.u32(), Some(0x0403_0201));
        assert_eq!(reader.u16(), None);
        assert_eq!(reader.u8(), Some(5));
        assert_eq!(reader.remaining(), 0);
    }

    #[test]
    fn text_ends_at_its_nul() {
        assert_eq!(until_nul(b"ab\0c"), b"ab");
        assert_eq!(until_nul(b"abc"), b"abc");
    }
}
