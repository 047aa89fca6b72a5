//! `frag`: free blocks by size, and what pins the rest.

use std::fmt;

use kdive_base::{PAGE_SIZE, VirtAddr};
use kdive_linux::extfrag::{self, Pageblocks, Pin, ZoneFree};
use kdive_linux::pages::PageKind;
use serde::Serialize;

use crate::args::{Args, Opt};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::meminfo::kind_label;
use crate::render::{Known, in_unit};
use crate::sink::{Render, Sink, SinkExt};

/// Shows fragmentation.
pub(crate) static FRAG: Command = Command {
    names: &["frag"],
    group: Group::Memory,
    summary: "free blocks by order and migrate type, and what pins pageblocks",
    operands: "",
    options: &[Opt::flag("-b", "only the free blocks: no walk over all page structures")],
    help: include_str!("frag.md"),
    run: Run::Once(run),
};

fn run(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let names = extfrag::migrate_types(&kernel).unwrap_or_default();
    let zones = extfrag::free(&kernel, &cx.cancel)?;
    cx.cancel.check()?;
    for (index, zone) in zones.iter().enumerate() {
        if let Some(lacks) = &zone.incomplete {
            cx.lacks(lacks, "free blocks", || Known(zone.zone.as_ref().ok()).to_string());
        }
        if index == 0 {
            let orders: String = (0..zone.blocks.len()).map(|order| format!("{order:>8}")).collect();
            out.heading(&format!("{:<26}{orders}\n", "FREE BLOCKS BY ORDER"))?;
        }
        out.row(&ZoneRow::new(cx, zone, &names), &())?;
    }
    if args.has("-b") {
        return Ok(());
    }
    let blocks = extfrag::pageblocks(&kernel)?;
    if let Some((_, lacks)) = &blocks.incomplete {
        cx.lacks(lacks, "page structures", String::new);
    }
    out.row(&BlocksRow::new(&blocks), &())?;
    for pin in &blocks.pins {
        out.row(&PinRow::new(pin), &())?;
    }
    Ok(())
}

/// The free blocks of a zone.
#[derive(Debug, Serialize)]
struct ZoneRow {
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    zone: Option<String>,
    free_pages: u64,
    /// By order, the blocks of each migrate type together.
    blocks: Vec<u64>,
    types: Vec<TypeBlocks>,
    /// By order: the share of free memory that an allocation of it cannot use.
    unusable: Vec<f64>,
}

/// The free blocks of one migrate type, by order.
#[derive(Debug, Serialize)]
struct TypeBlocks {
    #[serde(rename = "type")]
    kind: String,
    blocks: Vec<u64>,
}

impl ZoneRow {
    fn new(cx: &mut Cx, of: &ZoneFree, names: &[String]) -> Self {
        let kinds = of.blocks.iter().map(Vec::len).max().unwrap_or(0);
        let blocks_of = |kind: usize| -> Vec<u64> {
            of.blocks.iter().map(|blocks| blocks.get(kind).copied().unwrap_or(0)).collect()
        };
        let name = |kind: usize| names.get(kind).cloned().unwrap_or_else(|| format!("type {kind}"));
        let types = (0..kinds).map(|kind| TypeBlocks { kind: name(kind), blocks: blocks_of(kind) });
        let round = |share: f64| (share * 1000.0).round() / 1000.0;
        Self {
            node: cx.known(of.node.clone(), "NODE", String::new),
            zone: cx.known(of.zone.clone(), "ZONE", String::new),
            free_pages: of.pages(),
            blocks: of
                .blocks
                .iter()
                .map(|kinds| kinds.iter().fold(0, |sum: u64, count| sum.saturating_add(*count)))
                .collect(),
            types: types.filter(|of| of.blocks.iter().any(|count| *count > 0)).collect(),
            unusable: (0..of.blocks.len()).filter_map(|order| of.unusable(order)).map(round).collect(),
        }
    }
}

impl Render for ZoneRow {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let zone = Known(self.zone.as_deref());
        let free = in_unit(self.free_pages.saturating_mul(PAGE_SIZE));
        writeln!(out, "node {} {zone}: {free} free", Known(self.node))?;
        for of in &self.types {
            write!(out, "  {:<24}", of.kind)?;
            of.blocks.iter().try_for_each(|count| write!(out, "{count:>8}"))?;
            writeln!(out)?;
        }
        if !self.unusable.is_empty() {
            write!(out, "  {:<24}", "unusable for that order")?;
            self.unusable.iter().try_for_each(|share| write!(out, "{:>7.0}%", share * 100.0))?;
            writeln!(out)?;
        }
        Ok(())
    }
}

/// All pageblocks.
#[derive(Debug, Serialize)]
struct BlocksRow {
    /// Pages of a pageblock, as log2.
    pageblock_order: u32,
    pageblocks: u64,
    free_pageblocks: u64,
    /// Not free, but without a page that cannot be moved.
    movable_pageblocks: u64,
    pinned_pageblocks: u64,
}

impl BlocksRow {
    fn new(of: &Pageblocks) -> Self {
        Self {
            pageblock_order: of.order,
            pageblocks: of.blocks,
            free_pageblocks: of.free,
            movable_pageblocks: of.movable,
            pinned_pageblocks: of.blocks.saturating_sub(of.free).saturating_sub(of.movable),
        }
    }
}

impl Render for BlocksRow {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let size = in_unit(PAGE_SIZE.checked_shl(self.pageblock_order).unwrap_or(0));
        writeln!(
            out,
            "\n{} pageblocks of {size}: {} free, {} that compaction can free, {} pinned by",
            self.pageblocks, self.free_pageblocks, self.movable_pageblocks, self.pinned_pageblocks
        )?;
        writeln!(out, "                         BLOCKS  BY FEW      PINNED        FREE  EXAMPLE")
    }
}

/// What pins pageblocks.
#[derive(Debug, Serialize)]
struct PinRow {
    kind: PageKind,
    blocks: u64,
    /// Of the blocks, those in which no more than one page in eight cannot be moved.
    by_few: u64,
    pinned_bytes: u64,
    free_bytes: u64,
    /// A page structure.
    #[serde(skip_serializing_if = "Option::is_none")]
    example: Option<VirtAddr>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    caches: Vec<CacheCount>,
}

#[derive(Debug, Serialize)]
struct CacheCount {
    cache: String,
    blocks: u64,
}

impl PinRow {
    fn new(pin: &Pin) -> Self {
        let bytes = |pages: u64| pages.saturating_mul(PAGE_SIZE);
        let cache = |(name, blocks): &(String, u64)| CacheCount { cache: name.clone(), blocks: *blocks };
        Self {
            kind: pin.kind,
            blocks: pin.blocks,
            by_few: pin.by_few,
            pinned_bytes: bytes(pin.pages),
            free_bytes: bytes(pin.free_pages),
            example: pin.example,
            caches: pin.caches.iter().map(cache).collect(),
        }
    }
}

impl Render for PinRow {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        /// Caches that a line has room for.
        const SHOWN: usize = 2;
        write!(out, "{:<24}{:>7}{:>8}", kind_label(self.kind), self.blocks, self.by_few)?;
        write!(out, "{:>12}{:>12}", in_unit(self.pinned_bytes), in_unit(self.free_bytes))?;
        write!(out, "  {}", Known(self.example))?;
        let caches = self.caches.iter().take(SHOWN).map(|of| format!("{} {}", of.cache, of.blocks));
        let caches: Vec<String> = caches.collect();
        if !caches.is_empty() {
            write!(out, "  {}", caches.join(", "))?;
        }
        writeln!(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_has_a_line_for_each_type_with_blocks() {
        let row = ZoneRow {
            node: Some(0),
            zone: Some("DMA32".into()),
            free_pages: 8,
            blocks: vec![4, 2],
            types: vec![TypeBlocks { kind: "movable".into(), blocks: vec![4, 2] }],
            unusable: vec![0.0, 0.5],
        };
        let mut text = String::new();
        row.render(&(), &mut text).unwrap();
        assert_eq!(
            text,
            "node 0 DMA32: 32 KB free\n\
             \x20 movable                        4       2\n\
             \x20 unusable for that order       0%     50%\n"
        );
    }
}
