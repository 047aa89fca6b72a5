//! Names of page flags (`enum pageflags`, include/linux/page-flags.h).

use kdive_target::{Field, Kernel};

/// The flags that this kernel's pages can have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageFlags {
    /// Name and bit, in the order of the bits.
    names: Vec<(u32, Box<str>)>,
}

/// Bits above are the page's section, node and zone: no kernel has more flags.
const MOST_FLAGS: i128 = 40;

impl PageFlags {
    pub(super) fn find(kernel: &Kernel) -> Field<Self> {
        let flags = kernel.enumerators("pageflags")?;
        Ok(Self::new(flags.iter().map(|(name, value)| (&**name, *value))))
    }

    /// From enumerators in the order of their declaration: later names of a bit are aliases for special uses of it.
    fn new<'n>(enumerators: impl Iterator<Item = (&'n str, i128)>) -> Self {
        let mut names: Vec<(u32, Box<str>)> = Vec::new();
        for (name, value) in enumerators {
            // `__NR_PAGEFLAGS` counts the flags: what is declared behind it are other names.
            if name == "__NR_PAGEFLAGS" {
                break;
            }
            let bit = u32::try_from(value).ok().filter(|_| value < MOST_FLAGS);
            let (Some(bit), Some(name)) = (bit, name.strip_prefix("PG_")) else { continue };
            if !names.iter().any(|(known, _)| *known == bit) {
                names.push((bit, name.into()));
            }
        }
        names.sort_by_key(|(bit, _)| *bit);
        Self { names }
    }

    /// The names of the bits that are set.
    pub fn names(&self, flags: u64) -> impl Iterator<Item = &str> {
        let set = self.names.iter().filter(move |(bit, _)| flags.wrapping_shr(*bit) & 1 == 1);
        set.map(|(_, name)| &**name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_name_of_a_bit_is_its_name() {
        let flags = PageFlags::new(
            [
                ("PG_locked", 0),
                ("PG_slab", 9),
                ("PG_lru", 5),
                ("__NR_PAGEFLAGS", 23),
                ("PG_checked", 10),
                ("PG_pinned", 5),
            ]
            .into_iter(),
        );
        assert_eq!(flags.names(1 | 1 << 5 | 1 << 10).collect::<Vec<_>>(), ["locked", "lru"]);
        assert_eq!(flags.names(0).count(), 0);
        assert_eq!(flags.names(u64::MAX).collect::<Vec<_>>(), ["locked", "lru", "slab"]);
    }
}
