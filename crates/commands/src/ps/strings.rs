//! Arguments and environment.

use std::fmt;

use kdive_base::{VirtAddr, printable};
use kdive_linux::mm::{MmLoader, strings};
use kdive_linux::tasks::Task;
use kdive_target::Field;
use serde::Serialize;

use super::Blocks;
use crate::command::CommandError;
use crate::cx::Cx;
use crate::render::{TaskLine, UNKNOWN};
use crate::sink::{Render, Sink, SinkExt};

#[derive(Serialize)]
struct Strings {
    #[serde(flatten)]
    task: TaskLine,
    /// Whether it has user memory at all.
    user: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    arguments: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    environment: Option<Vec<String>>,
}

impl Render for Strings {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "{}", self.task)?;
        if !self.user {
            return writeln!(out, "ps: no user stack");
        }
        match &self.arguments {
            Some(arguments) => {
                write!(out, "ARG: ")?;
                arguments.iter().try_for_each(|argument| write!(out, "{argument} "))?;
                writeln!(out)?;
            }
            None => writeln!(out, "ARG: {UNKNOWN}")?,
        }
        match &self.environment {
            Some(variables) => {
                for (index, variable) in variables.iter().enumerate() {
                    writeln!(out, "{}{variable}", if index == 0 { "ENV: " } else { "     " })?;
                }
                Ok(())
            }
            None => writeln!(out, "ENV: {UNKNOWN}"),
        }
    }
}

pub(super) fn show(cx: &mut Cx, chosen: &[&Task], out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let loader = MmLoader::new(&kernel);
    let mut blocks = Blocks::default();
    for task in chosen {
        cx.cancel.check()?;
        let place = || format!("task {}", task.at);
        let mm = cx.known(task.mm.clone(), "user memory of a task", place);
        let user = mm.is_some_and(|mm| !mm.is_null()) || task.mm.is_err();
        let mm = mm.filter(|mm| !mm.is_null()).map(|at| loader.load(at));
        let space = mm.as_ref().and_then(|mm| cx.known(loader.space(mm), "user memory of a task", place));
        let mut read = |what: &str, start: Option<Field<VirtAddr>>, end: Option<Field<VirtAddr>>| {
            let (start, end, space) = (start?, end?, space.as_ref()?);
            let found = start.and_then(|start| strings(space, start, end?));
            let texts = found.map(|texts| texts.iter().map(|text| printable(text)).collect());
            cx.known(texts, what, place)
        };
        let fields = mm.as_ref();
        let arguments = read(
            "arguments of a task",
            fields.map(|mm| mm.arg_start.clone()),
            fields.map(|mm| mm.arg_end.clone()),
        );
        let environment = read(
            "environment of a task",
            fields.map(|mm| mm.env_start.clone()),
            fields.map(|mm| mm.env_end.clone()),
        );
        blocks.next(out)?;
        out.row(&Strings { task: TaskLine::new(cx, task), user, arguments, environment }, &())?;
    }
    Ok(())
}
