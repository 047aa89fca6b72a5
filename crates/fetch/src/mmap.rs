//! The one place with `unsafe`: debuginfo as a memory map.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;

use kdive_debuginfo::Blob;
use memmap2::Mmap;

/// The bytes of a file, mapped: nothing is read before it is looked at.
///
/// For debuginfo only. Whoever truncates the file while it is mapped kills this process with SIGBUS.
pub fn map(file: &File) -> io::Result<Blob> {
    if file.metadata()?.len() == 0 {
        return Ok(Blob::default());
    }
    // SAFETY: the map is private and read-only, and lives as long as the blob. Another process that writes to the file
    // can change bytes under us: every parser of debuginfo checks each access on its own and keeps no reference whose
    // validity depends on the bytes behind it (no `str`, no enum is borrowed from the map unchecked).
    let map = unsafe { Mmap::map(file) }?;
    Ok(Blob::new(map))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_map_is_the_file() {
        let mut file = tempfile::tempfile().unwrap();
        assert!(map(&file).unwrap().is_empty());
        file.write_all(b"abc").unwrap();
        assert_eq!(&*map(&file).unwrap(), b"abc");
    }
}
