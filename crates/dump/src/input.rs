//! What the host hands over: open files, and hints from the user.

use std::fmt;
use std::sync::Arc;

use kdive_base::{PhysAddr, ReadAt};

use crate::age::Identity;

/// The files of one dump, in any order.
#[derive(Clone, Debug, Default)]
pub struct Input {
    /// One file, or the parts of a split set.
    pub files: Vec<InputFile>,
}

/// One open file.
#[derive(Clone)]
pub struct InputFile {
    /// What to call it in messages.
    pub name: String,
    /// Its bytes.
    pub data: Arc<dyn ReadAt>,
    /// Physical address of the first byte, if the user says that this is a raw image of RAM.
    pub raw_base: Option<PhysAddr>,
}

/// What the user knows better.
#[derive(Clone, Debug, Default)]
pub struct Hints {
    /// Read pages that the filter left out (and those that may just be zero) as zeros instead of reporting them missing.
    pub zero_excluded: bool,
    /// What encrypted dumps can be opened with.
    pub identities: Arc<[Identity]>,
    /// Read what was redacted as it is in the file, instead of reporting it missing: for copies of the dump.
    pub as_stored: bool,
}

impl InputFile {
    /// A file whose format is to be told by its content.
    pub fn new(name: impl Into<String>, data: Arc<dyn ReadAt>) -> Self {
        Self { name: name.into(), data, raw_base: None }
    }

    /// A file that is a raw image of the RAM from `base` on.
    pub fn raw(name: impl Into<String>, data: Arc<dyn ReadAt>, base: PhysAddr) -> Self {
        Self { name: name.into(), data, raw_base: Some(base) }
    }
}

impl From<InputFile> for Input {
    fn from(file: InputFile) -> Self {
        Self { files: vec![file] }
    }
}

impl fmt::Debug for InputFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InputFile")
            .field("name", &self.name)
            .field("bytes", &self.data.len())
            .finish_non_exhaustive()
    }
}
