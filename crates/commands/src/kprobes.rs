//! `kprobes`: probes of the kernel's code and of programs.

use std::fmt;

use kdive_linux::kprobes::{KernelProbe, Probes, UserProbe};
use serde::Serialize;

use crate::args::Args;
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::render::{Known, UNKNOWN};
use crate::sink::{Render, Sink, SinkExt};

/// Shows probes.
pub(crate) static KPROBES: Command = Command {
    names: &["kprobes"],
    group: Group::System,
    summary: "kprobes, kretprobes and uprobes: how they work and whom they call",
    operands: "",
    options: &[],
    help: include_str!("kprobes.md"),
    run: Run::Once(run),
};

/// A probe.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Row {
    /// Of the kernel's code.
    Kernel(KernelProbe),
    /// Of a program's code.
    User(UserProbe),
}

const TITLES: &str = "ADDRESS           KPROBE            KIND       BY          CALLS            PLACE\n";

fn run(cx: &mut Cx, _args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let probes = Probes::find(&kernel);
    for lacks in &probes.lacks {
        cx.lacks(lacks, "probes", String::new);
    }
    if probes.kernel.is_empty() && probes.user.is_empty() && probes.lacks.is_empty() {
        out.heading("no probes are set\n")?;
    }
    if probes.all_disarmed {
        out.heading("all probes of the kernel are switched off (/sys/kernel/debug/kprobes/enabled)\n")?;
    }
    if !probes.kernel.is_empty() {
        out.heading(TITLES)?;
    }
    for probe in probes.kernel {
        out.row(&Row::Kernel(probe), &())?;
    }
    for probe in probes.user {
        out.row(&Row::User(probe), &())?;
    }
    Ok(())
}

impl Render for Row {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        match self {
            Self::Kernel(probe) => {
                let kind = if probe.is_return { "kretprobe" } else { "kprobe" };
                let calls = probe.event.as_deref().or(probe.handler.as_deref()).unwrap_or(UNKNOWN);
                let place = probe.place.as_deref().unwrap_or(UNKNOWN);
                let (address, at, by) = (probe.address, probe.kprobe, probe.by.name());
                write!(out, "{address}  {at}  {kind:<9}  {by:<10}  {calls:<15}  {place}")?;
                for (says, what) in [(probe.disabled, "disabled"), (probe.gone, "gone")] {
                    if says {
                        write!(out, "  ({what})")?;
                    }
                }
                match probe.missed {
                    Some(count @ 1..) => writeln!(out, "  (missed {count} times)"),
                    _ => writeln!(out),
                }
            }
            Self::User(probe) => {
                let consumers = probe.consumers.join(", ");
                let file = probe.file.clone().or_else(|| probe.inode.map(|at| format!("inode {at}")));
                write!(
                    out,
                    "uprobe {}  {} at {}",
                    probe.uprobe,
                    Known(file),
                    Known(probe.offset.map(|at| format!("{at:#x}")))
                )?;
                writeln!(out, "  {}", if consumers.is_empty() { "wanted by nobody" } else { &consumers })
            }
        }
    }
}
