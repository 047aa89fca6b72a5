//! Fuzzed bytes as a piece of kernel memory.

use kdive_base::{Endian, Missing, VirtAddr, VirtualMemory, Why};

/// Where the bytes begin.
pub const START: u64 = 0xffff_ffff_8200_0000;

/// The bytes, and nothing around them.
pub struct Memory<'b>(pub &'b [u8], pub Endian);

impl VirtualMemory for Memory<'_> {
    fn read(&self, at: VirtAddr, into: &mut [u8]) -> (usize, Option<Missing>) {
        let rest = at.0.checked_sub(START).and_then(|at| self.0.get(usize::try_from(at).ok()?..)).unwrap_or_default();
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        (count, (count < into.len()).then(|| Missing::new(at.add(count as u64), Why::NotMapped { level: 1 })))
    }

    fn endian(&self) -> Endian {
        self.1
    }
}
