//! `kmem ADDRESS`: what an address is, in the layouts of the options that list such things.

use kdive_base::{PhysAddr, VirtAddr};
use kdive_linux::locate::Locator;
use kdive_linux::pages::{PageArray, Pages};
use kdive_linux::tasks::Tasks;
use kdive_target::Lacks;

use super::{free, objects, pages, vmalloc};
use crate::args::Args;
use crate::command::CommandError;
use crate::cx::Cx;
use crate::operand;
use crate::set::Context;
use crate::sink::{Sink, SinkExt};
use crate::sym;
use crate::vtop::page::TITLES;

pub(super) fn show(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let mut locator = Locator::new(&kernel);
    for (index, word) in args.operands.iter().enumerate() {
        cx.cancel.check()?;
        if index > 0 {
            out.heading("\n")?;
        }
        let address = operand::address(cx, "kmem", word)?;
        let physical = args.has("-P") || address.0 >> 63 == 0;
        if physical || pages::described(cx, address).is_some() {
            of_frame(cx, pages::physical(cx, args, word)?, word, out)?;
        } else {
            of_kernel(cx, &mut locator, address, word, out)?;
        }
    }
    Ok(())
}

/// A physical address, or the address of a page structure.
fn of_frame(cx: &mut Cx, at: PhysAddr, word: &str, out: &mut dyn Sink) -> Result<(), CommandError> {
    if !is_frame(cx, at)? {
        return Err(CommandError::not_found(format!("kmem: {word}: physical address not found in mem map")));
    }
    if free::at(cx, at, word, out)? {
        out.heading("\n")?;
    }
    out.heading(TITLES)?;
    pages::page_at(cx, at, out)
}

/// Whether the machine has a page structure for an address.
fn is_frame(cx: &Cx, at: PhysAddr) -> Result<bool, CommandError> {
    let array = PageArray::find(&cx.kernel)?;
    Ok(array.ranges().iter().any(|range| range.contains(&at.pfn())))
}

fn of_kernel(
    cx: &mut Cx,
    locator: &mut Locator<'_>,
    address: VirtAddr,
    word: &str,
    out: &mut dyn Sink,
) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let mut located = locator.locate(address);
    for (what, lacks) in std::mem::take(&mut located.lacking) {
        cx.lacks(&lacks, what, || format!("{address:#}"));
    }
    let mut found = false;
    let part = |found: bool, out: &mut dyn Sink| if found { out.heading("\n") } else { Ok(()) };
    if located.symbol.is_some() {
        sym::place(cx, address, out)?;
        found = true;
    }
    if located.slab.is_some() {
        part(found, out)?;
        found |= objects::at(cx, address, false, out)?;
    }
    let tasks = Tasks::find(&kernel);
    let task = located.task.or_else(|| located.stack.as_ref().filter(|stack| stack.cpu.is_none())?.task);
    if let Some(task) = task.and_then(|at| tasks.at(at)) {
        part(found, out)?;
        let context = Context::of(cx, task);
        out.row(&context, &Context::WIDTH_OF_SET)?;
        found = true;
    }
    if located.vmalloc.is_some() {
        part(found, out)?;
        found |= vmalloc::at(cx, address, out)?;
    }
    let Some(physical) = located.physical else {
        return match found {
            true => Ok(()),
            false => Err(CommandError::not_found(format!(
                "kmem: {word}: kernel virtual address not found in mem map"
            ))),
        };
    };
    let direct = Pages::find(&kernel).direct.clone().map_err(|lacks: Lacks| lacks);
    if !found && direct.is_ok_and(|direct| direct.phys_of(address).is_some()) {
        found |= free::at(cx, physical, word, out)?;
    }
    if is_frame(cx, physical)? {
        part(found, out)?;
        out.heading(TITLES)?;
        pages::page_at(cx, physical, out)?;
    }
    Ok(())
}
