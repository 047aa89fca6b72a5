//! Task groups: who shares processor time with whom (`struct task_group`, kernel/sched/sched.h).

use kdive_base::{VirtAddr, printable};
use kdive_debuginfo::Type;
use kdive_target::{Field, Kernel, Lacks, Load, MemberAddress, walk};

/// The part of `struct task_group` that kdive understands.
#[derive(Clone, Debug, Load)]
#[load(type = "task_group")]
pub struct TaskGroup {
    /// Its address.
    #[load(address)]
    pub at: VirtAddr,
    /// The group above; null for the root.
    pub parent: Field<VirtAddr>,
    /// The control group that it belongs to.
    #[load(any("css.cgroup"))]
    pub cgroup: Field<VirtAddr>,
    /// Queues of the fair class: an array of pointers by processor, or (7.2) a per-CPU variable.
    cfs_rq: Field<VirtAddr>,
    children: Field<MemberAddress>,
}

/// `NAME_MAX`.
const MOST_NAME_BYTES: usize = 255;

#[derive(Load)]
#[load(type = "cgroup")]
struct Cgroup {
    kn: Field<VirtAddr>,
}

#[derive(Load)]
#[load(type = "kernfs_node")]
struct KernfsNode {
    name: Field<VirtAddr>,
}

impl TaskGroup {
    /// The name of its control group; empty for the topmost, and for groups that have none (`autogroup`).
    pub fn name(&self, kernel: &Kernel) -> Field<String> {
        let cgroup = self.cgroup.clone()?;
        if cgroup.is_null() {
            return Ok(String::new());
        }
        let node = kernel.load::<Cgroup>(cgroup).kn?;
        let name = kernel.load::<KernfsNode>(node).name?;
        Ok(printable(&kernel.memory().c_string(name, MOST_NAME_BYTES)?))
    }
}

/// The groups right below one.
pub(super) fn children(kernel: &Kernel, group: VirtAddr) -> impl Iterator<Item = Field<VirtAddr>> {
    let start = || {
        let MemberAddress(head) = kernel.load::<TaskGroup>(group).children?;
        Ok::<_, Lacks>((head, kernel.offset_of("task_group", "siblings")?))
    };
    let (found, lacks) = match start() {
        Ok(found) => (Some(found), None),
        Err(lacks) => (None, Some(Err(lacks))),
    };
    let links = found.into_iter().flat_map(move |(head, link)| {
        walk::list(kernel.memory(), head).map(move |item| item.map(|at| at.sub(link)).map_err(Lacks::from))
    });
    links.chain(lacks)
}

/// The queue of the fair class that a group has on a processor; null where it has none.
pub(super) fn fair_queue(kernel: &Kernel, group: VirtAddr, cpu: u32) -> Field<VirtAddr> {
    let queues = kernel.load::<TaskGroup>(group).cfs_rq?;
    let types = kernel.types()?;
    let to = types.target_of(kernel.member("task_group", &["cfs_rq"])?.of);
    match to.and_then(|to| types.stripped(to)).as_deref() {
        Some(Type::Record(_)) => kernel.cpus()?.per_cpu(queues, cpu),
        _ => Ok(kernel.memory().pointer(queues.add(u64::from(cpu).wrapping_mul(8)))?),
    }
}
