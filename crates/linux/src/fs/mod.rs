//! The virtual file system (`fs/`, include/linux/fs.h): open files, inodes, mounts, and pages of files in memory.
//!
//! Names of files are in [`path`](crate::path).

pub mod cached;
pub mod char_dev;
mod file;
mod inode;
mod mount;
mod page_cache;

pub use file::{Descriptor, Descriptors, File, FsStruct, descriptors};
pub use inode::{Dentry, FileKind, Inode};
pub use mount::{Mount, Mounts, SuperBlock, super_blocks};
pub use page_cache::{AddressSpace, CachedPage, PageCache};
