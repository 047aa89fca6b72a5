//! libvirt's save files: what `virsh save` and `virsh dump` without `--memory-only` put before QEMU's migration stream.
//!
//! Layout (libvirt's `virQEMUSaveHeader`), in the byte order of the host: 16 bytes of magic, which an unfinished file has
//! otherwise, then the 32-bit numbers version, length of what follows the header, whether the machine ran, packing, and 15
//! more, 92 bytes in all; then XML and padding of the length given, then the stream, which may be packed as a whole.

use std::io;
use std::sync::Arc;

use kdive_base::{Endian, ReadAt};

use crate::OpenError;
use crate::formats::{Head, Peeled, Source, Told, Wrapper};

pub(crate) const WRAPPER: Wrapper = Wrapper { name: "libvirt save", recognises, peel };

const FINISHED: &[u8; 16] = b"LibvirtQemudSave";
const UNFINISHED: &[u8; 16] = b"LibvirtQemudPart";
const HEADER_BYTES: u64 = 92;
const VERSION_AT: usize = 16;
const LENGTH_AT: usize = 20;
const MOST_VERSIONS: u32 = 0xffff;

fn recognises(head: &Head<'_>) -> bool {
    head.bytes.starts_with(FINISHED) || head.bytes.starts_with(UNFINISHED)
}

fn peel(source: &Source) -> Result<Peeled, OpenError> {
    let head = source.head()?;
    let truncated = |needs| OpenError::Truncated {
        name: source.name.clone(),
        format: WRAPPER.name,
        needs,
        has: source.data.len(),
    };
    // A version is a small number in the byte order that it was written in.
    let endian = [Endian::Little, Endian::Big]
        .into_iter()
        .find(|endian| endian.u32(&head, VERSION_AT).is_some_and(|version| version <= MOST_VERSIONS))
        .ok_or_else(|| truncated(HEADER_BYTES))?;
    let length = endian.u32(&head, LENGTH_AT).ok_or_else(|| truncated(HEADER_BYTES))?;
    let start = HEADER_BYTES.saturating_add(length.into());
    if start >= source.data.len() {
        return Err(truncated(start));
    }
    let warning = head.starts_with(UNFINISHED).then(|| "libvirt did not finish writing this file".to_owned());
    Ok(Peeled {
        data: Arc::new(Behind { file: Arc::clone(&source.data), start }),
        warning,
        told: Told::default(),
    })
}

/// A file from an offset on.
struct Behind {
    file: Arc<dyn ReadAt>,
    start: u64,
}

impl ReadAt for Behind {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        match self.start.checked_add(offset) {
            Some(offset) => self.file.read_at(offset, into),
            None => Ok(0),
        }
    }

    fn len(&self) -> u64 {
        self.file.len().saturating_sub(self.start)
    }
}
