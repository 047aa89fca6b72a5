//! `rd -r FILE` and `dev -v INDEX FILE`: bytes as they are.

use std::fmt;
use std::io::Write as _;

use kdive_base::{VirtAddr, VirtualMemory};
use kdive_target::Lacks;
use serde::Serialize;

use crate::command::CommandError;
use crate::cx::Cx;
use crate::sink::{Render, Sink, SinkExt};

const BLOCK: u64 = 1 << 20;

#[derive(Serialize)]
struct Copied<'p> {
    bytes: u64,
    address: VirtAddr,
    file: &'p str,
}

impl Render for Copied<'_> {
    type View = ();
    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "{} bytes copied from {:#} to {}", self.bytes, self.address, self.file)
    }
}

/// Copies memory into a file, up to the first byte that is missing: a file of bytes cannot say that some are not there.
pub(crate) fn copy(
    cx: &mut Cx,
    command: &str,
    memory: &dyn VirtualMemory,
    start: u64,
    bytes: u64,
    path: &str,
    out: &mut dyn Sink,
) -> Result<(), CommandError> {
    let failed = |error: std::io::Error| CommandError::not_found(format!("{command}: {path}: {error}"));
    let mut block = vec![0; BLOCK.min(bytes) as usize];
    let mut copied = 0_u64;
    let mut file = None;
    while copied < bytes {
        cx.cancel.check()?;
        block.truncate(usize::try_from(bytes - copied).unwrap_or(usize::MAX));
        let (count, missing) = memory.read(VirtAddr(start).add(copied), &mut block);
        if let (0, 0, Some(missing)) = (copied, count, missing) {
            // An old file of that name stays as it was.
            return Err(Lacks::from(missing).into());
        }
        let file = match &mut file {
            Some(file) => file,
            file => file.insert(cx.files.create(path).map_err(failed)?),
        };
        file.write_all(block.get(..count).unwrap_or_default()).map_err(failed)?;
        copied = copied.saturating_add(count as u64);
        cx.progress.step("bytes", copied, Some(bytes));
        if let Some(missing) = missing {
            cx.gaps.note("rest of the memory to copy", missing.why, Some(missing.address.to_string()));
            break;
        }
    }
    if let Some(mut file) = file {
        file.flush().map_err(failed)?;
    }
    Ok(out.row(&Copied { bytes: copied, address: VirtAddr(start), file: path }, &())?)
}
