//! `where`: everything that is known of an address.

use std::fmt;

use kdive_base::{PhysAddr, VirtAddr};
use kdive_linux::locate::{self, InFrame, InObject, Located, Locator, OnStack};
use kdive_linux::mm::MmLoader;
use kdive_linux::pages::Pages;
use kdive_linux::slab::ObjectState;
use kdive_linux::tasks::{Task, Tasks};
use kdive_linux::{path, vma};
use kdive_target::{Field, Lacks};
use serde::Serialize;

use crate::args::{Args, UsageError};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::memory::{KERNEL, PHYSICAL, USER, Which, is_user};
use crate::operand;
use crate::render::{Hex, TaskLine};
use crate::select;
use crate::sink::{Render, Sink, SinkExt};
use crate::vtop::page::PageRow;

/// Says what an address is.
pub(crate) static WHERE: Command = Command {
    names: &["where"],
    group: Group::Memory,
    summary: "everything that is known of an address",
    operands: "address...",
    options: &[KERNEL, USER, PHYSICAL],
    help: include_str!("where_cmd.md"),
    run: Run::Once(where_is),
};

/// What an address is.
#[derive(Serialize)]
struct Place {
    #[serde(flatten)]
    located: Located,
    /// The task that a stack belongs to, or whose `task_struct` it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<TaskLine>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vma: Option<Area>,
    #[serde(skip_serializing_if = "Option::is_none")]
    page_structure: Option<PageRow>,
}

/// The area of a process that an address lies in.
#[derive(Serialize)]
struct Area {
    task: TaskLine,
    vma: VirtAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<VirtAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<VirtAddr>,
    /// The file that it maps, and where in it the address is.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_offset: Option<Hex>,
    /// Why the page cannot be read, where it cannot.
    #[serde(skip_serializing_if = "Option::is_none")]
    absent: Option<String>,
}

fn where_is(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    let which = Which::of("where", args)?;
    if args.operands.is_empty() {
        return Err(UsageError::new("where", "which address?").into());
    }
    let kernel = cx.kernel.clone();
    let mut locator = Locator::new(&kernel);
    for (index, word) in args.operands.iter().enumerate() {
        cx.cancel.check()?;
        let address = operand::address(cx, "where", word)?;
        let place = match which {
            Which::Physical => of_physical(cx, &mut locator, PhysAddr(address.0))?,
            Which::User => of_user(cx, &mut locator, address)?,
            Which::ByAddress if is_user(address.0) => of_user(cx, &mut locator, address)?,
            _ => of_kernel(cx, locator.locate(address)),
        };
        if index > 0 {
            out.heading("\n")?;
        }
        out.row(&place, &())?;
    }
    Ok(())
}

fn of_kernel(cx: &mut Cx, mut located: Located) -> Place {
    for (what, lacks) in std::mem::take(&mut located.lacking) {
        cx.lacks(&lacks, what, || format!("{:#}", located.address));
    }
    let owner = located.task.or_else(|| located.stack.as_ref().and_then(|stack| stack.task));
    let tasks = Tasks::find(&cx.kernel);
    let owner = owner.and_then(|at| tasks.at(at)).map(|task| TaskLine::new(cx, task));
    let page_structure = located.physical.and_then(|physical| PageRow::new(cx, physical));
    Place { located, owner, vma: None, page_structure }
}

/// A physical address is where the direct map has it, and perhaps in the kernel's image too, which has the names.
fn of_physical(cx: &mut Cx, locator: &mut Locator<'_>, physical: PhysAddr) -> Field<Place> {
    let kernel = cx.kernel.clone();
    let at = match locate::in_image(&kernel, physical) {
        Some(at) => at,
        None => Pages::find(&kernel).direct.as_ref().map_err(Lacks::clone)?.start.add(physical.0),
    };
    let mut located = locator.locate(at);
    located.physical = Some(physical);
    Ok(of_kernel(cx, located))
}

fn of_user(cx: &mut Cx, locator: &mut Locator<'_>, address: VirtAddr) -> Result<Place, CommandError> {
    let task = select::current(cx)?;
    let mut located = locator.locate(address);
    let area = match task.mm.clone()? {
        mm if mm.is_null() => None,
        mm => {
            let (area, physical) = area(cx, &task, mm, address)?;
            located.physical = physical;
            area
        }
    };
    Ok(Place { vma: area, ..of_kernel(cx, located) })
}

/// The area of a task that holds an address, and the address's place in physical memory.
fn area(
    cx: &mut Cx,
    task: &Task,
    mm: VirtAddr,
    address: VirtAddr,
) -> Field<(Option<Area>, Option<PhysAddr>)> {
    let kernel = cx.kernel.clone();
    let place = || format!("{address:#}");
    let loader = MmLoader::new(&kernel);
    let found = loader.space(&loader.load(mm))?.translate(address);
    let physical = found.as_ref().ok().map(|found| found.phys);
    let Some(vma) = cx.known(vma::at(&kernel, mm, address), "VMA", place).flatten() else {
        return Ok((None, physical));
    };
    let file = cx.known(vma.file.clone(), "file of a VMA", place).filter(|file| !file.is_null());
    let file = file.and_then(|file| cx.known(path::of_file(&kernel, file), "file of a VMA", place));
    let in_file = vma.page_offset.as_ref().ok().zip(vma.start.as_ref().ok());
    let file_offset = in_file.filter(|_| file.is_some()).map(|(pages, start)| {
        Hex(pages.wrapping_shl(kdive_base::PAGE_SHIFT).wrapping_add(address.since(*start)))
    });
    let area = Area {
        task: TaskLine::new(cx, task),
        vma: vma.at,
        start: cx.known(vma.start, "start of a VMA", place),
        end: cx.known(vma.end, "end of a VMA", place),
        file,
        file_offset,
        absent: found.err().map(|missing| missing.why.to_string()),
    };
    Ok((Some(area), physical))
}

/// One labelled line.
fn line(out: &mut dyn fmt::Write, label: &str, text: impl fmt::Display) -> fmt::Result {
    writeln!(out, "{label:>10}: {text}")
}

impl Render for Place {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let at = &self.located;
        line(out, "ADDRESS", at.address)?;
        line(out, "REGION", at.region.name())?;
        match at.physical {
            Some(physical) => line(out, "PHYSICAL", format_args!("{:x}", physical.0))?,
            None => line(out, "PHYSICAL", "not mapped")?,
        }
        if let Some(symbol) = &at.symbol {
            line(out, "SYMBOL", symbol)?;
        }
        if let Some(module) = &at.module {
            let part = if module.text { "text" } else { "data" };
            let init = if module.init { ", freed after its start" } else { "" };
            line(out, "MODULE", format_args!("{}, {part}{init}", module.name))?;
        }
        if let Some(per_cpu) = &at.per_cpu {
            match &per_cpu.symbol {
                Some(symbol) => line(out, "PER-CPU", format_args!("CPU {}, {symbol}", per_cpu.cpu))?,
                None => {
                    let variable = per_cpu.variable.0;
                    line(out, "PER-CPU", format_args!("CPU {}, allocated at {variable:x}", per_cpu.cpu))?;
                }
            }
        }
        if let Some(stack) = &at.stack {
            line(out, "STACK", Stack(stack))?;
        }
        if let Some(object) = &at.slab {
            line(out, "SLAB", Object(object))?;
            line(out, "CACHE", format_args!("{}, slab {}", object.cache, object.slab))?;
        }
        if let Some(owner) = &self.owner {
            line(out, "TASK", owner)?;
        }
        if let Some(area) = &at.vmalloc {
            let bytes = area.end.since(area.start);
            write!(out, "{:>10}: {} - {}, {bytes} bytes", "VMALLOC", area.start, area.end)?;
            match &area.caller {
                Some(caller) => writeln!(out, ", by {caller}")?,
                None => writeln!(out)?,
            }
        }
        if let Some(frame) = at.describes {
            line(out, "DESCRIBES", format_args!("the frame at physical {:x}", frame.0))?;
        }
        if let Some(area) = &self.vma {
            area.render(&(), out)?;
        }
        match &self.page_structure {
            Some(page) => line(out, "PAGE", page.brief()),
            None => Ok(()),
        }
    }
}

impl Render for Area {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        line(out, "TASK", &self.task)?;
        write!(out, "{:>10}: {}", "VMA", self.vma)?;
        if let (Some(start), Some(end)) = (self.start, self.end) {
            write!(out, ", {:x} - {:x}", start.0, end.0)?;
        }
        writeln!(out)?;
        if let Some(file) = &self.file {
            match self.file_offset {
                Some(Hex(offset)) => line(out, "FILE", format_args!("{file}, offset {offset:x}"))?,
                None => line(out, "FILE", file)?,
            }
        }
        match &self.absent {
            Some(absent) => line(out, "ABSENT", absent),
            None => Ok(()),
        }
    }
}

/// A stack in words.
pub(crate) struct Stack<'a>(pub(crate) &'a OnStack);

impl fmt::Display for Stack<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let OnStack { kind, low, high, cpu, frame, unused, .. } = self.0;
        write!(f, "{kind} {low} - {high}")?;
        if let Some(cpu) = cpu {
            write!(f, " of CPU {cpu}")?;
        }
        match frame {
            Some(InFrame { number, function: Some(function), .. }) => {
                write!(f, ", frame #{number} {function}")
            }
            Some(InFrame { number, ip, .. }) => write!(f, ", frame #{number} {ip}"),
            None if *unused => f.write_str(", below the stack pointer: stale"),
            None => Ok(()),
        }
    }
}

/// A slab object in words.
struct Object<'a>(&'a InObject);

impl fmt::Display for Object<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let InObject { name, object, offset, size, state, .. } = self.0;
        write!(f, "[{name}] object {object}{offset:+}")?;
        if let Some(size) = size {
            write!(f, " of {size} bytes")?;
        }
        match state {
            Some(ObjectState::Allocated) => f.write_str(", allocated"),
            Some(ObjectState::Free) => f.write_str(", free"),
            Some(ObjectState::FreeOnCpu(cpu)) => write!(f, ", free, kept by CPU {cpu}"),
            Some(ObjectState::FreeInSheaf(cpu)) => write!(f, ", free, in a sheaf of CPU {cpu}"),
            Some(ObjectState::FreeAfterRcu(cpu)) => {
                write!(f, ", freed, in a sheaf of CPU {cpu} until RCU is done")
            }
            Some(ObjectState::FreeInBarn(node)) => write!(f, ", free, in the barn of node {node}"),
            None => Ok(()),
        }
    }
}
