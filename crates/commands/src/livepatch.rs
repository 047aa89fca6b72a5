//! `livepatch`: functions that were replaced in the running kernel.

use std::fmt;

use kdive_linux::livepatch::{LivePatch, LivePatches};
use kdive_linux::tasks::State;

use crate::args::Args;
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::render::{Known, UNKNOWN};
use crate::sink::{Render, Sink, SinkExt};

/// Shows live patches.
pub(crate) static LIVEPATCH: Command = Command {
    names: &["livepatch"],
    group: Group::System,
    summary: "live patches: replaced functions, and tasks that hold up the change to them",
    operands: "",
    options: &[],
    help: include_str!("livepatch.md"),
    run: Run::Once(run),
};

fn run(cx: &mut Cx, _args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let found = LivePatches::find(&kernel)?;
    for lacks in &found.lacks {
        cx.lacks(lacks, "live patches", String::new);
    }
    if found.patches.is_empty() && found.lacks.is_empty() {
        out.heading("no live patch is loaded\n")?;
    }
    for patch in &found.patches {
        cx.cancel.check()?;
        out.row(patch, &())?;
    }
    Ok(())
}

impl Render for LivePatch {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let state = match (self.enabled, self.in_transition) {
            (Some(true), true) => "being enabled: tasks are still moved to the new code",
            (Some(true), false) => "enabled",
            (Some(false), true) => "being disabled: tasks are still moved back",
            (Some(false), false) => "disabled",
            (None, _) => UNKNOWN,
        };
        write!(out, "{} (klp_patch {}): {state}", self.name.as_deref().unwrap_or(UNKNOWN), self.klp_patch)?;
        for (says, what) in [(self.replaces, "replaces all before it"), (self.forced, "was forced")] {
            if says == Some(true) {
                write!(out, "; {what}")?;
            }
        }
        writeln!(out)?;
        for object in &self.objects {
            let module = object.module.as_deref().unwrap_or("vmlinux");
            for function in &object.functions {
                let name = function.name.as_deref().unwrap_or(UNKNOWN);
                write!(out, "  {module:<12}  {name:<24}  {}", Known(function.old))?;
                match (function.new, &function.new_name) {
                    (Some(new), Some(name)) => write!(out, " -> {new} {name}")?,
                    (Some(new), None) => write!(out, " -> {new}")?,
                    (None, _) => write!(out, " -> the old code again")?,
                }
                writeln!(out, "{}", if function.patched == Some(false) { "  (not patched)" } else { "" })?;
            }
        }
        for holdout in &self.holdouts {
            write!(out, "  held up by {}, {}", holdout.task, holdout.state.map_or(UNKNOWN, State::letters))?;
            match &holdout.inside {
                Some(function) => writeln!(out, ", in {function}")?,
                None => writeln!(out)?,
            }
        }
        Ok(())
    }
}
