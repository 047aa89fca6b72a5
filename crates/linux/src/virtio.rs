//! Virtio (drivers/virtio): devices of the hypervisor, their rings, and what the hypervisor has not answered.

use kdive_base::VirtAddr;
use kdive_base::printable;
use kdive_target::walk;
use kdive_target::{Field, Kernel, Lacks, Load, MemberAddress};

use crate::device;

/// The part of `struct virtio_device` that kdive understands.
#[derive(Clone, Debug, Load)]
#[load(type = "virtio_device", module)]
pub struct VirtioDevice {
    /// Its address.
    #[load(address)]
    pub at: VirtAddr,
    /// Its number: `virtio0`.
    pub index: Field<u32>,
    /// What it is (`VIRTIO_ID_*`, include/uapi/linux/virtio_ids.h).
    #[load(any("id.device"))]
    pub kind: Field<u32>,
    vqs: Field<MemberAddress>,
}

/// A ring.
#[derive(Clone, Debug)]
pub struct Ring {
    /// Its `struct vring_virtqueue`.
    pub at: VirtAddr,
    /// What the driver calls it: `req.0`, `input.0`.
    pub name: Field<String>,
    /// Its number in its device.
    pub index: Field<u32>,
    /// Descriptors.
    pub size: Field<u32>,
    /// Descriptors that are free.
    pub free: Field<u32>,
    /// What the driver has offered, ever, modulo 2^16.
    pub available: Field<u16>,
    /// What the device has answered.
    pub used: Field<u16>,
    /// Answers that the driver has taken.
    pub taken: Field<u16>,
    /// Whether the driver gave it up.
    pub broken: Field<bool>,
    /// What the driver waits for: the word that it gave with each buffer that has not come back.
    pub outstanding: Field<Vec<VirtAddr>>,
}

#[derive(Load)]
#[load(type = "vring_virtqueue", module)]
struct RawRing {
    #[load(any("vq.name"))]
    name: Field<VirtAddr>,
    #[load(any("vq.index"))]
    index: Field<u32>,
    #[load(any("vq.num_free"))]
    free: Field<u32>,
    broken: Field<bool>,
    packed_ring: Field<bool>,
    layout: Field<u32>,
    last_used_idx: Field<u16>,
    #[load(any("split.vring.num"))]
    size: Field<u32>,
    #[load(any("split.vring.used"))]
    used: Field<VirtAddr>,
    #[load(any("split.avail_idx_shadow"))]
    available: Field<u16>,
    #[load(any("split.desc_state"))]
    states: Field<VirtAddr>,
}

#[derive(Load)]
#[load(type = "vring_desc_state_split", module)]
struct Descriptor {
    data: Field<VirtAddr>,
}

/// The largest ring that a device may have.
const MOST_DESCRIPTORS: u32 = 1 << 15;
const MOST_RINGS: usize = 1 << 12;
const MOST_NAME_BYTES: usize = 32;
/// `struct vring_used`, include/uapi/linux/virtio_ring.h: flags, then the index, 16 bits each.
const USED_INDEX: u64 = 2;

/// All virtio devices, and why not all are known.
///
/// # Errors
/// This kernel has no such bus: the module is not loaded.
pub fn devices(kernel: &Kernel) -> Field<(Vec<VirtioDevice>, Option<Lacks>)> {
    let (all, broken) = device::of_bus(kernel, "virtio_bus")?;
    let inside = kernel.module_member("virtio_device", &["dev"])?.offset;
    Ok((all.into_iter().map(|at| kernel.load(at.sub(inside))).collect(), broken))
}

impl VirtioDevice {
    /// What it is, by the specification's name.
    #[must_use]
    pub fn kind_name(kind: u32) -> Option<&'static str> {
        Some(match kind {
            1 => "net",
            2 => "block",
            3 => "console",
            4 => "entropy",
            5 => "balloon",
            8 => "scsi",
            9 => "9p",
            16 => "gpu",
            18 => "input",
            19 => "vsock",
            20 => "crypto",
            25 => "sound",
            26 => "fs",
            27 => "pmem",
            _ => return None,
        })
    }

    /// Its rings.
    ///
    /// # Errors
    /// Their list cannot be read.
    pub fn rings(&self, kernel: &Kernel) -> Field<Vec<Ring>> {
        let MemberAddress(head) = self.vqs.clone()?;
        let link = kernel.module_member("vring_virtqueue", &["vq.list"])?.offset;
        let walked = walk::list(kernel.memory(), head).take(MOST_RINGS);
        walked.map(|at| Ok(ring(kernel, at?.sub(link)))).collect()
    }
}

fn ring(kernel: &Kernel, at: VirtAddr) -> Ring {
    let raw: RawRing = kernel.load(at);
    let memory = kernel.memory();
    let name = raw.name.clone().and_then(|at| Ok(printable(&memory.c_string(at, MOST_NAME_BYTES)?)));
    // `packed_ring` until 7.0, then the layout: 0 is split, as it came.
    let is_packed = raw.packed_ring.clone().or_else(|_| raw.layout.clone().map(|layout| layout & 1 != 0));
    let split = |field: Field<u16>| match &is_packed {
        Ok(true) => Err(Lacks::unavailable("packed rings keep no such index")),
        _ => field,
    };
    let used = split(raw.used.clone().and_then(|at| Ok(memory.u16(at.add(USED_INDEX))?)));
    let outstanding = match &is_packed {
        Ok(true) => Err(Lacks::unavailable("what is outstanding in packed rings is not known")),
        _ => outstanding(kernel, &raw),
    };
    Ring {
        at,
        name,
        index: raw.index.clone(),
        size: raw.size.clone(),
        free: raw.free.clone(),
        available: split(raw.available.clone()),
        used,
        taken: split(raw.last_used_idx.clone()),
        broken: raw.broken.clone(),
        outstanding,
    }
}

fn outstanding(kernel: &Kernel, raw: &RawRing) -> Field<Vec<VirtAddr>> {
    let (states, size) = (raw.states.clone()?, raw.size.clone()?);
    if size > MOST_DESCRIPTORS {
        return Err(Lacks::implausible(format_args!("a ring of {size} descriptors")));
    }
    let loader = kernel.loader::<Descriptor>();
    let bytes = loader.size()?;
    let mut found = Vec::new();
    for index in 0..u64::from(size) {
        let data = loader.load(states.add(index.wrapping_mul(bytes))).data?;
        if !data.is_null() {
            found.push(data);
        }
    }
    Ok(found)
}
