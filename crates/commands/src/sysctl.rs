//! `sysctl` and `params`: what an administrator set.

use std::fmt;

use kdive_base::VirtAddr;
use kdive_linux::system::{Parameter, Setting, Sysctl, parameters, sysctls};
use serde::Serialize;

use crate::args::{Args, Opt};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::sink::{Render, Sink, SinkExt};

/// Lists what is below `/proc/sys`.
pub(crate) static SYSCTL: Command = Command {
    names: &["sysctl"],
    group: Group::System,
    summary: "sysctls with their values, as in /proc/sys",
    operands: "[name]...",
    options: &[Opt::flag("-v", "where each value lies, and what shows it, too")],
    help: include_str!("sysctl.md"),
    run: Run::Once(run),
};

/// Lists parameters of modules.
pub(crate) static PARAMS: Command = Command {
    names: &["params"],
    group: Group::System,
    summary: "parameters of modules and of what is built in, with their values",
    operands: "[module[.name]]...",
    options: &[
        Opt::flag("-m", "only of modules, not of what is built in"),
        Opt::flag("-v", "where each value lies, and what shows it, too"),
    ],
    help: include_str!("params.md"),
    run: Run::Once(run_params),
};

/// A setting.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Setting>,
    /// Why there is no value.
    #[serde(skip_serializing_if = "Option::is_none")]
    lacks: Option<String>,
    /// Whether what memory holds may not be what the kernel shows.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    raw: bool,
    /// Its `struct ctl_table` or `struct kernel_param`.
    address: VirtAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<VirtAddr>,
    /// What shows it: a handler, or operations.
    #[serde(skip_serializing_if = "Option::is_none")]
    handler: Option<String>,
}

impl Row {
    fn sysctl(of: &Sysctl) -> Self {
        Self {
            name: of.name.clone(),
            value: of.value.clone().ok(),
            lacks: of.value.as_ref().err().map(ToString::to_string),
            raw: !of.is_known,
            address: of.at,
            data: Some(of.data).filter(|at| !at.is_null()),
            handler: of.handler.clone(),
        }
    }

    fn parameter(of: &Parameter) -> Self {
        Self {
            name: format!("{}.{}", of.module, of.name),
            value: of.value.clone().ok(),
            lacks: of.value.as_ref().err().map(ToString::to_string),
            raw: false,
            address: of.at,
            data: Some(of.data).filter(|at| !at.is_null()),
            handler: of.operations.clone(),
        }
    }
}

struct View {
    with_places: bool,
}

impl Render for Row {
    type View = View;

    fn render(&self, view: &View, out: &mut dyn fmt::Write) -> fmt::Result {
        write!(out, "{} = ", self.name)?;
        match (&self.value, &self.lacks) {
            (Some(value), _) => write!(out, "{value}")?,
            (None, Some(lacks)) => write!(out, "? ({lacks})")?,
            (None, None) => write!(out, "?")?,
        }
        if self.raw && self.value.is_some() {
            write!(out, "  (as memory holds it)")?;
        }
        if view.with_places {
            if let Some(data) = self.data {
                write!(out, "  at {data}")?;
            }
            if let Some(handler) = &self.handler {
                write!(out, "  {handler}")?;
            }
        }
        writeln!(out)
    }
}

/// Whether a setting was named: itself, or what it is below.
fn is_named(operands: &[String], name: &str) -> bool {
    operands.is_empty()
        || operands.iter().any(|named| {
            let named = named.replace('/', ".");
            let named = named.trim_matches('.');
            name == named || name.strip_prefix(named).is_some_and(|rest| rest.starts_with('.'))
        })
}

fn run(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    let found = sysctls(&cx.kernel)?;
    for lacks in &found.incomplete {
        cx.lacks(lacks, "sysctls", String::new);
    }
    show(cx, args, "sysctl", found.list.iter().map(Row::sysctl), out)
}

fn run_params(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    let found = parameters(&cx.kernel)?;
    for lacks in &found.incomplete {
        cx.lacks(lacks, "parameters", String::new);
    }
    let chosen = found.list.iter().filter(|of| !(of.built_in && args.has("-m")));
    show(cx, args, "params", chosen.map(Row::parameter), out)
}

fn show(
    cx: &Cx,
    args: &Args,
    command: &str,
    rows: impl Iterator<Item = Row>,
    out: &mut dyn Sink,
) -> Result<(), CommandError> {
    let view = View { with_places: args.has("-v") };
    let mut any = false;
    for row in rows.filter(|row| is_named(&args.operands, &row.name)) {
        cx.cancel.check()?;
        out.row(&row, &view)?;
        any = true;
    }
    match args.operands.first() {
        Some(named) if !any => Err(CommandError::not_found(format!("{command}: there is no {named}"))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stands_for_all_below_it() {
        let named = |word: &str| vec![word.to_owned()];
        assert!(is_named(&named("kernel"), "kernel.panic"));
        assert!(is_named(&named("/kernel/panic"), "kernel.panic"));
        assert!(!is_named(&named("kernel.pan"), "kernel.panic"));
        assert!(is_named(&[], "vm.swappiness"));
    }
}
