//! A kdump-compressed file whose first block is lost: overwritten, or never copied.
//!
//! What is needed to read it is told again by the sub-header behind it (makedumpfile's diskdump_mod.h, header version 6):
//! where VMCOREINFO and the notes lie, and one more than the highest frame number, which gives the size of the bitmaps.
//! The first block is made anew in memory, and the rest read as it lies.

use std::io;
use std::sync::Arc;

use kdive_base::{Endian, ReadAt};

use crate::OpenError;
use crate::formats::{Head, Peeled, Source, Told, Wrapper};
use crate::window::read_up_to;

pub(crate) const WRAPPER: Wrapper = Wrapper { name: "a file without its kdump header", recognises, peel };

/// Pages of the machines whose dumps are rebuilt; a block is as large.
const BLOCK: usize = 4096;
const FIRST_LINE: &[u8] = b"OSRELEASE=";
/// 2^40 frames are 4 PiB of memory.
const MAX_FRAMES: u64 = 1 << 40;

fn recognises(head: &Head<'_>) -> bool {
    rebuilt(head.bytes, head.file).is_some()
}

fn peel(source: &Source) -> Result<Peeled, OpenError> {
    let head = source.head()?;
    let Some(block) = rebuilt(&head, &*source.data) else {
        return Err(OpenError::damaged(&source.name, WRAPPER.name, "its sub-header makes no sense"));
    };
    let warning =
        Some("the header of the dump is lost: it was made anew from what the sub-header tells".to_owned());
    Ok(Peeled {
        data: Arc::new(Rebuilt { block, file: Arc::clone(&source.data) }),
        warning,
        told: Told::default(),
    })
}

/// The first block, if the second is a sub-header of version 6 that leads to a VMCOREINFO text.
fn rebuilt(head: &[u8], file: &dyn ReadAt) -> Option<Vec<u8>> {
    let sub = head.get(BLOCK..)?;
    let word = |at| Endian::Little.u64(sub, at);
    let (vmcoreinfo, vmcoreinfo_bytes) = (word(32)?, word(40)?);
    let (notes, notes_bytes) = (word(48)?, word(56)?);
    let frames = word(96)?;
    let inside = |at: u64, bytes: u64| {
        at >= BLOCK as u64 && at.checked_add(bytes).is_some_and(|end| end <= file.len())
    };
    if !inside(vmcoreinfo, vmcoreinfo_bytes) || !(1..=MAX_FRAMES).contains(&frames) {
        return None;
    }
    let text = read_up_to(file, vmcoreinfo, 128).ok().filter(|text| text.starts_with(FIRST_LINE))?;
    // The sub-header's blocks end with the notes, or with VMCOREINFO where that is not in them.
    let told = |at: u64, bytes: u64| if inside(at, bytes) { at.saturating_add(bytes) } else { 0 };
    let end = told(notes, notes_bytes).max(told(vmcoreinfo, vmcoreinfo_bytes));
    let block = BLOCK as u64;
    let sub_blocks = end.checked_sub(block)?.div_ceil(block);
    let bitmap_blocks = frames.div_ceil(8).div_ceil(block).checked_mul(2)?;
    let release = text.get(FIRST_LINE.len()..)?.split(|&byte| byte == b'\n').next()?;
    let mut header = vec![0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| {
        header.iter_mut().skip(at).zip(bytes).for_each(|(to, from)| *to = *from);
    };
    put(0, b"KDUMP   ");
    put(8, &6_u32.to_le_bytes());
    // utsname: system, node, release, version, machine, domain, 65 bytes each.
    put(12, b"Linux");
    put(142, release.get(..64).unwrap_or(release));
    put(428, &(BLOCK as u32).to_le_bytes());
    put(432, &u32::try_from(sub_blocks).ok()?.to_le_bytes());
    put(436, &u32::try_from(bitmap_blocks).ok()?.to_le_bytes());
    put(440, &u32::try_from(frames).unwrap_or(u32::MAX).to_le_bytes());
    Some(header)
}

/// A file under a block of its own.
struct Rebuilt {
    block: Vec<u8>,
    file: Arc<dyn ReadAt>,
}

impl ReadAt for Rebuilt {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        if offset < BLOCK as u64 { self.block.read_at(offset, into) } else { self.file.read_at(offset, into) }
    }

    fn len(&self) -> u64 {
        self.file.len()
    }
}
