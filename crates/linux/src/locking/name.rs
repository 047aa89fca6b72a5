//! What a lock is called.

use std::collections::BTreeMap;

use kdive_base::VirtAddr;
use kdive_target::{Field, Kernel, Text};
use rustc_hash::FxHashMap;

use super::kind::LockKind;
use crate::fs;
use crate::slab::Slabs;
use crate::tasks::Tasks;

/// Slab caches that are not called as the structure in them.
const CACHES: &[(&str, &str)] = &[
    ("bdev_cache", "bdev_inode"),
    ("files_cache", "files_struct"),
    ("filp", "file"),
    ("fs_cache", "fs_struct"),
    ("inode_cache", "inode"),
    ("kernfs_node_cache", "kernfs_node"),
    ("proc_inode_cache", "proc_inode"),
    ("sighand_cache", "sighand_struct"),
    ("signal_cache", "signal_struct"),
    ("sock_inode_cache", "socket_alloc"),
];

/// A symbol that stands further before an address than this is not of it: no variable that holds locks is larger.
const LARGEST_VARIABLE: u64 = 1 << 20;

/// Names locks.
pub(super) struct Namer<'k> {
    kernel: &'k Kernel,
    /// The `mmap_lock` of each address space, and a process that has it.
    of_memory: FxHashMap<VirtAddr, String>,
    /// Super blocks, which lie in a cache of no name, and what they call themselves.
    super_blocks: BTreeMap<VirtAddr, String>,
}

/// File systems by address, and what they call themselves.
fn super_blocks(kernel: &Kernel) -> Field<BTreeMap<VirtAddr, String>> {
    let named = fs::super_blocks(kernel)?.map_while(Result::ok).map(|of| {
        let id = of.id.map_or_else(|_| "?".to_owned(), |Text(id)| id);
        (of.at, id)
    });
    Ok(named.collect())
}

impl<'k> Namer<'k> {
    pub(super) fn new(kernel: &'k Kernel, tasks: &Tasks) -> Self {
        // mmap_sem before 5.8.
        let offset = kernel.member("mm_struct", &["mmap_lock", "mmap_sem"]).map(|member| member.offset);
        let mut of_memory = FxHashMap::default();
        for task in tasks.all().iter().filter(|task| task.is_group_leader() == Some(true)) {
            if let (Ok(offset), Ok(mm), Ok(pid)) = (&offset, &task.mm, &task.pid)
                && !mm.is_null()
            {
                of_memory.entry(mm.add(*offset)).or_insert_with(|| format!("mmap_lock of PID {pid}"));
            }
        }
        Self { kernel, of_memory, super_blocks: super_blocks(kernel).unwrap_or_default() }
    }

    /// What the thing at an address is called: a variable, or a member of an object.
    pub(super) fn name(&mut self, kind: LockKind, at: VirtAddr) -> Option<String> {
        if at.0 >> 63 == 0 || kind == LockKind::Folio {
            return None;
        }
        if let Some(name) = self.of_memory.get(&at) {
            return Some(name.clone());
        }
        if let Some(place) = self.kernel.place(at) {
            return (place.offset < LARGEST_VARIABLE).then(|| place.to_string());
        }
        if let Some(name) = self.in_super_block(at) {
            return Some(name);
        }
        let object = Slabs::find(self.kernel).object_at(self.kernel, at).ok()??;
        let start = object.object.ok()?;
        Some(self.member(&object.cache_name, at.since(start)))
    }

    /// `super_block.s_writers.rw_sem[0] of vdb`
    fn in_super_block(&self, at: VirtAddr) -> Option<String> {
        let (start, id) = self.super_blocks.range(..=at).next_back()?;
        let offset = at.since(*start);
        let record = self.kernel.record("super_block").ok().filter(|_| offset < LARGEST_VARIABLE)?;
        if offset >= self.kernel.size_of("super_block").ok()? {
            return None;
        }
        let path = self.kernel.types().ok()?.path_at(record, offset)?;
        Some(format!("super_block.{} of {id}", trim(&path)))
    }

    /// `inode.i_rwsem`, or with the offset in bytes where the structure is not known.
    fn member(&self, cache: &str, offset: u64) -> String {
        let info = cache.strip_suffix("_inode_cache").map(|name| format!("{name}_inode_info"));
        let alias =
            CACHES.iter().find(|(name, _)| *name == cache).map(|(_, structure)| (*structure).to_owned());
        let structure = alias.or(info).unwrap_or_else(|| cache.to_owned());
        let path = || {
            let id = self.kernel.record(&structure).ok()?;
            self.kernel.types().ok()?.path_at(id, offset)
        };
        match path() {
            // Members of the lock itself say nothing.
            Some(path) => format!("{structure}.{}", trim(&path)),
            None => format!("{cache}+{offset}"),
        }
    }
}

/// A path without the lock's own members at its end.
fn trim(path: &str) -> &str {
    const OWN: [&str; 9] =
        [".owner", ".count", ".lock", ".counter", ".done", ".base", ".rss", ".gp_state", ".waiters"];
    let mut path = path;
    while let Some(shorter) = OWN.iter().find_map(|own| path.strip_suffix(own)) {
        path = shorter;
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_called_by_the_member_that_it_is() {
        assert_eq!(trim("vfs_inode.i_rwsem.count.counter"), "vfs_inode.i_rwsem");
        assert_eq!(trim("cred_guard_mutex.owner.counter"), "cred_guard_mutex");
        assert_eq!(trim("mmap_lock"), "mmap_lock");
    }
}
