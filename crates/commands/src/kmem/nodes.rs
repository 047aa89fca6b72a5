//! `kmem -n`: nodes, their zones, sections and blocks of memory.

use std::fmt;

use kdive_base::{PAGE_SIZE, Pfn, PhysAddr, VirtAddr};
use kdive_linux::memory_block::{self, MemoryBlock};
use kdive_linux::mmzone::{Node, Nodes, Zone};
use kdive_linux::pages::{MemoryMap, Pages};
use kdive_linux::sparse::{self, Section, Sections};
use kdive_target::Lacks;
use serde::Serialize;

use super::zone::ZonePlace;
use crate::command::CommandError;
use crate::cx::Cx;
use crate::render::{Hex, Known};
use crate::sink::{Render, Sink, SinkExt};

/// A node with its zones.
#[derive(Debug, Serialize)]
struct NodeRow {
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<u32>,
    pglist_data: VirtAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    spanned_pages: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    present_pages: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mem_map: Option<VirtAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_pfn: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bootmem_data: Option<VirtAddr>,
    zones: Vec<ZonePlace>,
}

impl Render for NodeRow {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "NODE    SIZE      PGLIST_DATA       BOOTMEM_DATA       NODE_ZONES   ")?;
        let boot = self.bootmem_data.map_or_else(|| "----".to_owned(), |at| at.to_string());
        write!(
            out,
            "{:>3}{:>10}   {}  {boot:^16}  ",
            Known(self.node),
            Known(self.spanned_pages),
            self.pglist_data
        )?;
        for (index, zone) in self.zones.iter().enumerate() {
            let indent = if index == 0 { 0 } else { 52 };
            writeln!(out, "{:indent$}{}", "", zone.zone)?;
        }
        if self.zones.is_empty() {
            writeln!(out)?;
        }
        writeln!(out, "    MEM_MAP          START_PADDR    START_MAPNR")?;
        let start = Known(self.start_pfn.map(|pfn| format!("{:x}", Pfn(pfn).start().0)));
        writeln!(out, "{:>16}     {start:^11}    {:^11}\n", Known(self.mem_map), Known(self.start_pfn))?;
        writeln!(out, "ZONE  NAME         SIZE       MEM_MAP      START_PADDR  START_MAPNR")?;
        for (number, zone) in self.zones.iter().enumerate() {
            let name = zone.display_name();
            let map = Known(zone.mem_map.map(|at| format!("{:x}", at.0)));
            let start = Known(zone.start_pfn.map(|pfn| format!("{:x}", Pfn(pfn).start().0)));
            write!(out, "{number:>3}   {name:<9}{:>8}  {map:>16}  ", Known(zone.size))?;
            writeln!(out, "{start:>11}  {:>11}", Known(zone.start_pfn))?;
        }
        writeln!(out)
    }
}

/// A section.
#[derive(Debug, Serialize)]
struct SectionRow {
    section_number: u64,
    section: VirtAddr,
    coded_mem_map: VirtAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    mem_map: Option<VirtAddr>,
    state: String,
    pfn: u64,
}

impl SectionRow {
    fn new(section: &Section, pages: u64, map: Option<&MemoryMap>) -> Self {
        let flags = [
            (sparse::PRESENT, 'P'),
            (sparse::HAS_MEM_MAP, 'M'),
            (sparse::ONLINE, 'O'),
            (sparse::EARLY, 'E'),
            (sparse::ZONE_DEVICE, 'D'),
        ];
        let pfn = section.number.saturating_mul(pages);
        Self {
            section_number: section.number,
            section: section.at,
            coded_mem_map: section.coded_mem_map(),
            mem_map: map.map(|map| section.coded_mem_map().add(pfn.wrapping_mul(map.page_bytes))),
            state: flags
                .iter()
                .filter(|(bit, _)| section.coded & bit != 0)
                .map(|(_, letter)| letter)
                .collect(),
            pfn,
        }
    }
}

impl Render for SectionRow {
    /// Width of the numbers.
    type View = usize;

    fn render(&self, width: &usize, out: &mut dyn fmt::Write) -> fmt::Result {
        write!(out, "{:>width$}  {}  {}  ", self.section_number, self.section, self.coded_mem_map)?;
        writeln!(out, "{:>16}  {:<5} {:<16}", Known(self.mem_map), self.state, self.pfn)
    }
}

/// A block of memory.
#[derive(Debug, Serialize)]
struct BlockRow {
    memory_block: VirtAddr,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<PhysAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<PhysAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state_value: Option<Hex>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_section: Option<u64>,
}

impl Render for BlockRow {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let hex = |at: Option<PhysAddr>| Known(at.map(|at| format!("{:x}", at.0)));
        write!(out, " {}   {:<10} {:>8} - ", self.memory_block, self.name, hex(self.start))?;
        write!(out, "{:>8} {:^4}  ", hex(self.end), Known(self.node))?;
        writeln!(out, "{:<7} {:<12}", self.state.unwrap_or("UNKNOWN"), Known(self.start_section))
    }
}

/// `kmem -n`.
pub(super) fn show(cx: &mut Cx, out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let nodes = Nodes::find(&kernel)?;
    for lacks in nodes.lacking() {
        cx.lacks(lacks, "zones of a node", String::new);
    }
    let map = cx.known(Pages::find(&kernel).map.clone(), "MEM_MAP", String::new);
    for (index, (node, zones)) in nodes.list.iter().enumerate() {
        cx.cancel.check()?;
        if index > 0 {
            out.heading("-------------------------------------------------------------------\n\n")?;
        }
        let row = node_row(cx, node, zones.as_deref().unwrap_or_default(), map.as_ref());
        out.row(&row, &())?;
    }
    sections(cx, map.as_ref(), out)?;
    blocks(cx, out)
}

fn node_row(cx: &mut Cx, node: &Node, zones: &[Zone], map: Option<&MemoryMap>) -> NodeRow {
    let place = || format!("pglist_data {}", node.at);
    let start_pfn = cx.known(node.start_pfn.clone(), "START of a node", place);
    NodeRow {
        node: cx.known(node.id.clone(), "number of a node", place),
        pglist_data: node.at,
        spanned_pages: cx.known(node.spanned_pages.clone(), "SIZE of a node", place),
        present_pages: node.present_pages.clone().ok(),
        mem_map: node.mem_map.clone().ok().or_else(|| Some(map?.page_of(Pfn(start_pfn?)))),
        start_pfn,
        bootmem_data: node.bdata.clone().ok(),
        zones: zones.iter().map(|zone| ZonePlace::new(cx, zone, map)).collect(),
    }
}

fn sections(cx: &mut Cx, map: Option<&MemoryMap>, out: &mut dyn Sink) -> Result<(), CommandError> {
    let sections = match Sections::find(&cx.kernel) {
        Ok(sections) => sections,
        // A kernel without sections.
        Err(Lacks::Symbol(_)) => return Ok(()),
        Err(lacks) => {
            cx.lacks(&lacks, "sections of memory", String::new);
            return Ok(());
        }
    };
    if let Some(lacks) = &sections.incomplete {
        cx.lacks(lacks, "sections of memory", String::new);
    }
    let width = sections.list.last().map_or(2, |last| last.number.to_string().len().max(2));
    out.heading("-------------------------------------------------------------------\n\n")?;
    out.heading(&format!(
        "{:<width$}      SECTION        CODED_MEM_MAP        MEM_MAP       STATE PFN\n",
        "NR"
    ))?;
    for section in sections.list.iter().filter(|section| section.coded & sparse::PRESENT != 0) {
        cx.cancel.check()?;
        out.row(&SectionRow::new(section, sections.pages, map), &width)?;
    }
    Ok(out.heading("\n")?)
}

fn blocks(cx: &mut Cx, out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let found = match memory_block::blocks(&kernel) {
        Ok(found) => found,
        // A kernel without memory hotplug.
        Err(Lacks::Symbol(_)) => return Ok(()),
        Err(lacks) => {
            cx.lacks(&lacks, "blocks of memory", String::new);
            return Ok(());
        }
    };
    let per_block = memory_block::sections_per_block(&kernel);
    let section_bytes = Sections::find(&kernel).map(|sections| sections.pages.saturating_mul(PAGE_SIZE));
    let section_bytes = cx.known(section_bytes, "PHYSICAL RANGE of memory blocks", String::new);
    let states = states(cx);
    out.heading("   MEM_BLOCK        NAME        PHYSICAL RANGE     NODE  STATE   START_SECTION_NO\n")?;
    for (number, block) in found {
        cx.cancel.check()?;
        let Some(block) = cx.known(block, "block of memory", String::new) else { continue };
        let row = block_row(cx, number, &block, per_block, section_bytes, &states);
        out.row(&row, &())?;
    }
    Ok(())
}

fn block_row(
    cx: &mut Cx,
    number: u64,
    block: &MemoryBlock,
    per_block: u64,
    section_bytes: Option<u64>,
    states: &[(u32, &'static str)],
) -> BlockRow {
    let place = || format!("memory_block {}", block.at);
    let section = cx.known(block.section.clone(), "START_SECTION_NO", place);
    let state = cx.known(block.state.clone(), "STATE of a memory block", place);
    let start = section.zip(section_bytes).map(|(section, bytes)| section.saturating_mul(bytes));
    let bytes = section_bytes.map(|bytes| bytes.saturating_mul(per_block));
    let end = start.zip(bytes).map(|(start, bytes)| start.saturating_add(bytes).saturating_sub(1));
    BlockRow {
        memory_block: block.at,
        name: format!("memory{number}"),
        start: start.map(PhysAddr),
        end: end.map(PhysAddr),
        node: block.nid.clone().ok(),
        state: state
            .and_then(|state| states.iter().find(|(value, _)| *value == state).map(|(_, name)| *name)),
        state_value: state.map(|state| Hex(state.into())),
        start_section: section,
    }
}

/// The states of a block by their values: an enumeration where the kernel has one, else bits (include/linux/memory.h).
fn states(cx: &Cx) -> Vec<(u32, &'static str)> {
    const BITS: [(&str, u32, &str); 6] = [
        ("MEM_ONLINE", 1 << 0, "ONLINE"),
        ("MEM_GOING_OFFLINE", 1 << 1, "GOING_OFFLINE"),
        ("MEM_OFFLINE", 1 << 2, "OFFLINE"),
        ("MEM_GOING_ONLINE", 1 << 3, "GOING_ONLINE"),
        ("MEM_CANCEL_ONLINE", 1 << 4, "CANCEL_ONLINE"),
        ("MEM_CANCEL_OFFLINE", 1 << 5, "CANCEL_OFFLINE"),
    ];
    let value = |name: &str, bit: u32| {
        let value = cx.kernel.enumerator(name).ok();
        value.and_then(|value| u32::try_from(value).ok()).unwrap_or(bit)
    };
    BITS.iter().map(|(name, bit, word)| (value(name, *bit), *word)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_crashs() {
        let map = MemoryMap { start: VirtAddr(0xffdf_5426_8000_0000), page_bytes: 64 };
        let section =
            Section { number: 1, at: VirtAddr(0xff27_0289_1ffd_6010), coded: 0xffdf_5426_8000_000f };
        let mut text = String::new();
        SectionRow::new(&section, 32768, Some(&map)).render(&2, &mut text).unwrap();
        let block = BlockRow {
            memory_block: VirtAddr(0xff3f_2ebf_411d_c800),
            name: "memory0".into(),
            start: Some(PhysAddr(0)),
            end: Some(PhysAddr(0x7ff_ffff)),
            node: Some(0),
            state: Some("ONLINE"),
            state_value: None,
            start_section: Some(0),
        };
        block.render(&(), &mut text).unwrap();
        assert_eq!(
            text,
            " 1  ff2702891ffd6010  ffdf542680000000  ffdf542680200000  PMOE  32768           \n\
             \x20ff3f2ebf411dc800   memory0           0 -  7ffffff  0    ONLINE  0           \n"
        );
    }
}
