//! Open files (`struct file`, include/linux/fs.h) and the tables of them (include/linux/fdtable.h).

use kdive_base::{Endian, VirtAddr, VirtualMemory};
use kdive_target::{Field, Kernel, Lacks, Load};

/// The part of `struct file` that kdive understands.
#[derive(Clone, Debug, Load)]
#[load(type = "file")]
pub struct File {
    /// Its address.
    #[load(address)]
    pub at: VirtAddr,
    /// The mount that it was opened through (`struct vfsmount`).
    #[load(any("f_path.mnt"))]
    pub mount: Field<VirtAddr>,
    /// Its name.
    #[load(any("f_path.dentry"))]
    pub dentry: Field<VirtAddr>,
    /// Its inode (3.9).
    #[load(any("f_inode"))]
    pub inode: Field<VirtAddr>,
    /// Where the next read or write begins, in bytes.
    #[load(any("f_pos"))]
    pub position: Field<u64>,
    /// `O_*` flags.
    #[load(any("f_flags"))]
    pub flags: Field<u32>,
    /// What it belongs to: of a socket its `struct socket`.
    pub private_data: Field<VirtAddr>,
}

/// The root and the working directory of a task (`struct fs_struct`, include/linux/fs_struct.h).
#[derive(Clone, Debug, Load)]
#[load(type = "fs_struct")]
pub struct FsStruct {
    /// Mount of the root directory (`struct vfsmount`).
    #[load(any("root.mnt"))]
    pub root_mount: Field<VirtAddr>,
    /// The root directory.
    #[load(any("root.dentry"))]
    pub root: Field<VirtAddr>,
    /// Mount of the working directory.
    #[load(any("pwd.mnt"))]
    pub cwd_mount: Field<VirtAddr>,
    /// The working directory.
    #[load(any("pwd.dentry"))]
    pub cwd: Field<VirtAddr>,
}

#[derive(Load)]
#[load(type = "files_struct")]
struct FilesStruct {
    fdt: Field<VirtAddr>,
}

#[derive(Load)]
#[load(type = "fdtable")]
struct FdTable {
    max_fds: Field<u32>,
    /// `struct file *[max_fds]`.
    fd: Field<VirtAddr>,
    /// A bit for each descriptor that is taken.
    open_fds: Field<VirtAddr>,
    /// A bit for each that exec(2) closes.
    close_on_exec: Field<VirtAddr>,
}

/// A descriptor that is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Its number.
    pub fd: u32,
    /// Its `struct file`.
    pub file: Field<VirtAddr>,
}

/// The open descriptors of a task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Descriptors {
    /// By number.
    pub open: Vec<Descriptor>,
    /// Why not all are known, where they are not.
    pub incomplete: Option<Lacks>,
}

/// `/proc/sys/fs/nr_open` is 2^20, and more than this needs a machine of its own.
const MAX_FDS: u32 = 1 << 24;
const WORD_BITS: u32 = u64::BITS;

/// The open descriptors of a `files_struct`.
///
/// # Errors
/// Its table cannot be found.
pub fn descriptors(kernel: &Kernel, files: VirtAddr) -> Field<Descriptors> {
    let table: FdTable = kernel.load(kernel.load::<FilesStruct>(files).fdt?);
    let (limit, bitmap) = (table.max_fds?, table.open_fds?);
    if !is_plausible(limit, bitmap, table.close_on_exec?) {
        return Err(Lacks::implausible(format_args!("a table of {limit} files")));
    }
    Ok(read(kernel.memory(), table.fd?, bitmap, limit))
}

/// Whether a table can be that large. The one in the `files_struct` has room for a word of bits; the bitmaps of a larger
/// one lie one behind the other (`alloc_fdtable`, fs/file.c). A damaged number would make files of what lies behind.
fn is_plausible(limit: u32, bitmap: VirtAddr, next: VirtAddr) -> bool {
    limit <= WORD_BITS || limit <= MAX_FDS && next == bitmap.add((limit / 8).into())
}

fn read(memory: &dyn VirtualMemory, array: VirtAddr, bitmap: VirtAddr, limit: u32) -> Descriptors {
    let mut found = Descriptors::default();
    for first in (0..limit).step_by(WORD_BITS as usize) {
        let word = match memory.u64(bitmap.add(u64::from(first / 8))) {
            Ok(word) => word,
            Err(missing) => {
                found.incomplete = Some(missing.into());
                break;
            }
        };
        let taken = WORD_BITS.saturating_sub(word.leading_zeros()).min(limit.saturating_sub(first));
        let mut files = vec![0; taken as usize * 8];
        let (count, missing) = memory.read(array.add(u64::from(first).wrapping_mul(8)), &mut files);
        files.truncate(count);
        for bit in (0..taken).filter(|bit| word >> bit & 1 == 1) {
            let file = match Endian::Little.u64(&files, bit as usize * 8) {
                // Taken, and not opened yet.
                Some(0) => continue,
                Some(file) => Ok(VirtAddr(file)),
                None => Err(missing.map_or(Lacks::unavailable("the table of files ends"), Lacks::from)),
            };
            found.open.push(Descriptor { fd: first.saturating_add(bit), file });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use kdive_base::{Missing, Why};
    use proptest::prelude::*;

    use super::*;

    /// The bitmap at 0, the array at `ARRAY`.
    struct Memory {
        bitmap: Vec<u8>,
        array: Vec<u8>,
    }
    const ARRAY: u64 = 1 << 32;

    impl VirtualMemory for Memory {
        fn read(&self, at: VirtAddr, into: &mut [u8]) -> (usize, Option<Missing>) {
            let (bytes, at) = if at.0 >= ARRAY { (&self.array, at.0 - ARRAY) } else { (&self.bitmap, at.0) };
            let from = bytes.get(at as usize..).unwrap_or_default();
            let count = from.len().min(into.len());
            into[..count].copy_from_slice(&from[..count]);
            (count, (count < into.len()).then(|| Missing::new(VirtAddr(at), Why::NeverPresent)))
        }
    }

    proptest! {
        #[test]
        fn every_open_descriptor_is_found(open in prop::collection::vec(0..3_u64, 0..200)) {
            let mut bitmap = vec![0_u8; open.len().div_ceil(64) * 8];
            for (fd, _) in open.iter().enumerate().filter(|(_, kind)| **kind > 0) {
                bitmap[fd / 8] |= 1 << (fd % 8);
            }
            // 1 is taken without a file, 2 is open.
            let file = |(fd, kind): (usize, &u64)| if *kind == 2 { 1000 + fd as u64 } else { 0 };
            let array = open.iter().enumerate().flat_map(|of| file(of).to_le_bytes()).collect();
            let found = read(&Memory { bitmap, array }, VirtAddr(ARRAY), VirtAddr(0), open.len() as u32);
            let expected: Vec<_> = open.iter().enumerate().filter(|(_, kind)| **kind == 2)
                .map(|(fd, _)| Descriptor { fd: fd as u32, file: Ok(VirtAddr(1000 + fd as u64)) }).collect();
            prop_assert_eq!(found, Descriptors { open: expected, incomplete: None });
        }
    }

    #[test]
    fn a_damaged_size_is_noticed() {
        let bitmap = VirtAddr(0x1000);
        assert!(is_plausible(64, bitmap, VirtAddr(0x9_0000)));
        assert!(is_plausible(256, bitmap, VirtAddr(0x1020)));
        assert!(!is_plausible(256 | 1 << 20, bitmap, VirtAddr(0x1020)));
        assert!(!is_plausible(u32::MAX, bitmap, VirtAddr(0x2000_0fff)));
    }

    #[test]
    fn a_hole_costs_what_lies_in_it() {
        let memory = Memory { bitmap: vec![0b11, 0, 0, 0, 0, 0, 0, 0], array: 7_u64.to_le_bytes().to_vec() };
        let found = read(&memory, VirtAddr(ARRAY), VirtAddr(0), 256);
        assert_eq!(found.open[0], Descriptor { fd: 0, file: Ok(VirtAddr(7)) });
        assert!(found.open[1].file.is_err());
        assert!(found.incomplete.is_some(), "the bitmap ends before the table");
    }
}
