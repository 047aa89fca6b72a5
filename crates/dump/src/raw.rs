//! Raw images of RAM: the bytes and nothing else. The user says where each file begins in physical memory.

use std::sync::Arc;

use kdive_base::PhysAddr;

use crate::extents::Extents;
use crate::facts::Facts;
use crate::flat::{FlatMemory, backed};
use crate::notes::Notes;
use crate::open::Opened;
use crate::{Hints, InputFile, OpenError};

/// Puts raw images together, each at its base. Where two overlap, the first given wins.
pub(crate) fn open(files: &[(InputFile, PhysAddr)], hints: &Hints) -> Result<Opened, OpenError> {
    let extents = files.iter().enumerate().flat_map(|(index, (file, base))| {
        let len = file.data.len();
        backed(base.0, len, (index, len), 0, len)
    });
    let extents = Extents::overlay(extents.collect());
    if extents.end() == 0 {
        return Err(OpenError::NoFiles);
    }
    let data = files.iter().map(|(file, _)| Arc::clone(&file.data)).collect();
    let facts = Facts { format: "raw image", ..Facts::default() };
    let memory = FlatMemory::new(data, extents, hints);
    Ok(Opened::new(Arc::new(memory), facts, Notes::default()))
}
