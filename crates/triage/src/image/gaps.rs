//! What a dump does not hold and might have decided.

use kdive_linux::tasks::Tasks;
use kdive_target::{Kernel, Lacks};

use crate::case::CaseGap;

/// User pages were left out, by the bit of makedumpfile's level.
const NO_USER_PAGES: u32 = 8;
/// Modules that are named in one gap.
const MOST_NAMES: usize = 5;

fn gap(what: &str, why: impl ToString, next_time: &str) -> CaseGap {
    let next_time = Some(next_time.to_owned()).filter(|text| !text.is_empty());
    CaseGap { what: what.to_owned(), why: why.to_string(), next_time }
}

/// The log cannot be read.
pub(super) fn no_log(lacks: &Lacks) -> CaseGap {
    gap("the kernel's log", lacks, "keep the console's output beside the dump: kdive analyze reads it alone")
}

/// Notes what lacks.
pub(super) fn read(kernel: &Kernel, gaps: &mut Vec<CaseGap>) {
    if let Err(lacks) = kernel.symbols() {
        gaps.push(gap("names of functions", lacks, "give the vmlinux of this build, or its System.map"));
    }
    if let Err(lacks) = kernel.types() {
        gaps.push(gap("types of the kernel", lacks, "give the vmlinux of this build"));
    }
    if let Some(lacks) = kernel.orc().lacking() {
        gaps.push(gap("unwind tables: frames are less sure", lacks, ""));
    }
    let tasks = Tasks::find(kernel);
    if let Some(lacks) = tasks.incomplete.first() {
        gaps.push(gap("some tasks", lacks, ""));
    }
    if let Some(lacks) = &kernel.modules().incomplete {
        gaps.push(gap("the list of modules", lacks, ""));
    }
    modules(kernel, gaps);
    let facts = kernel.facts();
    if facts.incomplete {
        let next = "give the directory of the dumps more room, or exclude more pages (makedumpfile -d 31)";
        gaps.push(gap("part of memory", "the capture could not finish", next));
    }
    if facts.dump_level.is_some_and(|level| level & NO_USER_PAGES != 0) {
        let why = "the dump level leaves user pages out";
        gaps.push(gap("memory of processes", why, "makedumpfile without bit 8 of -d keeps it"));
    }
}

/// Modules whose code has no names.
fn modules(kernel: &Kernel, gaps: &mut Vec<CaseGap>) {
    let of_modules = kernel.modules().lacking(false);
    let lacking: Vec<(&str, String)> =
        of_modules.filter_map(|(_, lacks, module)| Some((module?, lacks.to_string()))).collect();
    let Some((_, why)) = lacking.first() else { return };
    let names: Vec<&str> = lacking.iter().map(|(name, _)| *name).take(MOST_NAMES).collect();
    let more = lacking.len().saturating_sub(names.len());
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let what = format!("names of functions in {}{more}", names.join(", "));
    gaps.push(gap(&what, why, "give the modules of this build, or their debuginfo"));
}
