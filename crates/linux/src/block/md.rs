//! Arrays of disks (drivers/md/md.c): their members, and what they do to come back in step.

use kdive_base::{VirtAddr, printable};
use kdive_target::walk;
use kdive_target::{Field, Kernel, Load, MemberAddress};

use super::disk::Disk;

/// The part of `struct mddev` that kdive understands.
#[derive(Clone, Debug, Load)]
#[load(type = "mddev", module)]
pub struct Array {
    /// Its address.
    #[load(address)]
    pub at: VirtAddr,
    /// RAID level; below zero for others (`linear`, `multipath`).
    pub level: Field<i32>,
    /// Places for disks.
    pub raid_disks: Field<u32>,
    /// Places that are empty or failed.
    pub degraded: Field<u32>,
    /// 0 written to, 1 read only, 2 read only until the first write.
    pub ro: Field<u32>,
    /// How many hold it suspended: I/O waits.
    pub suspended: Field<i32>,
    /// Sectors that a resync or recovery has come to.
    pub curr_resync_completed: Field<u64>,
    /// Sectors that it has to do.
    pub resync_max_sectors: Field<u64>,
    recovery: Field<u64>,
    sb_flags: Field<u64>,
    pers: Field<VirtAddr>,
    disks: Field<MemberAddress>,
}

/// A disk of an array.
#[derive(Clone, Debug, Load)]
#[load(type = "md_rdev", module)]
pub struct Member {
    /// Its `struct md_rdev`.
    #[load(address)]
    pub at: VirtAddr,
    /// The disk or partition (`struct block_device`).
    #[load(any("bdev"))]
    pub device: Field<VirtAddr>,
    /// Its place in the array; below zero for a spare.
    #[load(any("raid_disk"))]
    pub place: Field<i32>,
    flags: Field<u64>,
    /// Requests that it has.
    #[load(any("nr_pending.counter"))]
    pub pending: Field<i32>,
}

#[derive(Load)]
#[load(type = "md_personality", module)]
struct Personality {
    #[load(any("head.name", "name"))]
    name: Field<VirtAddr>,
}

const MOST_NAME_BYTES: usize = 32;
const MOST_MEMBERS: usize = 1 << 14;

impl Array {
    /// The array that a disk is; `None` for other disks.
    #[must_use]
    pub fn of(kernel: &Kernel, disk: &Disk) -> Option<Self> {
        let operations = kernel.place(disk.operations.clone().ok()?)?;
        (operations.symbol.name == "md_fops")
            .then(|| disk.private.clone().ok())
            .flatten()
            .map(|at| kernel.load(at))
    }

    /// What makes it an array: `raid1`, `raid456`; `None` where it does not run.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn personality(&self, kernel: &Kernel) -> Field<Option<String>> {
        let at = self.pers.clone()?;
        if at.is_null() {
            return Ok(None);
        }
        let name = kernel.load::<Personality>(at).name?;
        Ok(Some(printable(&kernel.memory().c_string(name, MOST_NAME_BYTES)?)))
    }

    /// Whether a resync, recovery, reshape or check is under way.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn is_syncing(&self, kernel: &Kernel) -> Field<bool> {
        let bit = kernel.module_enumerator("MD_RECOVERY_RUNNING")?;
        Ok(has(self.recovery.clone()?, bit))
    }

    /// Whether writes wait until its members have been told of a change.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn waits_for_superblock(&self, kernel: &Kernel) -> Field<bool> {
        let bit = kernel.module_enumerator("MD_SB_CHANGE_PENDING")?;
        Ok(has(self.sb_flags.clone()?, bit))
    }

    /// Its members.
    ///
    /// # Errors
    /// Their list cannot be read.
    pub fn members(&self, kernel: &Kernel) -> Field<Vec<Member>> {
        let MemberAddress(head) = self.disks.clone()?;
        let link = kernel.module_member("md_rdev", &["same_set"])?.offset;
        let loader = kernel.loader::<Member>();
        walk::list(kernel.memory(), head)
            .take(MOST_MEMBERS)
            .map(|at| Ok(loader.load(at?.sub(link))))
            .collect()
    }
}

impl Member {
    /// Whether it failed.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn is_faulty(&self, kernel: &Kernel) -> Field<bool> {
        Ok(has(self.flags.clone()?, kernel.module_enumerator("Faulty")?))
    }

    /// Whether it has all that the array has.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn is_in_sync(&self, kernel: &Kernel) -> Field<bool> {
        Ok(has(self.flags.clone()?, kernel.module_enumerator("In_sync")?))
    }
}

fn has(word: u64, bit: i128) -> bool {
    u32::try_from(bit).ok().and_then(|bit| word.checked_shr(bit)).is_some_and(|word| word & 1 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_beyond_the_word_are_not_set() {
        assert!(has(0b10, 1) && !has(0b10, 0) && !has(u64::MAX, 64) && !has(u64::MAX, -1));
    }
}
