//! Vectors: the interrupt descriptor table of x86, and the handlers of soft interrupts (kernel/softirq.c).

use kdive_base::{Endian, VirtAddr};
use kdive_target::{Field, Kernel, Lacks};

/// A gate of the interrupt descriptor table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gate {
    /// Its vector.
    pub vector: u32,
    /// What it leads to.
    pub handler: VirtAddr,
}

/// Vectors of x86.
const VECTORS: usize = 256;
/// Bytes of a gate in 64-bit mode (Intel SDM volume 3, figure 6-8).
const GATE_BYTES: usize = 16;

/// The interrupt descriptor table, by vector.
pub fn idt(kernel: &Kernel) -> Field<Vec<Gate>> {
    let raw = kernel.memory().bytes(kernel.symbol("idt_table")?, VECTORS * GATE_BYTES)?;
    Ok((0..)
        .zip(raw.chunks_exact(GATE_BYTES))
        .map(|(vector, gate)| Gate { vector, handler: handler(gate) })
        .collect())
}

/// The address is in three pieces.
fn handler(gate: &[u8]) -> VirtAddr {
    let part = |at| Endian::Little.u16(gate, at).map_or(0, u64::from);
    let high = Endian::Little.u32(gate, 8).map_or(0, u64::from);
    VirtAddr(high << 32 | part(6) << 16 | part(0))
}

/// A soft interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SoftIrq {
    /// Its number.
    pub number: u32,
    /// What handles it.
    pub action: VirtAddr,
}

/// No kernel has had more.
const MOST_SOFTIRQS: u64 = 32;

/// The soft interrupts and their handlers (`softirq_vec`).
pub fn softirqs(kernel: &Kernel) -> Field<Vec<SoftIrq>> {
    let count = u64::try_from(kernel.enumerator("NR_SOFTIRQS")?).unwrap_or(0);
    if count == 0 || count > MOST_SOFTIRQS {
        return Err(Lacks::implausible(format_args!("NR_SOFTIRQS is {count}")));
    }
    let first = kernel.symbol("softirq_vec")?;
    let bytes = kernel.size_of("softirq_action")?;
    let action = kernel.offset_of("softirq_action", "action")?;
    let one = |number: u64| {
        let at = first.add(bytes.wrapping_mul(number)).add(action);
        Ok(SoftIrq { number: number as u32, action: kernel.memory().pointer(at)? })
    };
    (0..count).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_is_put_together() {
        let gate = [0x50, 0x0b, 0x10, 0, 0, 0x8e, 0x20, 0x9a, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
        assert_eq!(handler(&gate), VirtAddr(0xffff_ffff_9a20_0b50));
        assert_eq!(handler(&[]), VirtAddr(0));
    }
}
