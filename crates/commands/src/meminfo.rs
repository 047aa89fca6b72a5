//! `meminfo`: where all of RAM went.

use std::fmt;

use kdive_base::PAGE_SIZE;
use kdive_linux::meminfo::{self, Account, MemInfo, Use};
use kdive_linux::pages::{Census, PageKind};
use kdive_target::Field;
use serde::Serialize;

use crate::args::{Args, Opt};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::render::{Known, in_unit, percent};
use crate::sink::{Render, Sink, SinkExt};

/// Accounts for memory.
pub(crate) static MEMINFO: Command = Command {
    names: &["meminfo"],
    group: Group::Memory,
    summary: "where all of RAM went: an account that adds up, with what is unaccounted",
    operands: "",
    options: &[
        Opt::flag("-p", "the lines of /proc/meminfo instead, from the counters that the kernel would print"),
        Opt::flag(
            "-w",
            "walk all page structures instead of asking the counters: what each page is used for",
        ),
    ],
    help: include_str!("meminfo.md"),
    run: Run::Once(run),
};

fn run(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    match (args.has("-p"), args.has("-w")) {
        (true, _) => lines(cx, out),
        (false, true) => walked(cx, out),
        (false, false) => account(cx, out),
    }
}

/// A share of RAM.
#[derive(Debug, Serialize)]
struct ShareRow<K> {
    /// What has it; `ram` is all, `unaccounted` what is left.
    #[serde(rename = "use")]
    of: K,
    /// Below zero only for `unaccounted`, where counters overlap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pages: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<i64>,
    /// Of all RAM.
    #[serde(skip_serializing_if = "Option::is_none")]
    percent: Option<f64>,
    /// What is known of its parts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parts: Vec<Part>,
    #[serde(skip)]
    label: &'static str,
}

/// A part of a share.
#[derive(Debug, Serialize)]
struct Part {
    name: &'static str,
    bytes: u64,
}

impl<K> ShareRow<K> {
    fn new(of: K, label: &'static str, pages: Option<i64>, ram: Option<u64>) -> Self {
        let bytes = pages.map(|pages| pages.saturating_mul(PAGE_SIZE.cast_signed()));
        let share = |pages: i64| {
            let share = percent(pages.unsigned_abs(), ram?);
            Some(if pages < 0 { -share } else { share })
        };
        Self { of, pages, bytes, percent: pages.and_then(share), parts: Vec::new(), label }
    }
}

impl<K: Serialize> Render for ShareRow<K> {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let amount = |bytes: i64| {
            let sign = if bytes < 0 { "-" } else { "" };
            format!("{sign}{}", in_unit(bytes.unsigned_abs()))
        };
        let share = self.percent.map(|share| format!("{share:.1}%"));
        let (label, bytes) = (self.label, Known(self.bytes.map(amount)));
        write!(out, "{label:<28}{bytes:>11}{:>9}", Known(share))?;
        for (index, part) in self.parts.iter().enumerate() {
            let comma = if index == 0 { "   " } else { ", " };
            write!(out, "{comma}{} {}", part.name, in_unit(part.bytes))?;
        }
        writeln!(out)
    }
}

/// What the text calls a share.
const fn label(of: Use) -> &'static str {
    match of {
        Use::Reserved => "  reserved at boot",
        Use::Free => "  free",
        Use::FreeOnCpus => "  free, kept by processors",
        Use::Anonymous => "  anonymous",
        Use::Files => "  files in the page cache",
        Use::Buffers => "  block devices in the cache",
        Use::Shmem => "  tmpfs and shared memory",
        Use::SwapCache => "  swap cache",
        Use::SlabReclaimable => "  slab, reclaimable",
        Use::SlabUnreclaimable => "  slab, unreclaimable",
        Use::KernelStacks => "  kernel stacks",
        Use::PageTables => "  page tables",
        Use::Vmalloc => "  vmalloc and modules",
        Use::PerCpu => "  per-CPU memory",
        Use::Zsmalloc => "  zsmalloc (zram, zswap)",
        Use::HugePages => "  huge page pools",
        Use::OtherReclaimable => "  reclaimable of drivers",
        Use::Gpu => "  graphics",
        Use::Balloon => "  balloon",
        Use::Poisoned => "  poisoned",
    }
}

/// Shares that most machines do not have: shown where there is something of them.
const fn is_rare(of: Use) -> bool {
    matches!(
        of,
        Use::SwapCache
            | Use::Zsmalloc
            | Use::HugePages
            | Use::OtherReclaimable
            | Use::Gpu
            | Use::Balloon
            | Use::Poisoned
    )
}

fn account(cx: &mut Cx, out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let info = MemInfo::find(&kernel);
    let account = Account::find(&kernel, &info)?;
    let ram = known(cx, "ram", account.ram.clone());
    let signed = |pages: Option<u64>| pages.and_then(|pages| i64::try_from(pages).ok());
    out.row(&ShareRow::new("ram", "RAM", signed(ram), ram), &())?;
    for share in &account.shares {
        cx.cancel.check()?;
        let pages = known(cx, label(share.of).trim_start(), share.pages.clone());
        if is_rare(share.of) && pages == Some(0) {
            continue;
        }
        let mut row = ShareRow::new(share.of, label(share.of), signed(pages), ram);
        if share.of == Use::Reserved {
            row.parts = reserved(cx, &account);
        }
        out.row(&row, &())?;
    }
    let rest = account.unaccounted().ok();
    out.row(&ShareRow::new("unaccounted", "  unaccounted", rest, ram), &())?;
    let promises = Promises::new(cx, &info);
    Ok(out.trailer(&promises, &())?)
}

fn reserved(cx: &mut Cx, account: &Account) -> Vec<Part> {
    let of = &account.reserved;
    let parts = [
        ("kernel image", &of.kernel_image),
        ("page structures", &of.page_structures),
        ("crash kernel", &of.crash_kernel),
    ];
    let mut known_parts = Vec::new();
    for (name, pages) in parts {
        if let Some(pages) = known(cx, name, pages.clone()).filter(|pages| *pages > 0) {
            known_parts.push(Part { name, bytes: pages.saturating_mul(PAGE_SIZE) });
        }
    }
    known_parts
}

fn known(cx: &mut Cx, what: &str, pages: Field<u64>) -> Option<u64> {
    cx.known(pages, what, String::new)
}

/// Swap, and what was promised.
#[derive(Debug, Serialize)]
struct Promises {
    #[serde(skip_serializing_if = "Option::is_none")]
    swap_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    swap_used_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    committed_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    commit_limit_bytes: Option<u64>,
}

impl Promises {
    fn new(cx: &mut Cx, info: &MemInfo) -> Self {
        let mut bytes =
            |what, pages| known(cx, what, pages).map(|pages: u64| pages.saturating_mul(PAGE_SIZE));
        Self {
            swap_bytes: bytes("swap", info.swap_total.clone()),
            swap_used_bytes: bytes("swap in use", info.swap_used()),
            committed_bytes: bytes("committed memory", info.committed.clone()),
            commit_limit_bytes: bytes("commit limit", info.commit_limit.clone()),
        }
    }
}

impl Render for Promises {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let amount = |bytes: Option<u64>| Known(bytes.map(in_unit));
        writeln!(out, "swap: {} of {} used", amount(self.swap_used_bytes), amount(self.swap_bytes))?;
        let (committed, limit) = (amount(self.committed_bytes), amount(self.commit_limit_bytes));
        writeln!(out, "committed: {committed} (limit {limit})")
    }
}

/// A line of `/proc/meminfo`.
#[derive(Debug, Serialize)]
struct LineRow {
    name: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    kbytes: Option<u64>,
}

impl Render for LineRow {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "{:<16}{:>8} kB", format!("{}:", self.name), Known(self.kbytes))
    }
}

fn lines(cx: &mut Cx, out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    for line in meminfo::lines(&kernel, &MemInfo::find(&kernel)) {
        let kbytes = known(cx, line.name, line.kbytes);
        out.row(&LineRow { name: line.name, kbytes }, &())?;
    }
    Ok(())
}

/// What the text calls a kind of page.
pub(crate) const fn kind_label(kind: PageKind) -> &'static str {
    match kind {
        PageKind::Free => "  free",
        PageKind::FreeOnCpu => "  free, kept by processors",
        PageKind::Anonymous => "  anonymous",
        PageKind::File => "  page cache",
        PageKind::Shmem => "  tmpfs and shared memory",
        PageKind::HugePage => "  huge page pools",
        PageKind::MovableDriver => "  movable, of drivers",
        PageKind::Slab => "  slab",
        PageKind::PageTable => "  page tables",
        PageKind::Kernel => "  other kernel memory",
        PageKind::Offline => "  offline",
        PageKind::Reserved => "  reserved",
    }
}

fn walked(cx: &mut Cx, out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let census = Census::find(&kernel)?;
    if let Some((_, lacks)) = &census.incomplete {
        cx.lacks(lacks, "page structures", String::new);
    }
    let counts = census.total();
    let all = counts.total();
    let signed = |pages: u64| i64::try_from(pages).ok();
    out.row(&ShareRow::new("all", "frames with a page structure", signed(all), Some(all)), &())?;
    for kind in PageKind::ALL {
        let pages = counts.of(kind);
        if pages > 0 {
            out.row(&ShareRow::new(kind, kind_label(kind), signed(pages), Some(all)), &())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_says_how_much_and_of_what() {
        let mut row = ShareRow::new(Use::Reserved, label(Use::Reserved), Some(12_288), Some(122_880));
        row.parts = vec![
            Part { name: "kernel image", bytes: 36 << 20 },
            Part { name: "crash kernel", bytes: 8 << 10 },
        ];
        let mut text = String::new();
        row.render(&(), &mut text).unwrap();
        ShareRow::new("unaccounted", "  unaccounted", Some(-256), Some(122_880))
            .render(&(), &mut text)
            .unwrap();
        ShareRow::new("unaccounted", "  unaccounted", None, None).render(&(), &mut text).unwrap();
        assert_eq!(
            text,
            "  reserved at boot                48 MB    10.0%   kernel image 36 MB, crash kernel 8 KB\n\
             \x20 unaccounted                     -1 MB    -0.2%\n\
             \x20 unaccounted                         ?        ?\n"
        );
    }
}
