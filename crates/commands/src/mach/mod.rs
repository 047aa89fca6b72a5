//! `mach`: the machine and where its kernel lies.

mod record;

use std::fmt;

use kdive_base::VirtAddr;
use kdive_linux::system::{MapRange, memory_map};
use kdive_target::show::Style;
use serde::Serialize;

use self::record::Machine;
use crate::args::{Args, Opt, UsageError};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::operand;
use crate::sink::{Render, Sink, SinkExt};
use crate::structure::{self, Row, Shape, shape};

/// Shows the machine.
pub(crate) static MACH: Command = Command {
    names: &["mach"],
    group: Group::System,
    summary: "the machine: its processors and memory, and where its kernel lies",
    operands: "",
    options: &[
        Opt::flag("-m", "the firmware's map of physical memory"),
        Opt::flag("-c", "what the kernel knows of each processor (cpuinfo_x86)"),
        Opt::flag("-x", "with -c: integers in hexadecimal"),
        Opt::flag("-d", "with -c: integers in decimal"),
        Opt::flag("-o", "the log of the OPAL console (machines of the ppc64 family)"),
    ],
    help: include_str!("mach.md"),
    run: Run::Once(run),
};

fn run(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    if let Some(word) = args.operands.first() {
        return Err(UsageError::new("mach", format!("{word}: mach takes no operands")).into());
    }
    match (args.has("-m"), args.has("-c"), args.has("-o")) {
        (_, _, true) => Err(UsageError::new("mach", "option not supported on this architecture: -o").into()),
        (true, true, _) => {
            map(cx, out)?;
            processors(cx, args, out)
        }
        (true, false, _) => map(cx, out),
        (false, true, _) => processors(cx, args, out),
        (false, false, _) => {
            let machine = Machine::find(cx);
            Ok(out.row(&machine, &())?)
        }
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct RangeRow(MapRange);

impl Render for RangeRow {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let Self(MapRange { start, end, kind }) = self;
        writeln!(out, "{:016x} - {:016x}  {kind}", start.0, end.0)
    }
}

/// `-m`.
fn map(cx: &mut Cx, out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let ranges = memory_map(&kernel)?;
    out.heading("      PHYSICAL ADDRESS RANGE         TYPE\n")?;
    for range in ranges {
        match range {
            Ok(range) => out.row(&RangeRow(range), &())?,
            Err(lacks) => cx.lacks(&lacks, "range of the firmware's map", String::new),
        }
    }
    Ok(())
}

#[derive(Serialize)]
struct CpuRow {
    cpu: u32,
    cpuinfo: Row,
}

impl Render for CpuRow {
    type View = Style;

    fn render(&self, style: &Style, out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "CPU {}:", self.cpu)?;
        self.cpuinfo.render(style, out)?;
        writeln!(out)
    }
}

/// `-c`.
fn processors(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    if args.has("-x") && args.has("-d") {
        return Err(UsageError::new("mach", "-x and -d exclude each other").into());
    }
    let style = structure::style(cx, args);
    let shape = Shape::parse(cx, "mach", shape::STRUCT, "cpuinfo_x86")?;
    let known = cx.kernel.cpus()?.limit;
    // A kernel for one processor has no copies but the first.
    let at = |cx: &Cx, cpu: u32| match cx.kernel.per_cpu("cpu_info", cpu) {
        Err(_) if known == 1 => cx.kernel.symbol("boot_cpu_data"),
        found => found,
    };
    for cpu in operand::cpus(cx, "mach", None)? {
        cx.cancel.check()?;
        let found: Option<VirtAddr> = cx.known(at(cx, cpu), "cpuinfo_x86", || format!("CPU {cpu}"));
        if let Some(found) = found {
            let row = CpuRow { cpu, cpuinfo: shape.row(cx, found, &style)? };
            out.row(&row, &style)?;
        }
    }
    Ok(())
}
