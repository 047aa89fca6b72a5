//! Soft interrupts: what was raised on each processor and has not run (kernel/softirq.c).

use kdive_base::VirtAddr;
use kdive_target::{Field, Kernel, Lacks, Load, walk};
use serde::Serialize;

use crate::tasks::{State, TaskName, Tasks, plain_name};

/// A tasklet that waits to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tasklet {
    /// Its `struct tasklet_struct`.
    pub tasklet: VirtAddr,
    /// What it calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// Whether it is of those that go before others.
    pub high: bool,
    /// How many times it was disabled: it runs at 0 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disabled: Option<u32>,
}

/// The soft interrupts of one processor.
#[derive(Clone, Debug, Serialize)]
pub struct SoftIrqs {
    /// The processor.
    pub cpu: u32,
    /// Those that were raised and have not run, by the kernel's names.
    pub pending: Vec<String>,
    /// The thread that runs them when there are too many (`ksoftirqd`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thread: Option<TaskName>,
    /// Its state: it was woken if it is not asleep.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thread_state: Option<State>,
    /// Tasklets that wait.
    pub tasklets: Vec<Tasklet>,
    /// What could not be told.
    #[serde(skip)]
    pub lacks: Vec<Lacks>,
}

impl SoftIrqs {
    /// Whether anything waits.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        !self.pending.is_empty() || !self.tasklets.is_empty()
    }
}

#[derive(Load)]
#[load(type = "tasklet_struct")]
struct RawTasklet {
    count: Field<u32>,
    #[load(any("callback", "func"))]
    function: Field<VirtAddr>,
}

/// Longest list of tasklets that is read.
const MOST_TASKLETS: usize = 1 << 16;
/// `NR_SOFTIRQS`.
const SOFTIRQS: u32 = 10;

/// The soft interrupts of each processor.
#[must_use]
pub fn all(kernel: &Kernel) -> Vec<SoftIrqs> {
    let tasks = Tasks::find(kernel);
    let names = names(kernel);
    tasks.processors().iter().map(|of| cpu(kernel, &tasks, &names, of.cpu)).collect()
}

fn cpu(kernel: &Kernel, tasks: &Tasks, names: &[String], cpu: u32) -> SoftIrqs {
    let mut lacks = Vec::new();
    let mask = mask(kernel, cpu).unwrap_or_else(|why| {
        lacks.push(why);
        0
    });
    let bits = (0..SOFTIRQS).filter(|bit| mask >> bit & 1 == 1);
    let name = |bit: u32| names.get(bit as usize).cloned().unwrap_or_else(|| format!("softirq {bit}"));
    let thread = kernel.per_cpu("ksoftirqd", cpu).and_then(|at| Ok(kernel.memory().pointer(at)?));
    let thread = thread.ok().and_then(|at| tasks.at(at));
    let mut tasklets = Vec::new();
    for (symbol, high) in [("tasklet_hi_vec", true), ("tasklet_vec", false)] {
        if let Err(why) = add_tasklets(kernel, symbol, cpu, high, &mut tasklets) {
            lacks.push(why);
        }
    }
    SoftIrqs {
        cpu,
        pending: bits.map(name).collect(),
        thread: thread.map(TaskName::of),
        thread_state: thread.and_then(|task| tasks.bits.state(task)),
        tasklets,
        lacks,
    }
}

/// The bits that were raised: a variable of its own (6.15), a member of `pcpu_hot` (6.2), of `irq_stat` before.
fn mask(kernel: &Kernel, cpu: u32) -> Field<u32> {
    let at = kernel.per_cpu("__softirq_pending", cpu).or_else(|_| {
        let offset = kernel.offset_of("pcpu_hot", "softirq_pending")?;
        Ok::<_, Lacks>(kernel.per_cpu("pcpu_hot", cpu)?.add(offset))
    });
    let at = at.or_else(|_| {
        let offset = kernel.offset_of("irq_cpustat_t", "__softirq_pending")?;
        Ok::<_, Lacks>(kernel.per_cpu("irq_stat", cpu)?.add(offset))
    })?;
    // 16 bits since 4.20, of which no more than ten are used.
    Ok(u32::from(kernel.memory().u16(at)?))
}

/// `softirq_to_name`.
fn names(kernel: &Kernel) -> Vec<String> {
    let Ok(table) = kernel.symbol("softirq_to_name") else { return Vec::new() };
    let name = |index: u32| {
        let at = kernel.memory().pointer(table.add(u64::from(index) * 8)).ok()?;
        let bytes = kernel.memory().c_string(at, 32).ok()?;
        Some(kdive_base::printable(&bytes))
    };
    (0..SOFTIRQS).map_while(name).collect()
}

fn add_tasklets(kernel: &Kernel, symbol: &str, cpu: u32, high: bool, into: &mut Vec<Tasklet>) -> Field<()> {
    let first = kernel.memory().pointer(kernel.per_cpu(symbol, cpu)?)?;
    let next = kernel.offset_of("tasklet_struct", "next")?;
    let loader = kernel.loader::<RawTasklet>();
    for item in walk::null_terminated(kernel.memory(), first, next).take(MOST_TASKLETS) {
        let at = item?;
        let raw = loader.load(at);
        let place = raw.function.ok().and_then(|at| kernel.place(at));
        into.push(Tasklet {
            tasklet: at,
            function: place.map(|place| plain_name(place.symbol.name).to_owned()),
            high,
            disabled: raw.count.ok(),
        });
    }
    Ok(())
}
