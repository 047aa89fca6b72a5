//! Where the kernel patches its own code, as its vmlinux tells.

use kdive_base::{Endian, VirtAddr};
use kdive_debuginfo::Blob;
use kdive_debuginfo::elf::ElfFile;
use kdive_target::Kernel;

use super::sites::{
    AlternativeLayout, CALL, JUMP_ENTRY, PARAVIRT_LENGTH, SECTIONS, STATIC_CALL_ENTRY,
    STATIC_CALL_TRAMPOLINE, Sites, probed,
};

/// The code of the vmlinux, and the places in it that the running kernel changes. Addresses are those of the vmlinux.
#[derive(Debug)]
pub struct Original {
    sections: Vec<(VirtAddr, Blob)>,
    /// Bytes from addresses here to those of the dump.
    pub slide: u64,
    pub(super) sites: Sites,
}

/// Tables of places that have no section of their own: as [`SECTIONS`].
const TABLES: [(Bounds<'_>, usize, u64); 2] = [
    (Bounds::Symbols("__start___jump_table", "__stop___jump_table"), JUMP_ENTRY, 0),
    (Bounds::Symbols("__start_static_call_sites", "__stop_static_call_sites"), STATIC_CALL_ENTRY, 0),
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

/// Places that are patched and in no table: where ftrace's entries call tracers, and the trampolines of static calls.
const NAMED: [&str; 5] = [
    "ftrace_call",
    "ftrace_graph_call",
    "ftrace_regs_call",
    "ftrace_caller_op_ptr",
    "ftrace_regs_caller_op_ptr",
];

impl Original {
    /// Found once for a kernel; `None` without a vmlinux, or with one that has no code in it (a debug file).
    #[must_use]
    pub fn of(kernel: &Kernel) -> Option<&Self> {
        kernel.once(Self::find).as_ref()
    }

    fn find(kernel: &Kernel) -> Option<Self> {
        let vmlinux = kernel.vmlinux()?;
        let slide = kernel.vmlinux_slide()?;
        let loaded = vmlinux.sections().iter().filter(|section| section.is_loaded() && section.has_bytes);
        let sections = loaded.filter_map(|section| {
            let bytes = vmlinux.contents(section).ok()??;
            (section.address.0 != 0).then_some((section.address, bytes))
        });
        let mut found = Self { sections: sections.collect(), slide, sites: Sites::default() };
        // Constants that are known when the kernel runs, a section for each (`asm/runtime-const.h`).
        let runtime = vmlinux.sections().iter().filter_map(|section| {
            let pointer = section.name.starts_with("runtime_ptr_").then_some(8);
            let patched = pointer.or_else(|| section.name.starts_with("runtime_shift_").then_some(1))?;
            Some((Bounds::Section(&section.name), 4, patched))
        });
        let mut sites = Vec::new();
        let sections =
            SECTIONS.into_iter().map(|(name, step, patched)| (Bounds::Section(name), step, patched));
        for (bounds, step, patched) in TABLES.into_iter().chain(sections).chain(runtime) {
            if let Some(table) = found.table(kernel, vmlinux, bounds) {
                let entries = (0..table.bytes.len()).step_by(step);
                sites.extend(entries.filter_map(|at| Some((table.relative(at)?, patched))));
            }
        }
        sites.extend(found.calls_of_ftrace(kernel, vmlinux));
        sites.extend(found.alternatives(kernel, vmlinux));
        sites.extend(found.paravirt(kernel, vmlinux));
        sites.extend(found.named(kernel));
        // Breakpoints and jumps of kprobes.
        sites.extend(probed(kernel).iter().map(|probe| (probe.sub(slide).0, CALL)));
        found.sites = Sites::new(sites, |at| found.linked(at, 2));
        Some(found)
    }

    /// The bytes of the vmlinux for an address of the dump.
    #[must_use]
    pub fn bytes(&self, at: VirtAddr, count: usize) -> Option<&[u8]> {
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

    /// `__mcount_loc`: plain addresses.
    fn calls_of_ftrace(&self, kernel: &Kernel, vmlinux: &ElfFile) -> Vec<(u64, u64)> {
        let bounds = Bounds::Symbols("__start_mcount_loc", "__stop_mcount_loc");
        let Some(table) = self.table(kernel, vmlinux, bounds) else { return Vec::new() };
        let addresses = table.bytes.chunks_exact(8).filter_map(|word| Endian::Little.u64(word, 0));
        addresses.map(|at| (at, CALL)).collect()
    }

    /// `struct alt_instr`, whose size and members differ between kernels.
    fn alternatives(&self, kernel: &Kernel, vmlinux: &ElfFile) -> Vec<(u64, u64)> {
        let (Some(layout), Some(table)) =
            (AlternativeLayout::of(kernel), self.table(kernel, vmlinux, Bounds::Section(".altinstructions")))
        else {
            return Vec::new();
        };
        let site = |entry: usize| {
            let length = table.bytes.get(entry.saturating_add(layout.length)).copied()?;
            Some((table.relative(entry.saturating_add(layout.place))?, length.into()))
        };
        (0..table.bytes.len()).step_by(layout.size).filter_map(site).collect()
    }

    /// `struct paravirt_patch_site` (until 6.7): address, type, length.
    fn paravirt(&self, kernel: &Kernel, vmlinux: &ElfFile) -> Vec<(u64, u64)> {
        let Some(table) = self.table(kernel, vmlinux, Bounds::Section(".parainstructions")) else {
            return Vec::new();
        };
        let site =
            |entry: &[u8]| Some((Endian::Little.u64(entry, 0)?, entry.get(PARAVIRT_LENGTH).copied()?.into()));
        // The last entry may lack the bytes that align the next.
        table.bytes.chunks(16).filter_map(site).collect()
    }

    fn named(&self, kernel: &Kernel) -> Vec<(u64, u64)> {
        let is_patched = |name: &str| NAMED.contains(&name) || name.starts_with(STATIC_CALL_TRAMPOLINE);
        let symbols = kernel.symbols().into_iter().flat_map(|symbols| symbols.iter());
        symbols
            .filter(|symbol| is_patched(symbol.name))
            .map(|symbol| (symbol.address.sub(self.slide).0, CALL))
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
        Original { sections: vec![(VirtAddr(0x1000), code.into())], slide: 0x500, sites: Sites::default() }
    }

    #[test]
    fn bytes_are_those_before_the_slide() {
        let original = original();
        assert_eq!(original.bytes(VirtAddr(0x1502), 2), Some(&[2, 3][..]));
        assert_eq!(original.bytes(VirtAddr(0x1002), 2), None);
        assert_eq!(original.bytes(VirtAddr(0x153f), 2), None);
    }

    #[test]
    fn offsets_count_from_themselves() {
        let table = Table { at: 0x2000, bytes: vec![0, 0, 0, 0, 0xfc, 0xff, 0xff, 0xff] };
        assert_eq!(table.relative(4), Some(0x2000));
        assert_eq!(table.relative(6), None);
    }
}
