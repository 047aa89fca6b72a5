//! The headers of partitions and of the dump.

use kdive_base::{Endian, ReadAt};

use crate::window::read_up_to;

const SIGNATURE: &[u8] = b"sadump\0\0";
/// Bytes of a medium's header, before a partition's.
const MEDIUM: usize = 4096;
const SMALLEST_BLOCK: usize = 4096;
const BLOCKS: std::ops::RangeInclusive<u64> = 4096..=1 << 20;
/// Pages are physical addresses of 52 bits.
const MOST_PAGES: u64 = 1 << 40;
const MOST_DISKS: u32 = 16;

// Places in a partition's header.
const SYSTEM: usize = 88;
const SET: usize = 104;
const ORDER: usize = 152;
const USED: usize = 160;
const CHECK_WORDS: usize = 168;

/// Sixteen bytes that name a machine or a set of disks.
type Guid = [u8; 16];

/// What a partition begins with.
#[derive(Clone, Debug)]
pub(super) struct Partition {
    /// Where the header is: behind a medium's, or at the start.
    at: u64,
    pub(super) block: u64,
    pub(super) system: Guid,
    pub(super) set: Guid,
    /// Number of the disk in its set, from 1; 0 alone.
    pub(super) order: u32,
    /// Bytes of the disk that the dump takes.
    pub(super) used: u64,
}

impl Partition {
    /// Reads the header at the start, or behind that of a medium which names the same machine.
    pub(super) fn parse(head: &[u8]) -> Option<Self> {
        if let Some(partition) = Self::parse_at(head, 0) {
            return Some(partition);
        }
        Self::parse_at(head, MEDIUM).filter(|partition| head.starts_with(&partition.system))
    }

    fn parse_at(head: &[u8], at: usize) -> Option<Self> {
        let bytes = head.get(at..)?;
        if !bytes.starts_with(SIGNATURE) {
            return None;
        }
        let guid = |at: usize| bytes.get(at..at.checked_add(16)?)?.try_into().ok();
        Some(Self {
            at: at as u64,
            block: block(bytes)?,
            system: guid(SYSTEM)?,
            set: guid(SET)?,
            order: Endian::Little.u32(bytes, ORDER).filter(|order| *order <= MOST_DISKS)?,
            used: Endian::Little.u64(bytes, USED)?,
        })
    }

    /// Disks of the set; 1 where there is no set, or it was copied to a medium.
    pub(super) fn disks(&self, file: &dyn ReadAt) -> usize {
        if self.order == 0 || self.at > 0 {
            return 1;
        }
        self.set_header(file).map_or(1, |(_, disks)| disks.clamp(1, MOST_DISKS) as usize)
    }

    /// Where the dump's header is.
    pub(super) fn dump_at(&self, file: &dyn ReadAt) -> u64 {
        let blocks = match self.order {
            0 => 1,
            _ => self.set_header(file).map_or(1, |(blocks, _)| u64::from(blocks).saturating_add(1)),
        };
        self.at.saturating_add(blocks.saturating_mul(self.block))
    }

    /// Blocks of the set's header, and disks.
    fn set_header(&self, file: &dyn ReadAt) -> Option<(u32, u32)> {
        let bytes = read_up_to(file, self.at.saturating_add(self.block), 8).ok()?;
        Some((Endian::Little.u32(&bytes, 0)?, Endian::Little.u32(&bytes, 4)?))
    }
}

/// Bytes of a block: so far go the words that check one another. `None` if they do not.
fn block(bytes: &[u8]) -> Option<u64> {
    let word = |at: usize| Endian::Little.u32(bytes, at);
    let follows = |at: &usize| {
        let before = at.checked_sub(4).and_then(word);
        before.map(|before| before.wrapping_add(7).wrapping_mul(11)) == word(*at)
    };
    let words = (CHECK_WORDS..bytes.len().saturating_sub(3)).step_by(4).skip(1).take_while(follows).count();
    let end = words.checked_add(1)?.checked_mul(4)?.checked_add(CHECK_WORDS)?;
    // The words can go on beyond what was read; blocks of more than one page were never seen.
    (end >= SMALLEST_BLOCK).then_some(end as u64).map(|end| 1 << end.ilog2())
}

/// The dump's header.
#[derive(Clone, Debug)]
pub(super) struct Dump {
    pub(super) version: u32,
    pub(super) block: u64,
    pub(super) max_mapnr: u64,
    pub(super) cpus: u32,
    bitmap_blocks: u64,
    /// The states of the processors.
    pub(super) processors_at: u64,
    pub(super) ram_at: u64,
    pub(super) dumped_at: u64,
    pub(super) pages_at: u64,
}

impl Dump {
    pub(super) const BYTES: u64 = 96;

    /// `None` if the file ends before.
    pub(super) fn read(file: &dyn ReadAt, at: u64) -> Option<Self> {
        let bytes = read_up_to(file, at, Self::BYTES).ok()?;
        let word = |at| Endian::Little.u32(&bytes, at).map(u64::from);
        let (version, block) = (Endian::Little.u32(&bytes, 8)?, word(40)?);
        let max_mapnr = if version == 0 { word(60)? } else { Endian::Little.u64(&bytes, 88)? };
        let after = |at: u64, blocks: u64| at.saturating_add(blocks.saturating_mul(block));
        // The header takes a block, and behind it come, if any, one of the machine and the states of the processors.
        let processors_at = after(at, word(44)?.saturating_add(1));
        let ram_at = after(processors_at, word(48)?);
        let dumped_at = after(ram_at, word(52)?);
        Some(Self {
            version: if bytes.starts_with(SIGNATURE) { version } else { u32::MAX },
            block,
            max_mapnr,
            cpus: Endian::Little.u32(&bytes, 80)?,
            bitmap_blocks: word(52)?.min(word(56)?),
            processors_at,
            ram_at,
            dumped_at,
            pages_at: after(dumped_at, word(56)?),
        })
    }

    /// Says what cannot be.
    pub(super) fn check(self) -> Result<Self, String> {
        let bits = self.bitmap_blocks.saturating_mul(self.block).saturating_mul(8);
        if self.version == u32::MAX {
            return Err("behind the partition's header is no header of a dump".into());
        }
        if !self.block.is_power_of_two() || !BLOCKS.contains(&self.block) {
            return Err(format!("the header's block size makes no sense ({:#x})", self.block));
        }
        if self.max_mapnr == 0 || self.max_mapnr > bits.min(MOST_PAGES) {
            return Err(format!("the header's bitmaps are too small for {} pages", self.max_mapnr));
        }
        Ok(self)
    }
}
