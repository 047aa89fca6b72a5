//! The tags of a group: u8 size of the value and number of indices, u8 length of the name, the name, u32 indices, the value.
//!
//! The low six bits of the first byte are the value's size, the high two the number of indices. A size of 62 or 63 means a
//! block, compressed or plain: its size in the file, its size in memory, u16 padding, the padding, the bytes. A tag of two
//! zero bytes ends the group.

use kdive_base::{Endian, ReadAt, Why};

use crate::window::Window;

const SIZE: u8 = 0x3f;
const INDICES: u32 = 6;
const COMPRESSED: u8 = 62;
const PLAIN: u8 = 63;

/// A long value: where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) at: u64,
    /// Bytes in the file.
    pub(super) bytes: u64,
    pub(super) is_compressed: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tag {
    pub(super) name: Vec<u8>,
    pub(super) indices: Vec<u32>,
    /// A value that is no block: 61 bytes at most.
    pub(super) value: Vec<u8>,
    pub(super) block: Option<Block>,
}

impl Tag {
    /// The value as a number, if it is one.
    pub(super) fn number(&self) -> Option<u64> {
        self.block.is_none().then(|| Endian::Little.unsigned(&self.value, 0, self.value.len()))?
    }
}

/// The tags of a group, one after the other.
pub(super) struct Tags<'a> {
    window: Window<'a>,
    pub(super) at: u64,
    /// Sizes of blocks have 64 bits.
    is_wide: bool,
}

impl<'a> Tags<'a> {
    pub(super) fn new(file: &'a dyn ReadAt, at: u64, is_wide: bool) -> Self {
        Self { window: Window::new(file, 4096), at, is_wide }
    }

    /// The next tag; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Tag>, Why> {
        let [head, name_bytes] = self.take()?;
        if (head, name_bytes) == (0, 0) {
            return Ok(None);
        }
        let mut tag = Tag { name: self.bytes(name_bytes.into())?, ..Tag::default() };
        for _ in 0..head >> INDICES {
            tag.indices.push(u32::from_le_bytes(self.take()?));
        }
        match head & SIZE {
            COMPRESSED | PLAIN => {
                let bytes = self.size()?;
                let _in_memory = self.size()?;
                let padding = u16::from_le_bytes(self.take()?);
                let at = self.at.saturating_add(padding.into());
                tag.block = Some(Block { at, bytes, is_compressed: head & SIZE == COMPRESSED });
                self.at = at.saturating_add(bytes);
            }
            size => tag.value = self.bytes(size.into())?,
        }
        Ok(Some(tag))
    }

    fn size(&mut self) -> Result<u64, Why> {
        if self.is_wide {
            Ok(u64::from_le_bytes(self.take()?))
        } else {
            Ok(u32::from_le_bytes(self.take()?).into())
        }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Why> {
        let bytes = self.window.exact(self.at, N)?;
        self.at = self.at.saturating_add(N as u64);
        bytes.try_into().map_err(|_| Why::BeyondFileEnd)
    }

    fn bytes(&mut self, count: usize) -> Result<Vec<u8>, Why> {
        let bytes = self.window.exact(self.at, count)?.to_vec();
        self.at = self.at.saturating_add(count as u64);
        Ok(bytes)
    }
}
