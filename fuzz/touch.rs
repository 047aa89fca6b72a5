//! What the dump targets do with a dump.

use std::sync::Arc;

use kdive_base::{Cancel, PhysAddr};
use kdive_dump::{Hints, Input, InputFile, find_vmcoreinfo, open, probe};

/// Opens the files as one dump, and reads a little of all that it describes.
pub fn touch(files: &[&[u8]]) {
    let files: Vec<_> = files.iter().map(|bytes| InputFile::new("dump", Arc::new(bytes.to_vec()))).collect();
    for file in &files {
        let _ = probe(&*file.data);
    }
    let hints = Hints { zero_excluded: files.len() > 1, ..Hints::default() };
    let Ok(opened) = open(Input { files }, &hints) else { return };
    let mut at = PhysAddr(0);
    for _ in 0..64 {
        let Some(run) = opened.memory.next_run(at) else { break };
        assert!(run.bytes > 0 && run.start == at, "{run:?} at {at:?}");
        let mut bytes = vec![0; usize::try_from(run.bytes).unwrap_or(usize::MAX).min(5 * 4096)];
        let (count, missing) = opened.memory.read(at, &mut bytes);
        assert!(count == bytes.len() || missing.is_some(), "{count} bytes and no reason");
        opened.memory.read(at.add(run.bytes / 2), &mut [0; 100]);
        let Some(next) = at.0.checked_add(run.bytes) else { break };
        at = PhysAddr(next);
    }
    for segment in opened.memory.virtual_segments().iter().take(16) {
        opened.memory.read_virtual(segment.virt, &mut [0; 100]);
    }
    opened.memory.read(PhysAddr(u64::MAX - 3), &mut [0; 16]);
    find_vmcoreinfo(&*opened.memory, &Cancel::default()).take(2).for_each(drop);
}
