//! `vm`: the memory of a process: its size, its areas, its pages.

mod pages;
mod refs;

use std::fmt;

use kdive_base::{PAGE_SIZE, VirtAddr};
use kdive_debuginfo::Tag;
use kdive_linux::mm::{Mm, MmLoader};
use kdive_linux::tasks::{Task, Tasks};
use kdive_linux::vma::{self, Vma};
use serde::Serialize;

use crate::args::{Args, Opt, UsageError};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::operand;
use crate::render::{Hex, Known, TaskLine, place};
use crate::select;
use crate::sink::{Render, Sink, SinkExt};
use crate::structure::{Shape, style};
use crate::vtop::page::{FileNames, VMA_TITLES, VmaRow};

/// Shows the memory of processes.
pub(crate) static VM: Command = Command {
    names: &["vm"],
    group: Group::Memory,
    summary: "the memory of a process: its size, its areas, its pages",
    operands: "[pid | task | name]...",
    options: &[
        Opt::flag("-p", "where each page is: in memory, in swap, in a file"),
        Opt::value("-P", "vma", "the same for one area, by its vm_area_struct"),
        Opt::value("-M", "mm", "for a task that gave up its memory: the mm_struct that it had"),
        Opt::flag("-m", "the mm_struct"),
        Opt::flag("-v", "the vm_area_struct of each area"),
        Opt::value(
            "-R",
            "reference",
            "only areas and pages that have to do with a number or with a file's name",
        ),
        Opt::value("-f", "flags", "the names of the bits in FLAGS"),
        Opt::flag("-x", "with -m and -v: numbers in hexadecimal"),
        Opt::flag("-d", "with -m and -v: numbers in decimal"),
    ],
    help: include_str!("../vm.md"),
    run: Run::Both { once, per_task },
};

/// The options of which one at a time is given; -R looks at pages too, with -p or without.
const VIEWS: [&str; 6] = ["-p", "-P", "-m", "-v", "-R", "-f"];

fn once(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    if let Some(flags) = args.value("-f") {
        return flag_names(cx, flags, out);
    }
    for (index, task) in select::operands(cx, "vm", &args.operands)?.iter().enumerate() {
        cx.cancel.check()?;
        if index > 0 {
            out.heading("\n")?;
        }
        let shown = of_task(cx, args, task, out)?;
        // crash ends what was found so.
        if shown && args.has("-R") {
            out.heading("\n")?;
        }
    }
    Ok(())
}

fn per_task(cx: &mut Cx, args: &Args, task: &Task, out: &mut dyn Sink) -> Result<(), CommandError> {
    of_task(cx, args, task, out).map(drop)
}

/// What is asked for of one task; whether anything was shown.
fn of_task(cx: &mut Cx, args: &Args, task: &Task, out: &mut dyn Sink) -> Result<bool, CommandError> {
    let pages_of_references = |view: &str| view == "-p" && args.has("-R");
    let mut given = VIEWS.iter().filter(|view| args.has(view) && !pages_of_references(view));
    if let (Some(first), Some(second)) = (given.next(), given.next()) {
        let why = format!("{first} and {second} are two different views: give one");
        return Err(UsageError::new("vm", why).into());
    }
    let memory = UserMemory::of(cx, args, task)?;
    if let Some(reference) = args.value("-R") {
        return refs::show(cx, &memory, reference, out);
    }
    if args.has("-m") || args.has("-v") {
        return structures(cx, args, &memory, out).map(|()| true);
    }
    if let Some(word) = args.value("-P") {
        return one_area(cx, &memory, word, out).map(|()| true);
    }
    let header = memory.header(cx);
    out.header(&header, &())?;
    let with_pages = args.has("-p");
    let Some(at) = memory.mm.as_ref().map(|mm| mm.at) else { return Ok(true) };
    if !with_pages {
        out.heading(VMA_TITLES)?;
    }
    let space = if with_pages { Some(pages::Places::new(cx, &memory)?) } else { None };
    let mut names = FileNames::default();
    for area in areas(cx, at)? {
        cx.cancel.check()?;
        let row = VmaRow::with_files(cx, &area, &mut names);
        out.row(&row, &with_pages)?;
        if let Some(places) = &space {
            out.heading(pages::TITLES)?;
            places.list(cx, &area, &row, out)?;
        }
    }
    Ok(true)
}

/// The areas of an `mm_struct` that can be read; the others are noted as gaps.
fn areas(cx: &mut Cx, mm: VirtAddr) -> Result<Vec<Vma>, CommandError> {
    let (found, broken) = vma::all(&cx.kernel, mm)?;
    if let Some(lacks) = broken {
        cx.lacks(&lacks, "areas of a process", || format!("mm_struct {mm}"));
    }
    Ok(found)
}

/// A task's memory; none for threads of the kernel.
struct UserMemory<'t> {
    task: &'t Task,
    mm: Option<Mm>,
}

impl<'t> UserMemory<'t> {
    fn of(cx: &mut Cx, args: &Args, task: &'t Task) -> Result<Self, CommandError> {
        let own = cx.known(task.mm.clone(), "MM", || place(task)).filter(|mm| !mm.is_null());
        let given = args.value("-M").map(|word| operand::address(cx, "vm", word)).transpose()?;
        let kernel = cx.kernel.clone();
        let mm = own.or(given).map(|at| MmLoader::new(&kernel).load(at));
        Ok(Self { task, mm })
    }

    fn header(&self, cx: &mut Cx) -> Header {
        let task = TaskLine::new(cx, self.task);
        let Some(mm) = &self.mm else {
            return Header { task, mm: None, pgd: None, rss_bytes: Some(0), total_bytes: Some(0) };
        };
        let kernel = cx.kernel.clone();
        let place = || format!("mm_struct {}", mm.at);
        let tasks = Tasks::find(&kernel);
        // Where tasks count for themselves, each of those that share the memory.
        let users: Vec<&Task> = match &self.task.rss_not_added {
            Ok(_) => tasks.all().iter().filter(|task| task.mm.as_ref() == Ok(&mm.at)).collect(),
            Err(_) => Vec::new(),
        };
        let resident = MmLoader::new(&kernel).resident_pages(mm, &users);
        let bytes = |pages: u64| pages.saturating_mul(PAGE_SIZE);
        Header {
            task,
            mm: Some(mm.at),
            pgd: cx.known(mm.pgd.clone(), "PGD", place),
            rss_bytes: cx.known(resident, "RSS", place).map(bytes),
            total_bytes: cx.known(mm.total_vm.clone(), "TOTAL_VM", place).map(bytes),
        }
    }
}

/// The task, and the size of its memory.
#[derive(Debug, Serialize)]
struct Header {
    #[serde(flatten)]
    task: TaskLine,
    #[serde(skip_serializing_if = "Option::is_none")]
    mm: Option<VirtAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pgd: Option<VirtAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rss_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total_bytes: Option<u64>,
}

impl Render for Header {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let kbytes = |bytes: Option<u64>| Known(bytes.map(|bytes| format!("{}k", bytes / 1024)));
        let pointer = |at: Option<VirtAddr>| match (at, self.mm) {
            (Some(at), _) => at.to_string(),
            (None, Some(_)) => "?".to_owned(),
            (None, None) => "0".to_owned(),
        };
        writeln!(out, "{}", self.task)?;
        writeln!(out, "       MM               PGD          RSS    TOTAL_VM")?;
        write!(out, "{:^16}  {:^16}  ", pointer(self.mm), pointer(self.pgd))?;
        writeln!(out, "{:^6}  {:^8}", kbytes(self.rss_bytes), kbytes(self.total_bytes))
    }
}

/// `-m` and `-v`.
fn structures(
    cx: &mut Cx,
    args: &Args,
    memory: &UserMemory<'_>,
    out: &mut dyn Sink,
) -> Result<(), CommandError> {
    let task = TaskLine::new(cx, memory.task);
    out.header(&task, &())?;
    let Some(mm) = &memory.mm else { return Ok(()) };
    let (name, places) = match args.has("-m") {
        true => ("mm_struct", vec![mm.at]),
        false => ("vm_area_struct", areas(cx, mm.at)?.iter().map(|area| area.at).collect()),
    };
    let shape = Shape::parse(cx, "vm", &[Tag::Struct], name)?;
    let style = style(cx, args);
    for at in places {
        cx.cancel.check()?;
        let row = shape.row(cx, at, &style)?;
        out.row(&row, &style)?;
    }
    Ok(())
}

/// `-P`.
fn one_area(
    cx: &mut Cx,
    memory: &UserMemory<'_>,
    word: &str,
    out: &mut dyn Sink,
) -> Result<(), CommandError> {
    let wanted = operand::address(cx, "vm", word)?;
    let task = TaskLine::new(cx, memory.task);
    out.header(&task, &())?;
    let found = match &memory.mm {
        Some(mm) => areas(cx, mm.at)?.into_iter().find(|area| area.at == wanted),
        None => None,
    };
    let Some(area) = found else { return Ok(out.heading("(not found)\n")?) };
    let row = VmaRow::new(cx, &area);
    out.row(&row, &true)?;
    out.heading(pages::TITLES)?;
    pages::Places::new(cx, memory)?.list(cx, &area, &row, out)
}

/// The names of flags.
#[derive(Debug, Serialize)]
struct Flags {
    flags: Hex,
    names: Vec<String>,
}

impl Render for Flags {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "{:x}: ({})", self.flags.0, self.names.join("|"))
    }
}

/// `-f`.
fn flag_names(cx: &Cx, word: &str, out: &mut dyn Sink) -> Result<(), CommandError> {
    let digits = word.strip_prefix("0x").unwrap_or(word);
    let flags = u64::from_str_radix(digits, 16)
        .map_err(|_| UsageError::new("vm", format!("{word} is not a hexadecimal number")))?;
    Ok(out.row(&Flags { flags: Hex(flags), names: vma::flag_names(&cx.kernel, flags) }, &())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_crashs() {
        let task =
            || TaskLine { pid: Some(2), task: VirtAddr(1), cpu: Some(1), command: Some("kthreadd".into()) };
        let mut header =
            Header { task: task(), mm: None, pgd: None, rss_bytes: Some(0), total_bytes: Some(0) };
        let line = |header: &Header| {
            let mut text = String::new();
            header.render(&(), &mut text).unwrap();
            text.lines().nth(2).unwrap().to_owned()
        };
        assert_eq!(line(&header), "       0                 0            0k       0k   ");
        header.mm = Some(VirtAddr(0xff27_0289_0106_f380));
        header.pgd = Some(VirtAddr(0xff27_0289_1fab_2000));
        (header.rss_bytes, header.total_bytes) = (Some(1728 << 10), Some(2328 << 10));
        assert_eq!(line(&header), "ff2702890106f380  ff2702891fab2000  1728k    2328k  ");
        header.pgd = None;
        assert!(line(&header).contains(" ? "));
    }
}
