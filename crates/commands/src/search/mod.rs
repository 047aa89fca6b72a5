//! `search`: where in memory a number or a text is.

pub(crate) mod pattern;
mod query;
pub(crate) mod scan;
mod show;

use kdive_arch::x86_64::paging::{KERNEL_IMAGE_SIZE, START_KERNEL_MAP};
use kdive_base::{VirtAddr, VirtualMemory};
use kdive_linux::pages::Pages;
use kdive_linux::tasks::{Task, Tasks};
use kdive_target::{Kernel, Mapped};

use crate::args::{Args, Opt};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::memory::{Space, Which};
use crate::render::TaskLine;
use crate::sink::{Sink, SinkExt};
use query::{Area, Query};
use scan::{Runs, Scanner};
use show::{Shown, TaskHits};

/// Searches memory.
pub(crate) static SEARCH: Command = Command {
    names: &["search"],
    group: Group::Memory,
    summary: "where in memory a number or a text is",
    operands: "value | (expression) | symbol | text ...",
    options: &[
        Opt::value("-s", "address", "begin at this address or symbol"),
        Opt::value("-e", "address", "end before this address or symbol"),
        Opt::value("-l", "bytes", "end so many bytes behind the beginning"),
        Opt::flag("-k", "the kernel's virtual memory: all that its page tables map, which is the default"),
        Opt::flag("-K", "the same without vmalloc, modules and the memory map"),
        Opt::flag("-V", "the same without the direct map and the kernel's image"),
        Opt::flag("-u", "the current task's user memory"),
        Opt::flag("-p", "physical memory"),
        Opt::flag("-t", "the kernel stacks of all tasks"),
        Opt::flag("-T", "the kernel stacks of the tasks that were running"),
        Opt::value("-m", "mask", "the bits set in this hexadecimal mask do not matter"),
        Opt::value("-x", "count", "show so many numbers before and behind each that is found"),
        Opt::flag("-c", "the operands are texts"),
        Opt::flag("-w", "the operands are numbers of 32 bits"),
        Opt::flag("-h", "the operands are numbers of 16 bits"),
    ],
    help: include_str!("search.md"),
    run: Run::Once(search),
};

fn search(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    let query = Query::parse(cx, args)?;
    let kernel = cx.kernel.clone();
    match query.area {
        Area::Stacks { running } => stacks(cx, &query, running, out),
        Area::Kernel(part) => {
            let part = Part::of(&kernel, part);
            let mut runs = kernel
                .space()
                .mapped(VirtAddr(query.first), VirtAddr(query.last))
                .filter(|run| run.as_ref().map_or(true, |run| part.holds(run)));
            one(cx, &query, kernel.memory(), &mut runs, out)
        }
        Area::User => match Which::User.open(cx, "search", query.first)? {
            Space::User(space) => {
                let mut runs = space.mapped(VirtAddr(query.first), VirtAddr(query.last));
                one(cx, &query, &space, &mut *runs, out)
            }
            _ => Ok(()),
        },
        Area::Physical => {
            let space = Which::Physical.open(cx, "search", query.first)?;
            let mut runs = scan::physical_runs(&**kernel.physical(), query.first, query.last);
            one(cx, &query, space.memory(), &mut runs, out)
        }
    }
}

/// Searches one piece of memory.
fn one(
    cx: &mut Cx,
    query: &Query,
    memory: &dyn VirtualMemory,
    runs: &mut Runs<'_>,
    out: &mut dyn Sink,
) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let mut scanner = Scanner::new(&query.pattern, &**kernel.physical(), memory);
    let ran = scanner.scan(cx, runs, &mut |hit| {
        Ok(out.row(&Shown::new(&kernel, query, memory, hit), &query.context.is_some())?)
    });
    scanner.note_holes(cx);
    ran
}

/// Searches one stack after the other; those with a match are shown below their task.
fn stacks(cx: &mut Cx, query: &Query, running: bool, out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let tasks = Tasks::find(&kernel);
    for lacks in &tasks.incomplete {
        cx.lacks(lacks, "tasks", String::new);
    }
    let chosen: Vec<&Task> = match running {
        true => tasks.processors().iter().filter_map(|of| tasks.on_cpu(of.cpu)).collect(),
        false => tasks.all().iter().collect(),
    };
    let mut scanner = Scanner::new(&query.pattern, &**kernel.physical(), kernel.memory());
    let mut any = false;
    for task in chosen {
        let stack = task.stack.clone().and_then(|low| kernel.task_stack(low));
        let Some(stack) = cx.known(stack, "stack of a task", || format!("task {}", task.at)) else {
            continue;
        };
        let mut found = Vec::new();
        let mut runs = kernel.space().mapped(stack.low, stack.high.sub(1));
        scanner.scan(cx, &mut *runs, &mut |hit| {
            found.push(Shown::new(&kernel, query, kernel.memory(), hit));
            Ok(())
        })?;
        if !found.is_empty() {
            let record = TaskHits { task: TaskLine::new(cx, task), found };
            out.row(&record, &show::TaskView { context: query.context.is_some(), first: !any })?;
            any = true;
        }
    }
    scanner.note_holes(cx);
    Ok(())
}

/// A part of the kernel's memory.
enum Part {
    All,
    /// The direct map and the image (-K), or all but these (-V).
    Unity {
        inside: bool,
        ranges: Vec<std::ops::Range<u64>>,
    },
}

impl Part {
    fn of(kernel: &Kernel, part: query::Part) -> Self {
        let inside = match part {
            query::Part::All => return Self::All,
            query::Part::Unity => true,
            query::Part::Rest => false,
        };
        let direct = Pages::find(kernel).direct.clone().map(|map| map.start.0..map.end.0);
        let start = kernel.symbol("_text").or_else(|_| kernel.symbol("_stext"));
        let start = start.map_or(START_KERNEL_MAP, |at| at.0);
        // Kernels that KASLR does not move have their modules in the second half of the room.
        let end = kernel.symbol("_end").map_or(START_KERNEL_MAP.saturating_add(KERNEL_IMAGE_SIZE), |at| at.0);
        let image = start..end;
        Self::Unity { inside, ranges: direct.into_iter().chain([image]).collect() }
    }

    fn holds(&self, run: &Mapped) -> bool {
        match self {
            Self::All => true,
            Self::Unity { inside, ranges } => {
                *inside == ranges.iter().any(|range| range.contains(&run.virt.0))
            }
        }
    }
}
