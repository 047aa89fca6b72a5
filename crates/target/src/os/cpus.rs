//! Processors: which there are, and where their per-CPU areas lie.

use kdive_base::VirtAddr;

use crate::kernel::Kernel;
use crate::lacks::{Field, Lacks};

/// More than any kernel is configured for (`CONFIG_NR_CPUS` is at most 8192 on x86-64).
const MAX_CPUS: u32 = 1 << 16;

/// A set of processors (`struct cpumask`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuMask(Vec<u64>);

impl CpuMask {
    /// A mask out of its words.
    #[must_use]
    pub fn new(words: Vec<u64>) -> Self {
        Self(words)
    }

    /// Whether a processor is in it.
    #[must_use]
    pub fn contains(&self, cpu: u32) -> bool {
        self.0.get(cpu as usize / 64).is_some_and(|word| word >> (cpu % 64) & 1 == 1)
    }

    /// The processors in it, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.0.len() as u32 * 64).filter(|&cpu| self.contains(cpu))
    }

    /// How many are in it.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }
}

/// The processors of the machine.
#[derive(Clone, Debug)]
pub struct Cpus {
    /// One more than the highest number a processor can have (`nr_cpu_ids`).
    pub limit: u32,
    /// Those that can ever be there.
    pub possible: CpuMask,
    /// Those that are plugged in.
    pub present: Field<CpuMask>,
    /// Those that were running.
    pub online: Field<CpuMask>,
    /// Offset of each processor's per-CPU area (`__per_cpu_offset`), by number.
    offsets: Vec<Field<u64>>,
}

impl Cpus {
    pub(super) fn find(kernel: &Kernel) -> Field<Self> {
        let memory = kernel.memory();
        let limit = match kernel.symbol("nr_cpu_ids") {
            Ok(at) => memory.u32(at)?,
            Err(_) => configured_limit(kernel)?,
        };
        if limit == 0 || limit > MAX_CPUS {
            return Err(Lacks::implausible(format_args!("nr_cpu_ids is {limit}")));
        }
        let possible = mask(kernel, "__cpu_possible_mask", limit)?;
        let offsets_at = kernel.symbol("__per_cpu_offset");
        let offset = |cpu: u32| match &offsets_at {
            Ok(at) => Ok(memory.u64(at.add(u64::from(cpu).wrapping_mul(8)))?),
            // A kernel for one processor has no per-CPU areas apart from the variables themselves.
            Err(_) if limit == 1 => Ok(0),
            Err(lacks) => Err(lacks.clone()),
        };
        Ok(Self {
            limit,
            present: mask(kernel, "__cpu_present_mask", limit),
            online: mask(kernel, "__cpu_online_mask", limit),
            offsets: (0..limit).map(offset).collect(),
            possible,
        })
    }

    /// Where a processor's copy of a per-CPU variable lies; `variable` is the symbol's address.
    pub fn per_cpu(&self, variable: VirtAddr, cpu: u32) -> Field<VirtAddr> {
        match self.offsets.get(cpu as usize) {
            Some(offset) => offset.clone().map(|offset| variable.add(offset)),
            None => Err(Lacks::unavailable(format_args!("there is no CPU {cpu}"))),
        }
    }
}

/// `CONFIG_FORCE_NR_CPUS` makes `nr_cpu_ids` a constant: then the length of the mask tells.
fn configured_limit(kernel: &Kernel) -> Field<u32> {
    let bits = kernel.size_of("cpumask")?.saturating_mul(8);
    u32::try_from(bits).map_err(|_| Lacks::implausible("the size of struct cpumask"))
}

fn mask(kernel: &Kernel, symbol: &str, limit: u32) -> Field<CpuMask> {
    let at = kernel.symbol(symbol)?;
    let words = (0..u64::from(limit.div_ceil(64)))
        .map(|index| kernel.memory().u64(at.add(index.wrapping_mul(8))))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(CpuMask(words))
}

impl Kernel {
    /// The address of a processor's copy of a per-CPU variable.
    pub fn per_cpu(&self, symbol: &str, cpu: u32) -> Field<VirtAddr> {
        self.cpus()?.per_cpu(self.symbol(symbol)?, cpu)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_counts_its_bits() {
        let mask = CpuMask::new(vec![0b101, 1]);
        assert_eq!(mask.iter().collect::<Vec<_>>(), [0, 2, 64]);
        assert_eq!(mask.count(), 3);
        assert!(!mask.contains(1000));
    }
}
