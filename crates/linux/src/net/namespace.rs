//! Network namespaces (`struct net`, include/net/net_namespace.h).

use kdive_base::VirtAddr;
use kdive_target::{Field, Kernel, Lacks, Load, walk};

#[derive(Load)]
#[load(type = "nsproxy")]
struct NsProxy {
    net_ns: Field<VirtAddr>,
}

/// The first namespace (`init_net`).
///
/// # Errors
/// The kernel has no such symbol.
pub fn initial(kernel: &Kernel) -> Field<VirtAddr> {
    kernel.symbol("init_net")
}

/// The namespace of a task, by its `struct nsproxy`.
///
/// # Errors
/// The task has no namespaces any more, or they cannot be read.
pub fn of_proxy(kernel: &Kernel, nsproxy: VirtAddr) -> Field<VirtAddr> {
    if nsproxy.is_null() {
        return Err(Lacks::unavailable("the task has left its namespaces"));
    }
    kernel.load::<NsProxy>(nsproxy).net_ns
}

/// All namespaces (`net_namespace_list`), as far as the list goes; why it ends early is the last item.
///
/// # Errors
/// The list cannot be found.
pub fn namespaces(kernel: &Kernel) -> Field<impl Iterator<Item = Field<VirtAddr>> + '_> {
    let link = kernel.offset_of("net", "list")?;
    let head = kernel.symbol("net_namespace_list")?;
    Ok(walk::list(kernel.memory(), head).map(move |at| Ok(at?.sub(link))))
}

#[derive(Load)]
#[load(type = "net")]
struct Number {
    #[load(any("ns.inum"))]
    number: Field<u32>,
}

/// The number of a namespace (`struct net`), as `/proc/PID/ns/net` shows it.
///
/// # Errors
/// It cannot be read.
pub fn number(kernel: &Kernel, net: VirtAddr) -> Field<u32> {
    kernel.load::<Number>(net).number
}

#[derive(Load)]
#[load(type = "net")]
struct Parts {
    #[load(any("gen"))]
    generic: Field<VirtAddr>,
}

/// What a subsystem keeps in a namespace (`struct net`), by the variable that holds its number (`net_generic`).
///
/// # Errors
/// It cannot be read.
pub fn per_net(kernel: &Kernel, net: VirtAddr, id: VirtAddr) -> Field<VirtAddr> {
    let memory = kernel.memory();
    let slots = kernel.offset_of("net_generic", "ptr")?;
    let slot = kernel.load::<Parts>(net).generic?.add(slots);
    Ok(memory.pointer(slot.add(u64::from(memory.u32(id)?).wrapping_mul(8)))?)
}
