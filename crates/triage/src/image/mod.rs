//! Reads a case out of a memory image.
//!
//! The log in the image is read as any log is; what memory itself tells stands above it: the machine, the task that died,
//! its stack as the unwinder walks it, the trap that its processor took. Where the log cannot be read that alone makes the
//! case.

mod crashed;
mod gaps;
mod growth;
pub(crate) mod memory;
mod modules;
mod system;
mod trap;
mod trigger;
mod wait_graph;

use kdive_linux::log;
use kdive_target::Kernel;

use crate::case::{Case, Trigger, TriggerKind};
use crate::report::Report;
use crate::text;

pub use crashed::trace_frame;
pub use growth::grow;
pub use memory::picture;
pub(crate) use trap::MODULES;
pub(crate) use wait_graph::lock_name;
pub use wait_graph::wait_graph;

/// The case of a kernel. Nothing that cannot be read keeps the rest from being told.
#[must_use]
pub fn read(kernel: &Kernel) -> Case<'_> {
    let mut case = of_log(kernel);
    let told = std::mem::take(&mut case.system);
    case.system = system::read(kernel, told);
    case.modules = modules::read(kernel, std::mem::take(&mut case.modules));
    let crashed = crashed::read(kernel);
    let from_memory = trigger::read(kernel, crashed.as_ref(), &case);
    // Functions on the stack tell the kind of the end; the log has the words, and the reason of a plain `panic()`.
    case.trigger = match (from_memory, case.trigger.take()) {
        (Some(found), Some(told)) if found.kind == TriggerKind::Panic => Some(told),
        (Some(found), Some(told)) => Some(Trigger { kind: found.kind, text: told.text }),
        (found, told) => found.or(told),
    };
    if let Some(splat) = crashed.as_ref().and_then(|crashed| trap::splat(kernel, crashed)) {
        trap::add(&mut case.splats, splat);
    }
    // Where nobody panicked, whom the log complained of did not die.
    let is_alive = case.trigger.as_ref().is_some_and(|trigger| trigger.kind == TriggerKind::Snapshot);
    case.crashed = crashed.or(case.crashed.filter(|_| !is_alive));
    case.memory = memory::facts(kernel, std::mem::take(&mut case.memory));
    gaps::read(kernel, &mut case.gaps);
    case.image = Some(kernel);
    case
}

/// What the log tells.
fn of_log(kernel: &Kernel) -> Case<'static> {
    match log::records(kernel) {
        Ok(records) => text::read_records(&records.flatten().collect::<Vec<_>>()),
        Err(lacks) => {
            let mut case = Case::default();
            case.gaps.push(gaps::no_log(&lacks));
            case
        }
    }
}

/// Adds to a report what only memory tells: who waits for whom, and where memory went where memory is the matter.
pub fn complete(kernel: &Kernel, report: &mut Report) {
    report.wait_graph = wait_graph(kernel);
    report.memory = memory::is_the_matter(report).then(|| {
        let mut picture = picture(kernel);
        if growth::slabs_are_the_matter(kernel) {
            growth::leaked(kernel, &mut picture);
        }
        picture
    });
}
