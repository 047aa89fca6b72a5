//! What a dump is of little use without.

use kdive_base::{PAGE_SIZE, VirtAddr};
use kdive_dump::write::Frames;
use kdive_target::{Kernel, Mapped};

/// The pages of the kernel's image and of its modules: code, static data, symbols, types, unwind tables.
#[must_use]
pub fn image(kernel: &Kernel) -> Frames {
    let mut frames = Frames::default();
    if let (Ok(start), Ok(end)) = (kernel.symbol("_text"), kernel.symbol("_end")) {
        insert_mapped(kernel, start, end.since(start), &mut frames);
    }
    for part in kernel.modules().iter().flat_map(|module| &module.memory).filter(|part| !part.init) {
        insert_mapped(kernel, part.start, part.bytes, &mut frames);
    }
    frames
}

/// Adds the pages that a range of the kernel's addresses maps.
pub(crate) fn insert_mapped(kernel: &Kernel, start: VirtAddr, bytes: u64, into: &mut Frames) {
    if let Some(last) = bytes.checked_sub(1) {
        insert(kernel.space().mapped(start, start.add(last)).flatten(), into);
    }
}

/// Adds the pages of mapped runs.
pub(crate) fn insert(runs: impl Iterator<Item = Mapped>, into: &mut Frames) {
    for run in runs {
        let end = run.phys.0.saturating_add(run.bytes).div_ceil(PAGE_SIZE);
        into.insert(run.phys.pfn().0..end);
    }
}
