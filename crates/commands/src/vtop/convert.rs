//! `ptob`, `btop`, `ptov`: between page frames, physical addresses and the kernel's addresses.

use std::fmt;

use kdive_base::{PAGE_SHIFT, PhysAddr, VirtAddr};
use kdive_linux::pages::Pages;
use kdive_target::Lacks;
use serde::Serialize;

use crate::args::{Args, UsageError};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::operand;
use crate::render::Hex;
use crate::sink::{Render, Sink, SinkExt};

/// Page frame numbers to physical addresses.
pub(crate) static PTOB: Command = Command {
    names: &["ptob"],
    group: Group::Memory,
    summary: "the physical address of a page frame",
    operands: "page frame number...",
    options: &[],
    help: include_str!("../ptob.md"),
    run: Run::Once(ptob),
};

/// Physical addresses to page frame numbers.
pub(crate) static BTOP: Command = Command {
    names: &["btop"],
    group: Group::Memory,
    summary: "the page frame of a physical address",
    operands: "physical address...",
    options: &[],
    help: include_str!("../btop.md"),
    run: Run::Once(btop),
};

/// Physical addresses and per-CPU offsets to kernel addresses.
pub(crate) static PTOV: Command = Command {
    names: &["ptov"],
    group: Group::Memory,
    summary: "where the kernel maps a physical address, or a per-CPU offset",
    operands: "physical address... | offset:cpus",
    options: &[],
    help: include_str!("../ptov.md"),
    run: Run::Once(ptov),
};

/// A number and what it stands for.
#[derive(Serialize)]
struct Pair {
    given: Hex,
    is: Hex,
}

impl Render for Pair {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "{:x}: {:x}", self.given.0, self.is.0)
    }
}

fn hexadecimal(command: &str, word: &str) -> Result<u64, UsageError> {
    let wrong = |_| UsageError::new(command, format!("{word} is not a hexadecimal number"));
    u64::from_str_radix(word.strip_prefix("0x").unwrap_or(word), 16).map_err(wrong)
}

fn some<'w>(command: &str, words: &'w [String]) -> Result<&'w [String], UsageError> {
    if words.is_empty() { Err(UsageError::new(command, "which number?")) } else { Ok(words) }
}

fn ptob(_cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    for word in some("ptob", &args.operands)? {
        // As crash reads it: decimal where it can be.
        let pfn = word.parse().or_else(|_| hexadecimal("ptob", word))?;
        let bytes = pfn.checked_mul(1 << PAGE_SHIFT);
        let bytes = bytes.ok_or_else(|| UsageError::new("ptob", format!("{word} is no page frame")))?;
        out.row(&Pair { given: Hex(pfn), is: Hex(bytes) }, &())?;
    }
    Ok(())
}

fn btop(_cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    for word in some("btop", &args.operands)? {
        let address = hexadecimal("btop", word)?;
        out.row(&Pair { given: Hex(address), is: Hex(PhysAddr(address).pfn().0) }, &())?;
    }
    Ok(())
}

/// Where the direct map has a physical address.
#[derive(Serialize)]
struct Mapped {
    #[serde(rename = "virtual")]
    at: VirtAddr,
    physical: PhysAddr,
}

impl Render for Mapped {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "{:<16}  {:<16}", "VIRTUAL", "PHYSICAL")?;
        writeln!(out, "{}  {:<16}", self.at, format_args!("{:x}", self.physical.0).to_string())
    }
}

/// Where the processors have a per-CPU variable.
#[derive(Serialize)]
struct PerCpu {
    offset: Hex,
    cpus: Vec<Copied>,
}

#[derive(Serialize)]
struct Copied {
    cpu: u32,
    #[serde(rename = "virtual")]
    at: VirtAddr,
}

impl Render for PerCpu {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "PER-CPU OFFSET: {:x}", self.offset.0)?;
        writeln!(out, "  CPU    {:<16}", "VIRTUAL")?;
        self.cpus.iter().try_for_each(|copy| writeln!(out, "  [{}]  {}", copy.cpu, copy.at))
    }
}

fn ptov(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    for (index, word) in some("ptov", &args.operands)?.iter().enumerate() {
        if index > 0 {
            out.heading("\n")?;
        }
        match operand::processors(cx, "ptov", word)? {
            (offset, Some(cpus)) => per_cpu(cx, hexadecimal("ptov", offset)?, &cpus, out)?,
            (address, None) => {
                let physical = PhysAddr(hexadecimal("ptov", address)?);
                let pages = Pages::find(&cx.kernel);
                let direct = pages.direct.as_ref().map_err(Lacks::clone)?;
                if direct.address_of(physical).is_none() {
                    cx.gaps.note("ptov", "it lies behind the end of RAM", Some(format!("{physical:#}")));
                }
                let at = direct.start.add(physical.0);
                out.row(&Mapped { at, physical }, &())?;
            }
        }
    }
    Ok(())
}

fn per_cpu(cx: &mut Cx, offset: u64, cpus: &[u32], out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let all = kernel.cpus()?;
    let mut copies = Vec::with_capacity(cpus.len());
    for &cpu in cpus {
        let at = all.per_cpu(VirtAddr(offset), cpu);
        copies.extend(cx.known(at, "per-CPU area", || format!("CPU {cpu}")).map(|at| Copied { cpu, at }));
    }
    out.row(&PerCpu { offset: Hex(offset), cpus: copies }, &())?;
    Ok(())
}
