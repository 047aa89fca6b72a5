//! Addresses: four encodings over the years.

use kdive_base::{VirtAddr, VirtualMemory};
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
    pub(super) addresses: Vec<VirtAddr>,
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
    let addresses = (0..raw.count).map_while(|index| raw.decode(encoding, index)).collect();
    Ok(Choice { encoding, addresses, plausibility })
}

/// The tables as bytes.
struct Raw {
    offsets: Vec<i32>,
    offsets_at: VirtAddr,
    base: Option<u64>,
    addresses: Vec<u64>,
    count: usize,
}

impl Raw {
    fn read(memory: &dyn VirtualMemory, at: &KallsymsAt, count: usize) -> Result<Self, KallsymsError> {
        let endian = memory.endian();
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
        let (mut offsets, mut addresses) = (Vec::new(), Vec::new());
        if width == 4 {
            offsets = bytes.chunks_exact(4).filter_map(|raw| endian.i32(raw, 0)).collect();
        } else {
            addresses = bytes.chunks_exact(8).filter_map(|raw| endian.u64(raw, 0)).collect();
        }
        let base = at.relative_base.and_then(|at| memory.u64(at).ok());
        Ok(Self { count: offsets.len().max(addresses.len()), offsets, offsets_at: table, base, addresses })
    }

    fn encodings(&self) -> Vec<Encoding> {
        match (self.addresses.is_empty(), self.base) {
            (false, _) => vec![Encoding::Absolute],
            // Of equals the last is taken. 7.0 brought the offsets without a base.
            (true, Some(_)) => vec![Encoding::BaseRelative, Encoding::BaseRelativePerCpu],
            (true, None) => vec![Encoding::PlaceRelative],
        }
    }

    fn decode(&self, encoding: Encoding, index: usize) -> Option<VirtAddr> {
        if encoding == Encoding::Absolute {
            return self.addresses.get(index).copied().map(VirtAddr);
        }
        let offset = *self.offsets.get(index)?;
        Some(VirtAddr(match encoding {
            Encoding::Absolute => return None,
            Encoding::BaseRelative => self.base?.wrapping_add(u64::from(offset.cast_unsigned())),
            Encoding::BaseRelativePerCpu => match u64::try_from(offset) {
                Ok(number) => number,
                Err(_) => self.base?.wrapping_sub(1).wrapping_sub(i64::from(offset).cast_unsigned()),
            },
            Encoding::PlaceRelative => {
                let place = (index as u64).wrapping_mul(4).wrapping_add(self.offsets_at.0);
                place.wrapping_add_signed(offset.into())
            }
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
