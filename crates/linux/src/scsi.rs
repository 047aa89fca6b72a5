//! SCSI (drivers/scsi): hosts and the state of their error handling, devices, and the commands that they have.

use kdive_base::{VirtAddr, printable};
use kdive_target::walk;
use kdive_target::{Bytes, Field, Kernel, Lacks, Load, MemberAddress};

use crate::block::Now;
use crate::device;

/// The part of `struct Scsi_Host` that kdive understands.
#[derive(Clone, Debug, Load)]
#[load(type = "Scsi_Host", module)]
pub struct Host {
    /// Its address.
    #[load(address)]
    pub at: VirtAddr,
    /// Its number: `host0`.
    #[load(any("host_no"))]
    pub number: Field<u32>,
    /// `enum scsi_host_state`.
    #[load(any("shost_state"))]
    state: Field<u32>,
    /// Commands that wait for error handling.
    #[load(any("host_failed"))]
    pub failed: Field<u32>,
    /// How often error handling was asked for without a command.
    #[load(any("host_eh_scheduled"))]
    pub recovery_scheduled: Field<u32>,
    /// The thread that handles errors (`task_struct`).
    #[load(any("ehandler"))]
    pub handler: Field<VirtAddr>,
    /// What that thread waits for now (`struct completion`); null while it has nothing under way.
    #[load(any("eh_action"))]
    pub action: Field<VirtAddr>,
    /// Commands that it takes at once.
    #[load(any("can_queue"))]
    pub can_queue: Field<u32>,
    /// More than 0 while it refuses commands.
    #[load(any("host_blocked.counter"))]
    pub blocked: Field<i32>,
    /// Whether its driver takes no commands now.
    #[load(any("host_self_blocked"))]
    pub self_blocked: Field<bool>,
    hostt: Field<VirtAddr>,
    #[load(any("__devices"))]
    devices: Field<MemberAddress>,
}

/// The part of `struct scsi_device` that kdive understands.
#[derive(Clone, Debug, Load)]
#[load(type = "scsi_device", module)]
pub struct Device {
    /// Its address.
    #[load(address)]
    pub at: VirtAddr,
    /// Its channel.
    pub channel: Field<u32>,
    /// Its target.
    pub id: Field<u32>,
    /// Its logical unit.
    pub lun: Field<u64>,
    /// Its requests (`struct request_queue`).
    #[load(any("request_queue"))]
    pub queue: Field<VirtAddr>,
    #[load(any("sdev_state"))]
    state: Field<u32>,
    /// More than 0 while it refuses commands.
    #[load(any("device_blocked.counter"))]
    pub blocked: Field<i32>,
    /// Commands that it was sent, ever.
    #[load(any("iorequest_cnt.counter"))]
    pub requests: Field<u32>,
    /// Commands that it has done.
    #[load(any("iodone_cnt.counter"))]
    pub done: Field<u32>,
    /// Commands that failed.
    #[load(any("ioerr_cnt.counter"))]
    pub errors: Field<u32>,
    /// Commands that timed out (6.5).
    #[load(any("iotmo_cnt.counter"))]
    pub timeouts: Field<u32>,
}

/// The part of `struct scsi_cmnd` that kdive understands.
#[derive(Clone, Debug, Load)]
#[load(type = "scsi_cmnd", module)]
pub struct ScsiCommand {
    /// Its address.
    #[load(address)]
    pub at: VirtAddr,
    /// Its bytes: the operation is the first.
    #[load(any("cmnd"))]
    cdb: Field<Bytes>,
    /// Bytes of it.
    #[load(any("cmd_len"))]
    cdb_bytes: Field<u16>,
    /// How often it was tried again.
    pub retries: Field<u32>,
    /// How often it may be.
    pub allowed: Field<u32>,
    #[load(any("jiffies_at_alloc"))]
    allocated: Field<u64>,
    /// What became of it, while it is not done what became of it last.
    pub result: Field<u32>,
}

#[derive(Load)]
#[load(type = "scsi_host_template", module)]
struct Template {
    name: Field<VirtAddr>,
    proc_name: Field<VirtAddr>,
}

const MOST_NAME_BYTES: usize = 64;
/// Bytes of a command that does not say how many it has, and of the longest one.
const SHORT: usize = 16;
const MOST_BYTES: usize = 260;
const MOST_DEVICES: usize = 1 << 20;

/// All hosts, and why not all are known.
///
/// # Errors
/// This kernel has no SCSI, or its types are not known.
pub fn hosts(kernel: &Kernel) -> Field<(Vec<Host>, Option<Lacks>)> {
    let (all, broken) = device::of_class(kernel, "shost_class")?;
    let inside = kernel.module_member("Scsi_Host", &["shost_dev"])?.offset;
    Ok((all.into_iter().map(|at| kernel.load(at.sub(inside))).collect(), broken))
}

/// The name of an enumerator without its prefix, in small letters.
fn named(kernel: &Kernel, kind: &str, prefix: &str, value: u32) -> String {
    let names = kernel.module_enumerators(kind).unwrap_or_default();
    let name =
        names.iter().find(|(_, of)| *of == i128::from(value)).and_then(|(name, _)| name.strip_prefix(prefix));
    name.map_or_else(|| value.to_string(), |name| name.to_lowercase().replace('_', "-"))
}

impl Host {
    /// Its driver's name.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn driver(&self, kernel: &Kernel) -> Field<String> {
        let template: Template = kernel.load(self.hostt.clone()?);
        let at = template.proc_name.clone().ok().filter(|at| !at.is_null());
        let at = at.map_or_else(|| template.name.clone(), Ok)?;
        Ok(printable(&kernel.memory().c_string(at, MOST_NAME_BYTES)?))
    }

    /// Its state: `running`, `recovery`...
    ///
    /// # Errors
    /// It cannot be read.
    pub fn state(&self, kernel: &Kernel) -> Field<String> {
        Ok(named(kernel, "scsi_host_state", "SHOST_", self.state.clone()?))
    }

    /// Its devices.
    ///
    /// # Errors
    /// Their list cannot be read.
    pub fn devices(&self, kernel: &Kernel) -> Field<Vec<Device>> {
        let MemberAddress(head) = self.devices.clone()?;
        let link = kernel.module_member("scsi_device", &["siblings"])?.offset;
        let loader = kernel.loader::<Device>();
        let walked = walk::list(kernel.memory(), head).take(MOST_DEVICES);
        walked.map(|at| Ok(loader.load(at?.sub(link)))).collect()
    }
}

impl Device {
    /// Its state: `running`, `offline`, `blocked`...
    ///
    /// # Errors
    /// It cannot be read.
    pub fn state(&self, kernel: &Kernel) -> Field<String> {
        Ok(named(kernel, "scsi_device_state", "SDEV_", self.state.clone()?))
    }
}

impl ScsiCommand {
    /// The command of a request of a SCSI device: it lies behind the request.
    ///
    /// # Errors
    /// The types are not known.
    pub fn of_request(kernel: &Kernel, request: VirtAddr) -> Field<Self> {
        Ok(kernel.load(request.add(kernel.size_of("request")?)))
    }

    /// The bytes of the command, as far as it has any.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn bytes(&self, kernel: &Kernel) -> Field<Vec<u8>> {
        let Bytes(mut bytes) = self.cdb.clone()?;
        let count = self.cdb_bytes.clone().map_or(SHORT, usize::from).min(MOST_BYTES);
        // A pointer until 5.17.
        if let Ok(at) = <[u8; 8]>::try_from(bytes.as_slice()) {
            return Ok(kernel.memory().bytes(VirtAddr(u64::from_le_bytes(at)), count)?);
        }
        bytes.truncate(count);
        Ok(bytes)
    }

    /// Nanoseconds since it was made.
    #[must_use]
    pub fn age_ns(&self, now: &Now) -> Option<u64> {
        now.since_jiffies(self.allocated.clone().ok()?)
    }
}
