//! Tasks by their pids: a second way to them, for when the list of tasks is broken.

use kdive_base::VirtAddr;
use kdive_target::walk::{XArrayLayout, xarray};
use kdive_target::{Field, Kernel};

/// The tasks that the initial pid namespace knows and their pids (`init_pid_ns.idr`, 4.15), as far as the way to them is in
/// the dump.
pub(super) fn tasks(kernel: &Kernel) -> Field<Vec<(VirtAddr, i32)>> {
    let root = kernel.member("pid_namespace", &["idr.idr_rt.xa_head", "idr.idr_rt.rnode"])?;
    let head = kernel.memory().u64(kernel.symbol("init_pid_ns")?.add(root.offset))?;
    // Both arrays are indexed by `PIDTYPE_PID`, which is their first.
    let first = kernel.offset_of("pid", "tasks")?;
    let link = kernel.member("task_struct", &["pid_links", "pids"])?.offset;
    let memory = kernel.memory();
    let pids = xarray(memory, XArrayLayout::find(kernel)?, head).flatten();
    let nodes = pids.filter_map(|found| {
        let node = memory.pointer(VirtAddr(found.entry).add(first)).ok()?;
        Some((node, i32::try_from(found.index).ok()?))
    });
    Ok(nodes.filter(|(node, _)| !node.is_null()).map(|(node, number)| (node.sub(link), number)).collect())
}
