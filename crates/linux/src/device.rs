//! The device model (`drivers/base`): the devices of a class, and those of a bus.

use kdive_base::VirtAddr;
use kdive_target::{Field, Kernel, Lacks, Load, walk};

#[derive(Load)]
#[load(type = "device_private")]
struct DevicePrivate {
    device: Field<VirtAddr>,
    /// The lists that it is in; bit 0 is set once it has left.
    #[load(any("knode_class.n_klist"))]
    in_class: Field<u64>,
    #[load(any("knode_bus.n_klist"))]
    on_bus: Field<u64>,
}

/// `KNODE_DEAD` (lib/klist.c).
const DEAD: u64 = 1;

/// What devices are members of.
#[derive(Clone, Copy)]
enum Kind {
    Class,
    Bus,
}

/// The devices of a class (`struct device`), in the order in which they came, and why not all are known.
///
/// # Errors
/// The class or its list cannot be found.
pub fn of_class(kernel: &Kernel, class: &str) -> Field<(Vec<VirtAddr>, Option<Lacks>)> {
    members(kernel, kernel.module_symbol(class)?, Kind::Class)
}

/// The devices of a bus (`virtio_bus`), as [`of_class`].
///
/// # Errors
/// The bus or its list cannot be found.
pub fn of_bus(kernel: &Kernel, bus: &str) -> Field<(Vec<VirtAddr>, Option<Lacks>)> {
    members(kernel, kernel.module_symbol(bus)?, Kind::Bus)
}

fn members(kernel: &Kernel, of: VirtAddr, kind: Kind) -> Field<(Vec<VirtAddr>, Option<Lacks>)> {
    let list = kernel.member("subsys_private", &["klist_devices.k_list"])?.offset;
    let head = subsystem(kernel, of, kind)?.add(list);
    let node = match kind {
        Kind::Class => "knode_class.n_node",
        Kind::Bus => "knode_bus.n_node",
    };
    let link = kernel.member("device_private", &[node])?.offset;
    let loader = kernel.loader::<DevicePrivate>();
    let mut all = Vec::new();
    for found in walk::list(kernel.memory(), head) {
        let device = match found {
            Ok(at) => loader.load(at.sub(link)),
            Err(broken) => return Ok((all, Some(broken.into()))),
        };
        let list = match kind {
            Kind::Class => device.in_class,
            Kind::Bus => device.on_bus,
        };
        match device.device {
            Ok(_) if list.is_ok_and(|list| list & DEAD != 0) => {}
            Ok(device) => all.push(device),
            Err(lacks) => return Ok((all, Some(lacks))),
        }
    }
    Ok((all, None))
}

/// What the driver core keeps of a class or bus (`struct subsys_private`, drivers/base/base.h).
fn subsystem(kernel: &Kernel, of: VirtAddr, kind: Kind) -> Field<VirtAddr> {
    let memory = kernel.memory();
    let (record, set, back) = match kind {
        Kind::Class => ("class", "class_kset", "class"),
        Kind::Bus => ("bus_type", "bus_kset", "bus"),
    };
    // It pointed there until 6.3; since then it is looked up.
    if let Ok(own) = kernel.offset_of(record, "p") {
        return Ok(memory.pointer(of.add(own))?);
    }
    let set = memory.pointer(kernel.symbol(set)?)?;
    let head = set.add(kernel.offset_of("kset", "list")?);
    let link = kernel.member("subsys_private", &["subsys.kobj.entry"])?.offset;
    let back = kernel.offset_of("subsys_private", back)?;
    for found in walk::list(memory, head) {
        let subsystem = found?.sub(link);
        if memory.pointer(subsystem.add(back))? == of {
            return Ok(subsystem);
        }
    }
    Err(Lacks::unavailable(format_args!("the {record} is not registered")))
}
