//! Values that an administrator sets: sysctls (`proc_do*`, kernel/sysctl.c) and module parameters (`param_ops_*`,
//! kernel/params.c).

use kdive_base::{Endian, VirtAddr, printable};
use kdive_target::{Field, Kernel, Lacks};
use serde::Serialize;

/// A value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Setting {
    /// Numbers, signed or not.
    Numbers(Vec<i128>),
    /// Yes or no.
    Flag(bool),
    /// Text.
    Text(String),
}

/// Numbers as they lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Integer {
    pub(super) bytes: usize,
    pub(super) signed: bool,
}

/// Longer than any text that is set.
const MOST_TEXT: usize = 4096;
/// More numbers than any setting has.
const MOST_NUMBERS: u64 = 1024;

impl Setting {
    /// As many numbers as `bytes` hold, and at least one.
    pub(super) fn numbers(kernel: &Kernel, at: VirtAddr, of: Integer, bytes: u64) -> Field<Self> {
        let count = (bytes / of.bytes.max(1) as u64).clamp(1, MOST_NUMBERS) as usize;
        let raw = kernel.memory().bytes(at, count.saturating_mul(of.bytes))?;
        let number = |index: usize| {
            let from = index.saturating_mul(of.bytes);
            Some(match of.signed {
                true => {
                    let unused = 64_u32.saturating_sub(of.bytes as u32 * 8).min(63);
                    let value = Endian::Little.unsigned(&raw, from, of.bytes)?;
                    i128::from((value << unused).cast_signed() >> unused)
                }
                false => i128::from(Endian::Little.unsigned(&raw, from, of.bytes)?),
            })
        };
        Ok(Self::Numbers((0..count).filter_map(number).collect()))
    }

    pub(super) fn flag(kernel: &Kernel, at: VirtAddr) -> Field<Self> {
        Ok(Self::Flag(kernel.memory().u8(at)? != 0))
    }

    /// Text in a buffer.
    pub(super) fn text(kernel: &Kernel, at: VirtAddr, bytes: u64) -> Field<Self> {
        let most = usize::try_from(bytes).unwrap_or(MOST_TEXT).min(MOST_TEXT);
        if most == 0 {
            return Err(Lacks::unavailable("a text without room"));
        }
        let text = kernel.memory().c_string(at, most)?;
        Ok(Self::Text(printable(&text).trim_end().to_owned()))
    }
}

impl std::fmt::Display for Setting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Numbers(numbers) => {
                for (index, number) in numbers.iter().enumerate() {
                    write!(f, "{}{number}", if index > 0 { " " } else { "" })?;
                }
                Ok(())
            }
            Self::Flag(is_set) => f.write_str(if *is_set { "Y" } else { "N" }),
            Self::Text(text) => f.write_str(text),
        }
    }
}
