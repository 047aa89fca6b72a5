//! `kmem`: the kernel's memory: how much there is, who has it, and what an address is.

mod caches;
mod free;
mod identify;
mod info;
mod nodes;
mod objects;
mod pages;
mod tables;
mod vmalloc;
mod zone;

use crate::args::{Args, Opt, UsageError, number_list};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::operand;
use crate::sink::Sink;

/// Shows the kernel's memory.
pub(crate) static KMEM: Command = Command {
    names: &["kmem"],
    group: Group::Memory,
    summary: "the kernel's memory: how much there is, who has it, what an address is",
    operands: "[slab-cache | list | address | flags]...",
    options: &[
        Opt::optional(
            "-i",
            "=shared",
            never,
            "memory in numbers; =shared counts the pages of several users too",
        ),
        Opt::flag("-s", "slab caches in numbers; or one, by its name or that of a cache merged into it"),
        Opt::optional(
            "-S",
            "=cpus",
            never,
            "slab caches with their slabs and objects; of some processors: =0,2-4",
        ),
        Opt::value("-I", "caches", "with -s and -S: leave these out, as in dentry,filp"),
        Opt::flag("-r", "root caches and those of their control groups (kernels from 4.11 to 5.8)"),
        Opt::flag("-f", "the lists of free pages, counted and verified; or the block that a page is in"),
        Opt::flag("-F", "the same with each block"),
        Opt::flag("-p", "the page structures: all, or those of the addresses given"),
        Opt::value("-m", "members", "members of the page structures, as in lru,_mapcount"),
        Opt::flag("-v", "areas of vmalloc space: all, or the one that an address is in"),
        Opt::flag("-V", "counters of zones and nodes, and of events"),
        Opt::flag("-n", "nodes, zones, sections and blocks of memory"),
        Opt::flag("-z", "zones with their watermarks and counters"),
        Opt::flag("-o", "the offset of each processor's per-CPU area"),
        Opt::flag("-h", "pools of huge pages"),
        Opt::flag("-g", "the bits of page flags: all, or those set in the numbers given"),
        Opt::flag("-P", "the addresses are physical"),
        Opt::flag("-c", "the page hash table, which Linux 2.4 was the last to have"),
        Opt::flag("-C", "the same with its pages"),
    ],
    help: include_str!("../kmem.md"),
    run: Run::Once(kmem),
};

/// A value that only ever sticks to its option.
fn never(_: &str) -> bool {
    false
}

/// The options of which one at a time is given, but for those of slab caches: there the first of these counts.
const VIEWS: [&str; 17] =
    ["-S", "-s", "-r", "-i", "-f", "-F", "-p", "-m", "-v", "-V", "-n", "-z", "-o", "-h", "-g", "-c", "-C"];
const OF_SLABS: [&str; 3] = ["-S", "-s", "-r"];

fn kmem(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    let mut given = VIEWS.iter().filter(|view| args.has(view));
    let view = given.next().copied();
    let of_slabs = view.is_some_and(|view| OF_SLABS.contains(&view));
    let other = given.find(|view| !(of_slabs && OF_SLABS.contains(view)));
    if let (Some(first), Some(second)) = (view, other) {
        let why = format!("only one flag allowed: {first} and {second} are two different views");
        return Err(UsageError::new("kmem", why).into());
    }
    if view == Some("-F") && !args.operands.is_empty() {
        return Err(
            UsageError::new("kmem", "no address arguments allowed with -F: -f looks for the page").into()
        );
    }
    match view {
        Some("-i") => info::show(cx, args, out),
        Some("-s" | "-S") => slabs(cx, args, out),
        Some("-f") if !args.operands.is_empty() => free::look_up(cx, args, out),
        Some(all @ ("-f" | "-F")) => free::show(cx, all == "-F", out),
        Some("-p") => pages::show(cx, args, out),
        Some("-m") => pages::members(cx, args, out),
        Some("-v") if !args.operands.is_empty() => areas(cx, args, out),
        Some("-v") => vmalloc::show(cx, out),
        Some("-V") => tables::counters(cx, out),
        Some("-n") => nodes::show(cx, out),
        Some("-z") => tables::zones(cx, out),
        Some("-o") => tables::offsets(cx, out),
        Some("-h") => tables::huge_pages(cx, out),
        Some("-g") => tables::flags(cx, &args.operands, out),
        Some(option) => Err(CommandError::not_found(format!(
            "kmem: {option} option not supported or applicable on this architecture or kernel"
        ))),
        None if args.operands.is_empty() => Err(UsageError::new("kmem", "which memory?").into()),
        None => identify::show(cx, args, out),
    }
}

/// `-s` and `-S`: all caches, one of them, their names, or the object at an address.
fn slabs(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    let objects = args.has("-S");
    let operand = caches::one_operand(args)?;
    if operand == Some("list") {
        return caches::names(cx, out);
    }
    let cpus = match args.value("-S") {
        None => None,
        Some(list) => {
            let list = list.strip_prefix('=').unwrap_or(list);
            Some(number_list("kmem", list, cx.kernel.cpus()?.limit)?)
        }
    };
    let chosen = match caches::choose(cx, args, operand) {
        Err(unknown @ CommandError::NotFound { .. }) => {
            // No cache: an address.
            let address =
                operand.and_then(|word| pages::kernel_address(cx, args, word).ok()).ok_or(unknown)?;
            return match objects::at(cx, address, objects, out)? {
                true => Ok(()),
                false => Err(CommandError::not_found(format!(
                    "kmem: address is not allocated in slab subsystem: {:x}",
                    address.0
                ))),
            };
        }
        chosen => chosen?,
    };
    if objects { objects::show(cx, &chosen, cpus.as_deref(), out) } else { caches::summary(cx, &chosen, out) }
}

/// `-v ADDRESS`.
fn areas(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    for word in &args.operands {
        let address = operand::address(cx, "kmem", word)?;
        if !vmalloc::at(cx, address, out)? {
            return Err(CommandError::not_found(format!("kmem: {word} is in no area of vmalloc space")));
        }
    }
    Ok(())
}
