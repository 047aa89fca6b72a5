//! Which of the kernel's stacks an address is on.

use kdive_base::VirtAddr;
use kdive_evidence::StackKind;

/// One stack: its bounds, lowest address first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stack {
    /// What the kernel uses it for.
    pub kind: StackKind,
    /// Lowest address.
    pub low: VirtAddr,
    /// First address after the highest.
    pub high: VirtAddr,
}

impl Stack {
    /// Whether `address` points into the stack. The end counts as inside: an empty stack's pointer stands there.
    #[must_use]
    pub fn contains(&self, address: VirtAddr) -> bool {
        self.low <= address && address <= self.high
    }

    /// Whether an object of `bytes` bytes at `address` lies wholly on the stack.
    #[must_use]
    pub fn holds(&self, address: VirtAddr, bytes: u64) -> bool {
        self.low <= address && address < self.high && self.high.since(address) >= bytes
    }
}
