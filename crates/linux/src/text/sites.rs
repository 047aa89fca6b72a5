//! Where code is patched, of the kernel and of modules.

use std::ops::Range;

use kdive_base::VirtAddr;
use kdive_target::Kernel;

use crate::kprobes::Probes;

/// Calls, jumps and nops of five bytes: what most places are.
pub(super) const CALL: u64 = 5;

/// Sections of places, which the kernel and modules have alike: offsets of four bytes, relative to themselves. Each with
/// the bytes from entry to entry and the bytes of code that are patched, 0 for the whole instruction
/// (`arch/x86/kernel/alternative.c`).
pub(super) const SECTIONS: [(&str, usize, u64); 5] = [
    (".retpoline_sites", 4, 0),
    (".return_sites", 4, 0),
    (".call_sites", 4, 0),
    (".ibt_endbr_seal", 4, 4),
    (".smp_locks", 4, 1),
];
/// Bytes from entry to entry of jump labels and static calls (`include/linux/jump_label.h`, `static_call_types.h`).
pub(super) const JUMP_ENTRY: usize = 16;
pub(super) const STATIC_CALL_ENTRY: usize = 8;
/// Trampolines of static calls, which are jumps.
pub(super) const STATIC_CALL_TRAMPOLINE: &str = "__SCT__";
/// Where the bytes of code are told in an entry of `.parainstructions`, `struct paravirt_patch_site` (until 6.7).
pub(super) const PARAVIRT_LENGTH: usize = 9;

/// Stretches of code that are patched, by address; none touches another.
#[derive(Debug, Default)]
pub(super) struct Sites(Vec<Range<u64>>);

impl Sites {
    /// Of places, each a first address and bytes; `code` gives the first two bytes at an address, for places whose bytes
    /// are 0: a whole instruction.
    pub(super) fn new<'c>(places: Vec<(u64, u64)>, code: impl Fn(VirtAddr) -> Option<&'c [u8]>) -> Self {
        let range = |(at, bytes): (u64, u64)| {
            let bytes = if bytes == 0 { instruction_bytes(code(VirtAddr(at))) } else { bytes };
            at..at.saturating_add(bytes)
        };
        let mut ranges: Vec<Range<u64>> = places.into_iter().map(range).collect();
        ranges.sort_unstable_by_key(|range| range.start);
        let mut sites: Vec<Range<u64>> = Vec::with_capacity(ranges.len());
        for range in ranges {
            match sites.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => sites.push(range),
            }
        }
        Self(sites)
    }

    pub(super) fn contains(&self, at: u64) -> bool {
        let next = self.0.partition_point(|site| site.start <= at);
        let site = next.checked_sub(1).and_then(|index| self.0.get(index));
        site.is_some_and(|site| site.contains(&at))
    }
}

/// Bytes of the patched instruction: a call or a jump, near, short or conditional, with prefixes, or a nop in its place.
fn instruction_bytes(code: Option<&[u8]>) -> u64 {
    match code {
        // The compiler pads calls through registers to six bytes.
        Some([0x2e, ..] | [0x0f, 0x80..=0x8f, ..]) => 6,
        Some([0xeb | 0x70..=0x7f, ..] | [0x66, 0x90, ..]) => 2,
        _ => CALL,
    }
}

/// Where things are in `struct alt_instr`, whose size and members differ between kernels.
pub(super) struct AlternativeLayout {
    pub(super) size: usize,
    pub(super) place: usize,
    pub(super) length: usize,
}

impl AlternativeLayout {
    pub(super) fn of(kernel: &Kernel) -> Option<Self> {
        let offset = |member| usize::try_from(kernel.offset_of("alt_instr", member).ok()?).ok();
        let size = kernel.size_of("alt_instr").ok().and_then(|size| usize::try_from(size).ok());
        Some(Self {
            size: size.filter(|&size| size > 0)?,
            place: offset("instr_offset")?,
            length: offset("instrlen")?,
        })
    }
}

/// Where kprobes are, found once for a kernel: each a breakpoint or a jump (kernel/kprobes.c).
pub(super) fn probed(kernel: &Kernel) -> &[VirtAddr] {
    struct Probed(Vec<VirtAddr>);
    let find =
        |kernel: &Kernel| Probed(Probes::find(kernel).kernel.iter().map(|probe| probe.address).collect());
    &kernel.once(find).0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_as_long_as_what_is_patched_there() {
        let code = |at: VirtAddr| (at.0 == 0x1020).then_some(&[0x0f, 0x85][..]);
        let sites = Sites::new(vec![(0x1030, 1), (0x1000, 5), (0x1010, 0), (0x1020, 0), (0x1012, 8)], code);
        assert_eq!(sites.0, [0x1000..0x1005, 0x1010..0x101a, 0x1020..0x1026, 0x1030..0x1031]);
        for (at, patched) in
            [(0xfff, false), (0x1000, true), (0x1004, true), (0x1005, false), (0x1019, true), (0x101a, false)]
        {
            assert_eq!(sites.contains(at), patched, "{at:x}");
        }
    }
}
