//! `hw`: errors of the hardware.

use std::fmt;

use kdive_base::Printable;
use kdive_evidence::LogRecord;
use kdive_linux::ras::{ErrorCount, FoundIn, HardwareErrors, MachineCheck, WeakPage};
use serde::Serialize;

use crate::args::Args;
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::render::{Known, date};
use crate::sink::{Render, Sink, SinkExt};

/// Shows errors of the hardware.
pub(crate) static HW: Command = Command {
    names: &["hw"],
    group: Group::System,
    summary: "errors of the hardware: machine checks, PCI Express, bad memory, heat",
    operands: "",
    options: &[],
    help: include_str!("hw.md"),
    run: Run::Once(run),
};

/// One thing that is known.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum Row {
    /// A machine check.
    MachineCheck(MachineCheck),
    /// A counter that is not zero.
    Count(ErrorCount),
    /// A page with corrected errors.
    Page(WeakPage),
    /// A record of the log.
    Log(LogRecord),
}

fn run(cx: &mut Cx, _args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let found = HardwareErrors::find(&kernel);
    for lacks in &found.lacks {
        cx.lacks(lacks, "errors of the hardware", String::new);
    }
    let checks = found.checks.into_iter().map(Row::MachineCheck);
    let others = found.counts.into_iter().map(Row::Count).chain(found.pages.into_iter().map(Row::Page));
    let rows: Vec<Row> = checks.chain(others).chain(found.log.into_iter().map(Row::Log)).collect();
    if rows.is_empty() {
        out.heading("the kernel knows of no error of the hardware\n")?;
    }
    if !found.handles_checks {
        out.heading("this kernel does not handle machine checks (CONFIG_X86_MCE)\n")?;
    }
    for row in &rows {
        out.row(row, &())?;
    }
    Ok(())
}

impl Render for Row {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        match self {
            Self::MachineCheck(check) => render_check(check, out),
            Self::Count(count) => {
                write!(out, "{}: {} {}", count.source, count.count, count.what)?;
                let last = count
                    .last
                    .and_then(|seconds| date(u64::try_from(seconds).ok()?.checked_mul(1_000_000_000)?));
                match last {
                    Some(last) => writeln!(out, ", the last on {last}"),
                    None => writeln!(out),
                }
            }
            Self::Page(page) => writeln!(out, "page {:x}: {} corrected errors", page.pfn, page.count),
            Self::Log(record) => {
                let micros = record.time_ns.map(|time| time / 1000);
                let time = micros.map(|time| format!("{:>5}.{:06}", time / 1_000_000, time % 1_000_000));
                writeln!(out, "[{}] {}", Known(time), Printable(record.text.as_bytes()))
            }
        }
    }
}

fn render_check(check: &MachineCheck, out: &mut dyn fmt::Write) -> fmt::Result {
    let meaning = check.meaning.join(", ");
    writeln!(out, "machine check on CPU {}, bank {}: {meaning}", Known(check.cpu), Known(check.bank))?;
    write!(out, "  status {:016x}  mcgstatus {:x}", check.status, check.mcgstatus)?;
    if let Some(address) = check.address {
        write!(out, "  address {address:x}")?;
    }
    if let Some(misc) = check.misc {
        write!(out, "  misc {misc:x}")?;
    }
    if let Some(ip) = check.ip {
        write!(out, "  ip {ip}")?;
    }
    if let Some(time) = check.time.and_then(|seconds| date(seconds.checked_mul(1_000_000_000)?)) {
        write!(out, "  on {time}")?;
    }
    match check.found_in {
        FoundIn::Exception | FoundIn::Log => writeln!(out),
        FoundIn::Queue => writeln!(out, "  (not handled yet)"),
    }
}
