//! Address newtypes. Arithmetic wraps, as the processor's does: an address out of a dump can be any number.

use std::fmt;

use serde::{Serialize, Serializer};

/// log2 of the base page size (4 KiB), the unit of a [`Pfn`] on every architecture that kdive opens today.
pub const PAGE_SHIFT: u32 = 12;
/// Bytes of a base page.
pub const PAGE_SIZE: u64 = 1 << PAGE_SHIFT;

macro_rules! address {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl $name {
            /// The address `bytes` further on, wrapping at 2^64.
            #[must_use]
            pub const fn add(self, bytes: u64) -> Self {
                Self(self.0.wrapping_add(bytes))
            }

            /// The address `bytes` before, wrapping at 0.
            #[must_use]
            pub const fn sub(self, bytes: u64) -> Self {
                Self(self.0.wrapping_sub(bytes))
            }

            /// The address moved by a signed distance, wrapping.
            #[must_use]
            pub const fn offset(self, bytes: i64) -> Self {
                Self(self.0.wrapping_add_signed(bytes))
            }

            /// Bytes from `earlier` to here, wrapping.
            #[must_use]
            pub const fn since(self, earlier: Self) -> u64 {
                self.0.wrapping_sub(earlier.0)
            }

            /// The start of the base page that holds this address.
            #[must_use]
            pub const fn page_start(self) -> Self {
                Self(self.0 & !(PAGE_SIZE - 1))
            }

            /// Offset of this address in its base page.
            #[must_use]
            pub const fn page_offset(self) -> u64 {
                self.0 & (PAGE_SIZE - 1)
            }
        }

        impl fmt::Display for $name {
            /// Sixteen hexadecimal digits without a prefix, as crash prints addresses; `{:#}` prints `0x` and no padding.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                if f.alternate() { write!(f, "{:#x}", self.0) } else { write!(f, "{:016x}", self.0) }
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:#x})"), self.0)
            }
        }

        impl Serialize for $name {
            /// Addresses are hexadecimal strings in JSON: a double cannot hold 64 bits.
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(&format_args!("{self:#}"))
            }
        }
    };
}

address! {
    /// A physical address of the dumped machine.
    PhysAddr
}
address! {
    /// A virtual address, of the kernel or of a process: the address space it belongs to goes beside it.
    VirtAddr
}

impl VirtAddr {
    /// Whether this is the null pointer.
    #[must_use]
    pub const fn is_null(self) -> bool {
        self.0 == 0
    }
}

/// A page frame number: a physical address in units of [`PAGE_SIZE`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Pfn(pub u64);

impl Pfn {
    /// The frame's first byte, or the last page below 2^64 for a number that no address can hold.
    #[must_use]
    pub const fn start(self) -> PhysAddr {
        PhysAddr(self.0.wrapping_shl(PAGE_SHIFT))
    }
}

impl PhysAddr {
    /// The frame that holds this address.
    #[must_use]
    pub const fn pfn(self) -> Pfn {
        Pfn(self.0 >> PAGE_SHIFT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_wrap_and_print_as_crash_prints_them() {
        assert_eq!(VirtAddr(u64::MAX).add(1), VirtAddr(0));
        assert_eq!(VirtAddr(0x10).to_string(), "0000000000000010");
        assert_eq!(format!("{:#}", PhysAddr(0x10)), "0x10");
        assert_eq!(PhysAddr(0x1234_5678).pfn(), Pfn(0x12345));
        assert_eq!(serde_json::to_string(&VirtAddr(0xffff)).unwrap(), "\"0xffff\"");
    }
}
