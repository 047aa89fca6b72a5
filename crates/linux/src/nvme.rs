//! NVMe (drivers/nvme/host): controllers, their queues on PCI, and answers that nobody has looked at.

use kdive_base::{VirtAddr, printable};
use kdive_target::walk;
use kdive_target::{Field, Kernel, Lacks, Load, MemberAddress, Text};

/// A controller.
#[derive(Clone, Debug, Load)]
#[load(type = "nvme_ctrl", module)]
pub struct Controller {
    /// Its address.
    #[load(address)]
    pub at: VirtAddr,
    /// Its number: `nvme0`.
    pub instance: Field<u32>,
    state: Field<u32>,
    ops: Field<VirtAddr>,
    subsys: Field<VirtAddr>,
    /// Queues, that for administration among them.
    #[load(any("queue_count"))]
    pub queue_count: Field<u32>,
    /// How often a connection over a network was made anew since the last that held.
    #[load(any("nr_reconnects"))]
    pub reconnects: Field<u32>,
    /// Bytes that one command moves at most, in units of 512.
    #[load(any("max_hw_sectors"))]
    pub max_sectors: Field<u32>,
}

/// A queue of a controller on PCI.
#[derive(Clone, Debug, Load)]
#[load(type = "nvme_queue", module)]
pub struct NvmeQueue {
    /// Its address.
    #[load(address)]
    pub at: VirtAddr,
    /// Its number; 0 is for administration.
    #[load(any("qid"))]
    pub number: Field<u16>,
    /// Entries.
    #[load(any("q_depth"))]
    pub depth: Field<u32>,
    /// Where the driver puts the next command.
    pub sq_tail: Field<u16>,
    /// Where the driver expects the next answer.
    pub cq_head: Field<u16>,
    cq_phase: Field<u8>,
    cqes: Field<VirtAddr>,
    flags: Field<u64>,
}

#[derive(Load)]
#[load(type = "nvme_ctrl_ops", module)]
struct Ops {
    name: Field<VirtAddr>,
}

#[derive(Load)]
#[load(type = "nvme_subsystem", module)]
struct Subsystem {
    model: Field<Text>,
    serial: Field<Text>,
    firmware_rev: Field<Text>,
    ctrls: Field<MemberAddress>,
}

#[derive(Load)]
#[load(type = "nvme_dev", module)]
struct Pci {
    queues: Field<VirtAddr>,
    online_queues: Field<u32>,
}

/// What a subsystem says of itself.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The maker's name of it.
    pub model: Field<String>,
    /// Its serial number.
    pub serial: Field<String>,
    /// The version of its firmware.
    pub firmware: Field<String>,
}

const MOST: usize = 1 << 16;
const MOST_QUEUES: u32 = 1 << 16;
const MOST_NAME_BYTES: usize = 32;
/// `struct nvme_completion`: 16 bytes; the status is the last 16 bits, its lowest the phase.
const COMPLETION_BYTES: u64 = 16;
const STATUS: u64 = 14;

/// All controllers, and why not all are known.
///
/// # Errors
/// This kernel has no NVMe, or its types are not known.
pub fn controllers(kernel: &Kernel) -> Field<(Vec<Controller>, Vec<Lacks>)> {
    let memory = kernel.memory();
    let head = kernel.module_symbol("nvme_subsystems")?;
    let of_subsystem = kernel.module_member("nvme_subsystem", &["entry"])?.offset;
    let of_controller = kernel.module_member("nvme_ctrl", &["subsys_entry"])?.offset;
    let loader = kernel.loader::<Controller>();
    let (mut all, mut lacking) = (Vec::new(), Vec::new());
    for at in walk::list(memory, head).take(MOST) {
        let controllers = match at {
            Ok(at) => kernel.load::<Subsystem>(at.sub(of_subsystem)).ctrls,
            Err(broken) => Err(broken.into()),
        };
        let MemberAddress(head) = match controllers {
            Ok(head) => head,
            Err(lacks) => {
                lacking.push(lacks);
                continue;
            }
        };
        for at in walk::list(memory, head).take(MOST) {
            match at {
                Ok(at) => all.push(loader.load(at.sub(of_controller))),
                Err(broken) => lacking.push(broken.into()),
            }
        }
    }
    Ok((all, lacking))
}

impl Controller {
    /// Its state: `live`, `resetting`, `connecting`, `dead`...
    ///
    /// # Errors
    /// It cannot be read.
    pub fn state(&self, kernel: &Kernel) -> Field<String> {
        let value = self.state.clone()?;
        let names = kernel.module_enumerators("nvme_ctrl_state").unwrap_or_default();
        let name = names.iter().find(|(_, of)| *of == i128::from(value));
        let name = name.and_then(|(name, _)| name.strip_prefix("NVME_CTRL_"));
        Ok(name.map_or_else(|| value.to_string(), |name| name.to_lowercase().replace('_', "-")))
    }

    /// What it is reached by: `pcie`, `tcp`, `rdma`, `fc`, `loop`.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn transport(&self, kernel: &Kernel) -> Field<String> {
        let at = kernel.load::<Ops>(self.ops.clone()?).name?;
        Ok(printable(&kernel.memory().c_string(at, MOST_NAME_BYTES)?))
    }

    /// What its subsystem says of itself.
    ///
    /// # Errors
    /// It has none yet.
    pub fn identity(&self, kernel: &Kernel) -> Field<Identity> {
        let subsystem: Subsystem = kernel.load(self.subsys.clone()?);
        let text = |text: Field<Text>| text.map(|Text(text)| text.trim().to_owned());
        Ok(Identity {
            model: text(subsystem.model),
            serial: text(subsystem.serial),
            firmware: text(subsystem.firmware_rev),
        })
    }

    /// Its queues; none where it is not on PCI.
    ///
    /// # Errors
    /// They cannot be found.
    pub fn queues(&self, kernel: &Kernel) -> Field<Vec<NvmeQueue>> {
        if self.transport(kernel)? != "pcie" {
            return Ok(Vec::new());
        }
        let inside = kernel.module_member("nvme_dev", &["ctrl"])?.offset;
        let pci: Pci = kernel.load(self.at.sub(inside));
        let (first, count) = (pci.queues?, pci.online_queues?);
        if count > MOST_QUEUES {
            return Err(Lacks::implausible(format_args!("{count} queues")));
        }
        let loader = kernel.loader::<NvmeQueue>();
        let size = loader.size()?;
        Ok((0..u64::from(count)).map(|index| loader.load(first.add(index.wrapping_mul(size)))).collect())
    }
}

impl NvmeQueue {
    /// Whether it is in use (`NVMEQ_ENABLED`).
    ///
    /// # Errors
    /// It cannot be read.
    pub fn is_enabled(&self) -> Field<bool> {
        Ok(self.flags.clone()? & 1 != 0)
    }

    /// How many answers the device has written that the driver has not looked at: they turn their phase bit as the queue
    /// goes round.
    ///
    /// # Errors
    /// The queue cannot be read.
    pub fn unseen(&self, kernel: &Kernel) -> Field<u32> {
        let (first, depth) = (self.cqes.clone()?, self.depth.clone()?);
        if depth == 0 || depth > MOST_QUEUES {
            return Err(Lacks::implausible(format_args!("a queue of {depth} entries")));
        }
        let (mut at, mut phase) = (u32::from(self.cq_head.clone()?) % depth, self.cq_phase.clone()? & 1);
        for seen in 0..depth {
            let entry = first.add(u64::from(at).wrapping_mul(COMPLETION_BYTES));
            if kernel.memory().u16(entry.add(STATUS))? & 1 != u16::from(phase) {
                return Ok(seen);
            }
            at = at.saturating_add(1);
            if at == depth {
                (at, phase) = (0, phase ^ 1);
            }
        }
        Ok(depth)
    }
}
