//! The two sources of bytes that parsers take: files by offset, and a virtual address space.

use std::io;

use crate::{Endian, Missing, VirtAddr};

/// Positioned reads of a file or of something like one. No cursor, so several threads can read at once.
pub trait ReadAt: Send + Sync {
    /// Reads up to `into.len()` bytes at `offset`; 0 at the end.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize>;

    /// Length in bytes.
    fn len(&self) -> u64;

    /// Whether there is nothing in it.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads as many bytes as there are at `offset`, up to `into.len()`, over short reads and interruptions.
    fn read_full_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut done = 0_usize;
        while let Some(rest) = into.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.read_at(offset.saturating_add(done as u64), rest) {
                Ok(0) => break,
                Ok(count) => done = done.saturating_add(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }
}

impl ReadAt for Vec<u8> {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|at| self.get(at..)).unwrap_or_default();
        let count = rest.len().min(into.len());
        if let (Some(to), Some(from)) = (into.get_mut(..count), rest.get(..count)) {
            to.copy_from_slice(from);
        }
        Ok(count)
    }

    fn len(&self) -> u64 {
        Vec::len(self) as u64
    }
}

/// Memory read through translation: the kernel's address space, or a process's.
pub trait VirtualMemory: Send + Sync {
    /// Reads as far as it can from `at`: how many bytes came, and why it stopped before the end.
    fn read(&self, at: VirtAddr, into: &mut [u8]) -> (usize, Option<Missing>);

    /// Byte order of the machine.
    fn endian(&self) -> Endian {
        Endian::Little
    }

    /// Fills all of `into`, or says what is missing.
    fn read_exact(&self, at: VirtAddr, into: &mut [u8]) -> Result<(), Missing> {
        let wanted = into.len();
        match self.read(at, into) {
            (count, _) if count >= wanted => Ok(()),
            (_, Some(missing)) => Err(missing),
            (count, None) => Err(Missing::new(at.add(count as u64), crate::Why::NeverPresent)),
        }
    }

    /// `count` bytes at `at`. The caller bounds `count`: it is allocated before anything is read.
    fn bytes(&self, at: VirtAddr, count: usize) -> Result<Vec<u8>, Missing> {
        let mut bytes = vec![0; count];
        self.read_exact(at, &mut bytes)?;
        Ok(bytes)
    }

    /// The 8-bit integer at `at`.
    fn u8(&self, at: VirtAddr) -> Result<u8, Missing> {
        let mut raw = [0; 1];
        self.read_exact(at, &mut raw).map(|()| u8::from_le_bytes(raw))
    }

    /// The 16-bit integer at `at`, in the machine's byte order.
    fn u16(&self, at: VirtAddr) -> Result<u16, Missing> {
        let mut raw = [0; 2];
        self.read_exact(at, &mut raw)?;
        Ok(match self.endian() {
            Endian::Little => u16::from_le_bytes(raw),
            Endian::Big => u16::from_be_bytes(raw),
        })
    }

    /// The 32-bit integer at `at`, in the machine's byte order.
    fn u32(&self, at: VirtAddr) -> Result<u32, Missing> {
        let mut raw = [0; 4];
        self.read_exact(at, &mut raw)?;
        Ok(match self.endian() {
            Endian::Little => u32::from_le_bytes(raw),
            Endian::Big => u32::from_be_bytes(raw),
        })
    }

    /// The 64-bit integer at `at`, in the machine's byte order.
    fn u64(&self, at: VirtAddr) -> Result<u64, Missing> {
        let mut raw = [0; 8];
        self.read_exact(at, &mut raw)?;
        Ok(match self.endian() {
            Endian::Little => u64::from_le_bytes(raw),
            Endian::Big => u64::from_be_bytes(raw),
        })
    }

    /// The pointer at `at` (64-bit machines).
    fn pointer(&self, at: VirtAddr) -> Result<VirtAddr, Missing> {
        self.u64(at).map(VirtAddr)
    }

    /// The bytes of the NUL-terminated string at `at`, without the NUL, cut at `limit` bytes or where memory ends.
    fn c_string(&self, at: VirtAddr, limit: usize) -> Result<Vec<u8>, Missing> {
        let mut text = Vec::new();
        while text.len() < limit {
            let here = at.add(text.len() as u64);
            // To the end of the page, not beyond: the next page may be missing and the string may end before it.
            let to_page_end = crate::PAGE_SIZE.saturating_sub(here.page_offset()) as usize;
            let mut piece = vec![0; to_page_end.min(limit.saturating_sub(text.len())).min(256)];
            let (count, missing) = self.read(here, &mut piece);
            piece.truncate(count);
            if let Some(end) = piece.iter().position(|&byte| byte == 0) {
                piece.truncate(end);
                text.extend_from_slice(&piece);
                return Ok(text);
            }
            text.extend_from_slice(&piece);
            match missing {
                Some(missing) if text.is_empty() => return Err(missing),
                Some(_) => return Ok(text),
                None if count == 0 => return Ok(text),
                None => {}
            }
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{PAGE_SIZE, Why};

    /// One page of memory at [`PAGE_SIZE`].
    struct OnePage(Vec<u8>);

    impl VirtualMemory for OnePage {
        fn read(&self, at: VirtAddr, into: &mut [u8]) -> (usize, Option<Missing>) {
            let count = if at.0 < PAGE_SIZE { 0 } else { self.0.read_at(at.0 - PAGE_SIZE, into).unwrap() };
            let missing =
                (count < into.len()).then(|| Missing::new(at.add(count as u64), Why::NotMapped { level: 1 }));
            (count, missing)
        }
    }

    #[test]
    fn a_string_may_touch_the_end_of_memory() {
        let mut page = vec![b'x'; PAGE_SIZE as usize];
        page[PAGE_SIZE as usize - 1] = 0;
        let memory = OnePage(page);
        assert_eq!(memory.c_string(VirtAddr(2 * PAGE_SIZE - 4), 100).unwrap(), b"xxx");
        assert_eq!(memory.c_string(VirtAddr(PAGE_SIZE), 10).unwrap(), b"xxxxxxxxxx");
        assert!(memory.c_string(VirtAddr(0), 10).is_err());
        assert!(memory.u64(VirtAddr(2 * PAGE_SIZE - 4)).is_err());
    }
}
