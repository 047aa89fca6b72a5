//! LKCD's main header. What lies behind the first fields moved with each version; the text of `utsname` tells where.

use kdive_base::{ByteReader, Endian};

use crate::facts::UtsName;

const MAGIC: u64 = 0xa819_0173_618f_23ed;
/// Versions count in the low bits; Mission Critical Linux set the highest two for its own writers.
const VERSION_BITS: u32 = 0xf;
const NEWEST: u32 = 10;
/// Where pages begin if the header does not say: its buffer's size in versions 1 to 8.
const PAGES_AT: u64 = 64 << 10;
/// The longest of the headers, with the buffer's size in versions 9 and 10.
pub(super) const MOST_BYTES: u64 = BUFFER_SIZE_AT as u64 + 8;
const BUFFER_SIZE_AT: usize = 734;

/// How packed pages are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    None,
    Rle,
    Gzip,
}

impl Packing {
    fn of(word: u32) -> Option<Self> {
        [Self::None, Self::Rle, Self::Gzip].get(usize::try_from(word).ok()?).copied()
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Rle => "run-length",
            Self::Gzip => "zlib",
        }
    }
}

/// Where a version has what differs between them.
#[derive(Clone, Copy, Debug)]
struct Places {
    word_bits: u32,
    seconds: usize,
    seconds_width: usize,
    uts: usize,
    packing: Option<usize>,
}

impl Places {
    /// The candidates of a version: of 64-bit machines, and of 32-bit ones.
    fn of(version: u32) -> &'static [Self] {
        const fn places(
            word_bits: u32,
            seconds: usize,
            seconds_width: usize,
            uts: usize,
            packing: Option<usize>,
        ) -> Places {
            Places { word_bits, seconds, seconds_width, uts, packing }
        }
        // A pointer to a task lies before the packing.
        const V1: &[Places] = &[places(32, 316, 4, 324, None)];
        const V2: &[Places] = &[places(64, 312, 8, 328, None), places(32, 308, 4, 316, None)];
        const V5: &[Places] = &[places(64, 312, 8, 328, Some(728)), places(32, 308, 4, 316, Some(712))];
        const V8: &[Places] = &[places(64, 308, 8, 324, Some(722))];
        match version {
            0 | 1 => V1,
            2..=4 => V2,
            5..=7 => V5,
            _ => V8,
        }
    }
}

/// What the header says.
#[derive(Clone, Debug)]
pub(super) struct Header {
    pub(super) endian: Endian,
    pub(super) version: u32,
    pub(super) page_bytes: u64,
    /// Where the first page's record is.
    pub(super) pages_at: u64,
    /// `None` where the version has no field for it, or it holds no known value.
    pub(super) packing: Option<Packing>,
    pub(super) word_bits: Option<u32>,
    pub(super) uts: Option<UtsName>,
    pub(super) timestamp: Option<u64>,
}

impl Header {
    /// The byte order of a file that begins as an LKCD dump does.
    pub(super) fn endian(head: &[u8]) -> Option<Endian> {
        [Endian::Little, Endian::Big].into_iter().find(|endian| endian.u64(head, 0) == Some(MAGIC))
    }

    /// `None` if the bytes are too few.
    pub(super) fn parse(head: &[u8]) -> Option<Self> {
        let endian = Self::endian(head)?;
        head.get(..usize::try_from(MOST_BYTES).ok()?)?;
        let version = endian.u32(head, 8)? & VERSION_BITS;
        let page_bytes = u64::from(endian.u32(head, 20)?);
        let buffer = endian.u64(head, BUFFER_SIZE_AT).filter(|&bytes| version >= 9 && bytes >= MOST_BYTES);
        let places = Places::of(version).iter().find(|places| is_text(head, places.uts));
        let uts =
            places.and_then(|places| UtsName::read(&mut ByteReader::new(head.get(places.uts..)?, endian)));
        let seconds = places.and_then(|places| endian.unsigned(head, places.seconds, places.seconds_width));
        let machine_is_32 = |uts: &UtsName| uts.machine.ends_with("86") || uts.machine.starts_with("arm");
        let word_bits = match &uts {
            // Since version 8 the header is one for all machines.
            Some(uts) if version >= 8 => Some(if machine_is_32(uts) { 32 } else { 64 }),
            _ => places.map(|places| places.word_bits),
        };
        let packing = places.and_then(|places| endian.u32(head, places.packing?)).and_then(Packing::of);
        Some(Self {
            endian,
            version,
            page_bytes,
            pages_at: buffer.unwrap_or(PAGES_AT),
            packing,
            word_bits,
            uts,
            timestamp: seconds.filter(|&seconds| seconds > 0),
        })
    }

    /// Says what cannot be.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.version > NEWEST {
            return Err(format!("the header is of the unknown version {}", self.version));
        }
        if !self.page_bytes.is_power_of_two() || !(1 << 10..=1 << 20).contains(&self.page_bytes) {
            return Err(format!("the header's page size makes no sense ({:#x})", self.page_bytes));
        }
        Ok(())
    }
}

fn is_text(head: &[u8], at: usize) -> bool {
    head.get(at..).is_some_and(|rest| rest.starts_with(b"Linux\0"))
}
