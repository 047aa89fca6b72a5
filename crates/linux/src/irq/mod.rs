//! Interrupts: descriptors, their handlers, how often they came (kernel/irq, include/linux/irqdesc.h).

mod vectors;

use kdive_base::{Endian, VirtAddr, printable};
use kdive_debuginfo::Type;
use kdive_target::os::CpuMask;
use kdive_target::walk::{MapleLayout, XArrayLayout, maple, null_terminated, xarray};
use kdive_target::{Field, Kernel, Lacks, Load, Loader, MemberAddress};

pub use vectors::{Gate, SoftIrq, idt, softirqs};

/// More than any kernel allocates (`MAX_SPARSE_IRQS` of 6.10 is near 2^31, but each costs a descriptor).
const MOST: u64 = 1 << 20;
/// Names of chips and handlers are shorter.
const MOST_NAME_BYTES: usize = 128;

/// A descriptor (`struct irq_desc`).
#[derive(Clone, Debug)]
pub struct IrqDesc {
    /// The number of the interrupt.
    pub irq: u64,
    /// Where it lies.
    pub at: VirtAddr,
    /// Who handles it, in the order in which they are asked.
    pub actions: Vec<Action>,
    /// Why handlers may be lacking.
    pub lacks: Option<Lacks>,
    raw: RawDesc,
}

/// A handler (`struct irqaction`).
#[derive(Clone, Debug)]
pub struct Action {
    /// Where it lies.
    pub at: VirtAddr,
    /// Who asked for it; none for handlers without a name.
    pub name: Field<Option<String>>,
}

#[derive(Clone, Debug, Load)]
#[load(type = "irq_desc")]
struct RawDesc {
    action: Field<VirtAddr>,
    name: Field<VirtAddr>,
    /// A per-CPU counter (2.6.37), since 6.10 the first member of `struct irqstat`.
    kstat_irqs: Field<VirtAddr>,
    #[load(any("irq_data.chip", "chip"))]
    chip: Field<VirtAddr>,
    /// A mask, or a pointer to one (`cpumask_var_t`).
    #[load(any("irq_common_data.affinity", "irq_data.affinity"))]
    affinity: Field<MemberAddress>,
}

#[derive(Load)]
#[load(type = "irqaction")]
struct RawAction {
    name: Field<VirtAddr>,
}

#[derive(Load)]
#[load(type = "irq_chip")]
struct RawChip {
    name: Field<VirtAddr>,
}

/// Reads descriptors.
pub struct Irqs<'k> {
    kernel: &'k Kernel,
    desc: Loader<'k, RawDesc>,
    action: Loader<'k, RawAction>,
    chip: Loader<'k, RawChip>,
}

/// How many interrupt numbers there can be.
pub fn count(kernel: &Kernel) -> Field<u64> {
    let at = kernel.any_symbol(&["nr_irqs", "total_nr_irqs"])?;
    let count = u64::from(kernel.memory().u32(at)?);
    if count > MOST { Err(Lacks::implausible(format_args!("nr_irqs is {count}"))) } else { Ok(count) }
}

impl<'k> Irqs<'k> {
    /// A reader bound to this kernel's layout.
    #[must_use]
    pub fn new(kernel: &'k Kernel) -> Self {
        Self { kernel, desc: kernel.loader(), action: kernel.loader(), chip: kernel.loader() }
    }

    /// All descriptors by number. What is broken is an item.
    ///
    /// # Errors
    /// Where they are is not known.
    pub fn all(&self) -> Field<Box<dyn Iterator<Item = Field<IrqDesc>> + '_>> {
        let memory = self.kernel.memory();
        // A maple tree since 6.5, a radix tree before.
        if let Ok(tree) = self.kernel.symbol("sparse_irqs") {
            let layout = MapleLayout::find(self.kernel)?;
            let root = layout.tree(memory, tree).map_err(Lacks::from)?.root;
            let ranges = maple(memory, layout, root).map(|range| {
                let range = range.map_err(Lacks::from)?;
                Ok(self.desc(range.first, VirtAddr(range.entry)))
            });
            return Ok(Box::new(ranges));
        }
        let tree = self.kernel.symbol("irq_desc_tree")?;
        let layout = XArrayLayout::find(self.kernel)?;
        let head = layout.head(memory, tree).map_err(Lacks::from)?;
        let entries = xarray(memory, layout, head).map(|entry| {
            let entry = entry.map_err(Lacks::from)?;
            Ok(self.desc(entry.index, VirtAddr(entry.entry)))
        });
        Ok(Box::new(entries))
    }

    fn desc(&self, irq: u64, at: VirtAddr) -> IrqDesc {
        let raw = self.desc.load(at);
        let (actions, lacks) = self.actions(&raw);
        IrqDesc { irq, at, actions, lacks, raw }
    }

    fn actions(&self, desc: &RawDesc) -> (Vec<Action>, Option<Lacks>) {
        let mut actions = Vec::new();
        let walked = desc.action.clone().and_then(|first| {
            let next = self.kernel.offset_of("irqaction", "next")?;
            for at in null_terminated(self.kernel.memory(), first, next) {
                let at = at?;
                let name = self.action.load(at).name.and_then(|name| self.text(name));
                actions.push(Action { at, name });
            }
            Ok(())
        });
        (actions, walked.err())
    }

    fn text(&self, at: VirtAddr) -> Field<Option<String>> {
        if at.is_null() {
            return Ok(None);
        }
        Ok(Some(printable(&self.kernel.memory().c_string(at, MOST_NAME_BYTES)?)))
    }

    /// The name of what delivers an interrupt (`irq_chip.name`).
    pub fn chip(&self, desc: &IrqDesc) -> Field<Option<String>> {
        let chip = desc.raw.chip.clone()?;
        if chip.is_null() { Ok(None) } else { self.text(self.chip.load(chip).name?) }
    }

    /// How an interrupt is handled: `edge`, `fasteoi` (`irq_desc.name`).
    pub fn flow(&self, desc: &IrqDesc) -> Field<Option<String>> {
        desc.raw.name.clone().and_then(|name| self.text(name))
    }

    /// How often an interrupt came to a processor.
    pub fn times(&self, desc: &IrqDesc, cpu: u32) -> Field<u32> {
        let counter = desc.raw.kstat_irqs.clone()?;
        if counter.is_null() {
            return Ok(0);
        }
        Ok(self.kernel.memory().u32(self.kernel.cpus()?.per_cpu(counter, cpu)?)?)
    }

    /// The processors that an interrupt may come to.
    pub fn affinity(&self, desc: &IrqDesc) -> Field<CpuMask> {
        let MemberAddress(place) = desc.raw.affinity.clone()?;
        let memory = self.kernel.memory();
        let at = if self.mask_is_pointer()? { memory.pointer(place)? } else { place };
        let words = self.kernel.cpus()?.limit.div_ceil(64);
        let bytes = memory.bytes(at, words as usize * 8)?;
        Ok(CpuMask::new(bytes.chunks_exact(8).filter_map(|word| Endian::Little.u64(word, 0)).collect()))
    }

    /// Whether a `cpumask_var_t` is a pointer (`CONFIG_CPUMASK_OFFSTACK`).
    fn mask_is_pointer(&self) -> Field<bool> {
        let paths = ["irq_common_data.affinity", "irq_data.affinity"];
        let member = self.kernel.member("irq_desc", &paths)?;
        Ok(matches!(self.kernel.types()?.stripped(member.of).as_deref(), Some(Type::Pointer { .. })))
    }
}
