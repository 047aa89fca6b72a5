//! Inodes and the directory entries that name them (include/linux/fs.h, include/linux/dcache.h).

use std::fmt;

use kdive_base::VirtAddr;
use kdive_target::{Field, Load};
use serde::{Serialize, Serializer};

/// The part of `struct inode` that kdive understands.
#[derive(Clone, Debug, Load)]
#[load(type = "inode")]
pub struct Inode {
    /// Its address.
    #[load(address)]
    pub at: VirtAddr,
    /// Kind and permissions (`S_IF*`, include/uapi/linux/stat.h).
    #[load(any("i_mode"))]
    pub mode: Field<u16>,
    /// Its number in its file system.
    #[load(any("i_ino"))]
    pub number: Field<u64>,
    /// Its file system (`struct super_block`).
    #[load(any("i_sb"))]
    pub super_block: Field<VirtAddr>,
    /// Its pages in memory (`struct address_space`); of a block device those of the device.
    #[load(any("i_mapping"))]
    pub mapping: Field<VirtAddr>,
    /// Size in bytes.
    #[load(any("i_size"))]
    pub size: Field<u64>,
}

impl Inode {
    /// What kind of file it is.
    ///
    /// # Errors
    /// The inode cannot be read.
    pub fn kind(&self) -> Field<FileKind> {
        self.mode.clone().map(FileKind::of)
    }
}

/// The part of `struct dentry` that kdive understands.
#[derive(Clone, Debug, Load)]
#[load(type = "dentry")]
pub struct Dentry {
    /// Its address.
    #[load(address)]
    pub at: VirtAddr,
    /// What it names; null where it says that there is no such file.
    #[load(any("d_inode"))]
    pub inode: Field<VirtAddr>,
    /// Its file system (`struct super_block`).
    #[load(any("d_sb"))]
    pub super_block: Field<VirtAddr>,
    /// The directory that it is in; itself, where it is in none.
    #[load(any("d_parent"))]
    pub parent: Field<VirtAddr>,
    /// Its name there (`char *`).
    #[load(any("d_name.name", "__d_name.name"))]
    pub name: Field<VirtAddr>,
    /// The link that leads to it in the hash table of names; null where it is in none.
    #[load(any("d_hash.pprev"))]
    hash_link: Field<VirtAddr>,
    /// `struct dentry_operations`; null for none.
    #[load(any("d_op"))]
    pub operations: Field<VirtAddr>,
}

impl Dentry {
    /// Whether its name was removed while it is in use (`d_unlinked`).
    ///
    /// # Errors
    /// The dentry cannot be read.
    pub fn is_deleted(&self) -> Field<bool> {
        Ok(self.hash_link.clone()?.is_null() && self.parent.clone()? != self.at)
    }
}

/// The kind of a file (`S_IFMT`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A pipe, with or without a name.
    Fifo,
    /// A socket.
    Socket,
    /// A symbolic link.
    Link,
    /// None of these: inodes of the kernel's own (`anon_inode`).
    Unknown,
}

impl FileKind {
    /// By the mode of an inode.
    #[must_use]
    pub fn of(mode: u16) -> Self {
        match mode >> 12 {
            0o10 => Self::Regular,
            0o04 => Self::Directory,
            0o02 => Self::CharDevice,
            0o06 => Self::BlockDevice,
            0o01 => Self::Fifo,
            0o14 => Self::Socket,
            0o12 => Self::Link,
            _ => Self::Unknown,
        }
    }

    /// crash's letters for it.
    #[must_use]
    pub fn letters(self) -> &'static str {
        match self {
            Self::Regular => "REG",
            Self::Directory => "DIR",
            Self::CharDevice => "CHR",
            Self::BlockDevice => "BLK",
            Self::Fifo => "FIFO",
            Self::Socket => "SOCK",
            Self::Link => "LNK",
            Self::Unknown => "UNKN",
        }
    }
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.letters())
    }
}

impl Serialize for FileKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.letters())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_tell_the_kind() {
        let kinds = [0o100_644, 0o040_755, 0o020_600, 0o060_660, 0o010_600, 0o140_777, 0o120_777, 0o600];
        let letters: Vec<_> = kinds.into_iter().map(|mode| FileKind::of(mode).letters()).collect();
        assert_eq!(letters, ["REG", "DIR", "CHR", "BLK", "FIFO", "SOCK", "LNK", "UNKN"]);
    }
}
