//! Character devices (fs/char_dev.c).

use kdive_base::VirtAddr;
use kdive_target::{Field, Kernel, Load, Text, walk};

/// A range of device numbers that is taken (`struct char_device_struct`).
#[derive(Clone, Debug, Load)]
#[load(type = "char_device_struct")]
pub struct CharRegion {
    /// Its address.
    #[load(address)]
    pub at: VirtAddr,
    /// The major number.
    pub major: Field<u32>,
    /// The first minor number.
    #[load(any("baseminor"))]
    pub first_minor: Field<u32>,
    /// How many there are.
    #[load(any("minorct"))]
    pub minors: Field<u32>,
    /// Who took it.
    pub name: Field<Text>,
    cdev: Field<VirtAddr>,
}

/// A device (`struct cdev`, include/linux/cdev.h).
#[derive(Clone, Debug, Load)]
#[load(type = "cdev")]
pub struct CharDevice {
    /// Its address.
    #[load(address)]
    pub at: VirtAddr,
    /// What it does (`struct file_operations`).
    #[load(any("ops"))]
    pub operations: Field<VirtAddr>,
}

/// A range of numbers in a `struct kobj_map` (drivers/base/map.c).
#[derive(Load)]
#[load(type = "probe")]
struct Probe {
    next: Field<VirtAddr>,
    dev: Field<u32>,
    range: Field<u64>,
    data: Field<VirtAddr>,
}

/// Chains of both tables.
const CHAINS: u64 = 255;
/// `MINORBITS`, include/linux/kdev_t.h.
const MINOR_BITS: u32 = 20;
/// Ranges of one chain.
const MOST_RANGES: usize = 1 << 20;

/// All ranges by major number modulo 255, the order of the table; why a chain ends early follows what there is of it.
///
/// # Errors
/// The table cannot be found.
pub fn regions(kernel: &Kernel) -> Field<impl Iterator<Item = Field<CharRegion>> + '_> {
    let table = kernel.symbol("chrdevs")?;
    let next = kernel.offset_of("char_device_struct", "next")?;
    let loader = kernel.loader::<CharRegion>();
    Ok(walk::hash_table(kernel.memory(), table, CHAINS, next).map(move |at| Ok(loader.load(at?))))
}

/// The device of a range; `None` where there is none.
///
/// # Errors
/// It cannot be looked up.
pub fn device_of(kernel: &Kernel, region: &CharRegion) -> Field<Option<CharDevice>> {
    let own = region.cdev.clone()?;
    if !own.is_null() {
        return Ok(Some(kernel.load(own)));
    }
    let (major, minor) = (region.major.clone()?, region.first_minor.clone()?);
    Ok(look_up(kernel, major << MINOR_BITS | minor)?.map(|at| kernel.load(at)))
}

/// The `struct cdev` of a device number (`kobj_lookup` in `cdev_map`).
fn look_up(kernel: &Kernel, number: u32) -> Field<Option<VirtAddr>> {
    let memory = kernel.memory();
    let map = memory.pointer(kernel.symbol("cdev_map")?)?;
    let chain = u64::from(number >> MINOR_BITS) % CHAINS;
    let probes = kernel.offset_of("kobj_map", "probes")?;
    let mut at = memory.pointer(map.add(probes).add(chain.wrapping_mul(8)))?;
    // By ascending range: the first that fits is the closest.
    for _ in 0..MOST_RANGES {
        if at.is_null() {
            break;
        }
        let probe: Probe = kernel.load(at);
        let first = probe.dev?;
        let inside = number.checked_sub(first).map(u64::from);
        if inside.is_some_and(|inside| probe.range.as_ref().is_ok_and(|range| inside < *range)) {
            return Ok(Some(probe.data?).filter(|at| !at.is_null()));
        }
        at = probe.next?;
    }
    Ok(None)
}
