//! `owners`: who allocated the objects in use.

use std::fmt;

use kdive_base::VirtAddr;
use kdive_linux::slab::tracks::{self, By, Owner};
use kdive_linux::slab::{Guarded, GuardedTrack, guarded};
use kdive_linux::system::Clock;
use kdive_linux::time;
use kdive_target::Kernel;
use serde::Serialize;

use crate::args::{Args, Opt};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::operand;
use crate::render::{Age, Known, in_unit};
use crate::sink::{Render, Sink, SinkExt};

/// Tells who allocated memory.
pub(crate) static OWNERS: Command = Command {
    names: &["owners"],
    group: Group::Memory,
    summary: "who allocated slab objects, where the kernel kept tracks",
    operands: "[slab-cache]...",
    options: &[
        Opt::flag("-s", "tell stacks apart, and show them"),
        Opt::flag("-k", "objects of KFENCE, each with who allocated and who freed it"),
        Opt::value("-n", "count", "only the first so many; 0 for all (default 20)"),
    ],
    help: include_str!("owners.md"),
    run: Run::Once(run),
};

const NANOS: u64 = 1_000_000_000;
/// Rows where none are asked for by number.
const USUAL: u64 = 20;

fn run(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let most = args.value("-n").map(|word| operand::count("owners", word)).transpose()?.unwrap_or(USUAL);
    let most = if most == 0 { usize::MAX } else { usize::try_from(most).unwrap_or(usize::MAX) };
    let guarded = cx.known(guarded(&kernel), "objects of KFENCE", String::new).flatten();
    if args.has("-k") {
        return show_guarded(cx, args, guarded.as_deref(), most, out);
    }
    let by = if args.has("-s") { By::Stack } else { By::Caller };
    let found = tracks::owners(&kernel, by, &cx.cancel)?;
    cx.cancel.check()?;
    if let Some((_, lacks)) = &found.skipped {
        cx.lacks(lacks, "objects of slab caches", String::new);
    }
    let now = cx.known(time::jiffies(&kernel), "AGE of objects", String::new);
    let named = |owner: &&Owner| {
        args.operands.is_empty() || args.operands.iter().any(|name| **name == *owner.cache.display_name())
    };
    if found.tracked_caches > 0 {
        out.heading("   OBJECTS     MEMORY  CACHE               AGE (newest to oldest)  ALLOCATED BY\n")?;
    }
    for owner in found.list.iter().filter(named).take(most) {
        cx.cancel.check()?;
        out.row(&Row::new(&kernel, owner, now), &())?;
    }
    let sources = Sources {
        caches: found.caches,
        tracked_caches: found.tracked_caches,
        objects_without_track: found.unknown,
        kfence_objects: guarded.map(|objects| objects.len()),
        page_owner: kernel.symbol("page_owner_inited").is_ok(),
        allocation_profiling: kernel.symbol("alloc_tag_cttype").is_ok(),
    };
    Ok(out.trailer(&sources, &())?)
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
    fn new(kernel: &Kernel, of: &Owner, now: Option<u64>) -> Self {
        let ticks = |when: u64| time::jiffies_to_ns(kernel, now?.saturating_sub(when)).ok();
        let seconds = |when: u64| ticks(when).map(|ns| ns / NANOS);
        Self {
            cache: of.cache.at,
            cache_name: of.cache.display_name().to_string(),
            objects: of.objects,
            bytes: of.bytes,
            caller: of.caller,
            caller_name: name(kernel, of.caller),
            newest_seconds: seconds(of.when.1),
            oldest_seconds: seconds(of.when.0),
            pid: of.pid,
            example: of.example,
            stack: frames(kernel, &of.stack),
        }
    }
}

fn name(kernel: &Kernel, at: VirtAddr) -> Option<String> {
    kernel.place(at).map(|place| place.to_string())
}

fn frames(kernel: &Kernel, stack: &[VirtAddr]) -> Vec<Frame> {
    stack.iter().map(|&address| Frame { address, name: name(kernel, address) }).collect()
}

impl Render for Row {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let age = |seconds: u64| Age(seconds.saturating_mul(NANOS)).to_string();
        let ages = match (self.newest_seconds.map(age), self.oldest_seconds.map(age)) {
            (Some(newest), Some(oldest)) if newest == oldest => newest,
            (newest, oldest) => format!("{} to {}", Known(newest), Known(oldest)),
        };
        write!(out, "{:>10}{:>11}  {:<18}  {ages:<22}", self.objects, in_unit(self.bytes), self.cache_name)?;
        match &self.caller_name {
            Some(name) => writeln!(out, "  {name}")?,
            None => writeln!(out, "  {}", self.caller)?,
        }
        render_stack(&self.stack, out)
    }
}

fn render_stack(stack: &[Frame], out: &mut dyn fmt::Write) -> fmt::Result {
    for frame in stack {
        writeln!(out, "{:>16}{}  {}", "", frame.address, Known(frame.name.as_deref()))?;
    }
    Ok(())
}

fn show_guarded(
    cx: &mut Cx,
    args: &Args,
    guarded: Option<&[Guarded]>,
    most: usize,
    out: &mut dyn Sink,
) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let Some(guarded) = guarded else {
        return Ok(out.heading(
            "KFENCE is not built into this kernel, or is off: boot it with kfence.sample_interval=100\n",
        )?);
    };
    let now = Clock::find(&kernel).map(|clock| clock.monotonic_ns).ok();
    out.heading("OBJECT                BYTES  CACHE               STATE  AGE      PID    ALLOCATED BY\n")?;
    let cache = |of: &Guarded| of.cache.as_ref().map(|cache| cache.display_name().to_string());
    let named = |of: &&Guarded| {
        args.operands.is_empty() || cache(of).is_some_and(|name| args.operands.contains(&name))
    };
    for of in guarded.iter().filter(named).take(most) {
        cx.cancel.check()?;
        out.row(&GuardedRow::new(&kernel, of, cache(of), now), &args.has("-s"))?;
    }
    Ok(())
}

/// An object of KFENCE.
#[derive(Debug, Serialize)]
struct GuardedRow {
    object: VirtAddr,
    /// As asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_name: Option<String>,
    /// Freed, and kept against late uses.
    is_freed: bool,
    allocated: TrackRow,
    #[serde(skip_serializing_if = "Option::is_none")]
    freed: Option<TrackRow>,
}

/// Who allocated or freed an object.
#[derive(Debug, Serialize)]
struct TrackRow {
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    age_ns: Option<u64>,
    /// Who called the allocator.
    #[serde(skip_serializing_if = "Option::is_none")]
    caller: Option<VirtAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    caller_name: Option<String>,
    stack: Vec<Frame>,
}

impl TrackRow {
    fn new(kernel: &Kernel, of: &GuardedTrack, now: Option<u64>) -> Self {
        let caller = of.caller(kernel);
        Self {
            pid: of.pid,
            age_ns: now.zip(of.when_ns).map(|(now, when)| now.saturating_sub(when)),
            caller,
            caller_name: caller.and_then(|at| name(kernel, at)),
            stack: frames(kernel, &of.stack),
        }
    }

    fn by(&self) -> String {
        let address = || self.caller.map(|at| at.to_string());
        Known(self.caller_name.clone().or_else(address)).to_string()
    }
}

impl GuardedRow {
    fn new(kernel: &Kernel, of: &Guarded, cache_name: Option<String>, now: Option<u64>) -> Self {
        Self {
            object: of.object,
            bytes: of.bytes,
            cache_name,
            is_freed: of.is_freed,
            allocated: TrackRow::new(kernel, &of.allocated, now),
            freed: of.freed.as_ref().map(|track| TrackRow::new(kernel, track, now)),
        }
    }
}

impl Render for GuardedRow {
    type View = bool;

    fn render(&self, stacks: &bool, out: &mut dyn fmt::Write) -> fmt::Result {
        let state = if self.is_freed { "freed" } else { "held" };
        let of = &self.allocated;
        write!(
            out,
            "{} {:>10}  {:<18}  ",
            self.object,
            Known(self.bytes),
            Known(self.cache_name.as_deref())
        )?;
        writeln!(out, "{state:<5}  {:<7}  {:<5}  {}", Known(of.age_ns.map(Age)), Known(of.pid), of.by())?;
        if *stacks {
            render_stack(&of.stack, out)?;
        }
        if let Some(of) = &self.freed {
            let age = Known(of.age_ns.map(Age));
            writeln!(out, "{:>54}  {age:<7}  {:<5}  {}", "freed", Known(of.pid), of.by())?;
            if *stacks {
                render_stack(&of.stack, out)?;
            }
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
    /// Objects of KFENCE, where it is on.
    #[serde(skip_serializing_if = "Option::is_none")]
    kfence_objects: Option<usize>,
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
        match self.kfence_objects {
            Some(count) => writeln!(out, "KFENCE: {count} objects, which -k shows")?,
            None => writeln!(out, "KFENCE: not built into this kernel, or off")?,
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
    fn a_freed_object_has_two_lines() {
        let track = |age_ns, name: &str| TrackRow {
            pid: Some(7),
            age_ns: Some(age_ns),
            caller: Some(VirtAddr(0x1000)),
            caller_name: Some(name.into()),
            stack: Vec::new(),
        };
        let row = GuardedRow {
            object: VirtAddr(0xffff_8880_1000_2000),
            bytes: Some(96),
            cache_name: Some("kmalloc-96".into()),
            is_freed: true,
            allocated: track(90 * NANOS, "hold+1"),
            freed: Some(track(2 * NANOS, "drop+2")),
        };
        let mut text = String::new();
        row.render(&false, &mut text).unwrap();
        let lines = [
            "ffff888010002000         96  kmalloc-96          freed  1m30s    7      hold+1",
            "                                                 freed  2.0 s    7      drop+2",
        ];
        assert_eq!(text.lines().collect::<Vec<_>>(), lines);
    }
}
