//! Names of files: from an open file back to the root, over mounts (`d_path`, fs/d_path.c).

use std::ops::ControlFlow;
use std::sync::{Arc, RwLock};

use kdive_base::{VirtAddr, printable};
use kdive_target::{Field, Kernel, Lacks, Load, Loader};
use rustc_hash::FxHashMap;

use crate::fs::{Dentry, File, Inode, Mount};

/// `PATH_MAX` bytes of names of one letter: a deeper path loops.
const MOST_STEPS: usize = 2048;
/// `NAME_MAX`.
const MOST_NAME_BYTES: usize = 255;
/// Paths that are kept: the files of a large machine.
const MOST_KEPT: usize = 1 << 18;

/// The path of an open file (`struct file`) from the root of its namespace.
///
/// # Errors
/// A link on the way is lacking, or the way does not end.
pub fn of_file(kernel: &Kernel, file: VirtAddr) -> Field<String> {
    let file: File = kernel.load(file);
    of_dentry(kernel, file.mount?, file.dentry?)
}

/// The directory that a file system is mounted on.
///
/// # Errors
/// As [`of_file`].
pub fn of_mount(kernel: &Kernel, mount: &Mount) -> Field<String> {
    of_dentry(kernel, mount.at.add(kernel.offset_of("mount", "mnt")?), mount.root.clone()?)
}

/// Paths that were asked for: many tasks have the same files open.
#[derive(Default)]
struct Kept(RwLock<FxHashMap<(VirtAddr, VirtAddr), Arc<str>>>);

/// The path of a directory entry as the mount (`struct vfsmount`) has it. What has no path has the name that /proc
/// shows (`pipe:[1456]`).
///
/// # Errors
/// As [`of_file`].
pub fn of_dentry(kernel: &Kernel, vfsmount: VirtAddr, dentry: VirtAddr) -> Field<String> {
    let Kept(kept) = kernel.once(|_| Kept::default());
    let place = (vfsmount, dentry);
    if let Some(path) = kept.read().ok().and_then(|kept| kept.get(&place).cloned()) {
        return Ok(path.to_string());
    }
    let path = walk(kernel, vfsmount, dentry)?;
    if let Ok(mut kept) = kept.write()
        && kept.len() < MOST_KEPT
    {
        kept.insert(place, path.as_str().into());
    }
    Ok(path)
}

fn walk(kernel: &Kernel, vfsmount: VirtAddr, dentry: VirtAddr) -> Field<String> {
    let mounts = kernel.loader::<Mount>();
    let entries = kernel.loader::<Dentry>();
    let inside = kernel.offset_of("mount", "mnt")?;
    let mut mount = mounts.load(vfsmount.sub(inside));
    let mut at = dentry;
    let mut names: Vec<String> = Vec::new();
    for _ in 0..MOST_STEPS {
        if at == mount.root.clone()? {
            let (parent, point) = (mount.parent.clone()?, mount.mountpoint.clone()?);
            if parent == mount.at {
                names.reverse();
                return Ok(format!("/{}", names.join("/")));
            }
            (mount, at) = (mounts.load(parent), point);
            continue;
        }
        // A file system that is mounted nowhere (any more) ends the path at its own root.
        match step(kernel, &entries, at, at == dentry, &mut names)? {
            ControlFlow::Continue(parent) => at = parent,
            ControlFlow::Break(path) => return Ok(path),
        }
    }
    Err(endless())
}

/// The path of a directory entry from the root of its own file system.
///
/// # Errors
/// As [`of_file`].
pub fn in_file_system(kernel: &Kernel, dentry: VirtAddr) -> Field<String> {
    let entries = kernel.loader::<Dentry>();
    let mut at = dentry;
    let mut names: Vec<String> = Vec::new();
    for _ in 0..MOST_STEPS {
        match step(kernel, &entries, at, at == dentry, &mut names)? {
            ControlFlow::Continue(parent) => at = parent,
            ControlFlow::Break(path) => return Ok(path),
        }
    }
    Err(endless())
}

/// Goes from an entry to its parent and keeps its name, or ends at the root of the file system with the whole path.
fn step(
    kernel: &Kernel,
    entries: &Loader<'_, Dentry>,
    at: VirtAddr,
    is_first: bool,
    names: &mut Vec<String>,
) -> Field<ControlFlow<String, VirtAddr>> {
    let entry = entries.load(at);
    if let Some(name) = made_up(kernel, &entry).filter(|_| is_first) {
        return Ok(ControlFlow::Break(name));
    }
    let name = name_of(kernel, &entry)?;
    let parent = entry.parent?;
    if parent == at {
        return Ok(ControlFlow::Break(below_root(std::mem::take(names), name)));
    }
    names.push(name);
    Ok(ControlFlow::Continue(parent))
}

/// Joins names that were found from the last to the first. A root is called `/`; what is in no directory is one.
fn below_root(mut names: Vec<String>, root: String) -> String {
    let is_directory = root == "/";
    names.push(if is_directory && !names.is_empty() { String::new() } else { root });
    names.reverse();
    names.join("/")
}

fn endless() -> Lacks {
    Lacks::implausible("a path that does not end")
}

fn name_of(kernel: &Kernel, entry: &Dentry) -> Field<String> {
    Ok(printable(&kernel.memory().c_string(entry.name.clone()?, MOST_NAME_BYTES)?))
}

#[derive(Load)]
#[load(type = "dentry_operations")]
struct Operations {
    d_dname: Field<VirtAddr>,
}

/// The name of a file that is in no directory: its file system makes it up when it is asked (`d_dname`).
fn made_up(kernel: &Kernel, entry: &Dentry) -> Option<String> {
    let operations = entry.operations.clone().ok().filter(|at| !at.is_null())?;
    let function = kernel.load::<Operations>(operations).d_dname.ok().filter(|at| !at.is_null())?;
    let number = || {
        let inode: Inode = kernel.load(entry.inode.clone().ok()?);
        inode.number.ok()
    };
    match kernel.place(function)?.symbol.name {
        "pipefs_dname" => Some(format!("pipe:[{}]", number()?)),
        "sockfs_dname" => Some(format!("socket:[{}]", number()?)),
        "anon_inodefs_dname" => Some(format!("anon_inode:{}", name_of(kernel, entry).ok()?)),
        // An anonymous inode until 6.9, and still called so.
        "pidfs_dname" => Some("anon_inode:[pidfd]".to_owned()),
        // Memory files: in no directory from the start.
        "simple_dname" => Some(format!("/{} (deleted)", name_of(kernel, entry).ok()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_have_a_slash_or_a_name() {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        assert_eq!(below_root(Vec::new(), "/".into()), "/");
        assert_eq!(below_root(names(&["blob", "data"]), "/".into()), "/data/blob");
        assert_eq!(below_root(Vec::new(), "memfd:x".into()), "memfd:x");
    }
}
