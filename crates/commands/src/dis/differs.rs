//! Whether the dump's code is that of the vmlinux.

use std::ops::Range;

use kdive_arch::x86_64::disassemble::{Disassembler, Instruction, LONGEST, Syntax};
use kdive_base::VirtAddr;
use kdive_target::Kernel;

use super::sites::Original;
use crate::code;
use crate::cx::Cx;
use crate::settings::Radix;

/// The vmlinux's code, if there is one.
struct Kept(Option<Original>);

/// Notes where instructions of the kernel differ from the vmlinux given, apart from what the kernel patches itself.
pub(super) fn check(cx: &mut Cx, code: &[Instruction]) {
    let (Some(first), Some(last)) = (code.first(), code.last()) else { return };
    let kernel = cx.kernel.clone();
    if kernel.vmlinux().is_none() || kernel.modules().at(first.address).is_some() {
        return;
    }
    if is_freed(&kernel, first.address) {
        let why = "its memory was freed after boot: what is shown may be no code any more";
        cx.gaps.note("code of initialisation", why, Some(first.address.to_string()));
        return;
    }
    let kept = kernel.once(|kernel| Kept(Original::find(kernel)));
    let Some(original) = &kept.0 else { return };
    let mut disassembler = Disassembler::new(Syntax::Att);
    let patched = original.patched(first.address..last.end(), &mut |at| {
        let bytes = original.bytes(at.add(original.slide), LONGEST).unwrap_or_default();
        disassembler.one(bytes, at).map_or(LONGEST as u64, |found| found.bytes.len() as u64)
    });
    for found in code {
        let Some(was) = original.bytes(found.address, found.bytes.len()) else { continue };
        if differs(found.address, &found.bytes, was, original.slide, &patched) {
            let name = code::name(&kernel, found.address, Radix::Decimal);
            let place = name.unwrap_or_else(|| found.address.to_string());
            let why = format!("the dump has {}, the vmlinux {}", hex(&found.bytes), hex(was));
            cx.gaps.note(
                "code that differs from the vmlinux's and is no place that the kernel patches",
                why,
                Some(place),
            );
        }
    }
}

/// Whether code is only there until the kernel has booted.
fn is_freed(kernel: &Kernel, at: VirtAddr) -> bool {
    let bounds = (kernel.symbol("__init_begin"), kernel.symbol("__init_end"));
    matches!(bounds, (Ok(begin), Ok(end)) if begin <= at && at < end)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}

/// Whether bytes differ where they should not: outside of patched places and of addresses that KASLR moved.
fn differs(at: VirtAddr, now: &[u8], was: &[u8], slide: u64, patched: &[Range<VirtAddr>]) -> bool {
    let moved = relocated(now, was, slide);
    (0_u64..).zip(now.iter().zip(was)).any(|(index, (now, was))| {
        let here = at.add(index);
        let covered = || patched.iter().any(|range| range.contains(&here));
        let is_moved = || moved.iter().any(|range| range.contains(&index));
        now != was && !covered() && !is_moved()
    })
}

/// Numbers of four and eight bytes that differ by the slide: addresses of the kernel, and distances to per-CPU data.
fn relocated(now: &[u8], was: &[u8], slide: u64) -> Vec<Range<u64>> {
    let mut moved = Vec::new();
    for size in [4_usize, 8] {
        let both = now.windows(size).zip(was.windows(size));
        for (index, (now, was)) in (0_u64..).zip(both) {
            let (now, was) = (number(now), number(was));
            let mask = if size == 4 { u64::from(u32::MAX) } else { u64::MAX };
            let apart = now.wrapping_sub(was) & mask;
            if slide != 0 && (apart == slide & mask || apart == slide.wrapping_neg() & mask) {
                moved.push(index..index.saturating_add(size as u64));
            }
        }
    }
    moved
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: VirtAddr = VirtAddr(0x1000);

    #[test]
    fn patched_and_moved_bytes_are_no_difference() {
        let was = [0x48, 0xc7, 0xc7, 0x10, 0, 0, 0x82];
        let moved = [0x48, 0xc7, 0xc7, 0x10, 0, 0x20, 0x92];
        assert!(!differs(AT, &moved, &was, 0x1020_0000, &[]));
        assert!(differs(AT, &moved, &was, 0x1000_0000, &[]));
        let other = [0x49, 0xc7, 0xc7, 0x10, 0, 0, 0x82];
        assert!(differs(AT, &other, &was, 0, &[]));
        assert!(!differs(AT, &other, &was, 0, &[AT..AT.add(1)]));
        assert!(differs(AT, &other, &was, 0, &[AT.add(1)..AT.add(5)]));
    }

    #[test]
    fn distances_to_per_cpu_data_shrink() {
        let was = [0x65, 0x48, 0x03, 0x15, 0, 0, 0x30, 0];
        let now = [0x65, 0x48, 0x03, 0x15, 0, 0, 0x10, 0];
        assert!(!differs(AT, &now, &was, 0x20_0000, &[]));
    }
}
