//! A file read by offset.

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom};
use std::os::unix::fs::{FileExt as _, FileTypeExt as _};
use std::path::Path;

use kdive_base::ReadAt;

use crate::error::FetchError;

/// An open file or block device, read with `pread`: no cursor, so several threads can read at once.
#[derive(Debug)]
pub struct FileSource {
    file: File,
    bytes: u64,
}

impl FileSource {
    /// Opens a file.
    ///
    /// # Errors
    /// When it is not there, may not be read, or cannot be read by offset (a pipe, a terminal).
    pub fn open(path: &Path) -> Result<Self, FetchError> {
        let failed = |source| FetchError::io(path, source);
        let kind = std::fs::metadata(path).map_err(failed)?.file_type();
        if kind.is_dir() {
            return Err(failed(io::ErrorKind::IsADirectory.into()));
        }
        if !kind.is_file() && !kind.is_block_device() {
            // Opening a pipe would wait for a writer, and /proc/kcore is a live kernel.
            return Err(FetchError::NotSeekable { name: path.display().to_string() });
        }
        let mut file = File::open(path).map_err(failed)?;
        // Of a block device the metadata tells no length; its end does.
        let bytes = file.seek(SeekFrom::End(0)).map_err(failed)?;
        Ok(Self { file, bytes })
    }

    /// The open file.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }
}

impl ReadAt for FileSource {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(into, offset)
    }

    fn len(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_by_offset() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        std::fs::write(&path, b"0123456789").unwrap();
        let source = FileSource::open(&path).unwrap();
        let mut bytes = [0; 4];
        assert_eq!(source.len(), 10);
        assert_eq!(source.read_full_at(8, &mut bytes).unwrap(), 2);
        assert_eq!(&bytes[..2], b"89");
        assert_eq!(source.read_full_at(100, &mut bytes).unwrap(), 0);
    }

    #[test]
    fn what_has_no_offsets_is_refused() {
        assert!(matches!(FileSource::open(Path::new("/dev/null")), Err(FetchError::NotSeekable { .. })));
        let missing = FileSource::open(Path::new("/no/such/file")).unwrap_err();
        assert_eq!(missing.to_string(), "/no/such/file: no such file or directory");
    }
}
