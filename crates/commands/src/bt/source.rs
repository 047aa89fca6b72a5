//! Source lines and inlined functions of a frame.

use kdive_evidence::{Frame, InlineFrame};
use kdive_target::{Field, Kernel};

/// Where code came from.
#[derive(Default)]
pub(super) struct Source {
    /// File and line in the function itself, as crash writes them: `kernel/panic.c: 530`.
    pub(super) location: Option<String>,
    /// Functions inlined there, the innermost first.
    pub(super) inlined: Vec<InlineFrame>,
}

/// The source of the instruction that a frame stands at.
#[cfg(feature = "dwarf")]
pub(super) fn of(kernel: &Kernel, frame: &Frame) -> Field<Source> {
    let mut source = Source::default();
    for function in kernel.source_of(frame)? {
        let location = function.at.as_ref().map(|at| {
            let file = kdive_base::printable(at.file.as_bytes());
            at.line.map_or(file.clone(), |line| format!("{file}: {line}"))
        });
        match function.function {
            Some(name) if function.inlined => source
                .inlined
                .push(InlineFrame { function: kdive_base::printable(name.as_bytes()), location }),
            _ => source.location = location,
        }
    }
    Ok(source)
}

/// Without a reader of DWARF there are no lines.
#[cfg(not(feature = "dwarf"))]
pub(super) fn of(_kernel: &Kernel, _frame: &Frame) -> Field<Source> {
    Err(kdive_target::Lacks::unavailable("this kdive was built without DWARF"))
}

/// The file and line of the function itself, where they are known.
pub(crate) fn location_of(kernel: &Kernel, frame: &Frame) -> Option<String> {
    of(kernel, frame).ok()?.location
}
