//! `vtop`: where a virtual address lies in physical memory, and the page-table entries that say so.

mod convert;
mod entry;
pub(crate) mod page;

use std::fmt;

use kdive_base::{Address, PhysAddr, VirtAddr};
use kdive_linux::mm::MmLoader;
use kdive_linux::tasks::Task;
use kdive_target::{Field, Kernel, Lacks, PageTable};
use serde::Serialize;

use crate::args::{Args, Opt, UsageError};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::memory::{KERNEL, USER, Which, is_user};
use crate::operand;
use crate::render::{Hex, TaskLine, size_of_page};
use crate::select;
use crate::sink::{Render, Sink, SinkExt};
pub(crate) use convert::{BTOP, PTOB, PTOV};
pub(crate) use entry::PTE;
use entry::{Entry, Says, SwapPlace};
use page::{PageRow, VmaRow};

/// Translates virtual addresses.
pub(crate) static VTOP: Command = Command {
    names: &["vtop"],
    group: Group::Memory,
    summary: "virtual to physical addresses, with the page-table entries on the way",
    operands: "address...",
    options: &[
        Opt::value("-c", "pid | task", "translate user addresses of this task; under foreach, of each"),
        USER,
        KERNEL,
    ],
    help: include_str!("../vtop.md"),
    run: Run::Both { once, per_task },
};

const NOT_MAPPED: &str = "not mapped";

/// A step of the walk.
#[derive(Debug, Serialize)]
struct Level {
    name: &'static str,
    /// Physical address of the entry.
    at: PhysAddr,
    value: Hex,
}

/// What an address translates to.
#[derive(Debug, Serialize)]
struct Translated {
    #[serde(rename = "virtual")]
    address: VirtAddr,
    /// Whether it is an address of a process.
    user: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    physical: Option<PhysAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    page_bytes: Option<u64>,
    /// Why there is no physical address, for one that the tables are not walked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<&'static str>,
    /// What is said where no physical address is: that none is mapped, or that the tables do not tell.
    #[serde(skip)]
    absent: &'static str,
    /// Where the kernel has its topmost table.
    #[serde(skip_serializing_if = "Option::is_none")]
    root: Option<VirtAddr>,
    levels: Vec<Level>,
    #[serde(skip_serializing_if = "Option::is_none")]
    entry: Option<Entry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vma: Option<VmaRow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    page: Option<PageRow>,
    /// Whether this is the first page shown: the titles come once.
    #[serde(skip)]
    titles: bool,
}

impl Translated {
    fn refused(address: VirtAddr, user: bool, why: &'static str) -> Self {
        Self {
            address,
            user,
            physical: None,
            page_bytes: None,
            refused: Some(why),
            absent: NOT_MAPPED,
            root: None,
            levels: Vec::new(),
            entry: None,
            vma: None,
            page: None,
            titles: false,
        }
    }

    fn swapped_to(&self) -> Option<&SwapPlace> {
        match &self.entry.as_ref()?.says {
            Says::Swap(place) => Some(place),
            Says::Page { .. } | Says::Nothing => None,
        }
    }

    fn walk(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let mut levels = self.levels.iter();
        if let Some(root) = self.root {
            writeln!(out, "PGD DIRECTORY: {root}")?;
            if let Some(Level { value, .. }) = levels.next() {
                writeln!(out, "PAGE DIRECTORY: {:x}", value.0)?;
            }
        }
        for Level { name, at, value } in levels {
            writeln!(out, "{name:>6}: {:x} => {:x}", at.0, value.0)?;
        }
        if let (Some(physical), Some(bytes)) = (self.physical, self.page_bytes) {
            let start = physical.0 & !bytes.wrapping_sub(1);
            let size = size_of_page(bytes).map_or_else(String::new, |size| format!("  ({size})"));
            // crash ends the line of a small page of user memory with two blanks.
            let blanks = if self.user && size.is_empty() { "  " } else { "" };
            writeln!(out, "  PAGE: {start:x}{size}{blanks}")?;
        }
        writeln!(out)
    }
}

impl Render for Translated {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let width = if self.user { 10 } else { 16 };
        writeln!(out, "{:<width$}  {:<16}", "VIRTUAL", "PHYSICAL")?;
        let address = format!("{:x}", self.address.0);
        if let Some(why) = self.refused {
            let width = if self.user { 10 } else { 8 };
            return writeln!(out, "{address:<width$}  ({why})\n");
        }
        match self.physical {
            Some(PhysAddr(physical)) => {
                writeln!(out, "{address:<width$}  {:<16}\n", format!("{physical:x}"))?;
            }
            None => writeln!(out, "{address:<width$}  ({})\n", self.absent)?,
        }
        self.walk(out)?;
        if let Some(entry) = &self.entry {
            entry.render(&(), out)?;
            writeln!(out)?;
        }
        if let Some(vma) = &self.vma {
            vma.render(&true, out)?;
            writeln!(out)?;
        }
        if let Some(SwapPlace { path: Some(path), offset, .. }) = self.swapped_to().filter(|_| self.user) {
            writeln!(out, "SWAP: {path}  OFFSET: {offset}\n")?;
        }
        match &self.page {
            Some(page) => page.render(&self.titles, out),
            None => Ok(()),
        }
    }
}

fn once(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    let task = match args.value("-c") {
        Some(word) => {
            let named = select::operands(cx, "vtop", &[word.to_owned()])?;
            named.into_iter().next()
        }
        None => None,
    };
    translate(cx, args, &args.operands, task.as_ref(), out)
}

/// `foreach vtop -c ADDRESS`: crash takes `-c` without a value here, so what follows is an address.
fn per_task(cx: &mut Cx, args: &Args, task: &Task, out: &mut dyn Sink) -> Result<(), CommandError> {
    let behind = args.value("-c").map(str::to_owned);
    let words: Vec<String> = behind.into_iter().chain(args.operands.iter().cloned()).collect();
    let line = TaskLine::new(cx, task);
    out.header(&line, &())?;
    translate(cx, args, &words, Some(task), out)
}

fn translate(
    cx: &mut Cx,
    args: &Args,
    words: &[String],
    task: Option<&Task>,
    out: &mut dyn Sink,
) -> Result<(), CommandError> {
    if words.is_empty() {
        return Err(UsageError::new("vtop", "which address?").into());
    }
    let which = Which::of("vtop", args)?;
    let mut shown = false;
    for (index, word) in words.iter().enumerate() {
        cx.cancel.check()?;
        let address = operand::address(cx, "vtop", word)?;
        let user = match which {
            Which::User => true,
            Which::Kernel => false,
            _ => is_user(address.0),
        };
        let mut record = if user {
            let task = match task {
                Some(task) => task.clone(),
                None => select::current(cx)?,
            };
            of_user(cx, &task, address)?
        } else {
            of_kernel(cx, address)?
        };
        record.titles = !shown;
        shown |= record.page.is_some();
        if index > 0 {
            out.heading("\n")?;
        }
        out.row(&record, &())?;
    }
    Ok(())
}

fn of_kernel(cx: &mut Cx, address: VirtAddr) -> Result<Translated, CommandError> {
    let kernel = cx.kernel.clone();
    let table = page_table(&kernel)?;
    if is_user(address.0) || !table.format().is_canonical(address.0) {
        return Ok(Translated::refused(address, false, "not a kernel virtual address"));
    }
    let root = kernel.any_symbol(&["init_top_pgt", "swapper_pg_dir", "init_level4_pgt"]);
    let root = cx.known(root, "address of the kernel's page tables", String::new);
    Ok(walk(cx, &table, address, false, root))
}

fn of_user(cx: &mut Cx, task: &Task, address: VirtAddr) -> Result<Translated, CommandError> {
    let refused = || Translated::refused(address, true, "not accessible");
    let kernel = cx.kernel.clone();
    let mm = task.mm.clone()?;
    if mm.is_null() || !is_user(address.0) {
        return Ok(refused());
    }
    let vma = kdive_linux::vma::at(&kernel, mm, address);
    // Without the areas the tables still tell.
    let vma = match cx.known(vma, "VMA", || format!("{address:#}")) {
        Some(None) => return Ok(refused()),
        Some(Some(vma)) => Some(VmaRow::new(cx, &vma)),
        None => None,
    };
    let loader = MmLoader::new(&kernel);
    let space = loader.space(&loader.load(mm))?;
    let table = space.page_table().cloned().ok_or_else(|| Lacks::unavailable("page tables"))?;
    let mut found = walk(cx, &table, address, true, None);
    found.vma = vma;
    Ok(found)
}

fn page_table(kernel: &Kernel) -> Field<PageTable> {
    kernel.paging().clone()?;
    let table = kernel.space().page_table().cloned();
    table.ok_or_else(|| Lacks::unavailable("the kernel's page tables were not found"))
}

fn walk(cx: &mut Cx, table: &PageTable, address: VirtAddr, user: bool, root: Option<VirtAddr>) -> Translated {
    let mut levels = Vec::new();
    let mut last = None;
    let found = table.walk(address, &mut |step| {
        last = Some((step.level.maps_pages, step.entry));
        levels.push(Level { name: step.level.name, at: step.entry_at, value: Hex(step.entry) });
    });
    let is_leaf = levels.len() == table.format().levels.len();
    // An entry that maps nothing and is no leaf has been shown as a level: there is nothing more to say of it.
    let entry = match (&found, last) {
        (Ok(_), Some((_, value))) => Some(Entry::new(cx, value)),
        (Err(_), Some((_, value))) if is_leaf && value != 0 => Some(Entry::new(cx, value)),
        _ => None,
    };
    let mut absent = NOT_MAPPED;
    let physical = match found {
        Ok(found) => Some(found),
        Err(missing) => {
            // The tables say that nothing is there: an answer. A table that is not in the dump is none.
            if matches!(missing.address, Address::Physical(_)) {
                cx.lacks(&missing.into(), "page table", || format!("of {address:#}"));
                absent = "page table not in the dump";
            }
            None
        }
    };
    let page = physical.and_then(|found| PageRow::new(cx, found.phys));
    Translated {
        address,
        user,
        physical: physical.map(|found| found.phys),
        page_bytes: physical.map(|found| found.page_bytes),
        refused: None,
        absent,
        root,
        levels,
        entry,
        vma: None,
        page,
        titles: false,
    }
}
