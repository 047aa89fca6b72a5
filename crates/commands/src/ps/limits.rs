//! Resource limits.

use std::fmt;

use kdive_linux::limits::{Limit, limits};
use kdive_linux::tasks::Task;
use serde::Serialize;

use super::Blocks;
use crate::command::CommandError;
use crate::cx::Cx;
use crate::render::{TaskLine, UNKNOWN};
use crate::sink::{Render, Sink, SinkExt};

#[derive(Serialize)]
struct Limits {
    #[serde(flatten)]
    task: TaskLine,
    #[serde(skip_serializing_if = "Option::is_none")]
    limits: Option<Vec<Limit>>,
}

impl Render for Limits {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "{}", self.task)?;
        writeln!(out, "      RLIMIT     CURRENT       MAXIMUM  ")?;
        let Some(limits) = &self.limits else {
            return writeln!(out, "{UNKNOWN:>12}   {UNKNOWN:^11}   {UNKNOWN:^11}");
        };
        let value =
            |limit: Option<u64>| limit.map_or_else(|| "(unlimited)".to_owned(), |limit| limit.to_string());
        for limit in limits {
            let (current, maximum) = (value(limit.current), value(limit.maximum));
            writeln!(out, "{:>12}   {current:^11}   {maximum:^11}", limit.name)?;
        }
        Ok(())
    }
}

pub(super) fn show(cx: &mut Cx, chosen: &[&Task], out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let mut blocks = Blocks::default();
    for task in chosen {
        let found = task.signal.clone().and_then(|signal| limits(&kernel, signal));
        let limits = cx.known(found, "resource limits of a task", || format!("task {}", task.at));
        blocks.next(out)?;
        out.row(&Limits { task: TaskLine::new(cx, task), limits }, &())?;
    }
    Ok(())
}
