//! Tracing: its instances, what they trace, and what their ring buffers hold (kernel/trace).

mod comm;
mod entry;
mod eval;
mod event;
mod print_fmt;
mod printf;
mod ring_buffer;

use kdive_base::VirtAddr;
use kdive_target::{Field, Kernel, Lacks, Load, MemberAddress, walk};
use serde::Serialize;

pub use entry::{Decoder, FieldShown, TraceEvent};
pub(crate) use event::names;
pub use event::{EventField, EventFormat, Events};
pub use ring_buffer::{CpuEvents, CpuRing, Merged, RawEvent, RingBuffer};

/// An event that an instance notes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EnabledEvent {
    /// Its system.
    pub system: String,
    /// Its name.
    pub name: String,
    /// Which of its entries are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
}

/// An instance of tracing (`struct trace_array`).
#[derive(Clone, Debug, Serialize)]
pub struct Instance {
    /// Its `struct trace_array`.
    pub trace_array: VirtAddr,
    /// Its name below `instances`; `None` for the first one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its tracer: `nop` for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tracer: Option<String>,
    /// Its clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock: Option<String>,
    /// Whether that clock counts nanoseconds.
    pub clock_is_ns: bool,
    /// Whether it takes entries (`tracing_on`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on: Option<bool>,
    /// The events that are on.
    pub events: Vec<EnabledEvent>,
    /// The functions that its tracer is restricted to (`set_ftrace_filter`); none means all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub functions: Vec<String>,
    /// Its ring by processor.
    pub rings: Vec<CpuRing>,
    /// The rings, for their events.
    #[serde(skip)]
    pub buffer: Field<RingBuffer>,
    /// The snapshot's rings; an error where there is none.
    #[serde(skip)]
    pub snapshot: Field<RingBuffer>,
    /// What could not be told.
    #[serde(skip)]
    pub lacks: Vec<Lacks>,
}

#[derive(Load)]
#[load(type = "trace_array")]
struct RawArray {
    name: Field<VirtAddr>,
    #[load(any("array_buffer.buffer", "trace_buffer.buffer"))]
    buffer: Field<VirtAddr>,
    #[load(any("snapshot_buffer.buffer", "max_buffer.buffer"))]
    snapshot: Field<VirtAddr>,
    allocated_snapshot: Field<bool>,
    clock_id: Field<u32>,
    current_trace: Field<VirtAddr>,
    events: Field<MemberAddress>,
    ops: Field<VirtAddr>,
}

#[derive(Load)]
#[load(type = "trace_event_file")]
struct RawFile {
    event_call: Field<VirtAddr>,
    filter: Field<VirtAddr>,
    flags: Field<u64>,
}

#[derive(Load)]
#[load(type = "ftrace_hash")]
struct RawHash {
    size_bits: Field<u32>,
    buckets: Field<VirtAddr>,
}

const LONGEST_NAME: usize = 256;
/// Most instances, events of an instance and functions of a filter that are listed.
const MOST: usize = 1 << 16;
/// A hash of functions has at most 2^10 chains (`FTRACE_HASH_MAX_BITS` is 12).
const MOST_HASH_BITS: u32 = 16;

/// The instances of tracing, the first one first.
///
/// # Errors
/// The kernel was built without tracing, or its types are lacking.
pub fn instances(kernel: &Kernel) -> Field<Vec<Instance>> {
    let head = kernel.symbol("ftrace_trace_arrays")?;
    let link = kernel.offset_of("trace_array", "list")?;
    let mut found = Vec::new();
    let mut broken = None;
    for item in walk::list(kernel.memory(), head).take(MOST) {
        match item {
            Ok(at) => found.push(instance(kernel, at.sub(link))),
            Err(why) => broken = Some(why),
        }
    }
    // New ones come first in the list; the one without a name is the oldest.
    found.reverse();
    if let (Some(why), Some(first)) = (broken, found.first_mut()) {
        first.lacks.push(why.into());
    }
    Ok(found)
}

fn text(kernel: &Kernel, at: VirtAddr) -> Field<String> {
    Ok(kdive_base::printable(&kernel.memory().c_string(at, LONGEST_NAME)?))
}

fn instance(kernel: &Kernel, at: VirtAddr) -> Instance {
    let raw: RawArray = kernel.load(at);
    let mut lacks = Vec::new();
    let mut keep = |why: Lacks| lacks.push(why);
    let name = match raw.name {
        Ok(at) if at.is_null() => None,
        Ok(at) => text(kernel, at).map_err(&mut keep).ok(),
        Err(why) => {
            keep(why);
            None
        }
    };
    let tracer = raw
        .current_trace
        .and_then(|at| text(kernel, kernel.memory().pointer(at.add(kernel.offset_of("tracer", "name")?))?));
    let clock = raw.clock_id.and_then(|id| clock(kernel, id)).map_err(&mut keep).ok();
    let events = raw.events.and_then(|MemberAddress(head)| enabled(kernel, head)).map_err(&mut keep);
    let buffer = raw.buffer.and_then(|at| RingBuffer::load(kernel, at));
    let snapshot = match raw.allocated_snapshot {
        Ok(true) => raw.snapshot.and_then(|at| RingBuffer::load(kernel, at)),
        Ok(false) => Err(Lacks::unavailable("no snapshot was taken")),
        Err(why) => Err(why),
    };
    Instance {
        trace_array: at,
        name,
        tracer: tracer.map_err(&mut keep).ok(),
        clock_is_ns: clock.as_ref().is_none_or(|clock| clock.1),
        clock: clock.map(|clock| clock.0),
        on: buffer.as_ref().ok().and_then(|buffer| buffer.on),
        events: events.unwrap_or_default(),
        // A kernel without the tracer of functions has no such filter.
        functions: raw.ops.and_then(|ops| filtered(kernel, ops)).unwrap_or_default(),
        rings: buffer.as_ref().map(|buffer| buffer.rings.clone()).unwrap_or_default(),
        buffer,
        snapshot,
        lacks,
    }
}

/// The name of a clock, and whether it counts nanoseconds: a row of `trace_clocks`, which has no type of its own.
fn clock(kernel: &Kernel, id: u32) -> Field<(String, bool)> {
    const ROW: u64 = 24;
    const CLOCKS: u32 = 64;
    if id >= CLOCKS {
        return Err(Lacks::implausible(format_args!("clock {id} of tracing")));
    }
    let row = kernel.symbol("trace_clocks")?.add(u64::from(id) * ROW);
    Ok((text(kernel, kernel.memory().pointer(row.add(8))?)?, kernel.memory().u32(row.add(16))? != 0))
}

/// The events that are on, of an instance's list.
fn enabled(kernel: &Kernel, head: VirtAddr) -> Field<Vec<EnabledEvent>> {
    let link = kernel.offset_of("trace_event_file", "list")?;
    let on = kernel.enumerator("EVENT_FILE_FL_ENABLED")?;
    let filtered = kernel.enumerator("EVENT_FILE_FL_FILTERED")?;
    let filter_string = kernel.offset_of("event_filter", "filter_string")?;
    let loader = kernel.loader::<RawFile>();
    let mut events = Vec::new();
    for at in walk::list(kernel.memory(), head).take(MOST).map_while(Result::ok) {
        let raw = loader.load(at.sub(link));
        let Ok(flags) = raw.flags else { continue };
        let has = |bit: i128| i128::from(flags) & bit != 0;
        if !has(on) {
            continue;
        }
        let Ok((system, name)) = raw.event_call.and_then(|call| event::names(kernel, call)) else { continue };
        let filter = raw.filter.ok().filter(|at| has(filtered) && !at.is_null());
        let filter = filter.and_then(|at| kernel.memory().pointer(at.add(filter_string)).ok());
        events.push(EnabledEvent { system, name, filter: filter.and_then(|at| text(kernel, at).ok()) });
    }
    Ok(events)
}

/// The functions in the filter of an instance's `struct ftrace_ops`.
fn filtered(kernel: &Kernel, ops: VirtAddr) -> Field<Vec<String>> {
    if ops.is_null() {
        return Ok(Vec::new());
    }
    let memory = kernel.memory();
    let hashes = memory.pointer(ops.add(kernel.offset_of("ftrace_ops", "func_hash")?))?;
    let hash = memory.pointer(hashes.add(kernel.offset_of("ftrace_ops_hash", "filter_hash")?))?;
    let raw: RawHash = kernel.load(hash);
    let bits = raw.size_bits?.min(MOST_HASH_BITS);
    let ip = kernel.offset_of("ftrace_func_entry", "ip")?;
    let link = kernel.offset_of("ftrace_func_entry", "hlist")?;
    let entries = walk::hash_table(memory, raw.buckets?, 1 << bits, 0).take(MOST).filter_map(Result::ok);
    let at = entries.filter_map(|entry| memory.pointer(entry.sub(link).add(ip)).ok());
    let mut names: Vec<String> = at.map(|at| printf::World::symbol(kernel, at, false)).collect();
    names.sort_unstable();
    Ok(names)
}
