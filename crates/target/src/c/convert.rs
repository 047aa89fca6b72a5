//! Integers as C converts them (C11 6.3.1), on machines where `long` is as wide as a pointer.

use kdive_debuginfo::types::Encoding;
use kdive_debuginfo::{Type, TypeId, Types};

/// What the operators see of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Integer(Integer),
    Float {
        bytes: u64,
    },
    Pointer {
        to: TypeId,
    },
    Array {
        of: TypeId,
        count: Option<u64>,
    },
    Record,
    Function,
    Void,
    /// Only its name is known.
    Incomplete,
}

/// An integer type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Integer {
    pub(super) bytes: u8,
    pub(super) signed: bool,
    /// `_Bool`: whatever is not 0 becomes 1.
    pub(super) boolean: bool,
}

/// The type that smaller integers are computed in.
pub(super) const INT: Integer = Integer::new(4, true);
/// Pointers as numbers, and sizes.
pub(super) const UNSIGNED_LONG: Integer = Integer::new(8, false);
/// Differences of pointers.
pub(super) const LONG: Integer = Integer::new(8, true);

pub(super) fn class(types: &Types, of: TypeId) -> Class {
    match types.stripped(of).as_deref() {
        Some(Type::Int { bytes, encoding, .. }) => match Integer::of(*bytes, *encoding != Encoding::Unsigned)
        {
            Some(integer) => {
                let boolean = *encoding == Encoding::Bool;
                Class::Integer(Integer { boolean, signed: integer.signed && !boolean, ..integer })
            }
            None => Class::Incomplete,
        },
        Some(Type::Enum(kind)) => {
            Integer::of(kind.bytes, kind.signed).map_or(Class::Incomplete, Class::Integer)
        }
        Some(Type::Float { bytes, .. }) => Class::Float { bytes: *bytes },
        Some(Type::Pointer { to, .. }) => Class::Pointer { to: *to },
        Some(Type::Array { of, count }) => Class::Array { of: *of, count: *count },
        Some(Type::Record(_)) => Class::Record,
        Some(Type::Function(_)) => Class::Function,
        Some(Type::Void) => Class::Void,
        Some(Type::Declaration { .. } | Type::Typedef { .. } | Type::Qualified { .. }) | None => {
            Class::Incomplete
        }
    }
}

impl Integer {
    pub(super) const fn new(bytes: u8, signed: bool) -> Self {
        Self { bytes, signed, boolean: false }
    }

    fn of(bytes: u64, signed: bool) -> Option<Self> {
        matches!(bytes, 1 | 2 | 4 | 8 | 16).then(|| Self::new(bytes as u8, signed))
    }

    pub(super) const fn bits(self) -> u32 {
        self.bytes as u32 * 8
    }

    /// The value that this type has after an assignment of `raw`: cut to its width, then extended by its sign to 128 bits.
    pub(super) const fn wrap(self, raw: u128) -> u128 {
        if self.boolean {
            return (raw != 0) as u128;
        }
        extend(raw, self.bits(), self.signed)
    }

    /// Integer promotions (6.3.1.1): what is narrower than `int` is computed as `int`.
    pub(super) const fn promoted(self) -> Self {
        if self.bytes < 4 { INT } else { Self { boolean: false, ..self } }
    }

    /// Usual arithmetic conversions (6.3.1.8): the wider type, and of two equally wide ones the unsigned one.
    pub(super) fn common(self, other: Self) -> Self {
        let (a, b) = (self.promoted(), other.promoted());
        match a.bytes.cmp(&b.bytes) {
            std::cmp::Ordering::Greater => a,
            std::cmp::Ordering::Less => b,
            std::cmp::Ordering::Equal => Self { signed: a.signed && b.signed, ..a },
        }
    }

    pub(super) fn id(self, types: &Types) -> TypeId {
        types.int(self.bytes, self.signed)
    }
}

/// The low `bits` of a number, extended by their sign or by zeros.
pub(super) const fn extend(raw: u128, bits: u32, signed: bool) -> u128 {
    if bits == 0 {
        return 0;
    }
    let unused = 128_u32.saturating_sub(bits);
    let high = raw.wrapping_shl(unused);
    if signed { (high as i128).wrapping_shr(unused) as u128 } else { high.wrapping_shr(unused) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn narrow_integers_are_promoted_to_int() {
        assert_eq!(Integer::new(1, false).promoted(), INT);
        assert_eq!(Integer::new(2, false).promoted(), INT);
        assert_eq!(Integer { bytes: 1, signed: false, boolean: true }.promoted(), INT);
        assert_eq!(Integer::new(4, false).promoted(), Integer::new(4, false));
    }

    #[test]
    fn the_wider_type_wins_and_then_the_unsigned_one() {
        let (uint, ulong) = (Integer::new(4, false), UNSIGNED_LONG);
        assert_eq!(INT.common(uint), uint);
        assert_eq!(LONG.common(uint), LONG);
        assert_eq!(LONG.common(ulong), ulong);
        assert_eq!(Integer::new(1, false).common(Integer::new(2, true)), INT);
        assert_eq!(Integer::new(16, true).common(ulong), Integer::new(16, true));
    }

    #[test]
    fn values_wrap_to_the_width_of_their_type() {
        assert_eq!(INT.wrap(0xffff_ffff), u128::MAX);
        assert_eq!(Integer::new(4, false).wrap(u128::MAX), 0xffff_ffff);
        assert_eq!(Integer::new(16, true).wrap(u128::MAX), u128::MAX);
        assert_eq!(Integer { bytes: 1, signed: false, boolean: true }.wrap(256), 1);
        assert_eq!(extend(0b101, 3, true), (-3_i128) as u128);
    }
}
