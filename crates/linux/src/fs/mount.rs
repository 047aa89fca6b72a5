//! Mounts of a namespace (`struct mount`, fs/mount.h) and file systems (`struct super_block`, include/linux/fs.h).

use kdive_base::{VirtAddr, printable};
use kdive_target::walk::{self, Order, RbLayout};
use kdive_target::{Field, Kernel, Lacks, Load, Text};

/// The part of `struct mount` that kdive understands. What others see of it is the `struct vfsmount` inside.
#[derive(Clone, Debug, Load)]
#[load(type = "mount")]
pub struct Mount {
    /// Its address.
    #[load(address)]
    pub at: VirtAddr,
    /// The mount that it is mounted on; itself at the root of all.
    #[load(any("mnt_parent"))]
    pub parent: Field<VirtAddr>,
    /// The directory that it is mounted on, in its parent (`struct dentry`).
    #[load(any("mnt_mountpoint"))]
    pub mountpoint: Field<VirtAddr>,
    /// Its own root directory (`struct dentry`).
    #[load(any("mnt.mnt_root"))]
    pub root: Field<VirtAddr>,
    /// The file system that is mounted (`struct super_block`).
    #[load(any("mnt.mnt_sb"))]
    pub super_block: Field<VirtAddr>,
    /// `MNT_*` flags (include/linux/mount.h).
    #[load(any("mnt.mnt_flags"))]
    pub flags: Field<u32>,
    /// What was mounted, as it was named then (`char *`).
    #[load(any("mnt_devname"))]
    pub device: Field<VirtAddr>,
    /// The number that /proc/PID/mountinfo shows.
    #[load(any("mnt_id"))]
    pub id: Field<i32>,
    /// Its namespace (`struct mnt_namespace`).
    #[load(any("mnt_ns"))]
    pub namespace: Field<VirtAddr>,
}

/// `MNT_CURSOR`: stands in the list for a reader of /proc/mounts (5.8 to 6.7).
const MNT_CURSOR: u32 = 0x1000_0000;
/// A page holds the arguments of mount(2).
const MOST_NAME_BYTES: usize = 4096;

impl Mount {
    /// The name of what was mounted.
    ///
    /// # Errors
    /// It is not in the dump.
    pub fn device_name(&self, kernel: &Kernel) -> Field<String> {
        let at = self.device.clone()?;
        // As in /proc/mounts.
        if at.is_null() {
            return Ok("none".into());
        }
        Ok(printable(&kernel.memory().c_string(at, MOST_NAME_BYTES)?))
    }
}

/// The part of `struct super_block` that kdive understands.
#[derive(Clone, Debug, Load)]
#[load(type = "super_block")]
pub struct SuperBlock {
    /// Its address.
    #[load(address)]
    pub at: VirtAddr,
    /// Its type (`struct file_system_type`).
    #[load(any("s_type"))]
    pub kind: Field<VirtAddr>,
    /// Its root directory (`struct dentry`).
    #[load(any("s_root"))]
    pub root: Field<VirtAddr>,
    /// What it calls itself: mostly its disk.
    #[load(any("s_id"))]
    pub id: Field<Text>,
    /// What its type keeps of it.
    #[load(any("s_fs_info"))]
    pub info: Field<VirtAddr>,
}

#[derive(Load)]
#[load(type = "file_system_type")]
struct FileSystemType {
    name: Field<VirtAddr>,
}

impl SuperBlock {
    /// The name of its type: `ext4`.
    ///
    /// # Errors
    /// It is not in the dump.
    pub fn type_name(&self, kernel: &Kernel) -> Field<String> {
        let kind: FileSystemType = kernel.load(self.kind.clone()?);
        Ok(printable(&kernel.memory().c_string(kind.name?, 64)?))
    }
}

/// Mounted file systems of one machine.
const MOST_FILE_SYSTEMS: usize = 1 << 20;

/// All file systems that are mounted anywhere (`super_blocks`, fs/super.c), as far as their list goes; why it ends early is
/// the last item.
///
/// # Errors
/// The list cannot be found.
pub fn super_blocks(kernel: &Kernel) -> Field<impl Iterator<Item = Field<SuperBlock>> + '_> {
    let head = kernel.symbol("super_blocks")?;
    let link = kernel.offset_of("super_block", "s_list")?;
    let loader = kernel.loader::<SuperBlock>();
    Ok(walk::list(kernel.memory(), head)
        .take(MOST_FILE_SYSTEMS)
        .map(move |at| Ok(loader.load(at?.sub(link)))))
}

/// The mounts of a namespace.
#[derive(Clone, Debug, Default)]
pub struct Mounts {
    /// In the order of the kernel: that in which they were mounted.
    pub all: Vec<Mount>,
    /// Why not all are known, where they are not.
    pub incomplete: Vec<Lacks>,
}

#[derive(Load)]
#[load(type = "nsproxy")]
struct NsProxy {
    mnt_ns: Field<VirtAddr>,
}

impl Mounts {
    /// The mounts that a task sees, by its `struct nsproxy`.
    ///
    /// # Errors
    /// The task has no namespaces any more, or the way to its mounts is lacking.
    pub fn of_proxy(kernel: &Kernel, nsproxy: VirtAddr) -> Field<Self> {
        if nsproxy.is_null() {
            return Err(Lacks::unavailable("the task has left its namespaces"));
        }
        let proxy: NsProxy = kernel.load(nsproxy);
        Self::of_namespace(kernel, proxy.mnt_ns?)
    }

    /// The mounts of a namespace (`struct mnt_namespace`).
    ///
    /// # Errors
    /// They cannot be walked.
    pub fn of_namespace(kernel: &Kernel, namespace: VirtAddr) -> Field<Self> {
        let memory = kernel.memory();
        let loader = kernel.loader::<Mount>();
        let mut mounts = Self::default();
        // A tree since 6.8; `mounts` was their number before.
        if let Ok(node) = kernel.offset_of("mount", "mnt_node") {
            let root = kernel.member("mnt_namespace", &["mounts.rb_node"])?.offset;
            let root = memory.pointer(namespace.add(root))?;
            for found in walk::rbtree(memory, RbLayout::find(kernel)?, root, Order::Sorted) {
                match found {
                    Ok(found) => mounts.all.push(loader.load(found.at.sub(node))),
                    Err(broken) => mounts.incomplete.push(broken.into()),
                }
            }
            return Ok(mounts);
        }
        let link = kernel.offset_of("mount", "mnt_list")?;
        let head = namespace.add(kernel.offset_of("mnt_namespace", "list")?);
        for found in walk::list(memory, head) {
            match found.map(|at| loader.load(at.sub(link))) {
                Ok(mount) if mount.flags.as_ref().is_ok_and(|flags| flags & MNT_CURSOR != 0) => {}
                Ok(mount) => mounts.all.push(mount),
                Err(broken) => mounts.incomplete.push(broken.into()),
            }
        }
        Ok(mounts)
    }
}
