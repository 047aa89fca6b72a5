//! Where the kernel patches its own code, as its vmlinux tells.

use std::ops::Range;

use kdive_base::{Endian, VirtAddr};
use kdive_debuginfo::Blob;
use kdive_debuginfo::elf::ElfFile;
use kdive_target::Kernel;

/// The code of the vmlinux, and the places in it that the running kernel changes. Addresses are those of the vmlinux.
pub(super) struct Original {
    sections: Vec<(VirtAddr, Blob)>,
    /// Bytes from addresses here to those of the dump.
    pub(super) slide: u64,
    /// First address and bytes of each place, by address; 0 bytes stand for the whole instruction.
    sites: Vec<(u64, u64)>,
}

/// No replacement of an instruction is longer (`instrlen` is a byte).
const LONGEST_SITE: u64 = 255;

/// Tables of places: offsets of four bytes, relative to themselves. Each with the bytes from entry to entry and the bytes
/// of code that are patched (`arch/x86/kernel/alternative.c`, `include/linux/jump_label.h`, `static_call_types.h`).
const TABLES: [(Bounds<'_>, usize, u64); 7] = [
    (Bounds::Section(".retpoline_sites"), 4, 0),
    (Bounds::Section(".return_sites"), 4, 0),
    (Bounds::Section(".call_sites"), 4, 0),
    (Bounds::Section(".ibt_endbr_seal"), 4, 4),
    (Bounds::Section(".smp_locks"), 4, 1),
    (Bounds::Symbols("__start___jump_table", "__stop___jump_table"), 16, 0),
    (Bounds::Symbols("__start_static_call_sites", "__stop_static_call_sites"), 8, 0),
];

/// Where a table is.
#[derive(Clone, Copy)]
enum Bounds<'n> {
    Section(&'n str),
    Symbols(&'static str, &'static str),
}

/// A table out of the vmlinux.
struct Table {
    at: u64,
    bytes: Vec<u8>,
}

impl Original {
    /// `None` without a vmlinux, or with one that has no code in it (a debug file).
    pub(super) fn find(kernel: &Kernel) -> Option<Self> {
        let vmlinux = kernel.vmlinux()?;
        let slide = kernel.vmlinux_slide()?;
        let loaded = vmlinux.sections().iter().filter(|section| section.is_loaded() && section.has_bytes);
        let sections = loaded.filter_map(|section| {
            let bytes = vmlinux.contents(section).ok()??;
            (section.address.0 != 0).then_some((section.address, bytes))
        });
        let mut found = Self { sections: sections.collect(), slide, sites: Vec::new() };
        // Constants that are known when the kernel runs, a section for each (`asm/runtime-const.h`).
        let runtime = vmlinux.sections().iter().filter_map(|section| {
            let pointer = section.name.starts_with("runtime_ptr_").then_some(8);
            let patched = pointer.or_else(|| section.name.starts_with("runtime_shift_").then_some(1))?;
            Some((Bounds::Section(&section.name), 4, patched))
        });
        for (bounds, step, patched) in TABLES.into_iter().chain(runtime) {
            if let Some(table) = found.table(kernel, vmlinux, bounds) {
                let entries = (0..table.bytes.len()).step_by(step);
                found.sites.extend(entries.filter_map(|at| Some((table.relative(at)?, patched))));
            }
        }
        found.add_calls_of_ftrace(kernel, vmlinux);
        found.add_alternatives(kernel, vmlinux);
        found.add_paravirt(kernel, vmlinux);
        found.sites.sort_unstable();
        Some(found)
    }

    /// The bytes of the vmlinux for an address of the dump.
    pub(super) fn bytes(&self, at: VirtAddr, count: usize) -> Option<&[u8]> {
        self.linked(at.sub(self.slide), count)
    }

    fn linked(&self, at: VirtAddr, count: usize) -> Option<&[u8]> {
        self.sections.iter().find_map(|(start, bytes)| {
            let from = usize::try_from(at.0.checked_sub(start.0)?).ok()?;
            bytes.get(from..from.checked_add(count)?)
        })
    }

    fn table(&self, kernel: &Kernel, vmlinux: &ElfFile, bounds: Bounds<'_>) -> Option<Table> {
        let (at, bytes) = match bounds {
            Bounds::Section(name) => {
                let section = vmlinux.find_section(name)?;
                (section.address, usize::try_from(section.size).ok()?)
            }
            Bounds::Symbols(start, stop) => {
                let (start, stop) = (kernel.symbol(start).ok()?, kernel.symbol(stop).ok()?);
                (start.sub(self.slide), usize::try_from(stop.since(start)).ok()?)
            }
        };
        Some(Table { at: at.0, bytes: self.linked(at, bytes)?.to_vec() })
    }

    /// `__mcount_loc`: plain addresses of five-byte calls or nops.
    fn add_calls_of_ftrace(&mut self, kernel: &Kernel, vmlinux: &ElfFile) {
        let bounds = Bounds::Symbols("__start_mcount_loc", "__stop_mcount_loc");
        let Some(table) = self.table(kernel, vmlinux, bounds) else { return };
        let addresses = table.bytes.chunks_exact(8).filter_map(|word| Endian::Little.u64(word, 0));
        self.sites.extend(addresses.map(|at| (at, 5)));
    }

    /// `struct alt_instr`, whose size and members differ between kernels.
    fn add_alternatives(&mut self, kernel: &Kernel, vmlinux: &ElfFile) {
        let Some(table) = self.table(kernel, vmlinux, Bounds::Section(".altinstructions")) else { return };
        let offset = |member| {
            let offset = kernel.offset_of("alt_instr", member).ok()?;
            usize::try_from(offset).ok()
        };
        let size = kernel.size_of("alt_instr").ok().and_then(|size| usize::try_from(size).ok());
        let (Some(step), Some(at), Some(length)) =
            (size.filter(|&size| size > 0), offset("instr_offset"), offset("instrlen"))
        else {
            return;
        };
        for entry in (0..table.bytes.len()).step_by(step) {
            let length = table.bytes.get(entry.saturating_add(length)).copied().unwrap_or(0);
            if let Some(site) = table.relative(entry.saturating_add(at)) {
                self.sites.push((site, length.into()));
            }
        }
    }

    /// `struct paravirt_patch_site` (until 6.7): address, type, length.
    fn add_paravirt(&mut self, kernel: &Kernel, vmlinux: &ElfFile) {
        let Some(table) = self.table(kernel, vmlinux, Bounds::Section(".parainstructions")) else { return };
        let sites = table.bytes.chunks_exact(16).filter_map(|entry| {
            let length = entry.get(9).copied()?;
            Some((Endian::Little.u64(entry, 0)?, length.into()))
        });
        self.sites.extend(sites);
    }

    /// The patched places that lie in or reach into a range of the dump; `instruction` tells the bytes of the
    /// instruction at an address of the vmlinux.
    pub(super) fn patched(
        &self,
        range: Range<VirtAddr>,
        instruction: &mut dyn FnMut(VirtAddr) -> u64,
    ) -> Vec<Range<VirtAddr>> {
        let (from, to) = (range.start.sub(self.slide).0, range.end.sub(self.slide).0);
        let first = self.sites.partition_point(|(at, _)| *at < from.saturating_sub(LONGEST_SITE));
        let near = self.sites.get(first..).unwrap_or_default().iter().take_while(|(at, _)| *at < to);
        near.map(|&(at, bytes)| {
            let start = VirtAddr(at);
            let bytes = if bytes == 0 { instruction(start) } else { bytes };
            start.add(self.slide)..start.add(bytes).add(self.slide)
        })
        .collect()
    }
}

impl Table {
    /// The address that an offset of four bytes at this place of the table means.
    fn relative(&self, at: usize) -> Option<u64> {
        let offset = Endian::Little.u32(&self.bytes, at)?.cast_signed();
        Some(self.at.wrapping_add(at as u64).wrapping_add_signed(offset.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn original() -> Original {
        let code = (0_u8..64).collect::<Vec<_>>();
        Original {
            sections: vec![(VirtAddr(0x1000), code.into())],
            slide: 0x500,
            sites: vec![(0x1000, 5), (0x1010, 0), (0x1030, 1)],
        }
    }

    #[test]
    fn bytes_are_those_before_the_slide() {
        let original = original();
        assert_eq!(original.bytes(VirtAddr(0x1502), 2), Some(&[2, 3][..]));
        assert_eq!(original.bytes(VirtAddr(0x1002), 2), None);
        assert_eq!(original.bytes(VirtAddr(0x153f), 2), None);
    }

    #[test]
    fn sites_reach_into_a_range() {
        let patched = original().patched(VirtAddr(0x1503)..VirtAddr(0x1520), &mut |_| 3);
        assert_eq!(patched, [VirtAddr(0x1500)..VirtAddr(0x1505), VirtAddr(0x1510)..VirtAddr(0x1513)]);
    }

    #[test]
    fn offsets_count_from_themselves() {
        let table = Table { at: 0x2000, bytes: vec![0, 0, 0, 0, 0xfc, 0xff, 0xff, 0xff] };
        assert_eq!(table.relative(4), Some(0x2000));
        assert_eq!(table.relative(6), None);
    }
}
