//! `kmem -f` and `-F`: the lists of free pages, counted and checked.

use std::fmt;

use kdive_base::{PAGE_SIZE, Pfn, PhysAddr, VirtAddr};
use kdive_linux::mmzone::{Nodes, Zone};
use kdive_linux::page_alloc::{FreeArea, FreeAreas};
use kdive_linux::pages::Pages;
use kdive_linux::vmstat::{self, Table};
use kdive_target::{Kernel, Lacks, Words};
use serde::Serialize;

use super::zone::ZonePlace;
use crate::args::Args;
use crate::command::CommandError;
use crate::cx::Cx;
use crate::render::{Known, centered_number};
use crate::sink::{Render, Sink, SinkExt};

const ZONE_TITLES: &str = "ZONE  NAME        SIZE    FREE      MEM_MAP       START_PADDR  START_MAPNR";
const AREA_TITLES: &str = "AREA    SIZE  FREE_AREA_STRUCT";

/// A zone before its lists.
#[derive(Debug, Default, Serialize)]
struct ZoneRow {
    number: usize,
    #[serde(flatten)]
    place: ZonePlace,
    #[serde(skip_serializing_if = "Option::is_none")]
    free: Option<u64>,
}

impl Render for ZoneRow {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let ZonePlace { size, mem_map, start_pfn, .. } = self.place;
        writeln!(out, "{ZONE_TITLES}")?;
        write!(out, "{:>3}   {:<9}{:>7}", self.number, self.place.display_name(), Known(size))?;
        let map = Known(mem_map.map(|at| format!("{:x}", at.0)));
        let start = Known(start_pfn.map(|pfn| format!("{:x}", Pfn(pfn).start().0))).to_string();
        let (start, frame) =
            (centered_number(&start, 11), centered_number(&Known(start_pfn).to_string(), 11));
        write!(out, "{:>8}", Known(self.free))?;
        writeln!(out, "  {map:^16}  {start}  {frame}")
    }
}

/// A list of free blocks.
#[derive(Debug, Serialize)]
struct AreaRow {
    order: u32,
    migrate_type: u32,
    free_area: VirtAddr,
    blocks: u64,
    pages: u64,
    /// The first page of each block, where they are listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    list: Option<Vec<VirtAddr>>,
}

impl AreaRow {
    fn start(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let kbytes = (PAGE_SIZE / 1024).checked_shl(self.order).unwrap_or(0);
        write!(out, "{:>3}{kbytes:>8}k  {}", self.order, self.free_area)
    }
}

impl Render for AreaRow {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let Some(list) = &self.list else {
            self.start(out)?;
            return writeln!(out, "{:>8}{:>7}", self.blocks, self.pages);
        };
        writeln!(out, "{AREA_TITLES}")?;
        self.start(out)?;
        writeln!(out, "  ")?;
        list.iter().try_for_each(|page| writeln!(out, "{page}"))
    }
}

/// Whether the lists hold what the kernel counts.
#[derive(Debug, Serialize)]
struct Verdict {
    #[serde(skip_serializing_if = "Option::is_none")]
    nr_free_pages: Option<u64>,
    found: u64,
}

impl Render for Verdict {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        write!(out, "nr_free_pages: {}  ", Known(self.nr_free_pages))?;
        match self.nr_free_pages {
            Some(count) if count == self.found => writeln!(out, "(verified)"),
            _ => writeln!(out, "(found {})", self.found),
        }
    }
}

/// `kmem -f`, and with `list` each block too (`-F`).
pub(super) fn show(cx: &mut Cx, list: bool, out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let (nodes, areas) = (Nodes::find(&kernel)?, FreeAreas::find(&kernel)?);
    for lacks in nodes.lacking() {
        cx.lacks(lacks, "zones of a node", String::new);
    }
    let mut found = 0_u64;
    for (node, zones) in &nodes.list {
        if nodes.list.len() > 1 {
            out.heading(&format!("NODE\n{:>3}\n", Known(node.id.clone().ok())))?;
        }
        for (number, zone) in zones.iter().flatten().enumerate() {
            found = found.saturating_add(of_zone(cx, &areas, number, zone, list, out)?);
            out.heading("\n")?;
        }
    }
    let nr_free_pages = cx.known(vmstat::counter(&kernel, &["NR_FREE_PAGES"]), "nr_free_pages", String::new);
    Ok(out.trailer(&Verdict { nr_free_pages, found }, &())?)
}

/// A zone's lists: how many pages they hold.
fn of_zone(
    cx: &mut Cx,
    areas: &FreeAreas<'_>,
    number: usize,
    zone: &Zone,
    list: bool,
    out: &mut dyn Sink,
) -> Result<u64, CommandError> {
    let kernel = cx.kernel.clone();
    let row = zone_row(cx, &kernel, number, zone);
    out.row(&row, &())?;
    if row.place.size == Some(0) {
        return Ok(0);
    }
    if !list {
        out.heading(&format!("{AREA_TITLES}  BLOCKS  PAGES\n"))?;
    }
    let place = || format!("zone {}", zone.at);
    let Some(lists) = cx.known(areas.of_zone(zone), "free lists", place) else { return Ok(0) };
    let (mut pages, mut of_order) = (0_u64, (0, 0_u64));
    for area in lists {
        cx.cancel.check()?;
        let row = area_row(cx, areas, zone, area, list)?;
        out.row(&row, &())?;
        pages = pages.saturating_add(row.pages);
        if of_order.0 != area.order {
            check_order(cx, areas, zone, of_order);
            of_order = (area.order, 0);
        }
        of_order.1 = of_order.1.saturating_add(row.blocks);
    }
    check_order(cx, areas, zone, of_order);
    Ok(pages)
}

/// Notes where a zone's lists of one size hold other than it counts.
fn check_order(cx: &mut Cx, areas: &FreeAreas<'_>, zone: &Zone, (order, blocks): (u32, u64)) {
    match areas.counted(zone, order) {
        Ok(counted) if counted == blocks => {}
        Ok(counted) => {
            let why = format!("{blocks} blocks on the lists, nr_free is {counted}");
            cx.gaps.note("free lists", why, Some(format!("zone {} order {order}", zone.at)));
        }
        Err(lacks) => {
            cx.lacks(&lacks, "nr_free of a free list", || format!("zone {} order {order}", zone.at))
        }
    }
}

fn area_row(
    cx: &mut Cx,
    areas: &FreeAreas<'_>,
    zone: &Zone,
    area: FreeArea,
    list: bool,
) -> Result<AreaRow, CommandError> {
    let (mut blocks, mut listed) = (0_u64, Vec::new());
    for block in areas.blocks(zone, area) {
        cx.cancel.check()?;
        match block {
            Ok(page) => {
                blocks = blocks.saturating_add(1);
                if list {
                    listed.push(page);
                }
            }
            Err(lacks) => cx.lacks(&lacks, "free list", || format!("list {}", area.head)),
        }
    }
    Ok(AreaRow {
        order: area.order,
        migrate_type: area.migrate_type,
        free_area: area.head,
        blocks,
        pages: blocks.checked_shl(area.order).unwrap_or(0),
        list: list.then_some(listed),
    })
}

fn zone_row(cx: &mut Cx, kernel: &Kernel, number: usize, zone: &Zone) -> ZoneRow {
    let place = || format!("zone {}", zone.at);
    let map = cx.known(Pages::find(kernel).map.clone(), "MEM_MAP", place);
    let free = cx.known(free_pages(kernel, zone), "FREE of a zone", place);
    ZoneRow { number, place: ZonePlace::new(cx, zone, map.as_ref()), free }
}

/// What a zone counts as free.
fn free_pages(kernel: &Kernel, zone: &Zone) -> Result<u64, Lacks> {
    let names = vmstat::names(kernel, Table::Zone)?;
    let Words(stat) = zone.vm_stat.clone()?;
    let index = names.iter().position(|name| &**name == "NR_FREE_PAGES");
    let count = index.and_then(|index| stat.get(index)).copied();
    count.ok_or_else(|| Lacks::unavailable("zones of this kernel do not count free pages"))
}

/// The block that holds a frame.
#[derive(Debug, Serialize)]
struct BlockRow {
    #[serde(flatten)]
    area: AreaPlace,
    zone: ZoneRow,
    block: VirtAddr,
    /// The page's place in it, from 1.
    page_number: u64,
    pages: u64,
    #[serde(skip)]
    word: String,
}

#[derive(Debug, Serialize)]
struct AreaPlace {
    order: u32,
    migrate_type: u32,
    free_area: VirtAddr,
}

impl Render for BlockRow {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        self.zone.render(&(), out)?;
        let AreaPlace { order, migrate_type, free_area } = self.area;
        let area = AreaRow { order, migrate_type, free_area, blocks: 1, pages: self.pages, list: None };
        writeln!(out, "{AREA_TITLES}")?;
        area.start(out)?;
        let number = ordinal(self.page_number);
        writeln!(out, "  \n{}  ({} is {number} of {} pages)", self.block, self.word, self.pages)
    }
}

/// `1st`, `2nd`, `3rd`, `4th`, `11th`.
fn ordinal(number: u64) -> String {
    let ending = match (number % 10, number % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{number}{ending}")
}

/// The free block that holds a physical address; whether there is one.
pub(super) fn at(
    cx: &mut Cx,
    physical: PhysAddr,
    word: &str,
    out: &mut dyn Sink,
) -> Result<bool, CommandError> {
    let kernel = cx.kernel.clone();
    let (nodes, areas) = (Nodes::find(&kernel)?, FreeAreas::find(&kernel)?);
    let pfn = physical.pfn();
    let Some((number, zone)) = zone_of(&nodes, pfn) else { return Ok(false) };
    let Some((block, order)) = areas.block_of(pfn)? else { return Ok(false) };
    let zone_row = zone_row(cx, &kernel, number, zone);
    let place = || format!("block {block}");
    let Some(area) = cx.known(areas.list_of(zone, block), "free list of a block", place) else {
        return Ok(false);
    };
    let pages = 1_u64.checked_shl(order).unwrap_or(0);
    let row = BlockRow {
        area: AreaPlace { order, migrate_type: area.migrate_type, free_area: area.head },
        zone: zone_row,
        block,
        page_number: (pfn.0 & pages.saturating_sub(1)).saturating_add(1),
        pages,
        word: word.to_owned(),
    };
    out.row(&row, &())?;
    Ok(true)
}

/// The zone that a frame is of, and its number in its node.
fn zone_of(nodes: &Nodes, pfn: Pfn) -> Option<(usize, &Zone)> {
    let holds = |zone: &Zone| match (&zone.start_pfn, &zone.spanned_pages) {
        (Ok(start), Ok(pages)) => pfn.0.checked_sub(*start).is_some_and(|inside| inside < *pages),
        _ => false,
    };
    nodes.list.iter().find_map(|(_, zones)| zones.iter().flatten().enumerate().find(|(_, zone)| holds(zone)))
}

/// `kmem -f ADDRESS`: silence where the page is not free, as in crash.
pub(super) fn look_up(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    for word in &args.operands {
        let physical = super::pages::physical(cx, args, word)?;
        at(cx, physical, word, out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_crashs() {
        let zone = |number, name: &str, size, free, mem_map, start_pfn| ZoneRow {
            number,
            place: ZonePlace {
                zone: VirtAddr(1),
                name: Some(name.to_owned()),
                size: Some(size),
                mem_map: Some(VirtAddr(mem_map)),
                start_pfn: Some(start_pfn),
            },
            free: Some(free),
        };
        let mut text = String::new();
        zone(0, "DMA", 4095, 3808, 0xffdf_5426_8000_0040, 1).render(&(), &mut text).unwrap();
        zone(2, "Normal", 0, 0, 0, 0).render(&(), &mut text).unwrap();
        let area = AreaRow {
            order: 10,
            migrate_type: 1,
            free_area: VirtAddr(0xff27_0289_1fa3_5b00),
            blocks: 3,
            pages: 3072,
            list: None,
        };
        area.render(&(), &mut text).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                ZONE_TITLES,
                "  0   DMA         4095    3808  ffdf542680000040      1000          1     ",
                ZONE_TITLES,
                "  2   Normal         0       0         0               0            0     ",
                " 10    4096k  ff2702891fa35b00       3   3072",
            ]
        );
    }

    #[test]
    fn ordinals_are_english() {
        assert_eq!(
            [1, 2, 3, 4, 11, 12, 21, 112].map(ordinal).join(" "),
            "1st 2nd 3rd 4th 11th 12th 21st 112th"
        );
    }
}
