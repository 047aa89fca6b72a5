//! Everything that is known of one address.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use kdive_arch::x86_64::stacks::Stack;
use kdive_base::{PhysAddr, VirtAddr};
use kdive_evidence::Frame;
use kdive_target::{Field, Kernel, Lacks};
use rustc_hash::FxHashMap;
use serde::Serialize;

use crate::pages::Pages;
use crate::slab::{ObjectState, Slabs};
use crate::tasks::Tasks;
use crate::vmalloc::{VmStruct, VmapAreas};

/// A part of the address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Region {
    /// Memory of processes.
    User,
    /// The mapping of all RAM.
    DirectMap,
    /// The kernel's text and static data.
    KernelImage,
    /// A module's text and data.
    Module,
    /// vmalloc space: allocations, mappings of devices, stacks.
    Vmalloc,
    /// The page structures.
    MemoryMap,
    /// The kernel's half of the address space, none of the above.
    Kernel,
}

impl Region {
    /// In words.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "user memory",
            Self::DirectMap => "direct map of RAM",
            Self::KernelImage => "kernel image",
            Self::Module => "module",
            Self::Vmalloc => "vmalloc",
            Self::MemoryMap => "page structures",
            Self::Kernel => "kernel, no part that is known",
        }
    }
}

/// A symbol, and where in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InSymbol {
    /// Its name.
    pub name: String,
    /// Bytes from its start.
    pub offset: u64,
    /// The module that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
}

impl fmt::Display for InSymbol {
    /// `name+offset`, and `[module]` behind it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if self.offset > 0 {
            write!(f, "+{}", self.offset)?;
        }
        match &self.module {
            Some(module) => write!(f, " [{module}]"),
            None => Ok(()),
        }
    }
}

/// A part of a module's memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InModule {
    /// The module.
    pub name: String,
    /// Whether that part holds code.
    pub text: bool,
    /// Whether that part was freed once the module had started.
    pub init: bool,
}

/// An object of a slab cache, and where in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InObject {
    /// The `struct kmem_cache`.
    pub cache: VirtAddr,
    /// Its name.
    pub name: String,
    /// The slab (`struct slab`, before 5.17 `struct page`).
    pub slab: VirtAddr,
    /// The object.
    pub object: VirtAddr,
    /// Bytes from its start; negative in what lies before it.
    pub offset: i64,
    /// Bytes of an object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u32>,
    /// Whether it is in use, where that can be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<ObjectState>,
}

/// A kernel stack, and the frame of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OnStack {
    /// What the stack is for.
    pub kind: &'static str,
    /// Lowest address.
    pub low: VirtAddr,
    /// First address behind it.
    pub high: VirtAddr,
    /// Whose it is; of a processor's stack, what the processor ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<VirtAddr>,
    /// The processor, for a stack that belongs to one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<u32>,
    /// The frame that holds the address, where the stack is in use there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frame: Option<InFrame>,
    /// The address lies below the stack pointer: what is there is stale.
    pub unused: bool,
}

/// A frame, by its number in `bt`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InFrame {
    /// Its number.
    pub number: usize,
    /// Where it stood.
    pub ip: VirtAddr,
    /// The function.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
}

/// A processor's per-CPU area.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InPerCpu {
    /// The processor.
    pub cpu: u32,
    /// What is added to this processor's offset: the address of the variable itself.
    pub variable: VirtAddr,
    /// The static variable; none for what was allocated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub symbol: Option<InSymbol>,
}

/// An area of vmalloc space.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InArea {
    /// The `struct vmap_area`.
    pub area: VirtAddr,
    /// First address.
    pub start: VirtAddr,
    /// First address behind it.
    pub end: VirtAddr,
    /// The `struct vm_struct`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vm: Option<VirtAddr>,
    /// Who asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caller: Option<InSymbol>,
}

/// What is known of an address. Each part is there where it applies.
#[derive(Clone, Debug, Serialize)]
pub struct Located {
    /// The address.
    pub address: VirtAddr,
    /// The part of the address space.
    pub region: Region,
    /// Where it is in physical memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub physical: Option<PhysAddr>,
    /// The symbol.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub symbol: Option<InSymbol>,
    /// The module.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module: Option<InModule>,
    /// The per-CPU area.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_cpu: Option<InPerCpu>,
    /// The stack.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stack: Option<OnStack>,
    /// The slab object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slab: Option<InObject>,
    /// The task whose `task_struct` it is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<VirtAddr>,
    /// The area of vmalloc space.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vmalloc: Option<InArea>,
    /// For an address among the page structures: the frame that the structure is of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub describes: Option<PhysAddr>,
    /// What could not be told.
    #[serde(skip)]
    pub lacking: Vec<(&'static str, Lacks)>,
}

/// Keeps a value; why there is none goes to the list.
fn known<T>(field: Field<T>, what: &'static str, lacking: &mut Vec<(&'static str, Lacks)>) -> Option<T> {
    field.map_err(|lacks| lacking.push((what, lacks))).ok()
}

/// Tells what addresses are. What it learns of one helps with the next.
pub struct Locator<'k> {
    kernel: &'k Kernel,
    tasks: Arc<Tasks>,
    areas: Field<Arc<VmapAreas>>,
    /// The stacks of tasks by their lowest address.
    stacks: Field<BTreeMap<VirtAddr, VirtAddr>>,
    /// Frames of the tasks whose stacks were asked for.
    frames: FxHashMap<VirtAddr, Vec<Frame>>,
}

impl<'k> Locator<'k> {
    /// For addresses of this kernel.
    #[must_use]
    pub fn new(kernel: &'k Kernel) -> Self {
        let tasks = Tasks::find(kernel);
        let lowest = tasks.all().iter().filter_map(|task| Some((*task.stack.as_ref().ok()?, task.at)));
        let stacks = lowest.filter(|(low, _)| !low.is_null()).collect();
        let stacks = kernel.task_stack_bytes().map(|_| stacks);
        Self { kernel, tasks, areas: VmapAreas::find(kernel), stacks, frames: FxHashMap::default() }
    }

    /// What is known of an address of the kernel.
    pub fn locate(&mut self, address: VirtAddr) -> Located {
        let kernel = self.kernel;
        let mut lacking = Vec::new();
        let stack = known(self.stack(address), "stack", &mut lacking).flatten();
        let areas = known(self.areas.clone(), "vmalloc areas", &mut lacking);
        if let Some(lacks) = areas.as_ref().and_then(|areas| areas.incomplete.clone()) {
            lacking.push(("vmalloc areas", lacks));
        }
        let slab = known(in_object(kernel, address, &mut lacking), "slab object", &mut lacking).flatten();
        let holder = slab.as_ref().map_or(address, |slab| slab.object);
        let module = kernel.modules().at(address).and_then(|module| {
            let part = module.memory.iter().find(|memory| memory.contains(address))?;
            Some(InModule { name: module.name.to_string(), text: part.text, init: part.init })
        });
        let mut located = Located {
            address,
            region: Region::Kernel,
            physical: kernel.space().translate(address).ok().map(|found| found.phys),
            symbol: symbol(kernel, address),
            module,
            per_cpu: per_cpu(kernel, address),
            stack,
            slab,
            task: self.tasks.at(holder).map(|task| task.at),
            vmalloc: areas.and_then(|areas| in_area(kernel, &areas, address)),
            describes: described(kernel, address),
            lacking,
        };
        located.region = located.region_in(kernel);
        located
    }

    /// The stack that an address lies on: of a processor, or of a task.
    fn stack(&mut self, address: VirtAddr) -> Field<Option<OnStack>> {
        let of_cpu = self.kernel.cpu_stacks().at(address).filter(|of| address < of.stack.high);
        if let Some(of) = of_cpu {
            let task = self.tasks.on_cpu(of.cpu).map(|task| task.at);
            return Ok(Some(self.on_stack(of.stack, task, Some(of.cpu), address)));
        }
        let below = self.stacks.as_ref().map_err(Lacks::clone)?.range(..=address).next_back();
        let Some((&low, &task)) = below else { return Ok(None) };
        let stack = self.kernel.task_stack(low)?;
        if address >= stack.high {
            return Ok(None);
        }
        Ok(Some(self.on_stack(stack, Some(task), None, address)))
    }

    fn on_stack(
        &mut self,
        stack: Stack,
        task: Option<VirtAddr>,
        cpu: Option<u32>,
        address: VirtAddr,
    ) -> OnStack {
        let kernel = self.kernel;
        let unwind = |task: VirtAddr| kernel.unwind_task(task).map(|found| found.frames).unwrap_or_default();
        let frames = task.map(|task| self.frames.entry(task).or_insert_with(|| unwind(task)));
        let (frame, unused) = frames.map_or((None, false), |frames| frame_at(frames, stack, address));
        let frame = frame.map(|(number, frame)| InFrame {
            number,
            ip: frame.ip,
            function: symbol(kernel, frame.ip).map(|symbol| symbol.name),
        });
        OnStack { kind: stack.kind.name(), low: stack.low, high: stack.high, task, cpu, frame, unused }
    }
}

impl Located {
    fn region_in(&self, kernel: &Kernel) -> Region {
        let in_image = || {
            let image = kernel.symbols().ok().and_then(|symbols| symbols.image());
            image.is_some_and(|image| image.contains(&self.address))
        };
        let direct = || {
            let pages = Pages::find(kernel);
            pages.direct.as_ref().is_ok_and(|direct| direct.phys_of(self.address).is_some())
        };
        match () {
            () if self.address.0 >> 63 == 0 => Region::User,
            () if self.module.is_some() => Region::Module,
            () if in_image() => Region::KernelImage,
            () if self.describes.is_some() => Region::MemoryMap,
            () if direct() => Region::DirectMap,
            () if self.vmalloc.is_some() => Region::Vmalloc,
            () => Region::Kernel,
        }
    }
}

/// The symbol that an address lies in.
#[must_use]
pub fn symbol(kernel: &Kernel, address: VirtAddr) -> Option<InSymbol> {
    kernel.place(address).map(|place| InSymbol {
        name: place.symbol.name.to_owned(),
        offset: place.offset,
        module: place.symbol.module.map(str::to_owned),
    })
}

/// The address at which the kernel's image has a physical address.
#[must_use]
pub fn in_image(kernel: &Kernel, physical: PhysAddr) -> Option<VirtAddr> {
    let image = kernel.symbols().ok()?.image()?;
    let start = kernel.space().translate(image.start).ok()?.phys;
    let at = image.start.add(physical.0.checked_sub(start.0)?);
    image.contains(&at).then_some(at)
}

/// The slab object that an address lies in.
fn in_object(
    kernel: &Kernel,
    address: VirtAddr,
    lacking: &mut Vec<(&'static str, Lacks)>,
) -> Field<Option<InObject>> {
    let slabs = Slabs::find(kernel);
    let Some(slab) = slabs.slab_at(kernel, address)? else { return Ok(None) };
    let Some(object) = slab.object_at(address)? else { return Ok(None) };
    Ok(Some(InObject {
        cache: slab.cache.at,
        name: slab.cache.display_name().to_string(),
        slab: slab.at,
        object,
        offset: address.since(object).cast_signed(),
        size: known(slab.cache.object_size.clone(), "size of a slab object", lacking),
        state: known(slab.state_of(kernel, object), "state of a slab object", lacking),
    }))
}

fn in_area(kernel: &Kernel, areas: &VmapAreas, address: VirtAddr) -> Option<InArea> {
    let area = areas.at(address)?;
    let vm: Option<VmStruct> = area.vm.as_ref().ok().map(|vm| kernel.load(*vm));
    let caller = vm.as_ref().and_then(|vm| vm.caller.clone().ok()).and_then(|at| symbol(kernel, at));
    Some(InArea { area: area.at, start: area.start, end: area.end, vm: vm.map(|vm| vm.at), caller })
}

/// The frame whose page structure holds an address.
fn described(kernel: &Kernel, address: VirtAddr) -> Option<PhysAddr> {
    let pages = Pages::find(kernel);
    let (map, direct) = (pages.map.as_ref().ok()?, pages.direct.as_ref().ok()?);
    let inside = address.0.checked_sub(map.start.0)? % map.page_bytes;
    let frame = map.pfn_of(address.sub(inside))?.start();
    direct.address_of(frame).map(|_| frame)
}

/// The frame that holds an address of a stack, with its number, and whether the address lies below all of them.
fn frame_at(frames: &[Frame], stack: Stack, address: VirtAddr) -> (Option<(usize, &Frame)>, bool) {
    // As `bt -f` shows it: a frame reaches from its own word to the next one's, which is higher.
    let on_it = || frames.iter().enumerate().filter(|(_, frame)| stack.contains(frame.sp));
    let frame = on_it().take_while(|(_, frame)| frame.sp <= address).last();
    (frame, frame.is_none() && on_it().next().is_some())
}

/// The per-CPU area that holds an address. Static variables are those of the kernel's image; behind them each processor's
/// first chunk has what was allocated early (mm/percpu.c).
fn per_cpu(kernel: &Kernel, address: VirtAddr) -> Option<InPerCpu> {
    let (start, end) = (kernel.symbol("__per_cpu_start").ok()?, kernel.symbol("__per_cpu_end").ok()?);
    let unit = kernel.symbol("pcpu_unit_size").ok().and_then(|at| kernel.memory().u32(at).ok());
    let bytes = unit.map_or(end.since(start), u64::from).max(end.since(start));
    let cpus = kernel.cpus().ok()?;
    let found = cpus.possible.iter().filter(|&cpu| cpu < cpus.limit).find_map(|cpu| {
        let area = cpus.per_cpu(start, cpu).ok()?;
        (area <= address && address.since(area) < bytes).then(|| (cpu, start.add(address.since(area))))
    });
    let (cpu, variable) = found?;
    let symbol = (variable < end).then(|| variable_at(kernel, variable, start)).flatten();
    Some(InPerCpu { cpu, variable, symbol })
}

fn variable_at(kernel: &Kernel, variable: VirtAddr, start: VirtAddr) -> Option<InSymbol> {
    let table = kernel.symbol_table().ok()?;
    let symbol = table.previous(variable.add(1)).filter(|symbol| symbol.address >= start)?;
    let offset = variable.since(symbol.address);
    Some(InSymbol { name: symbol.name.to_owned(), offset, module: None })
}

#[cfg(test)]
mod tests {
    use kdive_evidence::{FrameTrust, Registers, StackKind};

    use super::*;

    #[test]
    fn an_address_belongs_to_the_frame_below_it() {
        let frame = |sp| Frame {
            ip: VirtAddr(0xffff_ffff_8100_0000),
            sp: VirtAddr(sp),
            trust: FrameTrust::Orc,
            stack: StackKind::Task,
            interrupted: false,
            registers: Registers::default(),
            pt_regs: None,
        };
        let stack = Stack { kind: StackKind::Task, low: VirtAddr(0x1000), high: VirtAddr(0x2000) };
        // The first lies on another stack.
        let frames = [frame(0x9000), frame(0x1800), frame(0x1900)];
        let number = |address| {
            let (frame, unused) = frame_at(&frames, stack, VirtAddr(address));
            (frame.map(|(number, _)| number), unused)
        };
        assert_eq!(number(0x17f8), (None, true));
        assert_eq!(number(0x1800), (Some(1), false));
        assert_eq!(number(0x18ff), (Some(1), false));
        assert_eq!(number(0x1fff), (Some(2), false));
        assert_eq!(frame_at(&[], stack, VirtAddr(0x1800)), (None, false));
    }
}
