//! System V IPC: shared memory, semaphores and message queues (ipc/).

mod shm;

use kdive_base::VirtAddr;
use kdive_target::walk::{XArrayLayout, xarray};
use kdive_target::{Field, Kernel, Lacks, Load, MemberAddress};
use serde::Serialize;

use crate::tasks::Task;
pub use shm::{Pages, Segment};

/// One of the three facilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Facility {
    /// Semaphore arrays.
    Semaphores,
    /// Message queues.
    Messages,
    /// Shared memory segments.
    SharedMemory,
}

impl Facility {
    /// Its place in `ipc_namespace.ids` (`IPC_SEM_IDS` and so on, include/linux/ipc_namespace.h).
    fn index(self) -> u64 {
        match self {
            Self::Semaphores => 0,
            Self::Messages => 1,
            Self::SharedMemory => 2,
        }
    }

    /// The structure of its objects, and the member in it that they are found by.
    fn structure(self) -> (&'static str, &'static str) {
        match self {
            Self::Semaphores => ("sem_array", "sem_perm"),
            Self::Messages => ("msg_queue", "q_perm"),
            Self::SharedMemory => ("shmid_kernel", "shm_perm"),
        }
    }
}

/// What all objects have (`struct kern_ipc_perm`).
#[derive(Clone, Debug, Load)]
#[load(type = "kern_ipc_perm")]
pub struct Permissions {
    /// What processes know it by.
    pub id: Field<i32>,
    /// What processes find it by.
    pub key: Field<u32>,
    /// Its owner, as the initial user namespace counts.
    #[load(any("uid.val", "uid"))]
    pub uid: Field<u32>,
    /// Permissions, and for shared memory two flags above them.
    pub mode: Field<u32>,
}

/// One object.
#[derive(Clone, Debug)]
pub struct Object {
    /// Its structure (`sem_array`, `msg_queue`, `shmid_kernel`).
    pub at: VirtAddr,
    /// What all objects have.
    pub permissions: Permissions,
}

/// The part of `struct sem_array` that kdive understands.
#[derive(Clone, Debug, Load)]
#[load(type = "sem_array")]
pub struct SemaphoreArray {
    /// Semaphores in it.
    pub sem_nsems: Field<u64>,
}

/// The part of `struct msg_queue` that kdive understands.
#[derive(Clone, Debug, Load)]
#[load(type = "msg_queue")]
pub struct MessageQueue {
    /// Bytes in it.
    pub q_cbytes: Field<u64>,
    /// Messages in it.
    pub q_qnum: Field<u64>,
}

#[derive(Load)]
#[load(type = "ipc_namespace")]
struct Namespace {
    ids: Field<MemberAddress>,
}

#[derive(Load)]
#[load(type = "ipc_ids")]
struct Ids {
    /// The root of the array of objects: an IDR since 2.6.24, on radix trees since 4.11.
    #[load(any("ipcs_idr.idr_rt.xa_head", "ipcs_idr.idr_rt.rnode"))]
    root: Field<u64>,
}

#[derive(Load)]
#[load(type = "nsproxy")]
struct Proxy {
    ipc_ns: Field<VirtAddr>,
}

/// The initial namespace.
pub fn initial_namespace(kernel: &Kernel) -> Field<VirtAddr> {
    kernel.symbol("init_ipc_ns")
}

/// The namespace of a task.
///
/// # Errors
/// The task has exited, or the way to it is lacking.
pub fn namespace_of(kernel: &Kernel, task: &Task) -> Field<VirtAddr> {
    let proxy = task.nsproxy.clone()?;
    if proxy.is_null() {
        return Err(Lacks::unavailable("the task has exited: it has no namespaces"));
    }
    kernel.load::<Proxy>(proxy).ipc_ns
}

/// The objects of a facility in a namespace, by their place in its array.
///
/// # Errors
/// Where they are is not known. What is broken is an item.
pub fn objects(
    kernel: &Kernel,
    namespace: VirtAddr,
    facility: Facility,
) -> Field<impl Iterator<Item = Field<Object>> + use<'_>> {
    let MemberAddress(ids) = kernel.load::<Namespace>(namespace).ids?;
    let own = ids.add(kernel.size_of("ipc_ids")?.wrapping_mul(facility.index()));
    let root = kernel.load::<Ids>(own).root?;
    let (structure, member) = facility.structure();
    let inside = kernel.offset_of(structure, member)?;
    let permissions = kernel.loader::<Permissions>();
    let entries = xarray(kernel.memory(), XArrayLayout::find(kernel)?, root);
    Ok(entries.map(move |entry| {
        let at = VirtAddr(entry.map_err(Lacks::from)?.entry);
        Ok(Object { at: at.sub(inside), permissions: permissions.load(at) })
    }))
}
