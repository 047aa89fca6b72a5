//! Return addresses that tracers replaced: function graph tracing, kretprobes, rethooks.

use kdive_base::{PAGE_SIZE, VirtAddr};

use crate::kernel::Kernel;
use crate::lacks::Field;
use crate::load::Load;
use crate::walk;

/// Where the kernel lets functions return to that it traces. Layouts by what exists.
#[derive(Debug, Default)]
pub(crate) struct Trampolines {
    /// `return_to_handler` (function graph tracer).
    graph: Option<VirtAddr>,
    /// `arch_rethook_trampoline` (5.18), `__kretprobe_trampoline` (5.15), `kretprobe_trampoline`.
    probes: Vec<VirtAddr>,
}

impl Trampolines {
    pub(crate) fn find(kernel: &Kernel) -> Self {
        const PROBES: [&str; 3] =
            ["arch_rethook_trampoline", "__kretprobe_trampoline", "kretprobe_trampoline"];
        Self {
            graph: kernel.symbol("return_to_handler").ok(),
            probes: PROBES.iter().filter_map(|name| kernel.symbol(name).ok()).collect(),
        }
    }

    pub(crate) fn contains(&self, ip: VirtAddr) -> bool {
        self.graph == Some(ip) || self.probes.contains(&ip)
    }
}

#[derive(Load)]
#[load(type = "task_struct")]
struct TaskFields {
    ret_stack: Field<VirtAddr>,
    #[load(any("rethooks.first"))]
    rethooks: Field<VirtAddr>,
    #[load(any("kretprobe_instances.first"))]
    kretprobes: Field<VirtAddr>,
}

/// The return address that stood at `slot` on the stack of `task` before a tracer put `ip` there.
///
/// Two tracers of one function stack up, so a found address can be a trampoline again.
pub(crate) fn real_return(
    kernel: &Kernel,
    trampolines: &Trampolines,
    task: VirtAddr,
    slot: VirtAddr,
    ip: VirtAddr,
) -> VirtAddr {
    let fields: TaskFields = kernel.load(task);
    let mut real = ip;
    for _ in 0..4 {
        let found = if trampolines.graph == Some(real) {
            graph_return(kernel, &fields, slot)
        } else if trampolines.probes.contains(&real) {
            rethook_return(kernel, trampolines, &fields, slot)
                .or_else(|_| kretprobe_return(kernel, trampolines, &fields, slot))
                .or_else(|_| hashed_kretprobe_return(kernel, trampolines, task, slot))
                .ok()
                .flatten()
        } else {
            break;
        };
        match found {
            Some(found) => real = found,
            None => break,
        }
    }
    real
}

/// `struct ftrace_ret_stack` (`include/linux/ftrace.h`) holds the return address in `ret` and its slot in `retp`. Up to
/// 6.10 `task_struct.ret_stack` is an array of it, later they lie between other words: either way within one page, and
/// no other word of it is the address of the slot.
fn graph_return(kernel: &Kernel, fields: &TaskFields, slot: VirtAddr) -> Option<VirtAddr> {
    let stack = fields.ret_stack.clone().ok().filter(|at| !at.is_null())?;
    let ret = kernel.offset_of("ftrace_ret_stack", "ret").ok()?;
    let retp = kernel.offset_of("ftrace_ret_stack", "retp").ok()?;
    let mut raw = vec![0; PAGE_SIZE as usize];
    let (count, _) = kernel.memory().read(stack, &mut raw);
    raw.truncate(count);
    let at = raw.chunks_exact(8).position(|word| word == slot.0.to_le_bytes())?;
    let entry = stack.add(at as u64 * 8).sub(retp);
    kernel.memory().pointer(entry.add(ret)).ok()
}

/// `struct rethook_node` (`include/linux/rethook.h`).
#[derive(Load)]
#[load(type = "rethook_node")]
struct RethookNode {
    frame: Field<VirtAddr>,
    ret_addr: Field<VirtAddr>,
}

fn rethook_return(
    kernel: &Kernel,
    trampolines: &Trampolines,
    fields: &TaskFields,
    slot: VirtAddr,
) -> Field<Option<VirtAddr>> {
    let link = kernel.offset_of("rethook_node", "llist")?;
    let loader = kernel.loader::<RethookNode>();
    for at in walk::null_terminated(kernel.memory(), fields.rethooks.clone()?, 0) {
        let node = loader.load(at?.sub(link));
        if node.frame == Ok(slot) && node.ret_addr.as_ref().is_ok_and(|ip| !trampolines.contains(*ip)) {
            return node.ret_addr.map(Some);
        }
    }
    Ok(None)
}

/// `struct kretprobe_instance` (`include/linux/kprobes.h`), where no rethook stands behind it.
#[derive(Load)]
#[load(type = "kretprobe_instance")]
struct KretprobeInstance {
    fp: Field<VirtAddr>,
    ret_addr: Field<VirtAddr>,
    task: Field<VirtAddr>,
}

fn kretprobe_return(
    kernel: &Kernel,
    trampolines: &Trampolines,
    fields: &TaskFields,
    slot: VirtAddr,
) -> Field<Option<VirtAddr>> {
    let link = kernel.offset_of("kretprobe_instance", "llist")?;
    let loader = kernel.loader::<KretprobeInstance>();
    for at in walk::null_terminated(kernel.memory(), fields.kretprobes.clone()?, 0) {
        let instance = loader.load(at?.sub(link));
        if instance.fp == Ok(slot) && instance.ret_addr.as_ref().is_ok_and(|ip| !trampolines.contains(*ip)) {
            return instance.ret_addr.map(Some);
        }
    }
    Ok(None)
}

/// Before 5.11 the instances of all tasks hang in a hash table (kernel/kprobes.c).
fn hashed_kretprobe_return(
    kernel: &Kernel,
    trampolines: &Trampolines,
    task: VirtAddr,
    slot: VirtAddr,
) -> Field<Option<VirtAddr>> {
    const BUCKETS: u64 = 64;
    let table = kernel.symbol("kretprobe_inst_table")?;
    let link = kernel.offset_of("kretprobe_instance", "hlist")?;
    let loader = kernel.loader::<KretprobeInstance>();
    for bucket in 0..BUCKETS {
        let first = kernel.memory().pointer(table.add(bucket * 8))?;
        for at in walk::null_terminated(kernel.memory(), first, 0) {
            let instance = loader.load(at?.sub(link));
            let matches = instance.task == Ok(task) && instance.fp == Ok(slot);
            if matches && instance.ret_addr.as_ref().is_ok_and(|ip| !trampolines.contains(*ip)) {
                return instance.ret_addr.map(Some);
            }
        }
    }
    Ok(None)
}
