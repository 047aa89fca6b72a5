//! What the events of tracing are made of: their classes and fields as the kernel keeps them (`ftrace_events`,
//! kernel/trace/trace_events.c), the same that the `format` files of tracefs show.

use std::cell::OnceCell;
use std::rc::Rc;

use kdive_base::VirtAddr;
use kdive_target::{Field, Kernel, Load, MemberAddress, walk};
use rustc_hash::FxHashMap;

use super::print_fmt::PrintFmt;

/// A field of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventField {
    /// Its name.
    pub name: String,
    /// Its type as the kernel writes it: `unsigned int`, `char[16]`, `__data_loc char[]`.
    pub kind: String,
    /// From the start of the entry, in bytes.
    pub offset: u32,
    /// Its size in bytes; 0 where it lasts to the end of the entry.
    pub size: u32,
    /// Whether it is a signed integer.
    pub signed: bool,
}

/// An event.
#[derive(Debug, Default)]
pub struct EventFormat {
    /// The number that entries carry.
    pub id: u16,
    /// Its `struct trace_event_call`.
    pub call: VirtAddr,
    /// Its system (`sched`).
    pub system: String,
    /// Its name (`sched_switch`).
    pub name: String,
    /// Its fields, without those that all events have.
    pub fields: Vec<EventField>,
    /// How it wants to be shown.
    pub print_fmt: String,
    pub(super) parsed: OnceCell<Option<PrintFmt>>,
}

#[derive(Load)]
#[load(type = "trace_event_call")]
struct RawCall {
    class: Field<VirtAddr>,
    name: Field<VirtAddr>,
    #[load(any("event.type"))]
    id: Field<u16>,
    print_fmt: Field<VirtAddr>,
    data: Field<VirtAddr>,
    flags: Field<u32>,
}

#[derive(Load)]
#[load(type = "trace_event_class")]
struct RawClass {
    system: Field<VirtAddr>,
    get_fields: Field<VirtAddr>,
    fields: Field<MemberAddress>,
}

#[derive(Load)]
#[load(type = "ftrace_event_field")]
struct RawField {
    name: Field<VirtAddr>,
    #[load(any("type"))]
    kind: Field<VirtAddr>,
    offset: Field<u32>,
    size: Field<u32>,
    is_signed: Field<bool>,
}

/// No event has more fields.
const MOST_FIELDS: usize = 1 << 10;
/// The longest `print_fmt` of 7.2 has 6 KB.
const LONGEST_FORMAT: usize = 1 << 16;
const LONGEST_NAME: usize = 256;

/// The events of a kernel. Formats are read when an entry needs them.
pub struct Events<'k> {
    kernel: &'k Kernel,
    calls: FxHashMap<u16, VirtAddr>,
    formats: FxHashMap<u16, Option<Rc<EventFormat>>>,
}

impl<'k> Events<'k> {
    /// The events of a kernel.
    ///
    /// # Errors
    /// It was built without tracing, or its types are lacking.
    pub fn find(kernel: &'k Kernel) -> Field<Self> {
        let head = kernel.symbol("ftrace_events")?;
        let link = kernel.offset_of("trace_event_call", "list")?;
        let loader = kernel.loader::<RawCall>();
        let mut calls = FxHashMap::default();
        // What lies behind a break is lost: those entries show their bytes.
        for at in walk::list(kernel.memory(), head).map_while(Result::ok) {
            let at = at.sub(link);
            if let Ok(id) = loader.load(at).id {
                calls.entry(id).or_insert(at);
            }
        }
        Ok(Self { kernel, calls, formats: FxHashMap::default() })
    }

    /// The event with a number.
    pub fn format(&mut self, id: u16) -> Option<Rc<EventFormat>> {
        let (kernel, call) = (self.kernel, self.calls.get(&id).copied());
        let read = || Some(Rc::new(format(kernel, call?).ok()?));
        self.formats.entry(id).or_insert_with(read).clone()
    }
}

/// System and name of the event with this `struct trace_event_call`.
pub(crate) fn names(kernel: &Kernel, call: VirtAddr) -> Field<(String, String)> {
    let raw: RawCall = kernel.load(call);
    let class: RawClass = kernel.load(raw.class.clone()?);
    Ok((text(kernel, class.system?, LONGEST_NAME)?, name(kernel, &raw)?))
}

fn text(kernel: &Kernel, at: VirtAddr, longest: usize) -> Field<String> {
    Ok(kdive_base::printable(&kernel.memory().c_string(at, longest)?))
}

/// The name, which that of a tracepoint knows itself (`trace_event_name`).
fn name(kernel: &Kernel, raw: &RawCall) -> Field<String> {
    let mut at = raw.name.clone()?;
    let of_tracepoint = kernel.enumerator("TRACE_EVENT_FL_TRACEPOINT")?;
    if i128::from(raw.flags.clone()?) & of_tracepoint != 0 {
        at = kernel.memory().pointer(at.add(kernel.offset_of("tracepoint", "name")?))?;
    }
    text(kernel, at, LONGEST_NAME)
}

fn format(kernel: &Kernel, call: VirtAddr) -> Field<EventFormat> {
    let raw: RawCall = kernel.load(call);
    let class: RawClass = kernel.load(raw.class.clone()?);
    let MemberAddress(mut head) = class.fields?;
    // Calls of the system have lists of their own, in what describes the call (`syscall_get_enter_fields`).
    if class.get_fields.is_ok_and(|at| !at.is_null()) {
        head = raw.data.clone()?.add(kernel.offset_of("syscall_metadata", "enter_fields")?);
    }
    let link = kernel.offset_of("ftrace_event_field", "link")?;
    let loader = kernel.loader::<RawField>();
    let mut fields = Vec::new();
    // The list has the last field first.
    for at in walk::list_backwards(kernel.memory(), head).take(MOST_FIELDS).map_while(Result::ok) {
        let raw = loader.load(at.sub(link));
        fields.push(EventField {
            name: text(kernel, raw.name?, LONGEST_NAME)?,
            kind: text(kernel, raw.kind?, LONGEST_NAME)?,
            offset: raw.offset?,
            size: raw.size?,
            signed: raw.is_signed?,
        });
    }
    Ok(EventFormat {
        id: raw.id.clone()?,
        call,
        system: text(kernel, class.system?, LONGEST_NAME)?,
        name: name(kernel, &raw)?,
        fields,
        print_fmt: raw
            .print_fmt
            .and_then(|at| Ok(kernel.memory().c_string(at, LONGEST_FORMAT)?))
            .map_or_else(|_| String::new(), |bytes| String::from_utf8_lossy(&bytes).into_owned()),
        parsed: OnceCell::new(),
    })
}
