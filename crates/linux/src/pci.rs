//! PCI devices (`struct pci_dev`, include/linux/pci.h).

use kdive_base::VirtAddr;
use kdive_target::{Field, Kernel, Lacks, Load, MemberAddress, walk};
use rustc_hash::FxHashSet;

/// A bus.
#[derive(Clone, Debug, Load)]
#[load(type = "pci_bus")]
pub struct PciBus {
    /// Address of the `struct pci_bus`.
    #[load(address)]
    pub at: VirtAddr,
    /// Its number.
    pub number: Field<u8>,
    /// The bus above; null for a root.
    pub parent: Field<VirtAddr>,
    /// The bridge that it is behind (`struct pci_dev`); null for a root.
    #[load(any("self"))]
    pub bridge: Field<VirtAddr>,
    /// Its name in the device model (`char *`): `0000:00`.
    #[load(any("dev.kobj.name"))]
    pub device_name: Field<VirtAddr>,
    children: Field<MemberAddress>,
    devices: Field<MemberAddress>,
}

/// A device.
#[derive(Clone, Debug, Load)]
#[load(type = "pci_dev")]
pub struct PciDevice {
    /// Address of the `struct pci_dev`.
    #[load(address)]
    pub at: VirtAddr,
    /// Its place on its bus: 5 bits of slot, 3 bits of function.
    #[load(any("devfn"))]
    pub slot_function: Field<u8>,
    /// Who made it.
    pub vendor: Field<u16>,
    /// What it is, by its maker's numbers.
    pub device: Field<u16>,
    /// Base class, class and programming interface, a byte each.
    pub class: Field<u32>,
    /// Where its PCI Express capability is in its configuration; 0 for none.
    #[load(any("pcie_cap"))]
    pub express: Field<u8>,
    /// The register behind it: bits 4 to 7 are the kind of port.
    #[load(any("pcie_flags_reg"))]
    pub express_flags: Field<u16>,
    /// The kind of its header: 1 is a bridge.
    #[load(any("hdr_type"))]
    pub header: Field<u8>,
    /// Its name in the device model: `0000:00:1f.0`.
    #[load(any("dev.kobj.name"))]
    pub name: Field<VirtAddr>,
}

/// A bus and what is on it.
pub struct OnBus {
    /// The bus.
    pub bus: PciBus,
    /// Its devices, in the order of the kernel's list.
    pub devices: Vec<PciDevice>,
}

/// What `lspci` shows, in the order of the kernel's lists.
pub struct Buses {
    /// A bus comes before those behind its bridges.
    pub all: Vec<OnBus>,
    /// Why some are lacking, where they are.
    pub incomplete: Vec<Lacks>,
}

/// All buses and their devices (`pci_root_buses`).
///
/// # Errors
/// The kernel has no PCI, or its lists cannot be found.
pub fn buses(kernel: &Kernel) -> Field<Buses> {
    let memory = kernel.memory();
    let bus_link = kernel.offset_of("pci_bus", "node")?;
    let device_link = kernel.offset_of("pci_dev", "bus_list")?;
    let (buses, devices) = (kernel.loader::<PciBus>(), kernel.loader::<PciDevice>());
    let mut found = Buses { all: Vec::new(), incomplete: Vec::new() };
    let mut seen = FxHashSet::default();
    let mut todo = vec![Ok(kernel.symbol("pci_root_buses")?)];
    while let Some(list) = todo.pop() {
        let list = match list {
            Ok(list) => list,
            Err(lacks) => {
                found.incomplete.push(lacks);
                continue;
            }
        };
        let mut below = Vec::new();
        for at in walk::list(memory, list) {
            let bus = match at {
                Ok(at) if seen.insert(at) => buses.load(at.sub(bus_link)),
                Ok(_) => break,
                Err(broken) => {
                    found.incomplete.push(broken.into());
                    break;
                }
            };
            let mut on_bus = Vec::new();
            match &bus.devices {
                Ok(MemberAddress(head)) => {
                    for at in walk::list(memory, *head) {
                        match at {
                            Ok(at) => on_bus.push(devices.load(at.sub(device_link))),
                            Err(broken) => found.incomplete.push(broken.into()),
                        }
                    }
                }
                Err(lacks) => found.incomplete.push(lacks.clone()),
            }
            below.push(bus.children.clone().map(|MemberAddress(head)| head));
            found.all.push(OnBus { bus, devices: on_bus });
        }
        todo.extend(below.into_iter().rev());
    }
    Ok(found)
}
