//! Where each page of an area is.

use std::fmt;

use kdive_base::{Missing, PAGE_SIZE, PhysAddr, VirtAddr, Why};
use kdive_linux::mm::MmLoader;
use kdive_linux::swap::area_path;
use kdive_linux::vma::Vma;
use kdive_target::AddressSpace;
use serde::Serialize;

use super::UserMemory;
use crate::command::CommandError;
use crate::cx::Cx;
use crate::render::Hex;
use crate::sink::{Render, Sink, SinkExt};
use crate::vtop::page::VmaRow;

/// Titles of [`PageRow`].
pub(super) const TITLES: &str = "VIRTUAL     PHYSICAL\n";

/// A page of a process.
#[derive(Debug, Serialize)]
pub(super) struct PageRow<'p> {
    #[serde(rename = "virtual")]
    address: VirtAddr,
    #[serde(flatten)]
    place: Place<'p>,
}

/// Where it is.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(untagged)]
enum Place<'p> {
    Memory { physical: PhysAddr },
    Swap { swap: &'p str, swap_offset: u64 },
    File { file: &'p str, file_offset: Hex },
    NotMapped { mapped: bool },
}

impl Render for PageRow<'_> {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        write!(out, "{:<10x}  ", self.address.0)?;
        match self.place {
            Place::Memory { physical } => writeln!(out, "{:>8x}", physical.0),
            Place::Swap { swap, swap_offset } => writeln!(out, "SWAP: {swap}  OFFSET: {swap_offset}"),
            Place::File { file, file_offset } => writeln!(out, "FILE: {file}  OFFSET: {:x}", file_offset.0),
            Place::NotMapped { .. } => writeln!(out, "(not mapped)"),
        }
    }
}

/// Finds the pages of one process.
pub(super) struct Places {
    space: AddressSpace,
    /// Paths of the swap areas.
    swap: Vec<Option<String>>,
}

/// Pages of an area without memory that are listed in a row: a gigabyte. Where more is reserved, or where the end of an
/// area is damaged, more lines say nothing more.
const MOST_ABSENT: u64 = 1 << 18;
/// The same for an area as a whole.
const MOST_ABSENT_OF_AREA: u64 = 1 << 20;
/// Processes of x86-64 with five levels of page tables end here, those with four before it.
const USER_END: VirtAddr = VirtAddr(1 << 56);
/// `MAX_SWAPFILES` is 32 at most.
const MOST_SWAP_AREAS: u8 = 32;

impl Places {
    pub(super) fn new(cx: &mut Cx, memory: &UserMemory<'_>) -> Result<Self, CommandError> {
        let kernel = cx.kernel.clone();
        let Some(mm) = &memory.mm else {
            return Err(CommandError::not_found("vm: a thread of the kernel has no user memory"));
        };
        let swap = (0..MOST_SWAP_AREAS).map(|area| area_path(&kernel, area).ok()).collect();
        Ok(Self { space: MmLoader::new(&kernel).space(mm)?, swap })
    }

    /// What maps an address of the process.
    pub(super) fn physical(&self, address: VirtAddr) -> Option<PhysAddr> {
        self.space.translate(address).ok().map(|found| found.phys)
    }

    /// The addresses of an area that map a page of physical memory.
    pub(super) fn mapping(&self, start: VirtAddr, end: VirtAddr, physical: PhysAddr) -> Option<VirtAddr> {
        let runs = self.space.mapped(start, end.sub(1)).flatten();
        runs.filter(|run| physical.since(run.phys) < run.bytes)
            .map(|run| run.virt.add(physical.since(run.phys)))
            .next()
    }

    /// All pages of an area.
    pub(super) fn list(
        &self,
        cx: &mut Cx,
        area: &Vma,
        row: &VmaRow,
        out: &mut dyn Sink,
    ) -> Result<(), CommandError> {
        let (Some(start), Some(end)) = (row.start, row.end) else { return Ok(()) };
        if end > USER_END {
            let why = "its end is no address of a process";
            cx.gaps.note("pages of an area", why, Some(format!("vm_area_struct {}", row.vma)));
        }
        let end = end.min(USER_END);
        if end <= start {
            return Ok(());
        }
        let mut next = start;
        let mut budget = MOST_ABSENT_OF_AREA;
        for run in self.space.mapped(start, end.sub(1)) {
            cx.cancel.check()?;
            let run = match run {
                Ok(run) => run,
                Err(missing) => {
                    cx.lacks(&missing.into(), "page tables of a process", || format!("{:#}", row.vma));
                    continue;
                }
            };
            self.absent(cx, area, row, next..run.virt, &mut budget, out)?;
            for page in 0..run.bytes / PAGE_SIZE {
                if page.is_multiple_of(1024) {
                    cx.cancel.check()?;
                }
                let (address, physical) = (run.virt.add(page * PAGE_SIZE), run.phys.add(page * PAGE_SIZE));
                out.row(&PageRow { address, place: Place::Memory { physical } }, &())?;
            }
            next = run.virt.add(run.bytes);
        }
        self.absent(cx, area, row, next..end, &mut budget, out)
    }

    /// One page of an area.
    pub(super) fn one(
        &self,
        cx: &mut Cx,
        area: &Vma,
        row: &VmaRow,
        at: VirtAddr,
        out: &mut dyn Sink,
    ) -> Result<(), CommandError> {
        match self.physical(at) {
            Some(physical) => {
                let physical = physical.page_start();
                Ok(out.row(&PageRow { address: at, place: Place::Memory { physical } }, &())?)
            }
            None => self.absent(cx, area, row, at..at.add(PAGE_SIZE), &mut 1, out),
        }
    }

    /// Pages that are not in memory: in swap, in the file, nowhere.
    fn absent(
        &self,
        cx: &mut Cx,
        area: &Vma,
        row: &VmaRow,
        range: std::ops::Range<VirtAddr>,
        budget: &mut u64,
        out: &mut dyn Sink,
    ) -> Result<(), CommandError> {
        // Up to here the page tables say that there is nothing, on a level above the last.
        let mut nothing_until = range.start;
        let mut at = range.start;
        let mut listed = 0_u64;
        while at < range.end {
            if listed >= MOST_ABSENT || *budget == 0 {
                let why = "more pages without memory than are worth listing";
                cx.gaps.note("pages of an area", why, Some(format!("vm_area_struct {}", row.vma)));
                break;
            }
            if listed.is_multiple_of(1024) {
                cx.cancel.check()?;
            }
            let mut place = self.in_file(area, row, at);
            if at >= nothing_until {
                match self.space.translate(at) {
                    Ok(found) => place = Place::Memory { physical: found.phys },
                    Err(Missing { why: Why::Swapped { area, offset }, .. }) => {
                        let path = self.swap.get(usize::from(area)).and_then(Option::as_deref);
                        place = Place::Swap { swap: path.unwrap_or("?"), swap_offset: offset };
                    }
                    Err(Missing { why: Why::NotMapped { level }, .. }) => {
                        let covers =
                            PAGE_SIZE.checked_shl(9 * u32::from(level.saturating_sub(1))).unwrap_or(0);
                        nothing_until = VirtAddr(at.0 & !covers.saturating_sub(1)).add(covers);
                    }
                    Err(_) => {}
                }
            }
            out.row(&PageRow { address: at, place }, &())?;
            listed += 1;
            *budget = budget.saturating_sub(1);
            at = at.add(PAGE_SIZE);
        }
        Ok(())
    }

    fn in_file<'r>(&self, area: &Vma, row: &'r VmaRow, at: VirtAddr) -> Place<'r> {
        match (&row.file, row.start, &area.page_offset) {
            (Some(file), Some(start), Ok(pages)) => Place::File {
                file,
                file_offset: Hex(pages.wrapping_mul(PAGE_SIZE).wrapping_add(at.since(start))),
            },
            _ => Place::NotMapped { mapped: false },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_crashs() {
        let line = |address, place| {
            let mut text = String::new();
            PageRow { address: VirtAddr(address), place }.render(&(), &mut text).unwrap();
            text
        };
        assert_eq!(
            line(0x40_0000, Place::Memory { physical: PhysAddr(0x291_3000) }),
            "400000       2913000\n"
        );
        assert_eq!(
            line(0x7fae_9b88_4000, Place::NotMapped { mapped: false }),
            "7fae9b884000  (not mapped)\n"
        );
        assert_eq!(
            line(0x42_0000, Place::File { file: "/bin/busybox", file_offset: Hex(0x2_0000) }),
            "420000      FILE: /bin/busybox  OFFSET: 20000\n"
        );
        assert_eq!(
            line(0x7fd8_9e20_0000, Place::Swap { swap: "/dev/vdc", swap_offset: 17 }),
            "7fd89e200000  SWAP: /dev/vdc  OFFSET: 17\n"
        );
    }
}
