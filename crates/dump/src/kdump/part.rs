//! One file of a kdump-compressed dump: from a page frame number to the page.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use kdive_base::{ByteReader, ReadAt, Why};

use super::FORMAT;
use super::bitmap::{Bitmap, page_state};
use super::header::{HEADER_BYTES, Header, SubHeader, codec};
use crate::OpenError;
use crate::cache::Cache;
use crate::formats::Source;
use crate::memory::RunState;
use crate::window::{Window, read_up_to};

/// `struct page_desc`: u64 offset, u32 size, u32 flags, u64 page_flags.
const DESCRIPTOR_BYTES: usize = 24;
/// Descriptors read at a time.
const DESCRIPTORS: u64 = 256;
const DESCRIPTOR_BLOCK: usize = DESCRIPTOR_BYTES * DESCRIPTORS as usize;
/// 3 MiB, for 512 MiB of memory.
const DESCRIPTOR_BLOCKS_KEPT: usize = 512;
/// Pages are physical addresses: 52 bits on x86-64, 4 KiB at least.
const MAX_PAGES: u64 = 1 << 40;
/// No file has a page at offset 0.
const NO_OFFSET: u64 = 0;

pub(super) struct Part {
    pub(super) name: String,
    pub(super) file: Arc<dyn ReadAt>,
    pub(super) header: Header,
    pub(super) sub: SubHeader,
    pub(super) is_split: bool,
    /// Pages of the machine, as far as the bitmaps describe them.
    pub(super) max_mapnr: u64,
    /// The pages whose descriptors are in this file.
    pub(super) pfns: Range<u64>,
    /// Which pages are RAM.
    ram: Bitmap,
    /// Which pages are in the dump.
    dumped: Bitmap,
    /// Rank of the first page of `pfns`.
    first_rank: OnceLock<u64>,
    descriptors: Cache<Box<[u8]>>,
    /// Offset of a page that turned out to be all zeros: writers make all zero pages share one.
    zero_at: AtomicU64,
}

/// Where a page is, from its descriptor.
struct Place {
    offset: u64,
    size: u32,
    flags: u32,
}

impl Part {
    /// Reads the headers.
    pub(super) fn open(source: &Source) -> Result<Self, OpenError> {
        let io = |error| OpenError::Io { name: source.name.clone(), source: error };
        let damaged = |what| OpenError::damaged(&source.name, FORMAT.name, what);
        let file = Arc::clone(&source.data);
        let cut = |needs| OpenError::Truncated {
            name: source.name.clone(),
            format: FORMAT.name,
            needs,
            has: source.data.len(),
        };
        if file.len() < HEADER_BYTES {
            return Err(cut(HEADER_BYTES));
        }
        let header = Header::parse(&source.head()?).map_err(damaged)?;
        if file.len() <= header.dumped_bitmap_at() {
            return Err(cut(header.descriptors_at()));
        }
        let sub_at = u64::from(header.block_size);
        let sub = SubHeader::parse(&read_up_to(&*file, sub_at, SubHeader::BYTES).map_err(io)?, &header);
        let max_mapnr =
            sub.max_mapnr.unwrap_or(u64::from(header.max_mapnr)).min(header.bitmap_bits()).min(MAX_PAGES);
        if max_mapnr == 0 {
            return Err(damaged("the header says that the machine has no pages".into()));
        }
        let pfns = match &sub.split {
            Some(range) => range.start..range.end.min(max_mapnr),
            None => 0..max_mapnr,
        };
        if pfns.is_empty() {
            return Err(damaged(format!(
                "this part of a split dump holds no pages ({}..{})",
                pfns.start, pfns.end
            )));
        }
        Ok(Self {
            name: source.name.clone(),
            is_split: sub.split.is_some(),
            ram: Bitmap::new(Arc::clone(&file), header.ram_bitmap_at(), max_mapnr),
            dumped: Bitmap::new(Arc::clone(&file), header.dumped_bitmap_at(), max_mapnr),
            first_rank: OnceLock::new(),
            descriptors: Cache::new(DESCRIPTOR_BLOCKS_KEPT),
            zero_at: AtomicU64::new(NO_OFFSET),
            max_mapnr,
            pfns,
            file,
            header,
            sub,
        })
    }

    /// What can be told cheaply of a file that was cut: its last descriptors point beyond its end.
    pub(super) fn warning(&self) -> Option<String> {
        /// Pages whose bitmap is counted without a thought: 32 GiB, 1 MiB of bitmap.
        const FEW_PAGES: u64 = 8 << 20;
        let has = self.file.len();
        if self.max_mapnr > FEW_PAGES {
            return None;
        }
        let last = match self.dumped.count() {
            Ok(0) => return None,
            Ok(count) if !self.is_split => count.saturating_sub(1),
            Ok(_) => return None,
            Err(_) => {
                return Some(format!(
                    "{}: truncated: the file ends at {has} bytes, inside its bitmaps",
                    self.name
                ));
            }
        };
        let needs = match self.descriptor(last) {
            Ok(place) => place.offset.saturating_add(u64::from(place.size)),
            Err(Why::BeyondFileEnd) => self.descriptor_at(last).saturating_add(DESCRIPTOR_BYTES as u64),
            Err(_) => return None,
        };
        let name = &self.name;
        (needs > has).then(|| {
            format!("{name}: truncated: the file ends at {has} bytes, its last page at {needs} or later")
        })
    }

    /// The state of a page, whichever part has its descriptor, and how many pages from it on have it at least.
    pub(super) fn state(&self, pfn: u64) -> (u64, RunState) {
        page_state(&self.ram, &self.dumped, pfn)
    }

    /// Decompresses a page of this part into `page`, reading through `window`. Says whether it is all zeros.
    pub(super) fn page(&self, pfn: u64, window: &mut Window<'_>, page: &mut [u8]) -> Result<bool, Why> {
        let (set, rank) = self.dumped.bit_and_rank(pfn)?;
        if !set {
            return match self.state(pfn) {
                (_, RunState::Missing(why)) => Err(why),
                (_, RunState::Present) => Err(Why::Corrupt("bitmap")),
            };
        }
        let index = rank.checked_sub(self.first_rank()?).ok_or(Why::Corrupt("bitmap"))?;
        let place = self.descriptor(index)?;
        if place.offset == NO_OFFSET {
            return Err(Why::NotWritten);
        }
        if place.offset == self.zero_at.load(Ordering::Relaxed) {
            page.fill(0);
            return Ok(true);
        }
        let codec = codec(place.flags).ok_or(Why::Corrupt("page descriptor"))?;
        // A writer keeps a page as it is if compression makes it longer.
        let size = usize::try_from(place.size).unwrap_or(usize::MAX);
        if size == 0 || size > page.len() {
            return Err(Why::Corrupt("page descriptor"));
        }
        codec.decode(window.exact(place.offset, size)?, page)?;
        let zero = page.iter().all(|&byte| byte == 0);
        if zero {
            self.zero_at.store(place.offset, Ordering::Relaxed);
        }
        Ok(zero)
    }

    fn first_rank(&self) -> Result<u64, Why> {
        if let Some(&rank) = self.first_rank.get() {
            return Ok(rank);
        }
        let (_, rank) = self.dumped.bit_and_rank(self.pfns.start)?;
        Ok(*self.first_rank.get_or_init(|| rank))
    }

    fn descriptor_at(&self, index: u64) -> u64 {
        self.header.descriptors_at().saturating_add(index.saturating_mul(DESCRIPTOR_BYTES as u64))
    }

    fn descriptor(&self, index: u64) -> Result<Place, Why> {
        let block = index / DESCRIPTORS;
        let at = usize::try_from(index % DESCRIPTORS).unwrap_or(0).saturating_mul(DESCRIPTOR_BYTES);
        let parse = |bytes: &[u8], at: usize| {
            let mut reader = ByteReader::new(bytes.get(at..)?, self.header.endian);
            let place = Place { offset: reader.u64()?, size: reader.u32()?, flags: reader.u32()? };
            reader.u64()?;
            Some(place)
        };
        let mut window = Window::new(&*self.file, 0);
        let known = self.descriptors.get(block, |bytes| parse(bytes, at));
        let place = match known {
            Some(place) => place,
            None => {
                let start = self.descriptor_at(block.saturating_mul(DESCRIPTORS));
                let bytes = window.get(start, DESCRIPTOR_BLOCK)?;
                let place = parse(bytes, at);
                self.descriptors.insert(block, bytes.into());
                place
            }
        };
        // Of a stream that was cut, a block ends at the first descriptor that was lost: those behind it may be there.
        let lone = || parse(window.exact(self.descriptor_at(index), DESCRIPTOR_BYTES).ok()?, 0);
        place.or_else(lone).ok_or(Why::BeyondFileEnd)
    }
}
