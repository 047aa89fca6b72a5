//! The machine as a record.

use std::fmt;

use kdive_arch::x86_64::paging::START_KERNEL_MAP;
use kdive_base::{PAGE_SIZE, VirtAddr};
use kdive_debuginfo::{Tag, Type};
use kdive_evidence::StackKind;
use kdive_linux::system::{mhz, present_pages, ticks_per_second};
use kdive_target::{Field, Kernel};
use serde::Serialize;

use crate::cx::Cx;
use crate::render::{Known, size};
use crate::sink::Render;
use crate::sys;

/// The machine and the places of its kernel. What is not known is noted as a gap.
#[derive(Serialize)]
pub(super) struct Machine {
    machine_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpus: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offline_cpus: Option<u32>,
    /// Under which hypervisor it knows itself to run.
    #[serde(skip_serializing_if = "Option::is_none")]
    hypervisor: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mhz: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hz: Option<u64>,
    page_bytes: u64,
    places: Vec<Place>,
    #[serde(skip_serializing_if = "Option::is_none")]
    task_stack_bytes: Option<u64>,
    stacks: Vec<Stacks>,
}

/// Where a part of the kernel's address space begins.
#[derive(Serialize)]
struct Place {
    what: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<VirtAddr>,
}

/// The stacks of one kind.
#[derive(Serialize)]
struct Stacks {
    kind: &'static str,
    bytes: u64,
    stacks: Vec<Stack>,
}

#[derive(Serialize)]
struct Stack {
    cpu: u32,
    at: VirtAddr,
    /// Whether anything is mapped there.
    available: bool,
}

/// The kinds of stacks in crash's order, and its names of them.
const KINDS: [(StackKind, &str); 6] = [
    (StackKind::Irq, "IRQ"),
    (StackKind::DoubleFault, "DOUBLEFAULT"),
    (StackKind::Nmi, "NMI"),
    (StackKind::Debug, "DEBUG"),
    (StackKind::MachineCheck, "MCE"),
    (StackKind::VmmCommunication, "VC"),
];

impl Machine {
    pub(super) fn find(cx: &mut Cx) -> Self {
        let kernel = cx.kernel.clone();
        let (cpus, offline_cpus) = sys::processors(cx);
        let none = String::new;
        let memory_bytes = cx.known(present_pages(&kernel), "MEMORY SIZE", none);
        for lacks in &kernel.cpu_stacks().incomplete {
            cx.lacks(lacks, "stacks of processors", none);
        }
        Self {
            machine_type: "x86_64",
            memory_bytes: memory_bytes.map(|pages| pages.saturating_mul(PAGE_SIZE)),
            cpus,
            offline_cpus: offline_cpus.filter(|count| *count > 0),
            hypervisor: hypervisor(&kernel),
            mhz: cx.known(mhz(&kernel), "PROCESSOR SPEED", none),
            hz: cx.known(ticks_per_second(&kernel), "HZ", none),
            page_bytes: PAGE_SIZE,
            places: places(cx, &kernel),
            task_stack_bytes: cx.known(kernel.task_stack_bytes(), "KERNEL STACK SIZE", none),
            stacks: stacks(&kernel),
        }
    }
}

/// The name of `x86_hyper_type` (4.15); none on bare metal.
fn hypervisor(kernel: &Kernel) -> Option<String> {
    let value =
        kernel.memory().u32(kernel.symbol("x86_hyper_type").ok()?).ok().filter(|value| *value != 0)?;
    let types = kernel.types().ok()?;
    match types.get(types.find(Tag::Enum, "x86_hypervisor_type").ok()?).as_deref() {
        Some(Type::Enum(of)) => Some(of.name_of(value.into())?.trim_start_matches("X86_HYPER_").to_owned()),
        _ => None,
    }
}

/// `MODULES_VADDR`: behind the kernel's image, for which `CONFIG_RANDOMIZE_BASE` leaves twice the room.
fn modules_base(kernel: &Kernel) -> VirtAddr {
    const IMAGE: u64 = 512 << 20;
    let randomized = ["kernel_randomize_memory", "kaslr_get_random_long"];
    let room = if kernel.any_symbol(&randomized).is_ok() { IMAGE << 1 } else { IMAGE };
    VirtAddr(START_KERNEL_MAP).add(room)
}

fn places(cx: &mut Cx, kernel: &Kernel) -> Vec<Place> {
    let variable = |name: &str| -> Field<VirtAddr> { Ok(kernel.memory().pointer(kernel.symbol(name)?)?) };
    let mut place =
        |what: &'static str, at: Field<VirtAddr>| Place { what, at: cx.known(at, what, String::new) };
    vec![
        place("KERNEL VIRTUAL BASE", variable("page_offset_base")),
        place("KERNEL VMALLOC BASE", variable("vmalloc_base")),
        place("KERNEL VMEMMAP BASE", variable("vmemmap_base")),
        place("KERNEL START MAP", Ok(VirtAddr(START_KERNEL_MAP))),
        place("KERNEL MODULES BASE", Ok(modules_base(kernel))),
    ]
}

fn stacks(kernel: &Kernel) -> Vec<Stacks> {
    let of_kind = |(kind, name): (StackKind, &'static str)| {
        let mut found: Vec<_> = kernel.cpu_stacks().iter().filter(|of| of.stack.kind == kind).collect();
        found.sort_by_key(|of| (of.cpu, of.stack.low));
        // An encrypted guest has a second stack of the last kind: crash knows of the first.
        found.dedup_by_key(|of| of.cpu);
        let bytes = found.first().map(|of| of.stack.high.since(of.stack.low))?;
        let stack = |of: &&kdive_target::os::CpuStack| Stack {
            cpu: of.cpu,
            at: of.stack.low,
            available: kernel.space().translate(of.stack.low).is_ok(),
        };
        Some(Stacks { kind: name, bytes, stacks: found.iter().map(stack).collect() })
    };
    KINDS.into_iter().filter_map(of_kind).collect()
}

/// Where the labels end.
const WIDTH: usize = 22;

impl Render for Machine {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let mut line = |label: &str, value: &dyn fmt::Display| {
            let text = format!("{label:>WIDTH$}: {value}");
            writeln!(out, "{}", text.trim_end())
        };
        line("MACHINE TYPE", &self.machine_type)?;
        line("MEMORY SIZE", &Known(self.memory_bytes.map(size)))?;
        match self.offline_cpus {
            Some(offline) => line("CPUS", &format_args!("{} [OFFLINE: {offline}]", Known(self.cpus)))?,
            None => line("CPUS", &Known(self.cpus))?,
        }
        if let Some(hypervisor) = &self.hypervisor {
            line("HYPERVISOR", hypervisor)?;
        }
        line("PROCESSOR SPEED", &format_args!("{} Mhz", Known(self.mhz)))?;
        line("HZ", &Known(self.hz))?;
        line("PAGE SIZE", &self.page_bytes)?;
        self.places.iter().try_for_each(|place| line(place.what, &Known(place.at)))?;
        line("KERNEL STACK SIZE", &Known(self.task_stack_bytes))?;
        for of in &self.stacks {
            line(&format!("{} STACK SIZE", of.kind), &of.bytes)?;
            line(&format!("{} STACKS", of.kind), &"")?;
            for stack in &of.stacks {
                let available = if stack.available { "" } else { " [unavailable]" };
                line(&format!("CPU {}", stack.cpu), &format_args!("{}{available}", stack.at))?;
            }
        }
        Ok(())
    }
}
