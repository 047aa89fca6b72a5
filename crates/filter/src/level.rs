//! makedumpfile's dump levels.

use std::fmt;
use std::str::FromStr;

use kdive_linux::pages::Excludable;
use serde::Serialize;

/// What a dump leaves out: the sum of 1 (pages of zeros), 2 (cache without data of a file system), 4 (all cache), 8 (memory
/// of processes) and 16 (free pages).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct DumpLevel(u8);

/// Not a dump level.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}: a dump level is a number from 0 to 31, several are separated by commas")]
pub struct NotALevel(String);

impl DumpLevel {
    const ZERO: u8 = 1;
    const CACHE: u8 = 2;
    const CACHE_PRIVATE: u8 = 4;
    const USER: u8 = 8;
    const FREE: u8 = 16;
    /// Leaves out all that can be left out.
    pub const ALL: Self = Self(31);

    /// A level by its number.
    #[must_use]
    pub fn new(number: u8) -> Option<Self> {
        (number <= Self::ALL.0).then_some(Self(number))
    }

    /// Its number.
    #[must_use]
    pub fn number(self) -> u8 {
        self.0
    }

    fn has(self, bits: u8) -> bool {
        self.0 & bits != 0
    }

    /// Whether pages of zeros are left out.
    #[must_use]
    pub fn drops_zeros(self) -> bool {
        self.has(Self::ZERO)
    }

    /// Whether what pages are used for has a say: otherwise the kernel need not be understood.
    #[must_use]
    pub fn asks_use(self) -> bool {
        self.has(Self::ALL.0 & !Self::ZERO)
    }

    /// Whether pages of a class are left out.
    #[must_use]
    pub fn drops(self, class: Excludable) -> bool {
        match class {
            Excludable::Free => self.has(Self::FREE),
            Excludable::Cache => self.has(Self::CACHE | Self::CACHE_PRIVATE),
            Excludable::CachePrivate => self.has(Self::CACHE_PRIVATE),
            Excludable::User => self.has(Self::USER),
            // At every level that looks at page structures: the machine may not survive to read them, or nothing is there.
            Excludable::HwPoison | Excludable::Offline => self.asks_use(),
        }
    }

    /// What a dump of this level leaves out that was made of a dump of another.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl FromStr for DumpLevel {
    type Err = NotALevel;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().ok().and_then(Self::new).ok_or_else(|| NotALevel(text.to_owned()))
    }
}

impl fmt::Display for DumpLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Levels to try in order, each when the dump of the one before did not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Levels(pub Vec<DumpLevel>);

impl FromStr for Levels {
    type Err = NotALevel;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.split(',').map(DumpLevel::from_str).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of makedumpfile(8): non-private cache, private cache, user, free.
    #[test]
    fn levels_drop_what_the_manual_says() {
        let classes = [Excludable::Cache, Excludable::CachePrivate, Excludable::User, Excludable::Free];
        let expected = |level: u8| [level & 6 != 0, level & 4 != 0, level & 8 != 0, level & 16 != 0];
        for number in 0..32 {
            let level = DumpLevel::new(number).unwrap();
            assert_eq!(classes.map(|class| level.drops(class)), expected(number), "level {number}");
            assert_eq!(level.drops_zeros(), number % 2 == 1);
            assert_eq!(level.asks_use(), number > 1);
        }
    }

    #[test]
    fn levels_are_numbers_up_to_31() {
        assert_eq!("11,31".parse(), Ok(Levels(vec![DumpLevel(11), DumpLevel(31)])));
        for wrong in ["32", "-1", "", "3,", "0x1f", "all"] {
            assert!(wrong.parse::<Levels>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_was_left_out_stays_out() {
        assert_eq!(DumpLevel(1).and(DumpLevel(16)), DumpLevel(17));
        assert_eq!(DumpLevel(31).and(DumpLevel(0)), DumpLevel(31));
    }
}
