//! `bt`: what each task was doing.

mod exceptions;
mod locals;
mod record;
mod source;
mod stacks;
mod text;

use std::fmt;

use kdive_base::VirtAddr;
use kdive_linux::tasks::{Task, Tasks};
use kdive_target::Field;
use kdive_target::unwind::Frames;

use crate::args::{Args, Opt, UsageError, number_list};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::render::place;
use crate::select;
use crate::settings::Radix;
use crate::sink::{Closed, Form, Part, Sink, SinkExt, ToJson};
use crate::words;
pub(crate) use locals::{BtLocal, at as locals_at, of_stack as locals_of_stack};
pub(crate) use record::levels;
use record::{BtTask, Wanted};
pub(crate) use source::location_of;
use text::View;

/// Shows kernel stacks.
pub static BT: Command = Command {
    names: &["bt"],
    group: Group::Tasks,
    summary: "kernel stacks of tasks",
    operands: "[pid | task | command]...",
    options: &[
        Opt::flag("-a", "the task that each processor ran"),
        Opt::value("-c", "cpus", "the tasks that these processors ran, as in 0,2-4"),
        Opt::flag("-p", "the task that panicked"),
        Opt::flag("-g", "all threads of the task's group"),
        Opt::value("-n", "idle", "with -a and -c: leave out processors that were idle"),
        Opt::flag("-l", "the source file and line of each frame, and inlined functions (needs DWARF)"),
        Opt::flag("-V", "the arguments and local variables of each frame (needs DWARF)"),
        Opt::flag("-f", "the words of each frame"),
        Opt::flag(
            "-F",
            "the words of each frame, with symbols and slab caches; -FF adds the objects' addresses",
        ),
        Opt::flag("-s", "the offset in each function"),
        Opt::flag("-x", "offsets in hexadecimal"),
        Opt::flag("-d", "offsets in decimal"),
        Opt::flag("-e", "exception frames on the task's stack"),
        Opt::flag("-E", "exception frames on the processors' interrupt and exception stacks"),
        Opt::flag("-t", "every word of the stack above the stack pointer that points into code"),
        Opt::flag("-T", "every word of the whole stack that points into code"),
        Opt::flag("-r", "the whole stack, as it is"),
        Opt::flag("-v", "look for stacks that overflowed"),
        Opt::value("-R", "symbol or value", "only tasks whose stack refers to it"),
        Opt::value("-I", "ip", "begin at this instruction"),
        Opt::value("-S", "sp", "begin at this stack pointer"),
        Opt::flag("--trust", "how each frame was found"),
    ],
    help: include_str!("../bt.md"),
    run: Run::Both { once, per_task },
};

fn once(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    if args.has("-E") {
        return exceptions::of_processors(cx, out);
    }
    if args.has("-v") {
        return stacks::overflows(cx, out);
    }
    let mut separator = Separator { out, printed: false, pending: false };
    for task in chosen(cx, args)? {
        cx.cancel.check()?;
        separator.pending = separator.printed;
        per_task(cx, args, &task, &mut separator)?;
    }
    Ok(())
}

/// The tasks that the options and operands name.
fn chosen(cx: &mut Cx, args: &Args) -> Result<Vec<Task>, CommandError> {
    let tasks = Tasks::find(&cx.kernel);
    if args.has("-p") {
        let panic = tasks.panic.clone()?;
        return Ok(tasks.at(panic.task).cloned().into_iter().collect());
    }
    if let Some(word) = args.value("-n").filter(|word| *word != "idle") {
        return Err(UsageError::new("bt", format!("-n {word}: only -n idle is known")).into());
    }
    if args.has("-a") || args.value("-c").is_some() {
        let hides_idle = args.value("-n").is_some();
        for lacks in &tasks.incomplete {
            cx.lacks(lacks, "list of tasks", String::new);
        }
        let running = running(cx, &tasks, args.value("-c"))?;
        return Ok(running.into_iter().filter(|task| !(hides_idle && tasks.is_idle(task))).collect());
    }
    let named = select::operands(cx, "bt", &args.operands)?;
    if args.has("-g") {
        return Ok(named.iter().flat_map(|task| tasks.group(task)).cloned().collect());
    }
    Ok(named)
}

fn running(cx: &mut Cx, tasks: &Tasks, cpus: Option<&str>) -> Result<Vec<Task>, CommandError> {
    let limit = tasks.processors().iter().map(|of| of.cpu.saturating_add(1)).max().unwrap_or(0);
    let wanted = cpus.map(|cpus| number_list("bt", cpus, limit)).transpose()?;
    let mut running = Vec::new();
    for processor in tasks.processors() {
        let cpu = processor.cpu;
        if wanted.as_ref().is_some_and(|wanted| !wanted.contains(&cpu)) {
            continue;
        }
        match tasks.on_cpu(cpu) {
            Some(task) => running.push(task.clone()),
            None => {
                cx.gaps.note("task of a processor", "its run queue does not tell", Some(format!("CPU {cpu}")))
            }
        }
    }
    Ok(running)
}

fn per_task(cx: &mut Cx, args: &Args, task: &Task, out: &mut dyn Sink) -> Result<(), CommandError> {
    if args.has("-r") {
        return stacks::raw(cx, task, out);
    }
    if args.has("-e") {
        return exceptions::of_task(cx, task, out);
    }
    if args.has("-t") || args.has("-T") {
        return stacks::code_words(cx, task, args.has("-T"), out);
    }
    let frames = match frames(cx, args, task)? {
        Ok(frames) => Some(frames),
        Err(lacks) => {
            cx.lacks(&lacks, "stack of a task", || place(task));
            None
        }
    };
    let wanted = Wanted {
        words: words::Mode::of(args),
        source: args.has("-l"),
        locals: args.has("-V"),
        reference: args.value("-R").map(|word| record::Reference::parse(&cx.kernel, word)),
    };
    let record = BtTask::new(cx, task, frames, &wanted);
    if wanted.reference.as_ref().is_some_and(|reference| !reference.is_in(&record)) {
        return Ok(());
    }
    out.row(&record, &view(cx, args))?;
    Ok(())
}

/// The task's frames, from its own innermost frame or from the place that the user names.
fn frames(cx: &Cx, args: &Args, task: &Task) -> Result<Field<Frames>, CommandError> {
    let given = |option| args.value(option).map(|word| address(option, word)).transpose();
    let (ip, sp) = (given("-I")?, given("-S")?);
    if ip.is_none() && sp.is_none() {
        return Ok(cx.kernel.unwind_task(task.at));
    }
    let own = cx.kernel.start_of(task.at);
    let sp = match (sp, &own) {
        (Some(sp), _) => sp,
        (None, Ok(own)) => own.sp(),
        (None, Err(lacks)) => return Ok(Err(lacks.clone())),
    };
    // The stack pointer alone stands at a return address, or belongs to where the task stood.
    let on_top = || cx.kernel.memory().pointer(sp).ok().filter(|ip| cx.kernel.is_code(*ip));
    let Some(ip) = ip.or_else(on_top).or_else(|| own.as_ref().ok().map(|own| own.ip())) else {
        return Err(CommandError::not_found(format!("no code is known to begin at with stack pointer {sp}")));
    };
    Ok(Ok(cx.kernel.unwind(&cx.kernel.start_at(ip, sp, Some(task.at)))))
}

fn address(option: &str, word: &str) -> Result<VirtAddr, UsageError> {
    let digits = word.strip_prefix("0x").unwrap_or(word);
    let wrong = |_| UsageError::new("bt", format!("{option} {word}: expected an address in hexadecimal"));
    u64::from_str_radix(digits, 16).map(VirtAddr).map_err(wrong)
}

fn view(cx: &Cx, args: &Args) -> View {
    let radix = match (args.has("-x"), args.has("-d")) {
        (true, false) => Radix::Hexadecimal,
        (false, true) => Radix::Decimal,
        _ => cx.settings.radix,
    };
    View { offset: args.has("-s").then_some(radix), trust: args.has("--trust"), words: words::Mode::of(args) }
}

/// Puts a blank line between the texts of two tasks.
struct Separator<'a> {
    out: &'a mut dyn Sink,
    /// Something came out.
    printed: bool,
    /// A blank line is due before the next record.
    pending: bool,
}

impl Sink for Separator<'_> {
    fn form(&self) -> Form {
        self.out.form()
    }

    fn take(
        &mut self,
        part: Part,
        record: &dyn ToJson,
        text: &dyn Fn(&mut dyn fmt::Write) -> fmt::Result,
    ) -> Result<(), Closed> {
        let blank = std::mem::take(&mut self.pending);
        self.printed = true;
        self.out.take(part, record, &|out| {
            if blank {
                out.write_char('\n')?;
            }
            text(out)
        })
    }
}
