//! `kvm`: virtual machines, their processors and memory.

use std::fmt;

use kdive_linux::kvm::{self, VcpuState, VirtualMachine};

use crate::args::{Args, Opt};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::render::{Known, in_unit};
use crate::sink::{Render, Sink, SinkExt};

/// Shows virtual machines.
pub(crate) static KVM: Command = Command {
    names: &["kvm"],
    group: Group::System,
    summary: "virtual machines of KVM: owners, processors and what they do, exits, memory",
    operands: "",
    options: &[
        Opt::flag("-m", "the stretches of each machine's memory too"),
        Opt::flag("-c", "the counters of each processor too, those that are not 0"),
    ],
    help: include_str!("kvm.md"),
    run: Run::Once(run),
};

/// What is shown of a machine besides its processors.
#[derive(Debug)]
pub struct Shown {
    memory: bool,
    counters: bool,
}

fn run(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    if !kvm::is_there(&kernel) {
        return Ok(out.heading("the module kvm is not loaded: there are no virtual machines\n")?);
    }
    let machines = kvm::machines(&kernel)?;
    if machines.is_empty() {
        return Ok(out.heading("no virtual machine runs\n")?);
    }
    let shown = Shown { memory: args.has("-m"), counters: args.has("-c") };
    for machine in &machines {
        cx.cancel.check()?;
        cx.lacks_together(&machine.lacks, || machine.kvm.to_string());
        out.row(machine, &shown)?;
    }
    Ok(())
}

impl Render for VirtualMachine {
    type View = Shown;

    fn render(&self, shown: &Shown, out: &mut dyn fmt::Write) -> fmt::Result {
        let (cpus, memory) = (self.vcpus.len(), in_unit(self.memory_bytes));
        let plural = if cpus == 1 { "" } else { "s" };
        write!(
            out,
            "VM {}  {}: {cpus} processor{plural}, {memory} of memory",
            self.kvm,
            Known(self.owner.as_ref())
        )?;
        writeln!(out, "{}", if self.bugged { ", given up by KVM after a mistake of its own" } else { "" })?;
        let titles = ("VCPU", "ID", "TASK", "CPU", "STATE", "EXITS", "LAST EXIT", "TO USER");
        let (vcpu, id, task, cpu, state, exits, last, user) = titles;
        writeln!(
            out,
            "  {vcpu:^16} {id:>4}  {task:<22} {cpu:>4}  {state:<15} {exits:>10}  {last:<12} {user}"
        )?;
        for vcpu in &self.vcpus {
            let task = vcpu.task.as_ref().map(ToString::to_string);
            write!(out, "  {} {:>4}  {:<22} ", vcpu.kvm_vcpu, Known(vcpu.id), Known(task))?;
            write!(out, "{:>4}  {:<15} ", Known(vcpu.cpu), Known(vcpu.state.map(VcpuState::words)))?;
            write!(out, "{:>10}  {:<12} ", Known(vcpu.exits), Known(vcpu.last_exit.as_deref()))?;
            writeln!(out, "{}", Known(vcpu.last_to_user.as_deref()))?;
            for counter in vcpu.counters.iter().filter(|_| shown.counters) {
                writeln!(out, "{:>20}{:<26} {:>12}", "", counter.name, counter.value)?;
            }
        }
        if shown.memory {
            render_slots(self, out)?;
        }
        writeln!(out)
    }
}

fn render_slots(machine: &VirtualMachine, out: &mut dyn fmt::Write) -> fmt::Result {
    writeln!(out, "  {:>5}  {:^16} {:>10}  {:^16}", "SLOT", "IN THE GUEST", "SIZE", "IN THE OWNER")?;
    for slot in &machine.slots {
        let marks = [
            (slot.space != 0, "system management mode"),
            (slot.read_only, "read-only"),
            (slot.logs_dirty_pages, "notes dirty pages"),
        ];
        let marks: Vec<&str> = marks.into_iter().filter_map(|(is, mark)| is.then_some(mark)).collect();
        let line = format!(
            "  {:>5}  {} {:>10}  {}  {}",
            slot.id,
            slot.guest,
            in_unit(slot.bytes),
            slot.user,
            marks.join(", ")
        );
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}
