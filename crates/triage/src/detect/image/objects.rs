//! What the registers of the fault point into: free objects, and pointers that one bit was flipped in.

use kdive_base::VirtAddr;
use kdive_evidence::{Register, Registers, Splat, SplatKind};
use kdive_linux::locate::{InObject, Locator};
use kdive_linux::slab::ObjectState;
use kdive_target::Kernel;

use super::blamed;
use crate::blame::{self, Mode};
use crate::case::Case;
use crate::class::Class;
use crate::detect::Detector;
use crate::finding::{Culprit, Evidence, Finding};

/// Free objects.
pub(in crate::detect) const FREED: Detector = Detector {
    name: "freed-object-in-memory",
    claim: "the bad pointer came out of an object that is free",
    run: freed,
};

/// Bits.
pub(in crate::detect) const FLIPPED: Detector = Detector {
    name: "flipped-pointer-in-memory",
    claim: "the bad pointer is a good one with one bit flipped",
    run: flipped,
};

/// The largest member offset that a fault is looked for from its base register.
const REACH: u64 = 4096;
/// Bytes of an object that are searched for the bad pointer.
const MOST_BYTES: usize = 8192;
/// Live words of a stack that are searched for the good pointer.
const MOST_WORDS: usize = 2048;

fn general(registers: &Registers) -> impl Iterator<Item = (Register, u64)> + '_ {
    Register::GENERAL.into_iter().filter_map(|register| Some((register, registers.get(register)?)))
}

/// The fault that the kernel died of: the first that has registers, and is one of memory.
fn fault<'c>(case: &'c Case<'_>) -> Option<(usize, &'c Splat)> {
    let is_fault = |splat: &&Splat| {
        matches!(splat.kind, SplatKind::PageFault | SplatKind::GeneralProtection)
            && splat.registers.known().next().is_some()
    };
    case.splats.iter().enumerate().find(|(_, splat)| is_fault(splat))
}

fn is_canonical(value: u64) -> bool {
    matches!(value >> 47, 0 | 0x1_ffff) || matches!(value >> 56, 0 | 0xff)
}

/// Registers whose value the fault went through: the base of its address, or one that is no address at all.
fn bad_values(splat: &Splat) -> Vec<(Register, u64)> {
    let from_base = |value: u64| {
        let at = splat.address.map_or(0, |at| at.0);
        at >= value && at.wrapping_sub(value) < REACH
    };
    let small = |value: u64| value < REACH || value > u64::MAX.wrapping_sub(REACH);
    general(&splat.registers)
        .filter(|(_, value)| match splat.address {
            Some(_) => from_base(*value) && !small(*value),
            None => !is_canonical(*value),
        })
        .collect()
}

fn is_free(object: &InObject) -> bool {
    object.state.as_ref().is_some_and(|state| *state != ObjectState::Allocated)
}

fn freed(case: &Case<'_>, findings: &mut Vec<Finding>) {
    let Some(kernel) = case.image else { return };
    let Some((index, splat)) = fault(case) else { return };
    let bad = bad_values(splat);
    let mut locator = Locator::new(kernel);
    let objects = general(&splat.registers).filter_map(|(register, value)| {
        let object = locator.locate(VirtAddr(value)).slab?;
        is_free(&object).then_some((register, object))
    });
    // An object that a register still points to may have been freed in good order; one that the bad pointer came out of
    // was used after that.
    let found: Vec<(Register, InObject)> = objects.collect();
    let proven = found.iter().find_map(|(register, object)| {
        let (place, value) = word_in(kernel, object, &bad)?;
        Some((*register, object, Some((place, value))))
    });
    let Some((register, object, word)) =
        proven.or_else(|| found.first().map(|(register, object)| (*register, object, None)))
    else {
        return;
    };
    let mut supports = vec![Evidence::shown(
        format!(
            "register {} points to {}, a free object of the cache {}",
            register.name(),
            object.object,
            object.name
        ),
        format!("where {:#}", object.object),
    )];
    if let Some((place, value)) = word {
        supports.push(Evidence::shown(
            format!("the bad pointer {} stands at offset {place} of that object", VirtAddr(value)),
            format!("rd {:#}", object.object.add(place)),
        ));
    }
    let culprit = blamed(
        blame::guilty(splat, Mode::Fault),
        Culprit { object: Some(object.name.clone()), ..Culprit::default() },
    );
    let function = culprit.function.as_deref().unwrap_or("?");
    findings.push(Finding {
        detector: FREED.name,
        class: Class::UseAfterFree,
        title: format!("use-after-free in {function}"),
        claim: format!("an object of the cache {} was used after it was freed, in {function}", object.name),
        score: if word.is_some() { 88 } else { 20 },
        supports,
        against: match word {
            Some(_) => Vec::new(),
            None => vec![Evidence::seen(
                "the pointer that failed is not from that object: the register may be stale",
            )],
        },
        culprit,
        advice: Vec::new(),
        splat: Some(index),
    });
}

/// Where in an object one of the bad pointers stands.
fn word_in(kernel: &Kernel, object: &InObject, bad: &[(Register, u64)]) -> Option<(u64, u64)> {
    let bytes = usize::try_from(object.size?).ok()?.min(MOST_BYTES);
    let content = kernel.memory().bytes(object.object, bytes).ok()?;
    let (words, _) = content.as_chunks::<8>();
    words.iter().enumerate().find_map(|(index, word)| {
        let word = u64::from_le_bytes(*word);
        bad.iter().any(|(_, value)| *value == word).then_some((index as u64 * 8, word))
    })
}

fn flipped(case: &Case<'_>, findings: &mut Vec<Finding>) {
    let Some(kernel) = case.image else { return };
    let Some((index, splat)) = fault(case) else { return };
    let mut locator = Locator::new(kernel);
    for (register, value) in bad_values(splat) {
        if is_pattern(value) {
            continue;
        }
        let candidates: Vec<(u32, InObject)> =
            (0..u64::BITS).filter_map(|bit| candidate(kernel, &mut locator, value, bit)).collect();
        let [(bit, object)] = candidates.as_slice() else { continue };
        let good = value ^ 1_u64.checked_shl(*bit).unwrap_or(0);
        let copies = copies(kernel, splat, good);
        let culprit = blamed(
            blame::guilty(splat, Mode::Fault),
            Culprit { object: Some(object.name.clone()), ..Culprit::default() },
        );
        let good = VirtAddr(good);
        let mut supports = vec![Evidence::shown(
            format!(
                "{} holds {}: with bit {bit} the other way it is {good}, an object of the cache {} in use",
                register.name(),
                VirtAddr(value),
                object.name
            ),
            format!("where {good:#}"),
        )];
        if copies > 0 {
            supports.push(Evidence::seen(format!(
                "the pointer without the flip stands in {copies} other places near the fault"
            )));
        }
        let function = culprit.function.as_deref().unwrap_or("?");
        findings.push(Finding {
            detector: FLIPPED.name,
            class: Class::BitFlip,
            title: format!("flipped bit in a pointer in {function}"),
            claim: format!("a pointer that {function} used differs in one bit from one that is good: memory, not software"),
            score: match (object.offset, copies) {
                (0, 1..) => 92,
                (0, 0) => 82,
                (_, 1..) => 80,
                _ => 60,
            },
            supports,
            against: vec![Evidence::seen("software can flip a bit too, where it uses the wrong pointer to set a flag")],
            culprit,
            advice: vec!["Test the memory of this machine before looking for a bug.".into()],
            splat: Some(index),
        });
        return;
    }
}

/// Values that are made by software: poison, text, the same byte again and again.
fn is_pattern(value: u64) -> bool {
    let bytes = value.to_le_bytes();
    let printable = bytes.iter().filter(|byte| byte.is_ascii_graphic() || **byte == b' ').count();
    let same = bytes.windows(2).filter(|pair| pair.first() == pair.last()).count();
    let poison = value >> 48 == 0xdead;
    printable >= 7 || same >= 5 || poison
}

/// The object in use that a value points to with one bit the other way.
fn candidate(kernel: &Kernel, locator: &mut Locator<'_>, value: u64, bit: u32) -> Option<(u32, InObject)> {
    let good = VirtAddr(value ^ 1_u64.checked_shl(bit)?);
    // A fault on a page that is there is no flip of the address.
    kernel.memory().u8(good).ok()?;
    let object = locator.locate(good).slab?;
    (object.state == Some(ObjectState::Allocated)).then_some((bit, object))
}

/// How often a pointer stands in the registers and in the live words of the stack of a fault.
fn copies(kernel: &Kernel, splat: &Splat, good: u64) -> usize {
    let in_registers = general(&splat.registers).filter(|(_, value)| *value == good).count();
    let Some(sp) = splat.registers.sp() else { return in_registers };
    let mut bytes = vec![0; MOST_WORDS.saturating_mul(8)];
    let (count, _) = kernel.memory().read(sp, &mut bytes);
    bytes.truncate(count);
    let (words, _) = bytes.as_chunks::<8>();
    let on_stack = words.iter().filter(|word| u64::from_le_bytes(**word) == good).count();
    in_registers.saturating_add(on_stack)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_of_a_fault_is_bad() {
        let splat = Splat {
            kind: SplatKind::PageFault,
            address: Some(VirtAddr(0x1234_5678_9008)),
            registers: Registers::default()
                .with(Register::Rax, 0x1234_5678_9000)
                .with(Register::Rbx, 0xffff_8880_0000_0000)
                .with(Register::Rcx, 0),
            ..Splat::default()
        };
        assert_eq!(bad_values(&splat), [(Register::Rax, 0x1234_5678_9000)]);
    }

    #[test]
    fn patterns_of_software_are_no_flips() {
        assert!(is_pattern(0x6b6b_6b6b_6b6b_6b6b) && is_pattern(0xdead_0000_0000_0100));
        assert!(is_pattern(u64::from_le_bytes(*b"/usr/lib")) && !is_pattern(0xff51_8880_0123_4567));
    }
}
