//! `owners`: who allocated the objects in use.

use std::fmt;

use kdive_base::VirtAddr;
use kdive_linux::slab::tracks::{self, By, Owner};
use kdive_linux::{system, time};
use kdive_target::Kernel;
use serde::Serialize;

use crate::args::{Args, Opt};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::operand;
use crate::render::{Known, in_unit};
use crate::sink::{Render, Sink, SinkExt};

/// Tells who allocated memory.
pub(crate) static OWNERS: Command = Command {
    names: &["owners"],
    group: Group::Memory,
    summary: "who allocated slab objects, where the kernel kept tracks",
    operands: "[slab-cache]...",
    options: &[
        Opt::flag("-s", "tell stacks apart, and show them"),
        Opt::value("-n", "count", "only the first so many; 0 for all (default 20)"),
    ],
    help: include_str!("owners.md"),
    run: Run::Once(run),
};

/// Rows where none are asked for by number.
const USUAL: u64 = 20;

fn run(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let most = args.value("-n").map(|word| operand::count("owners", word)).transpose()?.unwrap_or(USUAL);
    let by = if args.has("-s") { By::Stack } else { By::Caller };
    let found = tracks::owners(&kernel, by, &cx.cancel)?;
    cx.cancel.check()?;
    if let Some((_, lacks)) = &found.skipped {
        cx.lacks(lacks, "objects of slab caches", String::new);
    }
    let now = Now {
        jiffies: cx.known(time::jiffies(&kernel), "AGE of objects", String::new),
        hz: cx.known(system::ticks_per_second(&kernel), "AGE of objects", String::new),
    };
    let named = |owner: &&Owner| {
        args.operands.is_empty() || args.operands.iter().any(|name| **name == *owner.cache.display_name())
    };
    if found.tracked_caches > 0 {
        out.heading("   OBJECTS     MEMORY  CACHE               AGE (newest to oldest)  ALLOCATED BY\n")?;
    }
    let most = if most == 0 { usize::MAX } else { usize::try_from(most).unwrap_or(usize::MAX) };
    for owner in found.list.iter().filter(named).take(most) {
        cx.cancel.check()?;
        out.row(&Row::new(&kernel, owner, &now), &())?;
    }
    let sources = Sources {
        caches: found.caches,
        tracked_caches: found.tracked_caches,
        objects_without_track: found.unknown,
        page_owner: kernel.symbol("page_owner_inited").is_ok(),
        allocation_profiling: kernel.symbol("alloc_tag_cttype").is_ok(),
    };
    Ok(out.trailer(&sources, &())?)
}

struct Now {
    jiffies: Option<u64>,
    hz: Option<u64>,
}

impl Now {
    /// Seconds since then. A 32-bit kernel is none of ours: jiffies do not wrap.
    fn age(&self, when: u64) -> Option<u64> {
        self.jiffies?.saturating_sub(when).checked_div(self.hz?)
    }
}

/// What one place in the kernel allocated.
#[derive(Debug, Serialize)]
struct Row {
    cache: VirtAddr,
    cache_name: String,
    objects: u64,
    bytes: u64,
    caller: VirtAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    caller_name: Option<String>,
    /// Age of the newest in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    newest_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest_seconds: Option<u64>,
    /// The task that allocated the newest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
    /// The newest.
    example: VirtAddr,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stack: Vec<Frame>,
}

#[derive(Debug, Serialize)]
struct Frame {
    address: VirtAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

impl Row {
    fn new(kernel: &Kernel, of: &Owner, now: &Now) -> Self {
        let name = |at: VirtAddr| kernel.place(at).map(|place| place.to_string());
        let frame = |at: &VirtAddr| Frame { address: *at, name: name(*at) };
        Self {
            cache: of.cache.at,
            cache_name: of.cache.display_name().to_string(),
            objects: of.objects,
            bytes: of.bytes,
            caller: of.caller,
            caller_name: name(of.caller),
            newest_seconds: now.age(of.when.1),
            oldest_seconds: now.age(of.when.0),
            pid: of.pid,
            example: of.example,
            stack: of.stack.iter().map(frame).collect(),
        }
    }
}

/// Seconds in the two largest units: `2 d 3 h`, `5 min 7 s`.
fn age(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min {} s", seconds % 60),
        (0, hours, minutes) => format!("{hours} h {} min", minutes % 60),
        (days, hours, _) => format!("{days} d {} h", hours % 24),
    }
}

impl Render for Row {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let ages = match (self.newest_seconds.map(age), self.oldest_seconds.map(age)) {
            (Some(newest), Some(oldest)) if newest == oldest => newest,
            (newest, oldest) => format!("{} to {}", Known(newest), Known(oldest)),
        };
        write!(out, "{:>10}{:>11}  {:<18}  {ages:<22}", self.objects, in_unit(self.bytes), self.cache_name)?;
        match &self.caller_name {
            Some(name) => writeln!(out, "  {name}")?,
            None => writeln!(out, "  {}", self.caller)?,
        }
        for frame in &self.stack {
            writeln!(out, "{:>16}{}  {}", "", frame.address, Known(frame.name.as_deref()))?;
        }
        Ok(())
    }
}

/// Where owners come from in this kernel.
#[derive(Debug, Serialize)]
struct Sources {
    caches: u64,
    /// Caches whose objects say who allocated them.
    tracked_caches: u64,
    objects_without_track: u64,
    /// Whether the kernel has owners of pages: they are not read.
    page_owner: bool,
    /// Whether the kernel counts allocations by line: that is not read.
    allocation_profiling: bool,
}

impl Render for Sources {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        match self.tracked_caches {
            0 => writeln!(
                out,
                "this kernel kept no tracks of slab objects: boot it with slab_debug=U (slub_debug=U before 6.6)"
            )?,
            count => writeln!(out, "{count} of {} slab caches have tracks", self.caches)?,
        }
        let built = |is: bool| {
            if is { "built in, but not read by this command" } else { "not built into this kernel" }
        };
        writeln!(out, "page_owner: {}", built(self.page_owner))?;
        writeln!(out, "memory allocation profiling: {}", built(self.allocation_profiling))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_two_units() {
        let ages: Vec<_> = [7, 67, 3_700, 90_000].into_iter().map(age).collect();
        assert_eq!(ages, ["7 s", "1 min 7 s", "1 h 1 min", "1 d 1 h"]);
    }
}
