//! What is known of one dentry and of one inode.

use std::collections::BTreeMap;
use std::fmt;

use kdive_base::{Pfn, VirtAddr};
use kdive_linux::fs::{AddressSpace, Dentry, FileKind, Inode, Mounts, PageCache};
use kdive_linux::mmzone::Nodes;
use kdive_linux::pages::{MemoryMap, Pages};
use kdive_linux::path;
use kdive_target::{Field, Kernel, Lacks};
use serde::Serialize;

use crate::command::CommandError;
use crate::cx::Cx;
use crate::operand;
use crate::render::{Known, UNKNOWN};
use crate::select;
use crate::sink::{Render, Sink, SinkExt};
use crate::vtop::page::PageRow;

/// What a dentry names.
#[derive(Debug, Serialize)]
struct DentryRow {
    dentry: VirtAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    inode: Option<VirtAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    super_block: Option<VirtAddr>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<FileKind>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
}

impl Render for DentryRow {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let address = |at: Option<VirtAddr>| at.map_or(format!("{UNKNOWN:^16}"), |at| at.to_string());
        let (inode, super_block) = (address(self.inode), address(self.super_block));
        let (kind, path) = (Known(self.kind), Known(self.path.as_deref()));
        writeln!(out, "     DENTRY           INODE           SUPERBLK     TYPE PATH")?;
        writeln!(out, "{} {inode} {super_block} {kind:<4} {path}", self.dentry)
    }
}

pub(super) fn dentry(cx: &mut Cx, word: &str, out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let dentry: Dentry = kernel.load(operand::address(cx, "files", word)?);
    let place = || format!("dentry {:#}", dentry.at);
    if let (Err(lacks), Err(_)) = (&dentry.parent, &dentry.inode) {
        return Err(lacks.clone().into());
    }
    let inode = cx.known(dentry.inode.clone(), "INODE", place).filter(|at| !at.is_null());
    let inode: Option<Inode> = inode.map(|at| kernel.load(at));
    let kind = inode.as_ref().and_then(|inode| cx.known(inode.kind(), "TYPE", place));
    let found = path_of(cx, &kernel, &dentry);
    let path = cx.known(found, "PATH", place);
    let super_block = cx.known(dentry.super_block.clone(), "SUPERBLK", place);
    let row = DentryRow { dentry: dentry.at, inode: inode.map(|inode| inode.at), super_block, kind, path };
    out.row(&row, &())?;
    Ok(())
}

/// A dentry has no path of its own: it is that of the first mount that has it.
fn path_of(cx: &Cx, kernel: &Kernel, dentry: &Dentry) -> Field<String> {
    let task = select::current(cx).map_err(Lacks::unavailable)?;
    let mounts = Mounts::of_proxy(kernel, task.nsproxy?)?;
    let inside = kernel.offset_of("mount", "mnt")?;
    let mut of_file_system = mounts.all.iter().filter(|mount| mount.super_block == dentry.super_block);
    match of_file_system.next() {
        Some(mount) => path::of_dentry(kernel, mount.at.add(inside), dentry.at),
        None => path::in_file_system(kernel, dentry.at),
    }
}

/// How much of an inode is in memory.
#[derive(Debug, Serialize)]
struct Total {
    inode: VirtAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    pages: Option<u64>,
}

impl Render for Total {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "     INODE        NRPAGES\n{} {:>8}\n", self.inode, Known(self.pages))
    }
}

/// The pages of the inode that a word names, after their number was shown.
fn address_space(cx: &mut Cx, word: &str, out: &mut dyn Sink) -> Result<Option<AddressSpace>, CommandError> {
    let kernel = cx.kernel.clone();
    let inode: Inode = kernel.load(operand::address(cx, "files", word)?);
    let space: AddressSpace = kernel.load(inode.mapping?);
    let pages = cx.known(space.pages.clone(), "NRPAGES", || format!("inode {:#}", inode.at));
    out.header(&Total { inode: inode.at, pages }, &())?;
    Ok(Some(space).filter(|_| pages != Some(0)))
}

/// The frames of a file's pages, each given to `each`; what lacks is noted.
fn frames(
    cx: &mut Cx,
    space: &AddressSpace,
    mut each: impl FnMut(&mut Cx, Pfn) -> Result<(), CommandError>,
) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let map = Pages::find(&kernel).map.clone()?;
    for found in PageCache::of(&kernel, space)? {
        cx.cancel.check()?;
        let frame = found.map_err(Lacks::from).and_then(|page| frame_of(&map, page.page));
        if let Some(frame) = cx.known(frame, "pages of a file", || format!("mapping {:#}", space.at)) {
            each(cx, frame)?;
        }
    }
    Ok(())
}

fn frame_of(map: &MemoryMap, page: VirtAddr) -> Field<Pfn> {
    map.pfn_of(page).ok_or_else(|| Lacks::implausible(format_args!("{page:#} is no page structure")))
}

pub(super) fn pages(cx: &mut Cx, word: &str, out: &mut dyn Sink) -> Result<(), CommandError> {
    let Some(space) = address_space(cx, word, out)? else { return Ok(()) };
    let mut titles = true;
    frames(cx, &space, |cx, frame| {
        if let Some(row) = PageRow::new(cx, frame.start()) {
            out.row(&row, &titles)?;
            titles = false;
        }
        Ok(())
    })
}

/// The pages of a file that a node of memory has.
#[derive(Debug, Serialize)]
struct NodeRow {
    node: u32,
    pages: u64,
}

impl Render for NodeRow {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "{:>8}{:>16}", self.node, self.pages)
    }
}

pub(super) fn nodes(cx: &mut Cx, word: &str, out: &mut dyn Sink) -> Result<(), CommandError> {
    let Some(space) = address_space(cx, word, out)? else { return Ok(()) };
    let nodes = Nodes::find(&cx.kernel)?;
    let mut counts: BTreeMap<u32, u64> = BTreeMap::new();
    frames(cx, &space, |cx, frame| {
        let node = cx.known(node_of(&nodes, frame), "nodes of pages", || format!("frame {:#x}", frame.0));
        if let Some(node) = node {
            let count = counts.entry(node).or_default();
            *count = count.saturating_add(1);
        }
        Ok(())
    })?;
    out.heading("    NODE           PAGES\n")?;
    for (node, pages) in counts {
        out.row(&NodeRow { node, pages }, &())?;
    }
    Ok(())
}

/// The node that has a zone around a frame.
fn node_of(nodes: &Nodes, frame: Pfn) -> Field<u32> {
    for (node, zone) in nodes.zones() {
        let start = zone.start_pfn.clone()?;
        if frame
            .0
            .checked_sub(start)
            .is_some_and(|inside| zone.spanned_pages.as_ref().is_ok_and(|pages| inside < *pages))
        {
            return node.id.clone();
        }
    }
    Err(Lacks::unavailable("no node has the frame"))
}
