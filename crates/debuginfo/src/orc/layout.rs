//! Where the bits of an entry are, and what the numbers in them mean.

use kdive_base::{VirtAddr, VirtualMemory};
use serde::Serialize;

use super::{OrcEntry, OrcError, OrcKind, OrcRegister};
use crate::types::{Tag, TypeId, Types};

/// Which registers the numbers stand for (`ORC_REG_*`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RegisterNumbers {
    /// 4.14 to 7.0.
    Old,
    /// 7.1 and later.
    New,
}

/// Some bits of an entry, counted from the lowest of its first byte.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
struct Bits {
    offset: u8,
    width: u8,
}

impl Bits {
    const fn new(offset: u8, width: u8) -> Self {
        Self { offset, width }
    }

    /// The member of the kernel's `struct orc_entry`, if it has it and it is of a size that fits.
    fn of(types: &Types, entry: TypeId, member: &str) -> Option<Self> {
        let at = types.member(entry, member).ok()?;
        let width = match at.bit_size {
            Some(width) => u64::from(width),
            None => types.size_of(at.of)?.checked_mul(8)?,
        };
        let fits = width > 0 && width <= 16 && at.bit_offset.checked_add(width)? <= 64;
        fits.then_some(Self { offset: at.bit_offset as u8, width: width as u8 })
    }

    fn get(self, raw: u64) -> u16 {
        let mask = 1_u64.checked_shl(u32::from(self.width)).map_or(u64::MAX, |bit| bit.wrapping_sub(1));
        (raw.checked_shr(u32::from(self.offset)).unwrap_or(0) & mask) as u16
    }
}

/// The layout of `struct orc_entry`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
pub struct OrcLayout {
    bytes: u8,
    sp_offset: Bits,
    bp_offset: Bits,
    sp_reg: Bits,
    bp_reg: Bits,
    kind: Bits,
    signal: Option<Bits>,
    end: Option<Bits>,
    registers: RegisterNumbers,
}

/// Entries that are looked at to tell register numbers apart: the majority decides.
const FEW: u64 = 1 << 10;
/// Entries that are looked at to tell layouts apart without types and header: some bits are rarely set.
const MANY: u64 = 1 << 16;

impl OrcLayout {
    /// 4.14 to 6.2.
    pub const V1: Self = Self {
        bytes: 6,
        sp_offset: Bits::new(0, 16),
        bp_offset: Bits::new(16, 16),
        sp_reg: Bits::new(32, 4),
        bp_reg: Bits::new(36, 4),
        kind: Bits::new(40, 2),
        signal: None,
        end: Some(Bits::new(42, 1)),
        registers: RegisterNumbers::Old,
    };
    /// 6.3: a bit for interrupted frames came in front of `end`.
    pub const V2: Self = Self { signal: Some(Bits::new(42, 1)), end: Some(Bits::new(43, 1)), ..Self::V1 };
    /// 6.4 to 7.0, and Red Hat's 5.14 from 5.14.0-517 on: a wider type in place of `end`.
    pub const V3: Self =
        Self { kind: Bits::new(40, 3), signal: Some(Bits::new(43, 1)), end: None, ..Self::V1 };
    /// 7.1 and later: the same with other register numbers.
    pub const V4: Self = Self { registers: RegisterNumbers::New, ..Self::V3 };

    /// Size of an entry in bytes.
    #[must_use]
    pub const fn entry_bytes(&self) -> u64 {
        self.bytes as u64
    }

    /// What the register numbers mean.
    #[must_use]
    pub const fn registers(&self) -> RegisterNumbers {
        self.registers
    }

    /// From the kernel's own `struct orc_entry`; register numbers are the old ones still.
    #[must_use]
    pub fn from_types(types: &Types) -> Option<Self> {
        let entry = types.find(Tag::Struct, "orc_entry").ok()?;
        let bits = |member| Bits::of(types, entry, member);
        Some(Self {
            bytes: u8::try_from(types.size_of(entry)?).ok().filter(|bytes| (1..=8).contains(bytes))?,
            sp_offset: bits("sp_offset")?,
            bp_offset: bits("bp_offset")?,
            sp_reg: bits("sp_reg")?,
            bp_reg: bits("bp_reg")?,
            kind: bits("type")?,
            signal: bits("signal"),
            end: bits("end"),
            registers: RegisterNumbers::Old,
        })
    }

    /// From the first four bytes of the header's hash, which the kernel's build makes from `orc_types.h` (6.4 and
    /// later, and late 6.3).
    #[must_use]
    pub fn from_hash(hash: u32) -> Option<Self> {
        match hash.to_le_bytes() {
            [0xdb, 0x84, 0xae, 0xd4] => Some(Self::V2),
            [0xfe, 0x5d, 0x32, 0xbf] => Some(Self::V3),
            [0x13, 0x7c, 0x36, 0xad] => Some(Self::V4),
            _ => None,
        }
    }

    /// The layout of the table at `entries`.
    pub(super) fn detect(
        memory: &dyn VirtualMemory,
        entries: VirtAddr,
        count: u64,
        hash: Option<u32>,
        types: &Types,
    ) -> Result<Self, OrcError> {
        let by_hash = hash.and_then(Self::from_hash);
        match (Self::from_types(types), by_hash) {
            (Some(layout), Some(known)) => Ok(Self { registers: known.registers, ..layout }),
            (None, Some(known)) => Ok(known),
            // The narrow type went long before the numbers changed.
            (Some(layout), None) if layout.kind.width <= 2 => Ok(layout),
            (Some(layout), None) => {
                let probe = Probe::of(memory, entries, count, layout, FEW)?;
                Ok(Self { registers: probe.registers().ok_or(OrcError::Layout)?, ..layout })
            }
            (None, None) => {
                let probe = Probe::of(memory, entries, count, Self::V3, MANY)?;
                let registers = probe.registers().ok_or(OrcError::Layout)?;
                Ok(Self { registers, ..probe.layout().ok_or(OrcError::Layout)? })
            }
        }
    }

    /// Whether entries say which frames were interrupted (6.3). Before, those above a `pt_regs` are.
    #[must_use]
    pub const fn tells_signal(&self) -> bool {
        self.signal.is_some()
    }

    /// Decodes the raw bytes of an entry, the first one lowest. Numbers that mean nothing become
    /// [`OrcRegister::Undefined`] and [`OrcKind::Undefined`].
    #[must_use]
    pub fn decode(&self, raw: u64) -> OrcEntry {
        let flag = |bits: Option<Bits>| bits.is_some_and(|bits| bits.get(raw) != 0);
        let sp = self.register(self.sp_reg.get(raw));
        // With the narrow type an unknown stack pointer marks what has no caller.
        let kind = match (self.kind.width, self.kind.get(raw)) {
            (..=2, _) if sp == OrcRegister::Undefined && flag(self.end) => OrcKind::EndOfStack,
            (..=2, _) if sp == OrcRegister::Undefined => OrcKind::Undefined,
            (..=2, 0) | (3.., 2) => OrcKind::Call,
            (..=2, 1) | (3.., 3) => OrcKind::Regs,
            (..=2, 2) | (3.., 4) => OrcKind::RegsPartial,
            (3.., 1) => OrcKind::EndOfStack,
            _ => OrcKind::Undefined,
        };
        OrcEntry {
            sp,
            sp_offset: self.sp_offset.get(raw).cast_signed(),
            bp: self.register(self.bp_reg.get(raw)),
            bp_offset: self.bp_offset.get(raw).cast_signed(),
            kind,
            signal: flag(self.signal),
        }
    }

    fn register(&self, number: u16) -> OrcRegister {
        match (self.registers, number) {
            (RegisterNumbers::Old, 1) | (RegisterNumbers::New, 8) => OrcRegister::PrevSp,
            (RegisterNumbers::New, 1) => OrcRegister::Ax,
            (_, 2) => OrcRegister::Dx,
            (RegisterNumbers::Old, 3) | (RegisterNumbers::New, 5) => OrcRegister::Di,
            (_, 4) => OrcRegister::Bp,
            (RegisterNumbers::Old, 5) | (RegisterNumbers::New, 3) => OrcRegister::Sp,
            (_, 6) => OrcRegister::R10,
            (_, 7) => OrcRegister::R13,
            (RegisterNumbers::Old, 8) | (RegisterNumbers::New, 10) => OrcRegister::BpIndirect,
            (_, 9) => OrcRegister::SpIndirect,
            _ => OrcRegister::Undefined,
        }
    }
}

/// What the entries of a table look like.
#[derive(Default)]
struct Probe {
    entries: u64,
    /// Entries by the number of their stack pointer's register.
    sp_regs: [u64; 16],
    /// Entries by the four bits behind the registers.
    kinds: [u64; 16],
}

impl Probe {
    /// Looks at up to `most` entries all over the table. Bits are taken from `layout`, but for the kinds, which are those of the
    /// known layouts.
    fn of(
        memory: &dyn VirtualMemory,
        entries: VirtAddr,
        count: u64,
        layout: OrcLayout,
        most: u64,
    ) -> Result<Self, OrcError> {
        let mut probe = Self::default();
        let kinds = Bits::new(40, 4);
        let bytes = layout.entry_bytes();
        let mut missing = None;
        let step = count.div_ceil(most.max(1)).max(1) as usize;
        for index in (0..count).step_by(step) {
            let mut raw = [0; 8];
            let (into, _) = raw.split_at_mut(bytes as usize);
            if let Err(error) = memory.read_exact(entries.add(index.saturating_mul(bytes)), into) {
                missing = Some(error);
                continue;
            }
            let raw = u64::from_le_bytes(raw);
            probe.entries = probe.entries.saturating_add(1);
            for (counts, bits) in [(&mut probe.sp_regs, layout.sp_reg), (&mut probe.kinds, kinds)] {
                if let Some(count) = counts.get_mut(usize::from(bits.get(raw))) {
                    *count = count.saturating_add(1);
                }
            }
        }
        match missing {
            Some(missing) if probe.entries == 0 => Err(missing.into()),
            _ => Ok(probe),
        }
    }

    /// Nearly all frames are found by the stack pointer, which is 5 in the old numbers and 3 in the new ones, where 5
    /// and 3 are the rare RDI.
    fn registers(&self) -> Option<RegisterNumbers> {
        let [_, _, _, third, _, fifth, ..] = self.sp_regs;
        let most = third.max(fifth);
        (most > self.entries.div_euclid(2)).then_some(if fifth > third {
            RegisterNumbers::Old
        } else {
            RegisterNumbers::New
        })
    }

    /// Most entries are calls: 0 in the narrow type, 2 in the wide one. In the narrow one the fourth bit is 6.3's `end`.
    fn layout(&self) -> Option<OrcLayout> {
        let [narrow_call, _, wide_call, ..] = self.kinds;
        let half = self.entries.div_euclid(2);
        let fourth: u64 = self.kinds.iter().skip(8).fold(0, |sum, &count| sum.saturating_add(count));
        match () {
            () if wide_call > half => Some(OrcLayout::V3),
            () if narrow_call > half && fourth > 0 => Some(OrcLayout::V2),
            () if narrow_call > half => Some(OrcLayout::V1),
            () => None,
        }
    }
}
