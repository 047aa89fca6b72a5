//! All files with pages in memory: the inodes of every file system (fs/super.c, fs/inode.c).

use kdive_base::{Cancel, VirtAddr};
use kdive_target::{Field, Kernel, Load, Loader, MemberAddress, walk};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::fs::{AddressSpace, Dentry, FileKind, Inode, Mounts, SuperBlock};
use crate::path;
use crate::tasks::Tasks;

/// A file with pages in memory.
#[derive(Clone, Debug)]
pub struct CachedFile {
    /// Its inode.
    pub inode: Inode,
    /// Its pages.
    pub space: AddressSpace,
    /// The `struct super_block` of its file system.
    pub super_block: VirtAddr,
    /// The file system's type: `ext4`, `tmpfs`, `bdev`.
    pub file_system: Field<String>,
}

#[derive(Clone, Debug, Load)]
#[load(type = "super_block")]
struct SuperFields {
    s_inodes: Field<MemberAddress>,
}

#[derive(Clone, Debug, Load)]
#[load(type = "inode")]
struct InodeLinks {
    #[load(any("i_dentry.first"))]
    first_dentry: Field<VirtAddr>,
    #[load(any("i_rdev"))]
    device: Field<u32>,
    /// Its own pages: a block device's node has those of the device behind `i_mapping`.
    #[load(any("i_data"))]
    own: Field<MemberAddress>,
}

/// More file systems and files than any machine has.
const MOST_FILE_SYSTEMS: usize = 1 << 20;
const MOST_FILES: usize = 1 << 27;

/// Calls `visit` for each file with pages in memory. What cannot be followed is told, and the rest goes on.
///
/// # Errors
/// The kernel does not say where its file systems are.
pub fn files(kernel: &Kernel, cancel: &Cancel, visit: &mut dyn FnMut(Field<CachedFile>)) -> Field<()> {
    let memory = kernel.memory();
    let link = kernel.offset_of("super_block", "s_list")?;
    let inode_link = kernel.offset_of("inode", "i_sb_list")?;
    let (supers, inodes) = (kernel.loader::<SuperFields>(), kernel.loader::<Inode>());
    let (links, spaces) = (kernel.loader::<InodeLinks>(), kernel.loader::<AddressSpace>());
    for item in walk::list(memory, kernel.symbol("super_blocks")?).take(MOST_FILE_SYSTEMS) {
        let at = match item {
            Ok(at) => at.sub(link),
            Err(broken) => {
                visit(Err(broken.into()));
                break;
            }
        };
        let file_system = kernel.load::<SuperBlock>(at).type_name(kernel);
        let head = match supers.load(at).s_inodes {
            Ok(MemberAddress(head)) => head,
            Err(lacks) => {
                visit(Err(lacks));
                continue;
            }
        };
        for item in walk::list(memory, head).take(MOST_FILES) {
            if cancel.is_cancelled() {
                return Ok(());
            }
            let inode = match item {
                Ok(at) => at.sub(inode_link),
                Err(broken) => {
                    visit(Err(broken.into()));
                    break;
                }
            };
            let own = links.load(inode).own;
            let found = own.map(|MemberAddress(at)| spaces.load(at));
            match found {
                Ok(space) if space.pages == Ok(0) => {}
                Ok(space) => visit(Ok(CachedFile {
                    inode: inodes.load(inode),
                    space,
                    super_block: at,
                    file_system: file_system.clone(),
                })),
                Err(lacks) => visit(Err(lacks)),
            }
        }
    }
    Ok(())
}

/// Names files by the mounts that process 1 sees.
pub struct Names<'k> {
    kernel: &'k Kernel,
    /// The first mount of each file system: its `struct vfsmount`.
    mounts: FxHashMap<VirtAddr, VirtAddr>,
    links: Loader<'k, InodeLinks>,
    entries: Loader<'k, Dentry>,
    /// Offset of the link among an inode's directory entries.
    alias: Field<u64>,
}

impl<'k> Names<'k> {
    /// For this kernel. File systems that are mounted nowhere have names from their own root.
    #[must_use]
    pub fn find(kernel: &'k Kernel) -> Self {
        Self {
            kernel,
            mounts: mounts(kernel).unwrap_or_default(),
            links: kernel.loader(),
            entries: kernel.loader(),
            alias: kernel.member("dentry", &["d_u.d_alias", "d_alias"]).map(|member| member.offset),
        }
    }

    /// The path of a file; of a block device its number; of a file without a name what it is.
    ///
    /// # Errors
    /// Directory entries are lacking.
    pub fn of(&self, file: &CachedFile) -> Field<String> {
        let links = self.links.load(file.inode.at);
        if file.file_system.as_deref() == Ok("bdev") {
            let device = links.device?;
            return Ok(format!("block device {}:{}", device >> 20, device & 0xf_ffff));
        }
        let first = links.first_dentry?;
        if first.is_null() {
            return Ok(match file.inode.kind() {
                Ok(FileKind::Directory) => "(directory without a name in memory)",
                _ => "(no name in memory)",
            }
            .to_owned());
        }
        let dentry = first.sub(self.alias.clone()?);
        let entry = self.entries.load(dentry);
        let name = match self.mounts.get(&file.super_block) {
            Some(vfsmount) => path::of_dentry(self.kernel, *vfsmount, dentry)?,
            None => path::in_file_system(self.kernel, dentry)?,
        };
        Ok(match entry.is_deleted() {
            Ok(true) if !name.ends_with(" (deleted)") => format!("{name} (deleted)"),
            _ => name,
        })
    }
}

/// A mount of each file system, of all namespaces that tasks are in; those of process 1 go first.
fn mounts(kernel: &Kernel) -> Field<FxHashMap<VirtAddr, VirtAddr>> {
    let inside = kernel.offset_of("mount", "mnt")?;
    let tasks = Tasks::find(kernel);
    let proxies = tasks.with_pid(1).chain(tasks.all()).filter_map(|task| task.nsproxy.clone().ok());
    let mut seen = FxHashSet::default();
    let mut found = FxHashMap::default();
    for proxy in proxies.filter(|at| !at.is_null() && seen.insert(*at)) {
        let Ok(mounts) = Mounts::of_proxy(kernel, proxy) else { continue };
        for mount in mounts.all {
            let Ok(super_block) = mount.super_block.clone() else { continue };
            found.entry(super_block).or_insert_with(|| mount.at.add(inside));
        }
    }
    Ok(found)
}
