//! `sbitmapq`: a scalable bitmap with its waiters, and the objects whose bits are set.

use std::fmt;

use kdive_base::VirtAddr;
use kdive_linux::sbitmap::{SbitmapQueue, Wait, packed};
use kdive_target::show::Style;
use kdive_target::{Kernel, Lacks};
use serde::Serialize;

use crate::args::{Args, Opt, UsageError};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::operand;
use crate::render::{Known, UNKNOWN};
use crate::sink::{Render, Sink, SinkExt};
use crate::structure::{self, Row};

/// Shows scalable bitmaps.
pub(crate) static SBITMAPQ: Command = Command {
    names: &["sbitmapq"],
    group: Group::System,
    summary: "a sbitmap_queue: tags of the block layer, and the requests they stand for",
    operands: "address",
    options: &[
        Opt::value("-s", "struct[.member,...]", "what the array of -a holds"),
        Opt::value(
            "-a",
            "address",
            "an array with an object for each bit: those whose bit is set are listed",
        ),
        Opt::flag("-p", "the array holds pointers to the objects"),
        Opt::flag("-v", "the contents of the objects"),
        Opt::flag("-x", "numbers in hexadecimal"),
        Opt::flag("-d", "numbers in decimal"),
    ],
    help: include_str!("sbitmapq.md"),
    run: Run::Once(sbitmapq),
};

fn sbitmapq(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    let usage = |what: &str| CommandError::from(UsageError::new("sbitmapq", what));
    match (args.has("-s"), args.has("-a")) {
        (true, false) => return Err(usage("-s option requires -a option")),
        (false, true) => return Err(usage("-a option is used with -s option only")),
        _ => {}
    }
    if args.has("-p") && !args.has("-a") {
        return Err(usage("-p option requires -a option"));
    }
    let at = match args.operands.as_slice() {
        [] => return Err(usage("command argument is required")),
        [at] => operand::address(cx, "sbitmapq", at)?,
        [_, ..] => return Err(usage("too many arguments")),
    };
    let queue = SbitmapQueue::load(&cx.kernel.clone(), at);
    if let (Err(lacks), Err(_)) = (&queue.depth, &queue.words) {
        return Err(lacks.clone().into());
    }
    match args.value("-a") {
        None => Ok(out.row(&QueueRow::new(cx, at, &queue), &())?),
        Some(array) => {
            let array = operand::address(cx, "sbitmapq", array)?;
            objects(cx, args, array, &queue, out)
        }
    }
}

/// The whole bitmap.
#[derive(Debug, Serialize)]
struct QueueRow {
    address: VirtAddr,
    depth: Option<u32>,
    /// Bits that are set, without those that were freed.
    busy: Option<u32>,
    /// Bits that were freed, and not yet given back.
    cleared: Option<u32>,
    bits_per_word: Option<u64>,
    map_nr: Option<u32>,
    alloc_hint: Option<Vec<u32>>,
    wake_batch: Option<u32>,
    wake_index: Option<u32>,
    ws_active: Option<u32>,
    ws: Option<Vec<Wait>>,
    round_robin: Option<bool>,
    min_shallow_depth: Option<u32>,
    /// The bits that are set, eight to a byte; what is missing counts as free.
    bitmap: Vec<u8>,
}

impl QueueRow {
    fn new(cx: &mut Cx, address: VirtAddr, queue: &SbitmapQueue) -> Self {
        let place = || address.to_string();
        let words = cx.known(queue.words.clone(), "bitmap", place);
        let mut busy = Some(0_u32);
        let mut cleared = Some(0_u32);
        let mut bits = Vec::new();
        for word in words.iter().flatten() {
            let taken = cx.known(word.busy(), "bits", place);
            let freed = cx.known(word.cleared.clone(), "bits", place);
            busy = busy.zip(taken).map(|(sum, word)| sum.saturating_add(word.count_ones()));
            cleared = cleared.zip(freed).map(|(sum, word)| sum.saturating_add(word.count_ones()));
            bits.push((taken.unwrap_or(0), word.bits));
        }
        let has_words = words.is_some();
        let shift = cx.known(queue.shift.clone(), "shift", place);
        Self {
            address,
            depth: cx.known(queue.depth.clone(), "depth", place),
            busy: busy.filter(|_| has_words),
            cleared: cleared.filter(|_| has_words),
            bits_per_word: shift.and_then(|shift| 1_u64.checked_shl(shift)),
            map_nr: cx.known(queue.map_nr.clone(), "map_nr", place),
            alloc_hint: cx.known(queue.alloc_hint.clone(), "alloc_hint", place),
            wake_batch: cx.known(queue.wake_batch.clone(), "wake_batch", place),
            wake_index: cx.known(queue.wake_index.clone(), "wake_index", place),
            ws_active: cx.known(queue.ws_active.clone(), "ws_active", place),
            ws: cx.known(queue.waits.clone(), "wait queues", place),
            round_robin: cx.known(queue.round_robin.clone(), "round_robin", place),
            min_shallow_depth: cx.known(queue.min_shallow_depth.clone(), "min_shallow_depth", place),
            bitmap: packed(&bits),
        }
    }
}

impl Render for QueueRow {
    type View = ();

    fn render(&self, _view: &(), out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "depth = {}\nbusy = {}", Known(self.depth), Known(self.busy))?;
        writeln!(out, "cleared = {}\nbits_per_word = {}", Known(self.cleared), Known(self.bits_per_word))?;
        writeln!(out, "map_nr = {}", Known(self.map_nr))?;
        match &self.alloc_hint {
            None => writeln!(out, "alloc_hint = {UNKNOWN}")?,
            Some(hints) => {
                let hints: Vec<String> = hints.iter().map(u32::to_string).collect();
                writeln!(out, "alloc_hint = {{{}}}", hints.join(", "))?;
            }
        }
        writeln!(out, "wake_batch = {}\nwake_index = {}", Known(self.wake_batch), Known(self.wake_index))?;
        writeln!(out, "ws_active = {}\nws = {{", Known(self.ws_active))?;
        for wait in self.ws.iter().flatten() {
            let count = wait.wait_cnt.map(|count| format!(".wait_cnt = {count}, ")).unwrap_or_default();
            let active = if wait.active { "active" } else { "inactive" };
            writeln!(out, "        {{ {count}.wait = {active} }},")?;
        }
        writeln!(out, "}}\nround_robin = {}", Known(self.round_robin.map(u8::from)))?;
        writeln!(out, "min_shallow_depth = {}", Known(self.min_shallow_depth))?;
        for (line, bytes) in self.bitmap.chunks(16).enumerate() {
            let start = if line == 0 { "\n" } else { "" };
            write!(out, "{start}{:08x}:", line.saturating_mul(16))?;
            for pair in bytes.chunks(2) {
                out.write_char(' ')?;
                pair.iter().try_for_each(|byte| write!(out, "{byte:02x}"))?;
            }
            out.write_char('\n')?;
        }
        Ok(())
    }
}

/// An object whose bit is set.
#[derive(Debug, Serialize)]
struct ObjectRow {
    bit: u32,
    /// Its place in the array: the object, or the pointer to it.
    address: VirtAddr,
    /// The object, where the array holds pointers.
    #[serde(skip_serializing_if = "Option::is_none")]
    object: Option<VirtAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Row>,
}

impl Render for ObjectRow {
    /// How values are shown, where they are.
    type View = Option<Style>;

    fn render(&self, style: &Option<Style>, out: &mut dyn fmt::Write) -> fmt::Result {
        let Self { bit, address, .. } = self;
        match (style, &self.value) {
            (None, _) => writeln!(out, "{bit}: 0x{:x}", address.0),
            (Some(_), None) => writeln!(out, "{bit} (0x{:x}):\n  {UNKNOWN}", address.0),
            (Some(style), Some(value)) => {
                writeln!(out, "{bit} (0x{:x}):", address.0)?;
                value.render(style, out)
            }
        }
    }
}

/// The objects of the array whose bits are set.
fn objects(
    cx: &mut Cx,
    args: &Args,
    array: VirtAddr,
    queue: &SbitmapQueue,
    out: &mut dyn Sink,
) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let shapes = structure::shapes(cx, "sbitmapq", args)?;
    let Some(shape) = shapes.first() else { return Ok(()) };
    let style = args.has("-v").then(|| structure::style(cx, args));
    let stride = if args.has("-p") { size_of::<u64>() as u64 } else { shape.bytes };
    for word in queue.words.clone()? {
        let numbers = cx.known(word.numbers(), "bits", || format!("bit {}", word.first));
        for bit in numbers.into_iter().flatten() {
            cx.cancel.check()?;
            let address = array.add(stride.saturating_mul(bit.into()));
            let object = if args.has("-p") {
                cx.known(pointer(&kernel, address), "pointers of the array", || address.to_string())
            } else {
                Some(address)
            };
            let value = match (&style, object) {
                (Some(style), Some(object)) => Some(shape.row(cx, object, style)?),
                _ => None,
            };
            let object = object.filter(|_| args.has("-p"));
            out.row(&ObjectRow { bit, address, object, value }, &style)?;
        }
    }
    Ok(())
}

fn pointer(kernel: &Kernel, at: VirtAddr) -> Result<VirtAddr, Lacks> {
    match kernel.memory().pointer(at)? {
        null if null.is_null() => Err(Lacks::unavailable("a null pointer")),
        object => Ok(object),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_is_crashs() {
        let row = QueueRow {
            address: VirtAddr(0),
            depth: Some(136),
            busy: Some(2),
            cleared: Some(26),
            bits_per_word: Some(32),
            map_nr: Some(5),
            alloc_hint: Some(vec![74, 36, 123, 101]),
            wake_batch: Some(8),
            wake_index: Some(0),
            ws_active: Some(0),
            ws: Some(vec![Wait { wait_cnt: Some(8), active: false }, Wait { wait_cnt: None, active: true }]),
            round_robin: Some(false),
            min_shallow_depth: Some(u32::MAX),
            bitmap: packed(&[(0, 64), (0x3000, 64), (0, 8)]),
        };
        let mut text = String::new();
        row.render(&(), &mut text).unwrap();
        let whole = "\
depth = 136
busy = 2
cleared = 26
bits_per_word = 32
map_nr = 5
alloc_hint = {74, 36, 123, 101}
wake_batch = 8
wake_index = 0
ws_active = 0
ws = {
        { .wait_cnt = 8, .wait = inactive },
        { .wait = active },
}
round_robin = 0
min_shallow_depth = 4294967295

00000000: 0000 0000 0000 0000 0030 0000 0000 0000
00000010: 00
";
        assert_eq!(text, whole);
    }

    #[test]
    fn objects_are_crashs() {
        let row = ObjectRow { bit: 96, address: VirtAddr(0xff1c), object: None, value: None };
        let mut text = String::new();
        row.render(&None, &mut text).unwrap();
        assert_eq!(text, "96: 0xff1c\n");
    }
}
