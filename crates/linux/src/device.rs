//! The device model (`drivers/base`): the devices of a class.

use kdive_base::VirtAddr;
use kdive_target::{Field, Kernel, Lacks, Load, walk};

#[derive(Load)]
#[load(type = "device_private")]
struct DevicePrivate {
    device: Field<VirtAddr>,
    /// The list that it is in; bit 0 is set once it has left.
    #[load(any("knode_class.n_klist"))]
    list: Field<u64>,
}

/// `KNODE_DEAD` (lib/klist.c).
const DEAD: u64 = 1;

/// The devices of a class (`struct device`), in the order in which they came, and why not all are known.
///
/// # Errors
/// The class or its list cannot be found.
pub fn of_class(kernel: &Kernel, class: &str) -> Field<(Vec<VirtAddr>, Option<Lacks>)> {
    let class = kernel.symbol(class)?;
    let list = kernel.member("subsys_private", &["klist_devices.k_list"])?.offset;
    let head = subsystem(kernel, class)?.add(list);
    let link = kernel.member("device_private", &["knode_class.n_node"])?.offset;
    let loader = kernel.loader::<DevicePrivate>();
    let mut all = Vec::new();
    for found in walk::list(kernel.memory(), head) {
        let device = match found {
            Ok(at) => loader.load(at.sub(link)),
            Err(broken) => return Ok((all, Some(broken.into()))),
        };
        match device.device {
            Ok(_) if device.list.is_ok_and(|list| list & DEAD != 0) => {}
            Ok(device) => all.push(device),
            Err(lacks) => return Ok((all, Some(lacks))),
        }
    }
    Ok((all, None))
}

/// What the driver core keeps of a class (`struct subsys_private`, drivers/base/base.h).
fn subsystem(kernel: &Kernel, class: VirtAddr) -> Field<VirtAddr> {
    let memory = kernel.memory();
    // The class pointed to it until 6.3; since then it is looked up.
    if let Ok(own) = kernel.offset_of("class", "p") {
        return Ok(memory.pointer(class.add(own))?);
    }
    let set = memory.pointer(kernel.symbol("class_kset")?)?;
    let head = set.add(kernel.offset_of("kset", "list")?);
    let link = kernel.member("subsys_private", &["subsys.kobj.entry"])?.offset;
    let of = kernel.offset_of("subsys_private", "class")?;
    for found in walk::list(memory, head) {
        let subsystem = found?.sub(link);
        if memory.pointer(subsystem.add(of))? == class {
            return Ok(subsystem);
        }
    }
    Err(Lacks::unavailable("the class is not registered"))
}
