//! `kmem -v`: the areas of vmalloc space.

use std::fmt;

use kdive_base::{PhysAddr, VirtAddr};
use kdive_linux::locate::{self, InSymbol};
use kdive_linux::vmalloc::{VmStruct, VmapArea, VmapAreas};
use kdive_target::Kernel;
use serde::Serialize;

use crate::command::CommandError;
use crate::cx::Cx;
use crate::memory::is_user;
use crate::render::Known;
use crate::sink::{Render, Sink, SinkExt};

/// Titles of [`AreaRow`].
pub(super) const TITLES: &str =
    "   VMAP_AREA         VM_STRUCT                 ADDRESS RANGE                SIZE\n";

/// An area.
#[derive(Debug, Serialize)]
pub(super) struct AreaRow {
    vmap_area: VirtAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    vm_struct: Option<VirtAddr>,
    start: VirtAddr,
    end: VirtAddr,
    size: u64,
    /// Who asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    caller: Option<InSymbol>,
}

impl AreaRow {
    pub(super) fn new(kernel: &Kernel, area: &VmapArea) -> Self {
        let vm = area.vm.clone().ok();
        let caller = vm.and_then(|vm| kernel.load::<VmStruct>(vm).caller.ok());
        Self {
            vmap_area: area.at,
            vm_struct: vm,
            start: area.start,
            end: area.end,
            size: area.end.since(area.start),
            caller: caller.and_then(|caller| locate::symbol(kernel, caller)),
        }
    }
}

impl Render for AreaRow {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let vm = Known(self.vm_struct);
        writeln!(out, "{}  {vm:>16}  {} - {}  {:>7}", self.vmap_area, self.start, self.end, self.size)
    }
}

/// `kmem -v`.
pub(super) fn show(cx: &mut Cx, out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let areas = VmapAreas::find(&kernel)?;
    if let Some(lacks) = &areas.incomplete {
        cx.lacks(lacks, "vmalloc areas", String::new);
    }
    out.heading(TITLES)?;
    for area in areas.iter().filter(|area| area.vm.is_ok()) {
        cx.cancel.check()?;
        out.row(&AreaRow::new(&kernel, area), &())?;
    }
    Ok(())
}

/// The area that maps a physical address.
fn mapping<'a>(kernel: &Kernel, areas: &'a VmapAreas, physical: PhysAddr) -> Option<&'a VmapArea> {
    areas.iter().find(|area| {
        let mapped = kernel.space().mapped(area.start, area.end.sub(1)).flatten();
        let mut runs = mapped.map(|run| physical.since(run.phys) < run.bytes);
        runs.any(|holds| holds)
    })
}

/// The area that holds an address, or that maps a physical one; whether there is one.
pub(super) fn at(cx: &mut Cx, address: VirtAddr, out: &mut dyn Sink) -> Result<bool, CommandError> {
    let kernel = cx.kernel.clone();
    let areas = VmapAreas::find(&kernel)?;
    if let Some(lacks) = &areas.incomplete {
        cx.lacks(lacks, "vmalloc areas", String::new);
    }
    let found =
        if is_user(address.0) { mapping(&kernel, &areas, PhysAddr(address.0)) } else { areas.at(address) };
    let Some(area) = found.filter(|area| area.vm.is_ok()) else { return Ok(false) };
    out.heading(TITLES)?;
    out.row(&AreaRow::new(&kernel, area), &())?;
    Ok(true)
}
