//! The locks that each task holds, where the kernel keeps that itself (`CONFIG_LOCKDEP`, include/linux/lockdep_types.h). Stock
//! kernels do not.

use kdive_base::VirtAddr;
use kdive_target::{Field, Kernel, Load, MemberAddress};
use rustc_hash::FxHashMap;

use super::kind::LockKind;
use crate::tasks::{TaskName, Tasks};

#[derive(Load)]
#[load(type = "task_struct")]
struct Holding {
    lockdep_depth: Field<u32>,
    held_locks: Field<MemberAddress>,
}

#[derive(Load)]
#[load(type = "held_lock")]
struct HeldLock {
    /// The `lockdep_map` in the lock.
    instance: Field<VirtAddr>,
}

/// `MAX_LOCK_DEPTH`.
const DEEPEST: u32 = 48;

/// The tasks that hold the lock whose `lockdep_map` lies at each address. A task that waits for a lock is among them: it is
/// noted before it has it.
///
/// # Errors
/// The kernel keeps no such notes.
pub(super) fn held(kernel: &Kernel, tasks: &Tasks) -> Field<FxHashMap<VirtAddr, Vec<TaskName>>> {
    kernel.offset_of("task_struct", "held_locks")?;
    let bytes = kernel.size_of("held_lock")?;
    let (holding, locks) = (kernel.loader::<Holding>(), kernel.loader::<HeldLock>());
    let mut found: FxHashMap<VirtAddr, Vec<TaskName>> = FxHashMap::default();
    for task in tasks.all() {
        let Holding { lockdep_depth: Ok(depth), held_locks: Ok(MemberAddress(first)) } =
            holding.load(task.at)
        else {
            continue;
        };
        for index in 0..depth.min(DEEPEST) {
            let held = locks.load(first.add(u64::from(index).wrapping_mul(bytes)));
            if let Ok(instance) = held.instance {
                found.entry(instance).or_default().push(TaskName::of(task));
            }
        }
    }
    Ok(found)
}

/// Where the `lockdep_map` lies in a lock.
pub(super) fn map_offset(kernel: &Kernel, kind: LockKind) -> Field<u64> {
    let (record, member) = match kind {
        LockKind::WwMutex => ("ww_mutex", "base.dep_map"),
        LockKind::RtMutex => ("rt_mutex", "dep_map"),
        LockKind::Rwsem => ("rw_semaphore", "dep_map"),
        LockKind::PercpuRwsem => ("percpu_rw_semaphore", "dep_map"),
        _ => ("mutex", "dep_map"),
    };
    kernel.offset_of(record, member)
}
