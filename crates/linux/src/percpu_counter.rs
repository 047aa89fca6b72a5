//! Counters that processors add to in batches (`struct percpu_counter`, include/linux/percpu_counter.h).

use kdive_base::VirtAddr;
use kdive_target::{Field, Kernel};

/// Where a counter's parts lie.
#[derive(Clone, Copy, Debug)]
pub struct PerCpuCounter {
    /// Size of the structure in bytes.
    pub size: u64,
    count: u64,
    deltas: u64,
}

impl PerCpuCounter {
    /// The layout of this kernel's counters.
    ///
    /// # Errors
    /// Types are lacking.
    pub fn find(kernel: &Kernel) -> Field<Self> {
        Ok(Self {
            size: kernel.size_of("percpu_counter")?,
            count: kernel.offset_of("percpu_counter", "count")?,
            deltas: kernel.offset_of("percpu_counter", "counters")?,
        })
    }

    /// The counter at an address: its sum, and what each processor has not added yet (`percpu_counter_sum`).
    ///
    /// # Errors
    /// It is not in the dump.
    pub fn sum(self, kernel: &Kernel, at: VirtAddr) -> Field<i64> {
        let memory = kernel.memory();
        let mut sum = memory.u64(at.add(self.count))?.cast_signed();
        let (cpus, deltas) = (kernel.cpus()?, memory.pointer(at.add(self.deltas))?);
        // A kernel for one processor has no deltas.
        for cpu in cpus.possible.iter().filter(|_| !deltas.is_null()) {
            let delta = memory.u32(cpus.per_cpu(deltas, cpu)?)?.cast_signed();
            sum = sum.saturating_add(delta.into());
        }
        Ok(sum)
    }
}
