//! Where the bytes of a value come from.

use std::cell::RefCell;

use kdive_base::{Endian, Missing, VirtAddr, VirtualMemory};

/// Bytes at hand, or memory that is read page by page as the value is walked.
pub(super) struct Source<'s> {
    from: From<'s>,
    endian: Endian,
}

enum From<'s> {
    Bytes(&'s [u8]),
    Memory { memory: &'s dyn VirtualMemory, at: VirtAddr, page: RefCell<Option<Page>> },
}

/// What could be read of a page, and why no more.
struct Page {
    start: VirtAddr,
    bytes: Vec<u8>,
    stopped: Option<Missing>,
}

/// Why bytes are not there: `None` where the bytes at hand are too short.
pub(super) type Gone = Option<Missing>;

const PAGE: usize = kdive_base::PAGE_SIZE as usize;

impl<'s> Source<'s> {
    pub(super) const fn bytes(bytes: &'s [u8], endian: Endian) -> Self {
        Self { from: From::Bytes(bytes), endian }
    }

    pub(super) fn memory(memory: &'s dyn VirtualMemory, at: VirtAddr) -> Self {
        let endian = memory.endian();
        Self { from: From::Memory { memory, at, page: RefCell::default() }, endian }
    }

    pub(super) const fn endian(&self) -> Endian {
        self.endian
    }

    /// Where the byte at an offset lies, if the value lies in memory.
    pub(super) const fn address(&self, offset: u64) -> Option<VirtAddr> {
        match self.from {
            From::Bytes(_) => None,
            From::Memory { at, .. } => Some(at.add(offset)),
        }
    }

    /// Fills `into` from an offset.
    pub(super) fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), Gone> {
        match &self.from {
            From::Bytes(bytes) => {
                let start = usize::try_from(offset).map_err(|_| None)?;
                let end = start.checked_add(into.len()).ok_or(None)?;
                into.copy_from_slice(bytes.get(start..end).ok_or(None)?);
                Ok(())
            }
            From::Memory { memory, at, page } => {
                let mut page = page.borrow_mut();
                let mut done = 0_usize;
                while let Some(rest) = into.get_mut(done..).filter(|rest| !rest.is_empty()) {
                    let here = at.add(offset).add(done as u64);
                    let page = Page::at(&mut page, *memory, here);
                    done = done.saturating_add(page.copy(here, rest)?);
                }
                Ok(())
            }
        }
    }

    /// Why none of the bytes from an offset on can be read; `None` where some can.
    pub(super) fn all_missing(&self, offset: u64, length: u64) -> Option<Missing> {
        let From::Memory { at, .. } = &self.from else { return None };
        /// More than this is not probed: something of it will be there, or each part says so itself.
        const MOST: u64 = 1 << 20;
        let mut first = None;
        let mut probe = 0;
        while probe < length.min(MOST) {
            let mut byte = [0; 1];
            match self.read(offset.saturating_add(probe), &mut byte) {
                Ok(()) | Err(None) => return None,
                Err(Some(missing)) => first = first.or(Some(missing)),
            }
            let inside = at.add(offset).add(probe).page_offset();
            probe = probe.saturating_add((PAGE as u64).saturating_sub(inside));
        }
        first
    }
}

impl Page {
    /// The page of an address; the last one is kept.
    fn at<'p>(kept: &'p mut Option<Self>, memory: &dyn VirtualMemory, address: VirtAddr) -> &'p Self {
        let start = address.page_start();
        let page = match kept.take() {
            Some(page) if page.start == start => page,
            _ => {
                let mut bytes = vec![0; PAGE];
                let (count, stopped) = memory.read(start, &mut bytes);
                bytes.truncate(count);
                Self { start, bytes, stopped }
            }
        };
        kept.insert(page)
    }

    /// Copies what it has from an address on.
    fn copy(&self, from: VirtAddr, into: &mut [u8]) -> Result<usize, Gone> {
        let start = from.since(self.start) as usize;
        let known = self.bytes.get(start..).unwrap_or_default();
        let count = known.len().min(into.len());
        if count == 0 {
            let why = self.stopped.map_or(kdive_base::Why::NeverPresent, |missing| missing.why);
            return Err(Some(Missing::new(from, why)));
        }
        if let (Some(into), Some(known)) = (into.get_mut(..count), known.get(..count)) {
            into.copy_from_slice(known);
        }
        Ok(count)
    }
}
