//! Names of files: from an open file back to the root, over mounts (`d_path`, fs/d_path.c).

use kdive_base::{VirtAddr, printable};
use kdive_target::{Field, Kernel, Lacks, Load};

/// The part of `struct file` that leads to its name.
#[derive(Clone, Debug, Load)]
#[load(type = "file")]
struct File {
    #[load(any("f_path.mnt"))]
    mount: Field<VirtAddr>,
    #[load(any("f_path.dentry"))]
    dentry: Field<VirtAddr>,
}

#[derive(Clone, Debug, Load)]
#[load(type = "dentry")]
struct Dentry {
    d_parent: Field<VirtAddr>,
    #[load(any("d_name.name", "__d_name.name"))]
    name: Field<VirtAddr>,
}

/// `struct mount` (fs/mount.h), which holds the `struct vfsmount` that others see.
#[derive(Clone, Debug, Load)]
#[load(type = "mount")]
struct Mount {
    #[load(address)]
    at: VirtAddr,
    mnt_parent: Field<VirtAddr>,
    mnt_mountpoint: Field<VirtAddr>,
    #[load(any("mnt.mnt_root"))]
    root: Field<VirtAddr>,
}

/// `PATH_MAX` bytes of names of one letter: a deeper path loops.
const MOST_STEPS: usize = 2048;
/// `NAME_MAX`.
const MOST_NAME_BYTES: usize = 255;

/// The path of an open file (`struct file`) from the root of its namespace.
///
/// # Errors
/// A link on the way is lacking, or the way does not end.
pub fn of_file(kernel: &Kernel, file: VirtAddr) -> Field<String> {
    let file: File = kernel.load(file);
    of_dentry(kernel, file.mount?, file.dentry?)
}

/// The path of a directory entry as the mount (`struct vfsmount`) has it.
///
/// # Errors
/// As [`of_file`].
pub fn of_dentry(kernel: &Kernel, vfsmount: VirtAddr, dentry: VirtAddr) -> Field<String> {
    let mounts = kernel.loader::<Mount>();
    let entries = kernel.loader::<Dentry>();
    let inside = kernel.offset_of("mount", "mnt")?;
    let mut mount = mounts.load(vfsmount.sub(inside));
    let mut at = dentry;
    let mut names: Vec<String> = Vec::new();
    for _ in 0..MOST_STEPS {
        if at == mount.root.clone()? {
            let (parent, point) = (mount.mnt_parent.clone()?, mount.mnt_mountpoint.clone()?);
            if parent == mount.at {
                names.reverse();
                return Ok(format!("/{}", names.join("/")));
            }
            (mount, at) = (mounts.load(parent), point);
            continue;
        }
        let entry = entries.load(at);
        let name = printable(&kernel.memory().c_string(entry.name?, MOST_NAME_BYTES)?);
        let parent = entry.d_parent?;
        // The root of a file system that is mounted nowhere: pipes, sockets, memory files.
        if parent == at {
            names.push(name);
            names.reverse();
            return Ok(names.join("/"));
        }
        names.push(name);
        at = parent;
    }
    Err(Lacks::implausible("a path that does not end"))
}
