//! Pointers that a flipped bit made bad.

use kdive_evidence::{Register, SplatKind};

use super::Detector;
use super::fault::{FAULTS, used};
use super::support::{Draft, LIKELY, POSSIBLE, splats};
use crate::blame::Mode;
use crate::case::Case;
use crate::class::Class;
use crate::decode::{self, Pattern};
use crate::finding::Finding;

pub(super) const FLIPPED_POINTER: Detector =
    Detector { name: "flipped-pointer", claim: "A pointer differs from a good one in a single bit.", run };

fn run(case: &Case<'_>, out: &mut Vec<Finding>) {
    for (index, splat) in splats(case, FAULTS) {
        let Some(used) = used(case, splat) else { continue };
        if case.system.is_32_bit()
            || !matches!(used.pattern, Pattern::NonCanonical | Pattern::Kernel | Pattern::BitFlip { .. })
        {
            continue;
        }
        let others = Register::GENERAL
            .iter()
            .chain([&Register::Rsp])
            .filter_map(|&register| splat.registers.get(register));
        let width = decode::width(splat, case);
        let poisoned = others.clone().any(|value| {
            matches!(decode::pattern(value, width), Some(Pattern::Poison { .. } | Pattern::Text(_)))
        });
        let near = near_bit(used.value, others);
        let bit = match (near, &used.pattern) {
            (Some(bit), _) => bit,
            (None, Pattern::BitFlip { bit, .. }) if splat.kind != SplatKind::PageFault => *bit,
            _ => continue,
        };
        let good = used.value ^ 1_u64.wrapping_shl(bit);
        let score = match (near, &used.pattern) {
            (Some(_), Pattern::Kernel) => POSSIBLE,
            (Some(_), _) => LIKELY + 6,
            (None, _) => LIKELY + 2,
        };
        let score = if poisoned { score / 2 } else { score };
        Draft::new(FLIPPED_POINTER.name, Class::BitFlip, score)
            .at(index, splat, Mode::Fault)
            .object(Some(format!("bit {bit} of a pointer")))
            .title_in(if splat.kind == SplatKind::PageFault { "BUG: unable to handle kernel paging request" } else { "general protection fault" })
            .claim_in(format!("A pointer has a flipped bit ({bit})"))
            .says(&splat.message)
            .seen(format!("{:#x} with bit {bit} changed is {good:#x}, {}.", used.value, if near.is_some() { "within a page of another register's value" } else { "a good address of the kernel" }))
            .against_if(poisoned, "Registers hold poison or text: software wrote those.")
            .against("A single dump cannot tell a flipped bit from software that changed one bit of a wrong word: does the host crash elsewhere too?")
            .advice("Test the memory, and read the machine's event log for corrected errors.")
            .push(out);
    }
}

/// The bit whose flip brings a value within a page of another register's.
fn near_bit(value: u64, others: impl Iterator<Item = u64> + Clone) -> Option<u32> {
    (12..63).find(|&bit| {
        let candidate = value ^ 1_u64.wrapping_shl(bit);
        others.clone().any(|other| {
            other >= 0xffff_8000_0000_0000
                && candidate.abs_diff(other) < 4096
                && value.abs_diff(other) >= 4096
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flipped_bit_needs_a_neighbour() {
        let others = [0xffff_8880_1234_5600_u64];
        assert_eq!(near_bit(0xffff_8880_1234_5678 ^ (1 << 40), others.into_iter()), Some(40));
        assert_eq!(near_bit(0xffff_8880_1234_5678, others.into_iter()), None);
        assert_eq!(near_bit(0xdead_beef_1234_5678, others.into_iter()), None);
    }
}
