//! ORC, the unwind table that x86-64 kernels carry in memory (arch/x86/include/asm/orc_types.h, arch/x86/kernel/unwind_orc.c).
//!
//! Two tables run in parallel: code addresses, each 32 bits relative to its own place, in ascending order; and entries of
//! six bytes that say where the caller's frame is. The bits of an entry moved three times (6.3, 6.4, 7.1). The kernel's
//! own `struct orc_entry` says where they are; only the numbers of registers have to be told by the hash in
//! `.orc_header` or by looking at entries. Nothing is read but what a look-up needs.

mod layout;
#[cfg(test)]
mod tests;

pub use self::layout::{OrcLayout, RegisterNumbers};

use kdive_base::{Missing, VirtAddr, VirtualMemory};
use serde::Serialize;

use crate::symbols::SymbolTable;
use crate::types::Types;

/// Where a value is found.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OrcRegister {
    /// Not known; for the frame pointer: as it was.
    Undefined,
    /// The caller's stack pointer, just found.
    PrevSp,
    /// The stack pointer.
    Sp,
    /// The frame pointer.
    Bp,
    /// The value stored where the stack pointer points, then the offset is added.
    SpIndirect,
    /// The value stored at the frame pointer plus the offset.
    BpIndirect,
    /// RAX (7.1 and later)
    Ax,
    /// RDX
    Dx,
    /// RDI
    Di,
    /// R10
    R10,
    /// R13
    R13,
}

/// What the frame is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OrcKind {
    /// The table does not know: unwinding stops, and the trace is not reliable.
    Undefined,
    /// The last frame: entry code above which there is nothing.
    EndOfStack,
    /// A called function: the return address lies right below the caller's stack pointer.
    Call,
    /// `sp` leads to a whole `struct pt_regs`.
    Regs,
    /// `sp` leads to the part of `struct pt_regs` that the processor pushes (`ip` to `ss`).
    RegsPartial,
}

/// How to get from one frame to its caller.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
pub struct OrcEntry {
    /// The caller's stack pointer is this register's value plus [`OrcEntry::sp_offset`].
    pub sp: OrcRegister,
    /// In bytes.
    pub sp_offset: i16,
    /// The caller's frame pointer is stored at this register's value plus [`OrcEntry::bp_offset`]:
    /// [`OrcRegister::PrevSp`], [`OrcRegister::Bp`], or [`OrcRegister::Undefined`] when it is unchanged.
    pub bp: OrcRegister,
    /// In bytes.
    pub bp_offset: i16,
    /// What the frame is.
    pub kind: OrcKind,
    /// Whether the frame was interrupted rather than left by a call, so that its address is looked up as it is and not
    /// minus one (6.3 and later; before, the frame above a [`OrcKind::Regs`] one is).
    pub signal: bool,
}

/// Why there is no table.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OrcError {
    /// The kernel has no ORC, or its symbols do not say where.
    #[error("the kernel has no symbol {0}: it was built without ORC, or its symbols are incomplete")]
    NoSymbol(&'static str),
    /// The marks make no sense.
    #[error(
        "the marks of the ORC tables make no sense: {addresses} bytes of addresses, {entries} bytes of entries"
    )]
    Marks {
        /// From `__start_orc_unwind_ip` to `__stop_orc_unwind_ip`.
        addresses: u64,
        /// From `__start_orc_unwind` to `__stop_orc_unwind`.
        entries: u64,
    },
    /// The tables are not in the dump.
    #[error("ORC tables cannot be read: {0}")]
    Missing(#[from] Missing),
    /// Entries fit no known layout.
    #[error("ORC entries fit no known layout")]
    Layout,
}

/// A kernel's or module's table, to be looked up in memory.
#[derive(Clone, Copy, Debug)]
pub struct OrcTable {
    addresses: VirtAddr,
    entries: VirtAddr,
    count: u32,
    layout: OrcLayout,
}

/// Bytes of a code address.
const ADDRESS: u64 = 4;
/// A search reads this many addresses at once in the end: one page.
const BLOCK: u32 = 1024;
/// More entries than this are not real (a large kernel has half a million).
const MOST: u64 = 1 << 24;

impl OrcTable {
    /// The kernel's table, by the marks in its symbols. The layout comes from the kernel's types, from the header's
    /// hash, or from the entries themselves, in that order.
    ///
    /// # Errors
    /// When there is no table, it is not in memory, or its layout is not known.
    pub fn of_kernel(
        memory: &dyn VirtualMemory,
        symbols: &SymbolTable,
        types: &Types,
    ) -> Result<Self, OrcError> {
        let mark = |name: &'static str| {
            symbols.by_name(name).map(|symbol| symbol.address).next().ok_or(OrcError::NoSymbol(name))
        };
        let addresses = mark("__start_orc_unwind_ip")?;
        let entries = mark("__start_orc_unwind")?;
        let address_bytes = mark("__stop_orc_unwind_ip")?.since(addresses);
        let entry_bytes = mark("__stop_orc_unwind")?.since(entries);
        let count = address_bytes.div_euclid(ADDRESS);
        let hash = mark("__start_orc_header").ok().and_then(|at| memory.u32(at).ok());
        let layout = OrcLayout::detect(memory, entries, count.min(MOST), hash, types)?;
        if count == 0 || count > MOST || count.checked_mul(layout.entry_bytes()) != Some(entry_bytes) {
            return Err(OrcError::Marks { addresses: address_bytes, entries: entry_bytes });
        }
        Ok(Self { addresses, entries, count: count as u32, layout })
    }

    /// A module's table (`struct module.arch.orc_unwind_ip`, `.orc_unwind`, `.num_orcs`), with the kernel's layout.
    #[must_use]
    pub fn of_module(&self, addresses: VirtAddr, entries: VirtAddr, count: u32) -> Self {
        Self { addresses, entries, count, layout: self.layout }
    }

    /// How many entries there are.
    #[must_use]
    pub const fn len(&self) -> u32 {
        self.count
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How entries are laid out.
    #[must_use]
    pub const fn layout(&self) -> &OrcLayout {
        &self.layout
    }

    /// The entry for a code address: the last that starts at or before it. `None` before the first. The caller knows
    /// whether the address belongs to this kernel or module: the last entry has no end.
    ///
    /// # Errors
    /// When the part of the table that the search needs is not in memory.
    pub fn find(&self, memory: &dyn VirtualMemory, ip: VirtAddr) -> Result<Option<OrcEntry>, Missing> {
        match self.index_of(memory, ip)? {
            Some(index) => self.entry(memory, index).map(Some),
            None => Ok(None),
        }
    }

    /// The number of the last address at or before `ip`.
    fn index_of(&self, memory: &dyn VirtualMemory, ip: VirtAddr) -> Result<Option<u32>, Missing> {
        // The answer is in low..high, or is low - 1.
        let (mut low, mut high) = (0_u32, self.count);
        while high.saturating_sub(low) > BLOCK {
            let middle = low.midpoint(high);
            let place = self.address_place(middle);
            let start = place.offset(i64::from(memory.u32(place)?.cast_signed()));
            if start <= ip { low = middle } else { high = middle }
        }
        let place = self.address_place(low);
        let bytes = memory.bytes(place, high.saturating_sub(low).saturating_mul(ADDRESS as u32) as usize)?;
        let before = bytes
            .chunks_exact(ADDRESS as usize)
            .zip((0_u64..).step_by(ADDRESS as usize))
            .take_while(|(raw, offset)| {
                let relative = memory.endian().i32(raw, 0).unwrap_or(0);
                place.add(*offset).offset(relative.into()) <= ip
            });
        Ok(low.saturating_add(before.count() as u32).checked_sub(1))
    }

    /// The entry with this number.
    fn entry(&self, memory: &dyn VirtualMemory, index: u32) -> Result<OrcEntry, Missing> {
        let at = self.entries.add(u64::from(index).saturating_mul(self.layout.entry_bytes()));
        let mut raw = [0; 8];
        let (bytes, _) = raw.split_at_mut((self.layout.entry_bytes() as usize).min(8));
        memory.read_exact(at, bytes)?;
        Ok(self.layout.decode(u64::from_le_bytes(raw)))
    }

    fn address_place(&self, index: u32) -> VirtAddr {
        self.addresses.add(u64::from(index).saturating_mul(ADDRESS))
    }
}
