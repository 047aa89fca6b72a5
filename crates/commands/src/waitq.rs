//! `waitq`: who waits on a wait queue.

use std::fmt;

use kdive_base::VirtAddr;
use kdive_debuginfo::{Type, TypeId};
use kdive_linux::tasks::{TaskLoader, Tasks};
use kdive_linux::wait::{Waiter, is_simple, simple_waiters, waiters};
use kdive_target::Field;
use serde::Serialize;

use crate::args::{Args, UsageError};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::operand;
use crate::render::{Known, TaskLine};
use crate::sink::{Render, Sink, SinkExt};
use crate::structure::shape::{ANY, Shape};

/// Lists waiters.
pub(crate) static WAITQ: Command = Command {
    names: &["waitq"],
    group: Group::Tasks,
    summary: "the tasks that wait on a wait queue",
    operands: "symbol | struct.member address | address",
    options: &[],
    help: include_str!("waitq.md"),
    run: Run::Once(run),
};

fn run(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    let queue = match args.operands.as_slice() {
        [word] => {
            let at = operand::address(cx, "waitq", word)?;
            let simple = is_simple(&cx.kernel, at, &Tasks::find(&cx.kernel));
            let digits = word.strip_prefix("0x").unwrap_or(word);
            let is_named = u64::from_str_radix(digits, 16) != Ok(at.0);
            Queue { name: word.clone(), at, simple, is_named }
        }
        [member, word] => Queue::member(cx, member, word)?,
        _ => return Err(UsageError::new("waitq", "which wait queue?").into()),
    };
    let kernel = cx.kernel.clone();
    let walked = match queue.simple {
        true => Box::new(simple_waiters(&kernel, queue.at)?) as Box<dyn Iterator<Item = Field<Waiter>>>,
        false => Box::new(waiters(&kernel, queue.at)?),
    };
    let mut any = false;
    for waiter in walked {
        cx.cancel.check()?;
        any = true;
        match waiter {
            Ok(waiter) => out.row(&WaiterRow::new(cx, &waiter), &())?,
            Err(lacks) => cx.lacks(&lacks, "waiters", || queue.at.to_string()),
        }
    }
    if !any {
        out.header(&queue, &())?;
    }
    Ok(())
}

/// A wait queue as it was named; said of one that is empty.
#[derive(Serialize)]
struct Queue {
    name: String,
    at: VirtAddr,
    /// Whether it is a `swait_queue_head`.
    simple: bool,
    /// Whether it was named otherwise than by its address.
    #[serde(skip)]
    is_named: bool,
}

impl Queue {
    /// `struct.member address`.
    fn member(cx: &Cx, member: &str, word: &str) -> Result<Self, CommandError> {
        let shape = Shape::parse(cx, "waitq", ANY, member)?;
        let [chosen] = shape.members.as_slice() else {
            return Err(UsageError::new("waitq", format!("{member}: expected struct.member")).into());
        };
        let at = operand::address(cx, "waitq", word)?.add(chosen.at.byte_offset());
        let types = shape.types(&cx.kernel)?;
        let record = |id: TypeId| match types.stripped(id).as_deref() {
            Some(Type::Record(record)) => record.name.as_deref().map(str::to_owned),
            _ => None,
        };
        let simple = record(chosen.at.of).is_some_and(|name| name == "swait_queue_head");
        Ok(Self { name: member.to_owned(), at, simple, is_named: true })
    }
}

impl Render for Queue {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        match self.is_named {
            true => writeln!(out, "wait queue \"{}\" ({}) is empty", self.name, self.at),
            false => writeln!(out, "wait queue {} is empty", self.at),
        }
    }
}

/// A waiter: the task that is woken, or what else.
#[derive(Serialize)]
struct WaiterRow {
    entry: VirtAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    private: Option<VirtAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function: Option<VirtAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function_name: Option<String>,
    #[serde(flatten)]
    task: Option<TaskLine>,
}

impl WaiterRow {
    fn new(cx: &mut Cx, waiter: &Waiter) -> Self {
        let place = || waiter.at.to_string();
        let private = cx.known(waiter.private.clone(), "who waits", place);
        let function = waiter.function.clone().and_then(|function| cx.known(function, "what wakes", place));
        let kernel = cx.kernel.clone();
        let function_name = function.and_then(|at| kernel.place(at)).map(|place| place.to_string());
        let task = waiter
            .task(&kernel, &Tasks::find(&kernel))
            .map(|at| TaskLine::new(cx, &TaskLoader::new(&kernel).load(at)));
        Self { entry: waiter.at, private, function, function_name, task }
    }
}

impl Render for WaiterRow {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        match &self.task {
            Some(task) => writeln!(out, "{task}"),
            None => {
                let function = self.function_name.as_ref();
                writeln!(
                    out,
                    "ENTRY: {}  PRIVATE: {}  FUNCTION: {}",
                    self.entry,
                    Known(self.private),
                    Known(function)
                )
            }
        }
    }
}
