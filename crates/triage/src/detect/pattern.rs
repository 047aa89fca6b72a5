//! What a word that was used as a pointer looks like.

/// What a value is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Pattern {
    /// Near 0: a member of nothing.
    Null,
    /// Within the first megabytes: nothing, with a large index.
    NullIndexed,
    /// An error number in a pointer's clothes.
    Error(&'static str),
    /// What `list_del()` leaves in an entry.
    ListPoison,
    /// Another of the kernel's poison pointers.
    Poison(&'static str),
    /// Freed slab memory.
    SlabFree,
    /// Slab memory that was never written.
    SlabFresh,
    /// A red zone or other filler of the allocators.
    Filler(&'static str),
    /// Printable text.
    Text(String),
    /// The shadow memory of KASAN, for a pointer near 0.
    KasanNull,
    /// An address of a process.
    User,
    /// Not canonical, of no known pattern.
    NonCanonical,
    /// An address that the kernel could have.
    Kernel,
}

/// Reads a value as the address of a failed access. `narrow` is a 32-bit kernel.
pub(super) fn of(value: u64, narrow: bool) -> Pattern {
    if value < 0x1000 {
        return Pattern::Null;
    }
    if let Some(found) = poison(value, narrow) {
        return found;
    }
    let width: u64 = if narrow { 0xffff_ffff } else { u64::MAX };
    let below_top = width.wrapping_sub(value & width);
    if below_top < 4095 {
        return Pattern::Error(errno(below_top.saturating_add(1)));
    }
    if let Some(text) = text(value, narrow) {
        return Pattern::Text(text);
    }
    if narrow {
        return if value < 0xc000_0000 { Pattern::User } else { Pattern::Kernel };
    }
    match value {
        0xdfff_fc00_0000_0000..0xdfff_fc00_0000_0200 => Pattern::KasanNull,
        ..0x400_0000 => Pattern::NullIndexed,
        ..0x0100_0000_0000_0000 if value >> 56 == 0 && value < 0x0000_8000_0000_0000 => Pattern::User,
        0xff00_0000_0000_0000.. if is_canonical(value) => Pattern::Kernel,
        _ => Pattern::NonCanonical,
    }
}

/// Canonical with 48 bits.
pub(super) fn is_canonical(value: u64) -> bool {
    !(0x0000_8000_0000_0000..0xffff_8000_0000_0000).contains(&value)
}

/// Poison values of `include/linux/poison.h`, of all ages, with the offset of a member behind them.
fn poison(value: u64, narrow: bool) -> Option<Pattern> {
    const MEMBER: u64 = 0x40;
    let near = |base: u64| value.wrapping_sub(base) < MEMBER || base.wrapping_sub(value) <= 0x10;
    let lists: &[u64] = &[
        0x0010_0100,
        0x0020_0200,
        0xdead_0000_0000_0100,
        0xdead_0000_0000_0122,
        0xdead_0000_0000_0200,
        0xdead_0000_0010_0100,
        0xdead_0000_0020_0200,
    ];
    if lists.iter().any(|&base| near(base)) {
        return Some(Pattern::ListPoison);
    }
    if !narrow && value >> 16 == 0xdead_0000_0000 {
        return Some(Pattern::Poison(match value & 0xffff {
            0x300..0x340 => "TIMER_ENTRY_STATIC",
            0x400..0x440 => "TAIL_MAPPING",
            0x500..0x540 => "MUTEX_POISON_WW_CTX",
            0x800..0x840 => "SKB_LIST_POISON",
            _ => "a poison pointer",
        }));
    }
    let bytes = if narrow { u64::from(value as u32) | u64::from(value as u32) << 32 } else { value };
    let alike = |byte: u8| {
        let count = bytes.to_le_bytes().iter().filter(|&&found| found == byte).count();
        // The lowest bytes carry the offset of a member.
        count >= 6 && bytes.to_be_bytes().iter().take(3).all(|&found| found == byte)
    };
    if alike(0x6b) {
        Some(Pattern::SlabFree)
    } else if alike(0x5a) {
        Some(Pattern::SlabFresh)
    } else if alike(0xa5) {
        Some(Pattern::Filler("the end of a poisoned object (0xa5)"))
    } else if alike(0xbb) {
        Some(Pattern::Filler("a red zone (0xbb)"))
    } else if alike(0xcc) {
        Some(Pattern::Filler("a red zone or freed init memory (0xcc)"))
    } else if alike(0xaa) {
        Some(Pattern::Filler("a poisoned free page (0xaa)"))
    } else {
        None
    }
}

/// Printable characters only, seven of eight (three of four in 32 bits) at least.
fn text(value: u64, narrow: bool) -> Option<String> {
    let bytes = value.to_le_bytes();
    let bytes = bytes.get(..if narrow { 4 } else { 8 })?;
    let printable = bytes
        .iter()
        .filter(|&&byte| byte.is_ascii_alphanumeric() || byte.is_ascii_punctuation() || byte == b' ')
        .count();
    let letters = bytes.iter().filter(|byte| byte.is_ascii_alphanumeric() || **byte == b' ').count();
    let highest = bytes.last().copied()?;
    let whole = printable == bytes.len() && letters.saturating_mul(2) > bytes.len() && highest.is_ascii();
    whole.then(|| bytes.iter().map(|&byte| char::from(byte)).collect())
}

fn errno(number: u64) -> &'static str {
    match number {
        1 => "-1 (EPERM)",
        2 => "-2 (ENOENT)",
        4 => "-4 (EINTR)",
        5 => "-5 (EIO)",
        6 => "-6 (ENXIO)",
        9 => "-9 (EBADF)",
        11 => "-11 (EAGAIN)",
        12 => "-12 (ENOMEM)",
        13 => "-13 (EACCES)",
        14 => "-14 (EFAULT)",
        16 => "-16 (EBUSY)",
        17 => "-17 (EEXIST)",
        19 => "-19 (ENODEV)",
        22 => "-22 (EINVAL)",
        28 => "-28 (ENOSPC)",
        95 => "-95 (EOPNOTSUPP)",
        110 => "-110 (ETIMEDOUT)",
        116 => "-116 (ESTALE)",
        517 => "-517 (EPROBE_DEFER)",
        _ => "an error number",
    }
}

/// The bit whose flip turns a value into an address like the ones beside it: same upper half, and within a page of another.
pub(super) fn flipped_bit(value: u64, others: impl Iterator<Item = u64> + Clone) -> Option<(u32, bool)> {
    let candidate = |bit: u32| value ^ 1_u64.wrapping_shl(bit);
    let near = (12..63).find(|&bit| {
        others.clone().any(|other| {
            other != value
                && other >= 0xffff_8000_0000_0000
                && candidate(bit).abs_diff(other) < 4096
                && value.abs_diff(other) >= 4096
        })
    });
    if let Some(bit) = near {
        return Some((bit, true));
    }
    if is_canonical(value) {
        return None;
    }
    (47..64).find(|&bit| candidate(bit) >= 0xffff_8880_0000_0000).map(|bit| (bit, false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_told_apart() {
        for (value, narrow, pattern) in [
            (0x18, false, Pattern::Null),
            (0x0010_0104, true, Pattern::ListPoison),
            (0x0020_0200, false, Pattern::ListPoison),
            (0xdead_0000_0000_0108, false, Pattern::ListPoison),
            (0xdead_0000_0000_0300, false, Pattern::Poison("TIMER_ENTRY_STATIC")),
            (0x6b6b_6b6b_6b6b_6bab, false, Pattern::SlabFree),
            (0x6b6b_6b6b, true, Pattern::SlabFree),
            (0x5a5a_5a5a_5a5a_5a5a, false, Pattern::SlabFresh),
            (0xffff_ffff_ffff_fff4, false, Pattern::Error("-12 (ENOMEM)")),
            (0xdfff_fc00_0000_0003, false, Pattern::KasanNull),
            (0x0000_7fff_1234_5678, false, Pattern::User),
            (0x0812_3456, true, Pattern::User),
            (0xffff_8880_1234_5678, false, Pattern::Kernel),
            (0x0123_4567_89ab_cdef, false, Pattern::NonCanonical),
            (u64::from_le_bytes(*b"kvm [262"), false, Pattern::Text("kvm [262".to_owned())),
        ] {
            assert_eq!(of(value, narrow), pattern, "{value:#x}");
        }
        // Near misses: an address in the middle of poison-like digits, and one that only begins like text.
        assert_eq!(of(0xffff_8880_6b6b_6b6b, false), Pattern::Kernel);
        assert_ne!(of(0x0000_7f6b_6b6b_6b6b, false), Pattern::SlabFree);
    }

    #[test]
    fn a_flipped_bit_needs_a_neighbour_or_a_canonical_twin() {
        let others = [0xffff_8880_1234_5600_u64];
        assert_eq!(flipped_bit(0xffff_8880_1234_5678 ^ (1 << 40), others.into_iter()), Some((40, true)));
        assert_eq!(flipped_bit(0xff7f_8880_1234_5678 | 1 << 55, others.into_iter()), None);
        assert_eq!(flipped_bit(0xffff_8880_1234_5678 ^ (1 << 60), [].into_iter()), Some((60, false)));
        assert_eq!(flipped_bit(0xdead_beef_1234_5678, others.into_iter()), None);
    }
}
