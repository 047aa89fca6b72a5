//! Reports of KASAN, KFENCE, KMSAN, KCSAN and UBSAN.

use kdive_base::VirtAddr;
use kdive_evidence::{Access, SourceLine, Splat, SplatKind as Kind};

use crate::text::openings::Opening;
use crate::text::scan::{after, decimal, hex_after};
use crate::text::trace::symbol;

pub(super) const OPENINGS: &[Opening] = &[
    Opening { phrase: "BUG: KASAN: ", kind: Kind::Kasan, read: in_function },
    Opening { phrase: "BUG: KFENCE: ", kind: Kind::Kfence, read: in_function },
    Opening { phrase: "BUG: KMSAN: ", kind: Kind::Kmsan, read: in_function },
    Opening { phrase: "BUG: KCSAN: ", kind: Kind::Kcsan, read: in_function },
    Opening {
        phrase: "UBSAN: ",
        kind: Kind::Ubsan,
        read: |text, splat| {
            splat.source = after(text, " in ").and_then(|place| {
                let mut parts = place.split(':');
                let file = parts.next()?.to_owned();
                let (line, _) = decimal(parts.next()?)?;
                Some(SourceLine { file, line: u32::try_from(line).ok()? })
            });
            true
        },
    },
];

/// `BUG: KASAN: slab-use-after-free in f+0x12/0x34 [mod]`.
fn in_function(text: &str, splat: &mut Splat) -> bool {
    splat.ip = after(text, " in ").and_then(symbol).map(|(place, _)| place);
    if text.contains(" read in ") {
        splat.access = Some(Access::Read);
    } else if text.contains(" write in ") {
        splat.access = Some(Access::Write);
    }
    true
}

/// `Read of size 8 at addr ffff888012345678 by task comm/123`, `Use-after-free read at 0xffff (in kfence-#12):`.
pub(super) fn access_line(text: &str, splat: &mut Splat) -> bool {
    let access = match text.split_whitespace().next() {
        Some("Read") => Access::Read,
        Some("Write") => Access::Write,
        _ => {
            let kfence = text.contains("(in kfence-#")
                || text.contains("(right of kfence-#")
                || text.contains("(left of kfence-#");
            if kfence {
                splat.address = splat.address.or_else(|| hex_after(text, " at ").map(VirtAddr));
                splat.details.push(text.to_owned());
            }
            return kfence;
        }
    };
    if !text.contains(" of size ") {
        return false;
    }
    splat.access = Some(access);
    splat.address = hex_after(text, "at addr ")
        .or_else(|| hex_after(text, "at address "))
        .map(VirtAddr)
        .or(splat.address);
    if let Some((comm, pid)) = after(text, "by task ").and_then(|task| task.rsplit_once('/')) {
        splat.comm = Some(comm.to_owned());
        splat.pid = decimal(pid).and_then(|(pid, _)| i32::try_from(pid).ok());
    }
    splat.details.push(text.to_owned());
    true
}
