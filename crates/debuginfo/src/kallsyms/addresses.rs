//! Addresses: four encodings over the years.

use kdive_base::{Endian, VirtAddr, VirtualMemory};
use serde::Serialize;

use super::{Expect, KallsymsAt, KallsymsError};

/// How addresses are encoded.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Encoding {
    /// Whole addresses (before 4.6, and up to 6.10 where an architecture wanted it).
    Absolute,
    /// Unsigned 32-bit offsets from `kallsyms_relative_base` (4.6 to 6.19).
    BaseRelative,
    /// The same with x86's per-CPU symbols in between (4.6 to 6.14): a value of 0 or more is itself the number, a
    /// negative one is `base - 1 - value`.
    BaseRelativePerCpu,
    /// Signed 32-bit offsets from the entry's own address (7.0 and later).
    PlaceRelative,
}

/// What was chosen.
pub(super) struct Choice {
    pub(super) encoding: Encoding,
    pub(super) raw: Raw,
    /// See [`Raw::plausibility`].
    pub(super) plausibility: usize,
}

/// Reads the addresses of `count` symbols in the encoding that fits best what is expected. `probe` is the number of
/// the expected symbol.
pub(super) fn choose(
    memory: &dyn VirtualMemory,
    at: &KallsymsAt,
    count: usize,
    expect: &Expect<'_>,
    probe: Option<usize>,
) -> Result<Choice, KallsymsError> {
    let raw = Raw::read(memory, at, count)?;
    let fits = |encoding: &Encoding| match (expect.symbol, probe) {
        (Some((_, address)), Some(probe)) => raw.decode(*encoding, probe) == Some(address),
        _ => true,
    };
    let candidates = raw.encodings().into_iter().filter(fits);
    let scored = candidates.map(|encoding| (encoding, raw.plausibility(encoding, expect)));
    let Some((encoding, plausibility)) = scored.max_by_key(|&(_, score)| score) else {
        let (symbol, address) = expect.symbol.unwrap_or(("_stext", VirtAddr(0)));
        return Err(KallsymsError::Encoding { symbol: symbol.to_owned(), address });
    };
    Ok(Choice { encoding, raw, plausibility })
}

/// The table as bytes, decoded entry by entry.
pub(super) struct Raw {
    bytes: Vec<u8>,
    endian: Endian,
    /// Where the table is.
    at: VirtAddr,
    /// Bytes of an entry: 4 are offsets, 8 whole addresses.
    width: usize,
    base: Option<u64>,
    /// Entries that are there.
    pub(super) count: usize,
}

impl Raw {
    fn read(memory: &dyn VirtualMemory, at: &KallsymsAt, count: usize) -> Result<Self, KallsymsError> {
        let (table, name, width) = match (at.offsets, at.addresses) {
            (Some(offsets), _) => (offsets, "kallsyms_offsets", 4),
            (None, Some(addresses)) => (addresses, "kallsyms_addresses", 8),
            (None, None) => return Err(KallsymsError::Damaged("there is no table of addresses")),
        };
        let mut bytes = vec![0; count.saturating_mul(width)];
        let (got, why) = memory.read(table, &mut bytes);
        bytes.truncate(got);
        if let (true, Some(missing)) = (got < width, why) {
            return Err(KallsymsError::Missing { table: name, missing });
        }
        let base = at.relative_base.and_then(|at| memory.u64(at).ok());
        Ok(Self {
            count: got.checked_div(width).unwrap_or(0),
            bytes,
            endian: memory.endian(),
            at: table,
            width,
            base,
        })
    }

    fn encodings(&self) -> Vec<Encoding> {
        match (self.width, self.base) {
            (8, _) => vec![Encoding::Absolute],
            // Of equals the last is taken. 7.0 brought the offsets without a base.
            (_, Some(_)) => vec![Encoding::BaseRelative, Encoding::BaseRelativePerCpu],
            (_, None) => vec![Encoding::PlaceRelative],
        }
    }

    /// The address of a symbol by its number.
    pub(super) fn decode(&self, encoding: Encoding, index: usize) -> Option<VirtAddr> {
        let place = index.checked_mul(self.width)?;
        if encoding == Encoding::Absolute {
            return self.endian.u64(&self.bytes, place).map(VirtAddr);
        }
        let offset = self.endian.i32(&self.bytes, place)?;
        Some(VirtAddr(match encoding {
            Encoding::Absolute => return None,
            Encoding::BaseRelative => self.base?.wrapping_add(u64::from(offset.cast_unsigned())),
            Encoding::BaseRelativePerCpu => match u64::try_from(offset) {
                Ok(number) => number,
                Err(_) => self.base?.wrapping_sub(1).wrapping_sub(i64::from(offset).cast_unsigned()),
            },
            Encoding::PlaceRelative => self.at.add(place as u64).offset(offset.into()).0,
        }))
    }

    /// How many neighbours ascend and how many addresses lie in the image: kallsyms is sorted.
    fn plausibility(&self, encoding: Encoding, expect: &Expect<'_>) -> usize {
        let mut score = 0_usize;
        let mut last = VirtAddr(0);
        for index in 0..self.count {
            let Some(address) = self.decode(encoding, index) else { continue };
            let inside = expect.image.as_ref().is_none_or(|image| image.contains(&address));
            score = score.saturating_add(usize::from(last <= address)).saturating_add(usize::from(inside));
            last = address;
        }
        score
    }
}
