//! What a value that was taken for a pointer looks like.
//!
//! Constants: `include/linux/poison.h` of 2.6 to 7.2, `include/linux/spinlock_types.h`, `include/linux/magic.h`.

use kdive_arch::x86_64::disassemble::Width;
use serde::Serialize;

/// What a value looks like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Pattern {
    /// Zero.
    Null,
    /// A small number: a member of a structure at zero, or a number that is no pointer.
    Small,
    /// A number that the kernel puts there on purpose, and how far the value is from it.
    Poison {
        /// The kernel's name of it (`LIST_POISON1`).
        name: &'static str,
        /// What it means.
        meaning: Meaning,
        /// Distance of the value from it.
        offset: i64,
    },
    /// An error number that was taken for a pointer.
    ErrPtr {
        /// The error.
        errno: i64,
        /// Its name, where it is a usual one.
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<&'static str>,
    },
    /// Letters.
    Text(String),
    /// Not canonical, but a kernel address if one bit were not flipped.
    BitFlip {
        /// The bit.
        bit: u32,
        /// What the value was without.
        was: u64,
    },
    /// Not canonical.
    NonCanonical,
    /// An address of a program.
    User,
    /// An address that the kernel may have.
    Kernel,
}

/// What a poison means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Meaning {
    /// The entry was deleted from its list.
    DeletedListEntry,
    /// The object was freed.
    Freed,
    /// The object was never filled.
    Uninitialized,
    /// The bytes around an object.
    RedZone,
    /// Another mark that is no pointer.
    Mark,
}

impl Pattern {
    /// In words: `LIST_POISON1 + 4`.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Null => "NULL".to_owned(),
            Self::Small => "a small number".to_owned(),
            Self::Poison { name, offset: 0, .. } => (*name).to_owned(),
            Self::Poison { name, offset, .. } if *offset < 0 => {
                format!("{name} - {:#x}", offset.unsigned_abs())
            }
            Self::Poison { name, offset, .. } => format!("{name} + {offset:#x}"),
            Self::ErrPtr { errno, name: Some(name) } => {
                format!("the error {name} ({errno}) taken for a pointer")
            }
            Self::ErrPtr { errno, name: None } => format!("the error {errno} taken for a pointer"),
            Self::Text(text) => format!("the text {text:?}"),
            Self::BitFlip { bit, was } => format!("{was:#x} with bit {bit} flipped"),
            Self::NonCanonical => "not canonical".to_owned(),
            Self::User => "a user address".to_owned(),
            Self::Kernel => "a kernel address".to_owned(),
        }
    }

    /// What the poison means, if it is one.
    #[must_use]
    pub fn meaning(&self) -> Option<Meaning> {
        match self {
            Self::Poison { meaning, .. } => Some(*meaning),
            _ => None,
        }
    }
}

use Meaning::{DeletedListEntry, Freed, Mark, RedZone, Uninitialized};

/// Poisons of 64-bit kernels: `POISON_POINTER_DELTA` is `0xdead000000000000`.
const WIDE: &[(u64, &str, Meaning)] = &[
    (0xdead_0000_0000_0100, "LIST_POISON1", DeletedListEntry),
    (0xdead_0000_0000_0122, "LIST_POISON2", DeletedListEntry),
    (0xdead_0000_0000_0200, "LIST_POISON2", DeletedListEntry),
    (0xdead_0000_0000_0300, "TIMER_ENTRY_STATIC", Mark),
    (0xdead_0000_0000_0400, "TAIL_MAPPING", Mark),
    (0xdead_0000_0000_0500, "MUTEX_POISON_WW_CTX", Mark),
    (0xdead_0000_0000_0800, "SKB_LIST_POISON_NEXT", DeletedListEntry),
    (0xdead_0000_0000_0801, "NET_PTR_POISON", Mark),
    (0xdead_0000_0000_0eb9, "BPF_PTR_POISON", Mark),
    (0xdead_0000_0000_00f5, "VFS_PTR_POISON", Mark),
    (0xdead_0000_0000_d390, "STACK_DEPOT_POISON", Mark),
    (0xdead_0000_0000_1091, "IO_URING_PTR_POISON", Mark),
];

/// Poisons of kernels before the delta, of any width, and of 32-bit kernels.
const OLD: &[(u64, &str, Meaning)] =
    &[(0x0010_0100, "LIST_POISON1", DeletedListEntry), (0x0020_0200, "LIST_POISON2", DeletedListEntry)];

/// Poisons of 32-bit kernels since the delta came, which is zero there.
const NARROW: &[(u64, &str, Meaning)] = &[
    (0x100, "LIST_POISON1", DeletedListEntry),
    (0x122, "LIST_POISON2", DeletedListEntry),
    (0x200, "LIST_POISON2", DeletedListEntry),
];

/// Numbers in the low half that stand in locks and other structures.
const MARKS: &[(u32, &str)] = &[
    (0xdead_4ead, "SPINLOCK_MAGIC"),
    (0xdeaf_1eed, "RWLOCK_MAGIC"),
    (0xdead_beef, "0xdeadbeef"),
    (0x57ac_6e9d, "STACK_END_MAGIC"),
    (0xdead_dead, "0xdeaddead"),
];

/// Bytes that fill memory.
const FILLS: &[(u8, &str, Meaning)] = &[
    (0x6b, "POISON_FREE (0x6b)", Freed),
    (0x5a, "POISON_INUSE (0x5a)", Uninitialized),
    (0xa5, "POISON_END (0xa5)", RedZone),
    (0xbb, "SLUB_RED_INACTIVE (0xbb)", RedZone),
    (0xcc, "SLUB_RED_ACTIVE or POISON_FREE_INITMEM (0xcc)", RedZone),
    (0xaa, "PAGE_POISON (0xaa)", Freed),
    (0x5b, "JBD_POISON_FREE (0x5b)", Freed),
    (0x5c, "JBD2_POISON_FREE (0x5c)", Freed),
    (0xa7, "POOL_POISON_FREED (0xa7)", Freed),
    (0xa9, "POOL_POISON_ALLOCATED (0xa9)", Uninitialized),
];

/// The largest error number (`MAX_ERRNO`).
const MAX_ERRNO: u64 = 4095;
/// How far a member may be from a poisoned pointer.
const NEAR: u64 = 0x800;
/// How far above another mark a value may lie: most members are near the start of their structure.
const MEMBER: u64 = 0x100;
/// The first address that a program may have mapped (`vm.mmap_min_addr`).
const FIRST_USER: u64 = 0x1_0000;

/// What a value looks like; `None` when it is too short to say.
#[must_use]
pub fn pattern(value: u64, width: Width) -> Option<Pattern> {
    let value = match width {
        Width::Bits64 => value,
        Width::Bits32 => value & u64::from(u32::MAX),
    };
    if value == 0 {
        return Some(Pattern::Null);
    }
    let found = poison(value, width).or_else(|| fill(value, width)).or_else(|| mark(value, width));
    if found.is_some() {
        return found;
    }
    if value < FIRST_USER {
        return Some(Pattern::Small);
    }
    if let Some(errno) = errno(value, width) {
        return Some(errno);
    }
    if let Some(text) = letters(value, width) {
        return Some(Pattern::Text(text));
    }
    Some(match width {
        Width::Bits32 if value < 0xc000_0000 => Pattern::User,
        Width::Bits32 => Pattern::Kernel,
        Width::Bits64 => wide(value),
    })
}

fn poison(value: u64, width: Width) -> Option<Pattern> {
    let tables: &[&[(u64, &'static str, Meaning)]] = match width {
        Width::Bits64 => &[WIDE, OLD],
        Width::Bits32 => &[OLD, NARROW],
    };
    let all = || tables.iter().copied().flatten();
    let exact = all().find(|(poison, ..)| *poison == value);
    // A member of what was taken for an entry: above the poison, or below it where `container_of` went back. Other marks are
    // pointers to structures: a member is above them.
    let near = || {
        let close = all().filter(|(poison, _, meaning)| {
            let member = value > *poison && value.wrapping_sub(*poison) < MEMBER;
            (*meaning == DeletedListEntry || member)
                && *poison >= FIRST_USER
                && value.abs_diff(*poison) < NEAR
        });
        close.min_by_key(|(poison, ..)| {
            let distance = value.abs_diff(*poison);
            (!distance.is_multiple_of(4), *poison > value, distance)
        })
    };
    let (poison, name, meaning) = exact.or_else(near)?;
    Some(Pattern::Poison { name, meaning: *meaning, offset: value.wrapping_sub(*poison).cast_signed() })
}

/// All bytes alike, or all but the two lowest, where something was added.
fn fill(value: u64, width: Width) -> Option<Pattern> {
    let count = match width {
        Width::Bits64 => 8,
        Width::Bits32 => 4,
    };
    let bytes = value.to_le_bytes();
    let high = bytes.get(2..count)?;
    let (&first, rest) = high.split_first()?;
    if rest.iter().any(|&byte| byte != first) {
        return None;
    }
    let (byte, name, meaning) = FILLS.iter().find(|(byte, ..)| *byte == first)?;
    let whole = u64::from_le_bytes([*byte; 8]) >> (64 - 8 * count);
    let offset = value.wrapping_sub(whole).cast_signed();
    (offset.unsigned_abs() < 0x4000).then_some(Pattern::Poison { name, meaning: *meaning, offset })
}

fn mark(value: u64, width: Width) -> Option<Pattern> {
    let low = u32::try_from(value & u64::from(u32::MAX)).ok()?;
    let high = value >> 32;
    let alone = width == Width::Bits32 || high == 0 || high == u64::from(low) || high == u64::from(u32::MAX);
    let (_, name) = MARKS.iter().find(|(mark, _)| *mark == low).filter(|_| alone)?;
    Some(Pattern::Poison { name, meaning: Mark, offset: 0 })
}

fn errno(value: u64, width: Width) -> Option<Pattern> {
    let all = match width {
        Width::Bits64 => u64::MAX,
        Width::Bits32 => u64::from(u32::MAX),
    };
    let below = all.wrapping_sub(value).saturating_add(1);
    let errno = i64::try_from(below).ok().filter(|_| below <= MAX_ERRNO)?;
    let name = ERRORS.iter().find(|(number, _)| *number == errno).map(|(_, name)| *name);
    Some(Pattern::ErrPtr { errno: errno.saturating_neg(), name })
}

/// Errors that kernel functions return (`include/uapi/asm-generic/errno.h`).
const ERRORS: &[(i64, &str)] = &[
    (1, "EPERM"),
    (2, "ENOENT"),
    (4, "EINTR"),
    (5, "EIO"),
    (6, "ENXIO"),
    (9, "EBADF"),
    (10, "ECHILD"),
    (11, "EAGAIN"),
    (12, "ENOMEM"),
    (13, "EACCES"),
    (14, "EFAULT"),
    (16, "EBUSY"),
    (17, "EEXIST"),
    (19, "ENODEV"),
    (20, "ENOTDIR"),
    (22, "EINVAL"),
    (28, "ENOSPC"),
    (30, "EROFS"),
    (34, "ERANGE"),
    (38, "ENOSYS"),
    (61, "ENODATA"),
    (95, "EOPNOTSUPP"),
    (110, "ETIMEDOUT"),
    (116, "ESTALE"),
    (512, "ERESTARTSYS"),
    (517, "EPROBE_DEFER"),
    (524, "ENOTSUPP"),
];

/// Letters in every byte, or in all but zeroes at the end of the text.
fn letters(value: u64, width: Width) -> Option<String> {
    let bytes = value.to_le_bytes();
    let (bytes, least) = match width {
        Width::Bits64 => (bytes.as_slice(), 6),
        Width::Bits32 => (bytes.get(..4)?, 4),
    };
    let end = bytes.iter().rposition(|&byte| byte != 0)?.saturating_add(1);
    let text = bytes.get(..end)?;
    let plain = text.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\n' | b'\t'));
    let words = text.iter().filter(|byte| byte.is_ascii_alphanumeric() || **byte == b' ').count();
    // Addresses of 32-bit programs begin with a letter now and then; four letters or figures are no accident.
    let sure = width == Width::Bits64 || words == 4;
    (plain && sure && text.len() >= least && words.saturating_mul(2) > text.len())
        .then(|| text.iter().map(|&byte| char::from(byte)).collect())
}

/// Values of 64 bits by the halves of the address space. Five levels of page tables make more canonical, and a splat does not
/// say how many there are: a value in the kernel's part of five levels is an address, unless it is one bit away from an
/// address of four.
fn wide(value: u64) -> Pattern {
    const KERNEL: u64 = 0xffff_8000_0000_0000;
    /// Where the table of addresses with five levels begins to be in use.
    const KERNEL_OF_FIVE: u64 = 0xff10_0000_0000_0000;
    if value < 0x8000_0000_0000 {
        return Pattern::User;
    }
    if value >= KERNEL {
        return Pattern::Kernel;
    }
    // One bit away from an address of the kernel, and in a part of its space that is in use.
    let flipped =
        (47..64).map(|bit| (bit, value ^ (1 << bit))).find(|(_, was)| *was >= KERNEL && is_used(*was));
    match flipped {
        Some((bit, was)) => Pattern::BitFlip { bit, was },
        None if value >= KERNEL_OF_FIVE => Pattern::Kernel,
        None => Pattern::NonCanonical,
    }
}

/// The direct map, `vmalloc`, the memory map, per-CPU areas, the kernel and its modules (`Documentation/arch/x86/x86_64/mm.rst`).
fn is_used(address: u64) -> bool {
    (0xffff_8800_0000_0000..0xffff_fe80_0000_0000).contains(&address) || address >= 0xffff_ffff_8000_0000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: u64, width: Width) -> String {
        pattern(value, width).unwrap().text()
    }

    #[test]
    fn values_are_known_by_their_look() {
        for (value, expected) in [
            (0, "NULL"),
            (0x18, "a small number"),
            (0xdead_0000_0000_0100, "LIST_POISON1"),
            (0xdead_0000_0000_0108, "LIST_POISON1 + 0x8"),
            (0xdead_0000_0000_0122, "LIST_POISON2"),
            (0xdead_0000_0000_0200, "LIST_POISON2"),
            (0x20_0200, "LIST_POISON2"),
            (0x10_0104, "LIST_POISON1 + 0x4"),
            (0xdead_0000_0000_00f0, "LIST_POISON1 - 0x10"),
            (0xdead_0000_0000_0130, "LIST_POISON1 + 0x30"),
            (0xdead_0000_0000_0ec1, "BPF_PTR_POISON + 0x8"),
            (0x6b6b_6b6b_6b6b_6b6b, "POISON_FREE (0x6b)"),
            (0x6b6b_6b6b_6b6b_6b9b, "POISON_FREE (0x6b) + 0x30"),
            (0x5a5a_5a5a_5a5a_5a5a, "POISON_INUSE (0x5a)"),
            (0xffff_ffff_ffff_fff4, "the error ENOMEM (-12) taken for a pointer"),
            (0xffff_ffff_ffff_f001, "the error -4095 taken for a pointer"),
            (u64::from_le_bytes(*b"kvm [262"), "the text \"kvm [262\""),
            (0xffff_8881_0012_3450, "a kernel address"),
            (0xfffe_8881_0012_3450, "0xffff888100123450 with bit 48 flipped"),
            (0x7fff_8881_0012_3450, "0xffff888100123450 with bit 63 flipped"),
            (0x1234_5678_9abc_def0, "not canonical"),
            (0xff48_96f8_4b25_d180, "a kernel address"),
            (0x7f12_3456_7000, "a user address"),
            (0xdead_4ead, "SPINLOCK_MAGIC"),
        ] {
            assert_eq!(text(value, Width::Bits64), expected, "{value:#x}");
        }
    }

    #[test]
    fn narrow_values_are_known_too() {
        for (value, expected) in [
            (0x0010_0100, "LIST_POISON1"),
            (0x0020_0200, "LIST_POISON2"),
            (0x100, "LIST_POISON1"),
            (0x122, "LIST_POISON2"),
            (0x6b6b_6b6b, "POISON_FREE (0x6b)"),
            (0x6b6b_6b73, "POISON_FREE (0x6b) + 0x8"),
            (0xffff_fff4, "the error ENOMEM (-12) taken for a pointer"),
            (0xc012_4cc5, "a kernel address"),
            (0x0804_8000, "a user address"),
            (u64::from(u32::from_le_bytes(*b"SDD ")), "the text \"SDD \""),
        ] {
            assert_eq!(text(value, Width::Bits32), expected, "{value:#x}");
        }
    }
}
