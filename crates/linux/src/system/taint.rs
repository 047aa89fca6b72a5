//! What makes a kernel suspect (kernel/panic.c).

use kdive_target::{Field, Kernel};
use serde::Serialize;

/// The letters of the bits as of Linux 6.12, for kernels whose own table is not in the dump.
const LETTERS: &[u8] = b"PFSRMBUDAWCIOELKXTNJ";

/// The kernel's taint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Taint {
    /// `tainted_mask`.
    pub mask: u64,
    /// A letter for each bit that is set, lowest first.
    pub letters: String,
}

impl Taint {
    /// The kernel's taint.
    pub fn find(kernel: &Kernel) -> Field<Self> {
        let mask = match kernel.symbol("tainted_mask") {
            Ok(at) => kernel.memory().u64(at)?,
            // Before 2.6.28.
            Err(lacks) => kernel.memory().u32(kernel.symbol("tainted").map_err(|_| lacks)?)?.into(),
        };
        Ok(Self::of_mask(kernel, mask))
    }

    /// What a mask means: the kernel's, or a module's own.
    #[must_use]
    pub fn of_mask(kernel: &Kernel, mask: u64) -> Self {
        let table = Table::find(kernel).ok();
        let letter = |bit: u32| {
            let own = table.as_ref().and_then(|table| table.letter(kernel, bit));
            own.or_else(|| LETTERS.get(bit as usize).copied().map(char::from)).unwrap_or('?')
        };
        let letters = (0..u64::BITS).filter(|bit| mask >> bit & 1 == 1).map(letter).collect();
        Self { mask, letters }
    }
}

/// `taint_flags[]`: the kernel's own letters, and whether they mark modules.
struct Table {
    at: kdive_base::VirtAddr,
    size: u64,
    letter: u64,
    count: u32,
}

impl Table {
    fn find(kernel: &Kernel) -> Field<Self> {
        let count = kernel.enumerator("TAINT_FLAGS_COUNT").map_or(LETTERS.len() as u32, |count| count as u32);
        Ok(Self {
            at: kernel.symbol("taint_flags")?,
            size: kernel.size_of("taint_flag")?,
            // `true` before 4.10.
            letter: kernel.member("taint_flag", &["c_true", "true"])?.offset,
            count,
        })
    }

    fn letter(&self, kernel: &Kernel, bit: u32) -> Option<char> {
        if bit >= self.count {
            return None;
        }
        let at = self.at.add(u64::from(bit).wrapping_mul(self.size)).add(self.letter);
        kernel.memory().u8(at).ok().filter(u8::is_ascii_graphic).map(char::from)
    }
}
