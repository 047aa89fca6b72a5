//! Device mapper (drivers/md/dm.c, dm-table.c, dm-mpath.c): mapped devices, what they map to, and what waits in them.

use kdive_base::{VirtAddr, printable};
use kdive_target::walk;
use kdive_target::{Field, Kernel, Lacks, Load, MemberAddress, Text};
use serde::Serialize;

use super::bio::{self, Bio};
use super::disk::Disk;

/// The part of `struct mapped_device` that kdive understands.
#[derive(Clone, Debug, Load)]
#[load(type = "mapped_device", module)]
pub struct Mapped {
    /// Its address.
    #[load(address)]
    pub at: VirtAddr,
    flags: Field<u64>,
    map: Field<VirtAddr>,
    interface_ptr: Field<VirtAddr>,
    /// How many have it open.
    #[load(any("open_count.counter"))]
    pub open_count: Field<u32>,
    #[load(any("deferred.head"))]
    deferred: Field<VirtAddr>,
}

/// What is done with a mapped device (`DMF_*`, drivers/md/dm-core.h: macros whose values have not moved since 2.6.40).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MappedState {
    /// It takes no I/O: bios wait.
    pub blocks_io: bool,
    /// It is suspended.
    pub suspended: bool,
    /// Its file system is frozen for it.
    pub frozen: bool,
    /// It is suspended from inside, by a target.
    pub suspended_internally: bool,
    /// It is about to go.
    pub deleting: bool,
}

/// A target: sectors of a mapped device that one driver maps.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its `struct dm_target`.
    pub at: VirtAddr,
    /// First sector of the mapped device.
    pub begin: Field<u64>,
    /// Sectors.
    pub length: Field<u64>,
    /// Its driver: `linear`, `multipath`, `thin`...
    pub kind: Field<String>,
    /// What the driver keeps of it.
    pub private: Field<VirtAddr>,
}

/// `struct multipath`, drivers/md/dm-mpath.c.
#[derive(Clone, Debug, Load)]
#[load(type = "multipath", module)]
pub struct Multipath {
    /// Its address.
    #[load(address)]
    pub at: VirtAddr,
    flags: Field<u64>,
    /// Paths that are not failed.
    #[load(any("nr_valid_paths.counter"))]
    pub valid_paths: Field<u32>,
    priority_groups: Field<MemberAddress>,
    current_pgpath: Field<VirtAddr>,
    #[load(any("queued_bios.head"))]
    queued: Field<VirtAddr>,
}

/// A path of a multipath target.
#[derive(Clone, Debug)]
pub struct Path {
    /// Its `struct pgpath`.
    pub at: VirtAddr,
    /// The number of its group.
    pub group: Option<u32>,
    /// The device, by number: `8:16`.
    pub number: Field<String>,
    /// The device (`struct block_device`).
    pub device: Field<VirtAddr>,
    /// Whether it is in use; a failed path is not.
    pub active: Field<bool>,
    /// How often it failed.
    pub failures: Field<u32>,
    /// Whether I/O goes down this one now.
    pub current: bool,
}

#[derive(Load)]
#[load(type = "hash_cell", module)]
struct Cell {
    name: Field<VirtAddr>,
    uuid: Field<VirtAddr>,
}

#[derive(Load)]
#[load(type = "dm_table", module)]
struct Table {
    num_targets: Field<u32>,
    targets: Field<VirtAddr>,
    devices: Field<MemberAddress>,
}

#[derive(Load)]
#[load(type = "dm_target", module)]
struct RawTarget {
    #[load(address)]
    at: VirtAddr,
    #[load(any("type"))]
    kind: Field<VirtAddr>,
    begin: Field<u64>,
    len: Field<u64>,
    private: Field<VirtAddr>,
}

#[derive(Load)]
#[load(type = "target_type", module)]
struct TargetType {
    name: Field<VirtAddr>,
}

#[derive(Load)]
#[load(type = "dm_dev_internal", module)]
struct Used {
    dm_dev: Field<VirtAddr>,
}

#[derive(Load)]
#[load(type = "dm_dev", module)]
struct Device {
    bdev: Field<VirtAddr>,
    name: Field<Text>,
}

#[derive(Load)]
#[load(type = "priority_group", module)]
struct Group {
    pg_num: Field<u32>,
    pgpaths: Field<MemberAddress>,
}

#[derive(Load)]
#[load(type = "pgpath", module)]
struct RawPath {
    #[load(address)]
    at: VirtAddr,
    fail_count: Field<u32>,
    #[load(any("path.dev"))]
    device: Field<VirtAddr>,
    is_active: Field<bool>,
}

/// Targets of one table, paths of one group.
const MOST: usize = 1 << 16;
const MOST_NAME_BYTES: usize = 128;

impl Mapped {
    /// The mapped device that a disk is; `None` for other disks.
    #[must_use]
    pub fn of(kernel: &Kernel, disk: &Disk) -> Option<Self> {
        let operations = kernel.place(disk.operations.clone().ok()?)?;
        matches!(operations.symbol.name, "dm_blk_dops" | "dm_rq_blk_dops")
            .then(|| disk.private.clone().ok())
            .flatten()
            .map(|at| kernel.load(at))
    }

    /// What is done with it.
    ///
    /// # Errors
    /// It cannot be read, or no types of the module are known.
    pub fn state(&self) -> Field<MappedState> {
        let flags = self.flags.clone()?;
        let has = |bit: u32| flags >> bit & 1 != 0;
        Ok(MappedState {
            blocks_io: has(0),
            suspended: has(1),
            frozen: has(2),
            suspended_internally: has(7),
            deleting: has(3) || has(4),
        })
    }

    /// Its name; `None` where it is about to go and has none any more.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn name(&self, kernel: &Kernel) -> Field<Option<String>> {
        self.cell(kernel, |cell| cell.name)
    }

    /// Its UUID, where it was given one.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn uuid(&self, kernel: &Kernel) -> Field<Option<String>> {
        self.cell(kernel, |cell| cell.uuid)
    }

    fn cell(&self, kernel: &Kernel, part: fn(Cell) -> Field<VirtAddr>) -> Field<Option<String>> {
        let cell = self.interface_ptr.clone()?;
        if cell.is_null() {
            return Ok(None);
        }
        let text = part(kernel.load(cell))?;
        if text.is_null() {
            return Ok(None);
        }
        Ok(Some(printable(&kernel.memory().c_string(text, MOST_NAME_BYTES)?)))
    }

    /// The targets of its live table; none without a table.
    ///
    /// # Errors
    /// The table cannot be read.
    pub fn targets(&self, kernel: &Kernel) -> Field<Vec<Target>> {
        let Some(table) = self.table(kernel)? else { return Ok(Vec::new()) };
        let (first, count) = (table.targets?, table.num_targets?);
        let loader = kernel.loader::<RawTarget>();
        let size = loader.size()?;
        if count as usize > MOST {
            return Err(Lacks::implausible(format_args!("a table of {count} targets")));
        }
        let target = |index: u32| {
            let raw = loader.load(first.add(u64::from(index).wrapping_mul(size)));
            let kind = raw.kind.and_then(|at| {
                let name = kernel.load::<TargetType>(at).name?;
                Ok(printable(&kernel.memory().c_string(name, MOST_NAME_BYTES)?))
            });
            Target { at: raw.at, begin: raw.begin, length: raw.len, kind, private: raw.private }
        };
        Ok((0..count).map(target).collect())
    }

    /// The devices below it (`struct block_device`), and their numbers: `8:16`.
    ///
    /// # Errors
    /// The table cannot be read.
    pub fn devices(&self, kernel: &Kernel) -> Field<Vec<(VirtAddr, String)>> {
        let Some(table) = self.table(kernel)? else { return Ok(Vec::new()) };
        let MemberAddress(head) = table.devices?;
        let link = kernel.module_member("dm_dev_internal", &["list"])?.offset;
        let mut all = Vec::new();
        for at in walk::list(kernel.memory(), head).take(MOST) {
            let used: Used = kernel.load(at?.sub(link));
            let device: Device = kernel.load(used.dm_dev?);
            let Text(number) = device.name?;
            all.push((device.bdev?, number));
        }
        // The kernel puts new ones in front.
        all.reverse();
        Ok(all)
    }

    fn table(&self, kernel: &Kernel) -> Field<Option<Table>> {
        let map = self.map.clone()?;
        Ok((!map.is_null()).then(|| kernel.load(map)))
    }

    /// The bios that wait until it is resumed.
    ///
    /// # Errors
    /// The list cannot be read.
    pub fn deferred(&self, kernel: &Kernel) -> Field<Vec<Bio>> {
        list_of_bios(kernel, self.deferred.clone()?)
    }
}

/// Bios of a `struct bio_list`, as far as they can be read.
fn list_of_bios(kernel: &Kernel, first: VirtAddr) -> Field<Vec<Bio>> {
    Ok(bio::chain(kernel, first)?.map_while(Result::ok).collect())
}

impl Target {
    /// Its paths, where it is a multipath target.
    #[must_use]
    pub fn multipath(&self, kernel: &Kernel) -> Option<Multipath> {
        let is_multipath = self.kind.as_ref().is_ok_and(|kind| kind == "multipath");
        let private = self.private.clone().ok().filter(|at| is_multipath && !at.is_null())?;
        Some(kernel.load(private))
    }
}

impl Multipath {
    /// Whether I/O waits for a path rather than to fail, when there is none (`queue_if_no_path`).
    ///
    /// # Errors
    /// It cannot be read.
    pub fn queues_without_path(&self) -> Field<bool> {
        // MPATHF_QUEUE_IF_NO_PATH, drivers/md/dm-mpath.c: 1 since 3.15.
        Ok(self.flags.clone()? >> 1 & 1 != 0)
    }

    /// The bios that wait for a path; of a device with requests, those wait in its queue.
    ///
    /// # Errors
    /// The list cannot be read.
    pub fn queued(&self, kernel: &Kernel) -> Field<Vec<Bio>> {
        list_of_bios(kernel, self.queued.clone()?)
    }

    /// Its paths, group by group.
    ///
    /// # Errors
    /// A list cannot be read.
    pub fn paths(&self, kernel: &Kernel) -> Field<Vec<Path>> {
        let memory = kernel.memory();
        let MemberAddress(head) = self.priority_groups.clone()?;
        let of_group = kernel.module_member("priority_group", &["list"])?.offset;
        let of_path = kernel.module_member("pgpath", &["list"])?.offset;
        let current = self.current_pgpath.clone().ok();
        let mut all = Vec::new();
        for at in walk::list(memory, head).take(MOST) {
            let group: Group = kernel.load(at?.sub(of_group));
            let MemberAddress(head) = group.pgpaths?;
            for at in walk::list(memory, head).take(MOST) {
                let path: RawPath = kernel.load(at?.sub(of_path));
                let device: Field<Device> = path.device.map(|at| kernel.load(at));
                let (number, device) = match device {
                    Ok(device) => (device.name.map(|Text(name)| name), device.bdev),
                    Err(lacks) => (Err(lacks.clone()), Err(lacks)),
                };
                all.push(Path {
                    at: path.at,
                    group: group.pg_num.clone().ok(),
                    number,
                    device,
                    active: path.is_active,
                    failures: path.fail_count,
                    current: current == Some(path.at),
                });
            }
        }
        Ok(all)
    }
}
