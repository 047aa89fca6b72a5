//! Swap entries in page-table entries (`arch/x86/include/asm/pgtable_64.h`).

/// A swap entry: which swap area, and the page offset in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SwapEntry {
    /// `swp_type`: index of the swap area. The highest numbers are migration, poison and device entries.
    pub area: u8,
    /// Page offset in the area, or what the special types put there.
    pub offset: u64,
}

const TYPE_BITS: u32 = 5;
/// First bit of the offset: above `_PAGE_PROTNONE` (bit 8).
const OFFSET_FIRST_BIT: u32 = 9;

/// The swap entry in a page-table entry that is not present; `None` for an empty entry.
///
/// The form of Linux 4.18 and later (and its backports): the offset is stored inverted, so that the frame bits of a
/// swapped page never point at cacheable memory (L1TF).
#[must_use]
pub fn decode(entry: u64) -> Option<SwapEntry> {
    if entry == 0 {
        return None;
    }
    let area = entry.wrapping_shr(64_u32.saturating_sub(TYPE_BITS)) as u8;
    let offset = (!entry).wrapping_shl(TYPE_BITS).wrapping_shr(OFFSET_FIRST_BIT.saturating_add(TYPE_BITS));
    Some(SwapEntry { area, offset })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_splits_into_area_and_offset() {
        let area = 1_u64;
        let offset = 0x24225_u64;
        let entry = (area << 59) | ((!offset << 14) >> 5);
        assert_eq!(decode(entry), Some(SwapEntry { area: 1, offset: 0x24225 }));
        assert_eq!(decode(0), None);
    }
}
