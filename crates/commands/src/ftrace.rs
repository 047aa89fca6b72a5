//! `ftrace`: what the kernel's tracing noted.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};

use kdive_linux::trace::{Decoder, Events, Instance, RawEvent, RingBuffer, TraceEvent, instances};
use kdive_target::Lacks;
use rustc_hash::FxHashMap;
use serde::Serialize;

use crate::args::{Args, Opt, UsageError};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::operand;
use crate::render::{Known, UNKNOWN, in_unit};
use crate::sink::{Form, Render, Sink, SinkExt};
use crate::trace_dat;

/// Shows trace buffers.
pub(crate) static FTRACE: Command = Command {
    names: &["ftrace"],
    group: Group::System,
    summary: "trace buffers of the kernel as text, and what was traced",
    operands: "",
    options: &[
        Opt::flag("-l", "no events, but what each instance traces: tracer, events, filters, sizes"),
        Opt::value("-n", "count", "only the last so many events"),
        Opt::value("-c", "cpus", "only events of these processors"),
        Opt::value("-e", "events", "only these events or systems (`sched_switch,irq`)"),
        Opt::value("-p", "pid", "only events of this task"),
        Opt::value("-i", "instance", "the buffer of this instance"),
        Opt::flag("-s", "the snapshot in place of the buffer"),
        Opt::value("-w", "file", "write the whole buffer to a file for trace-cmd (trace.dat, version 6)"),
    ],
    help: include_str!("ftrace.md"),
    run: Run::Once(ftrace),
};

/// What a buffer holds.
#[derive(Debug, Serialize)]
struct Summary {
    /// The instance; none for the first one.
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tracer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    clock: Option<String>,
    /// Whether it took entries.
    #[serde(skip_serializing_if = "Option::is_none")]
    on: Option<bool>,
    /// Entries that the buffer holds.
    entries: u64,
    /// Entries that newer ones overwrote.
    overrun: u64,
}

fn ftrace(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let all = instances(&kernel)?;
    for lacks in all.iter().flat_map(|instance| &instance.lacks) {
        cx.lacks(lacks, "what is traced", String::new);
    }
    if args.has("-l") {
        for instance in &all {
            out.row(instance, &())?;
        }
        return Ok(());
    }
    let instance = chosen(&all, args.value("-i"))?;
    let buffer = if args.has("-s") { &instance.snapshot } else { &instance.buffer };
    let buffer = buffer.as_ref().map_err(Lacks::clone)?;
    for lacks in &buffer.lacks {
        cx.lacks(lacks, "trace buffers", String::new);
    }
    let filter = Filter::parse(cx, args)?;
    let sum = |of: fn(&kdive_linux::trace::CpuRing) -> Option<u64>| {
        buffer.rings.iter().filter_map(of).fold(0_u64, u64::saturating_add)
    };
    let summary = Summary {
        instance: instance.name.clone(),
        tracer: instance.tracer.clone(),
        clock: instance.clock.clone(),
        on: instance.on,
        entries: sum(|ring| ring.entries),
        overrun: sum(|ring| ring.overrun),
    };
    out.header(&summary, &())?;
    if let Some(path) = args.value("-w") {
        let mut decoder = Decoder::new(&kernel, Events::find(&kernel)?);
        let count = trace_dat::write(cx, buffer, &mut decoder, path)?;
        out.heading(&format!("wrote {count} events to {path}\n"))?;
        return Ok(());
    }
    show(cx, buffer, filter, instance.clock_is_ns, out)
}

fn chosen<'i>(all: &'i [Instance], name: Option<&str>) -> Result<&'i Instance, CommandError> {
    if let Some(found) = all.iter().find(|instance| instance.name.as_deref() == name) {
        return Ok(found);
    }
    let names: Vec<&str> = all.iter().filter_map(|instance| instance.name.as_deref()).collect();
    let hint = match &names[..] {
        [] => "there is none but the first one, which has no name".to_owned(),
        names => format!("there are {}", names.join(", ")),
    };
    let what = match name {
        Some(name) => format!("ftrace: no instance {name}"),
        None => "ftrace: the first instance is not in the dump".into(),
    };
    Err(CommandError::NotFound { what, hint: Some(hint) })
}

/// Which events are shown.
struct Filter {
    last: Option<usize>,
    cpus: Option<Vec<u32>>,
    events: Vec<String>,
    pid: Option<i32>,
    /// What was decided for each number of an event.
    decided: FxHashMap<u16, bool>,
}

impl Filter {
    fn parse(cx: &Cx, args: &Args) -> Result<Self, CommandError> {
        let last = args.value("-n").map(|word| operand::count("ftrace", word)).transpose()?;
        let cpus = args.value("-c").map(|list| operand::cpus(cx, "ftrace", Some(list))).transpose()?;
        let number = |word: &str| {
            word.parse().map_err(|_| UsageError::new("ftrace", format!("{word} is not the number of a task")))
        };
        Ok(Self {
            last: last.map(|count| usize::try_from(count).unwrap_or(usize::MAX)),
            cpus,
            events: args.values(&["-e"]).flat_map(|list| list.split(',')).map(str::to_owned).collect(),
            pid: args.value("-p").map(number).transpose()?,
            decided: FxHashMap::default(),
        })
    }

    fn takes(&mut self, decoder: &mut Decoder<'_>, raw: &RawEvent) -> bool {
        let head = raw.data.first_chunk::<8>();
        if let Some(pid) = self.pid
            && head.map(|&[_, _, _, _, a, b, c, d]| i32::from_le_bytes([a, b, c, d])) != Some(pid)
        {
            return false;
        }
        if self.events.is_empty() {
            return true;
        }
        let Some(id) = head.map(|&[a, b, ..]| u16::from_le_bytes([a, b])) else { return false };
        let names = &self.events;
        *self.decided.entry(id).or_insert_with(|| {
            decoder.format(raw).is_some_and(|format| is_of(&format.system, &format.name, names))
        })
    }
}

/// Whether an event is one of those named, by its name, its system or both.
fn is_of(system: &str, event: &str, names: &[String]) -> bool {
    names.iter().any(|name| match name.split_once(':') {
        Some(both) => both == (system, event),
        None => event == name || system == name,
    })
}

fn show(
    cx: &mut Cx,
    buffer: &RingBuffer,
    mut filter: Filter,
    is_ns: bool,
    out: &mut dyn Sink,
) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let mut decoder = Decoder::new(&kernel, Events::find(&kernel)?);
    let with_fields = out.form() == Form::Json;
    let mut kept = VecDeque::new();
    let mut titles = Some(TITLES);
    let cpus = filter.cpus.take();
    for item in buffer.events(&kernel, cpus.as_deref()) {
        cx.cancel.check()?;
        let raw = match item {
            Ok(raw) if filter.takes(&mut decoder, &raw) => raw,
            Ok(_) => continue,
            Err(why) => {
                cx.lacks(&why, "events of a trace buffer", String::new);
                continue;
            }
        };
        if let Some(last) = filter.last {
            kept.push_back(raw);
            if kept.len() > last {
                kept.pop_front();
            }
        } else {
            out.heading(titles.take().unwrap_or_default())?;
            out.row(&decoder.event(&raw, with_fields), &is_ns)?;
        }
    }
    for raw in kept {
        out.heading(titles.take().unwrap_or_default())?;
        out.row(&decoder.event(&raw, with_fields), &is_ns)?;
    }
    Ok(())
}

const TITLES: &str = "\n            TASK-PID      CPU   FLAGS    TIMESTAMP  EVENT\n";

impl Render for TraceEvent {
    /// Whether times are nanoseconds.
    type View = bool;

    fn render(&self, is_ns: &bool, out: &mut dyn fmt::Write) -> fmt::Result {
        let mut task = format!("{:>16}-", self.command.as_deref().unwrap_or("<...>"));
        let _ = write!(task, "{}", Known(self.pid));
        write!(out, "{task:<24} [{:03}] {}", self.cpu, self.context.as_deref().unwrap_or(UNKNOWN))?;
        if *is_ns {
            // To the nearest microsecond, as the kernel rounds.
            let micros = self.time.saturating_add(500) / 1000;
            write!(out, " {:>5}.{:06}: ", micros / 1_000_000, micros % 1_000_000)?;
        } else {
            write!(out, " {:>12}: ", self.time)?;
        }
        // A tracer's own events are told by their looks.
        let is_plain = match self.system.as_deref() {
            Some("ftrace") => matches!(
                &*self.event,
                "function"
                    | "funcgraph_entry"
                    | "funcgraph_exit"
                    | "print"
                    | "bprint"
                    | "bputs"
                    | "kernel_stack"
            ),
            system => system == Some("syscalls"),
        };
        if is_plain { writeln!(out, "{}", self.text) } else { writeln!(out, "{}: {}", self.event, self.text) }
    }
}

impl Render for Summary {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        if let Some(instance) = &self.instance {
            write!(out, "instance {instance}: ")?;
        }
        write!(out, "tracer {}, clock {}", name(self.tracer.as_ref()), name(self.clock.as_ref()))?;
        if self.on == Some(false) {
            write!(out, ", switched off")?;
        }
        match (self.entries, self.overrun) {
            (0, 0) => writeln!(out, ": the buffer is empty"),
            (entries, 0) => writeln!(out, ": {entries} entries"),
            (entries, overrun) => writeln!(out, ": {entries} entries; {overrun} older ones were overwritten"),
        }
    }
}

fn name(of: Option<&String>) -> &str {
    of.map_or(UNKNOWN, String::as_str)
}

impl Render for Instance {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let state = match self.on {
            Some(true) => "on",
            Some(false) => "switched off",
            None => UNKNOWN,
        };
        let instance = self.name.as_deref().unwrap_or("the first instance");
        writeln!(out, "{instance} ({}): {state}", self.trace_array)?;
        write!(out, "  tracer {}, clock {}", name(self.tracer.as_ref()), name(self.clock.as_ref()))?;
        match &self.functions[..] {
            [] => writeln!(out)?,
            functions => writeln!(out, ", only {}", functions.join(" "))?,
        }
        if self.events.is_empty() {
            writeln!(out, "  no events are on")?;
        }
        for event in &self.events {
            write!(out, "  event {}:{}", event.system, event.name)?;
            match &event.filter {
                Some(filter) => writeln!(out, " if {filter}")?,
                None => writeln!(out)?,
            }
        }
        for ring in &self.rings {
            let size = ring.bytes.map(in_unit);
            write!(out, "  CPU {:<3} {} entries in {}", ring.cpu, Known(ring.entries), Known(size))?;
            for (count, what) in [(ring.overrun, "overwritten"), (ring.dropped, "dropped")] {
                if let Some(count @ 1..) = count {
                    write!(out, ", {count} {what}")?;
                }
            }
            writeln!(out, "{}", if ring.disabled == Some(true) { ", disabled" } else { "" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_named_alone_or_with_their_system() {
        let takes = |name: &str| is_of("sched", "sched_switch", &[name.to_owned()]);
        assert!(takes("sched") && takes("sched_switch") && takes("sched:sched_switch"));
        assert!(!takes("irq:sched_switch") && !takes("switch"));
    }

    #[test]
    fn times_are_rounded_as_in_the_kernel() {
        let event = TraceEvent {
            cpu: 1,
            time: 28_661_281_600,
            pid: Some(1),
            command: Some("init".into()),
            context: Some(".....".into()),
            system: Some("sched".into()),
            event: "sched_process_exit".into(),
            text: "comm=init".into(),
            fields: Vec::new(),
        };
        let mut text = String::new();
        event.render(&true, &mut text).unwrap();
        assert_eq!(
            text,
            "            init-1       [001] .....    28.661282: sched_process_exit: comm=init\n"
        );
    }
}
