//! The machine and its kernel.

use kdive_base::{PAGE_SIZE, printable};
use kdive_linux::system::{Clock, Taint, Uts, dmi, present_pages};
use kdive_target::{Field, Kernel};

use crate::case::System;

/// Longer than any command line.
const COMMAND_LINE: usize = 4096;
/// `dump_stack_arch_desc_str` (kernel/dump_stack.c).
const HARDWARE_NAME: usize = 128;

/// What memory tells, and for the rest what the log told.
pub(super) fn read(kernel: &Kernel, told: System) -> System {
    let (uts, _) = Uts::find(kernel);
    let seconds = |clock: Clock| clock.uptime_ns() / 1_000_000_000;
    let cpus = kernel.cpus().map(|cpus| cpus.present.as_ref().unwrap_or(&cpus.possible).count());
    System {
        release: uts.release.or(told.release),
        version: uts.version.or(told.version),
        machine: uts.machine.or(told.machine),
        hardware: hardware(kernel).or(told.hardware),
        nodename: uts.nodename.or(told.nodename),
        uptime_s: Clock::find(kernel).ok().map(seconds).or(told.uptime_s),
        cpus: cpus.ok().or(told.cpus),
        memory_bytes: present_pages(kernel)
            .ok()
            .map(|pages| pages.saturating_mul(PAGE_SIZE))
            .or(told.memory_bytes),
        taint: Taint::find(kernel).ok().map(|taint| taint.letters).or(told.taint),
        command_line: command_line(kernel).ok().or(told.command_line),
        hypervisor: hypervisor(kernel).ok().flatten().or(told.hypervisor),
    }
}

/// What the kernel prints as `Hardware name:`; else the firmware's own strings.
fn hardware(kernel: &Kernel) -> Option<String> {
    let text = |bytes: Vec<u8>| Some(printable(&bytes).trim().to_owned()).filter(|text| !text.is_empty());
    let printed = kernel.symbol("dump_stack_arch_desc_str").ok();
    let printed = printed.and_then(|at| kernel.memory().c_string(at, HARDWARE_NAME).ok()).and_then(text);
    printed.or_else(|| {
        let strings = dmi(kernel).ok()?;
        let find = |name: &str| {
            strings.iter().flatten().find(|string| string.name == name).map(|string| string.text.clone())
        };
        let parts: Vec<String> =
            [find("DMI_SYS_VENDOR"), find("DMI_PRODUCT_NAME")].into_iter().flatten().collect();
        Some(parts.join(" ")).filter(|name| !name.is_empty())
    })
}

fn command_line(kernel: &Kernel) -> Field<String> {
    let memory = kernel.memory();
    let text = memory.c_string(memory.pointer(kernel.symbol("saved_command_line")?)?, COMMAND_LINE)?;
    Ok(printable(&text).trim().to_owned())
}

/// The hypervisor that the kernel found itself under; `None` for none (`x86_hyper_type`, 4.15).
fn hypervisor(kernel: &Kernel) -> Field<Option<String>> {
    let value = i128::from(kernel.memory().u32(kernel.symbol("x86_hyper_type")?)?);
    let kinds = kernel.enumerators("x86_hypervisor_type")?;
    let kind = kinds.iter().find(|(_, number)| *number == value).filter(|_| value != 0);
    Ok(kind.and_then(|(name, _)| name.strip_prefix("X86_HYPER_")).map(str::to_owned))
}
