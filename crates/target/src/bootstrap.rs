//! From a container to the kernel's page tables: VMCOREINFO, `phys_base`, the root table.

use std::sync::Arc;

use kdive_arch::paging::PageTables;
use kdive_arch::x86_64::paging::{
    CR3_ROOT, CR4_LA57, FIVE_LEVEL, FOUR_LEVEL, KERNEL_IMAGE_SIZE, PTI_USER_PGD, START_KERNEL_MAP,
};
use kdive_base::{Cancel, PhysAddr, VirtAddr};
use kdive_debuginfo::vmcoreinfo::VmcoreInfo;
use kdive_dump::{Notes, Opened, PhysicalMemory};

use crate::lacks::{Field, Lacks};
use crate::space::{AddressSpace, LinearMap};
use crate::translate::PageTable;

/// What the user knows better: each replaces a guess.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Text of a VMCOREINFO note (`/sys/kernel/vmcoreinfo` of the same boot, or `strings` of a dump).
    pub vmcoreinfo: Option<Vec<u8>>,
    /// Physical address that the kernel's text mapping is shifted by (`phys_base`).
    pub phys_base: Option<u64>,
    /// Bytes that KASLR moved the kernel's symbols by.
    pub kaslr: Option<u64>,
    /// Physical address of the kernel's top-level page table, as CR3 held it.
    pub cr3: Option<u64>,
}

/// Where VMCOREINFO was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum VmcoreinfoSource {
    /// Given by the user.
    Given,
    /// A note of the container.
    Note,
    /// Found in physical memory.
    Scan,
    /// There is none.
    Absent,
}

/// What opening found out before the first symbol.
pub(crate) struct Bootstrap {
    pub(crate) vmcoreinfo: VmcoreInfo,
    pub(crate) source: VmcoreinfoSource,
    pub(crate) phys_base: Field<u64>,
    pub(crate) space: AddressSpace,
    /// Why there are no page tables, if there are none.
    pub(crate) paging: Field<()>,
}

impl Bootstrap {
    pub(crate) fn run(opened: &Opened, overrides: &Overrides) -> Self {
        let (vmcoreinfo, source) = find_vmcoreinfo(opened, overrides);
        let phys_base = overrides
            .phys_base
            .or_else(|| vmcoreinfo.number("phys_base").map(|base| base as u64))
            .ok_or_else(|| Lacks::unavailable("phys_base: VMCOREINFO does not tell it; give --phys-base"));
        let memory = opened.memory.clone();
        let tables = candidates(&memory, &vmcoreinfo, &phys_base, &opened.notes, overrides);
        let (table, paging) = choose(&tables, &vmcoreinfo, &phys_base);
        let linear = phys_base.iter().map(|&base| text_mapping(base)).collect();
        Self { vmcoreinfo, source, phys_base, space: AddressSpace::new(memory, table, linear), paging }
    }
}

fn find_vmcoreinfo(opened: &Opened, overrides: &Overrides) -> (VmcoreInfo, VmcoreinfoSource) {
    if let Some(text) = &overrides.vmcoreinfo {
        return (VmcoreInfo::parse(text), VmcoreinfoSource::Given);
    }
    if let Some(text) = &opened.notes.vmcoreinfo {
        return (VmcoreInfo::parse(text), VmcoreinfoSource::Note);
    }
    // Several copies are possible (the capture kernel's, the crash-safe copy): the first whose page tables translate
    // its own _stext is this kernel's.
    let mut first = None;
    for candidate in kdive_dump::find_vmcoreinfo(opened.memory.as_ref(), &Cancel::default()).flatten() {
        let info = VmcoreInfo::parse(&candidate.text);
        let phys_base = info.number("phys_base").map(|base| base as u64).ok_or(Lacks::Types);
        let tables = candidates(&opened.memory, &info, &phys_base, &Notes::default(), &Overrides::default());
        if choose(&tables, &info, &phys_base).1.is_ok() {
            return (info, VmcoreinfoSource::Scan);
        }
        first.get_or_insert(info);
    }
    match first {
        Some(info) => (info, VmcoreinfoSource::Scan),
        None => (VmcoreInfo::parse(b""), VmcoreinfoSource::Absent),
    }
}

/// Page tables that might be the kernel's, the surest first.
fn candidates(
    memory: &Arc<dyn PhysicalMemory>,
    vmcoreinfo: &VmcoreInfo,
    phys_base: &Field<u64>,
    notes: &Notes,
    overrides: &Overrides,
) -> Vec<PageTable> {
    let mask = vmcoreinfo.number("sme_mask").map_or(0, |mask| mask as u64);
    let table = |format, root| PageTable::new(memory.clone(), format, PhysAddr(root & !mask), mask);
    let told = match vmcoreinfo.number("pgtable_l5_enabled") {
        Some(0) => Some(&FOUR_LEVEL),
        Some(_) => Some(&FIVE_LEVEL),
        None => None,
    };
    let both: &[&'static PageTables] = &[&FOUR_LEVEL, &FIVE_LEVEL];
    let mut tables = Vec::new();
    if let Some(cr3) = overrides.cr3 {
        tables.extend(formats(told, both).map(|format| table(format, cr3 & CR3_ROOT)));
    }
    let root =
        ["swapper_pg_dir", "init_top_pgt", "init_level4_pgt"].iter().find_map(|name| vmcoreinfo.symbol(name));
    if let (Some(root), Ok(base)) = (root, phys_base) {
        let root = root.0.wrapping_sub(START_KERNEL_MAP).wrapping_add(*base);
        tables.extend(formats(told, both).map(|format| table(format, root)));
    }
    for control in notes.cpus.iter().filter_map(|cpu| cpu.control.as_ref()) {
        let format = if control.cr4 & CR4_LA57 != 0 { &FIVE_LEVEL } else { &FOUR_LEVEL };
        let root = control.cr3.0 & CR3_ROOT;
        tables.push(table(format, root));
        // A processor caught in user space under page-table isolation holds the user half of the pair.
        tables.push(table(format, root & !PTI_USER_PGD));
    }
    tables
}

fn formats<'a>(
    told: Option<&'static PageTables>,
    both: &'a [&'static PageTables],
) -> impl Iterator<Item = &'static PageTables> + 'a {
    let both = if told.is_some() { &[] } else { both };
    told.into_iter().chain(both.iter().copied())
}

/// The first table that maps the kernel's text where it should be.
fn choose(
    tables: &[PageTable],
    vmcoreinfo: &VmcoreInfo,
    phys_base: &Field<u64>,
) -> (Option<PageTable>, Field<()>) {
    let stext = vmcoreinfo.symbol("_stext");
    let maps_text = |table: &&PageTable| match (stext, phys_base) {
        (Some(stext), Ok(base)) => table.translate(stext).is_ok_and(|found| {
            found.phys == PhysAddr(stext.0.wrapping_sub(START_KERNEL_MAP).wrapping_add(*base))
        }),
        (Some(stext), Err(_)) => table.translate(stext).is_ok(),
        (None, _) => (0..KERNEL_IMAGE_SIZE)
            .step_by(2 << 20)
            .any(|at| table.translate(VirtAddr(START_KERNEL_MAP.wrapping_add(at))).is_ok()),
    };
    match tables.iter().find(maps_text) {
        Some(table) => (Some(table.clone()), Ok(())),
        None if tables.is_empty() => {
            let why = "page tables: neither VMCOREINFO nor a CPU note tells where they are; give --cr3 or --vmcoreinfo";
            (None, Err(Lacks::unavailable(why)))
        }
        None => {
            let why = "page tables: those that VMCOREINFO or the CPU notes name do not map the kernel's text";
            (tables.first().cloned(), Err(Lacks::unavailable(why)))
        }
    }
}

fn text_mapping(phys_base: u64) -> LinearMap {
    LinearMap {
        start: VirtAddr(START_KERNEL_MAP),
        end: VirtAddr(START_KERNEL_MAP.wrapping_add(KERNEL_IMAGE_SIZE)),
        phys: PhysAddr(phys_base),
    }
}
