//! `list`: the entries of a linked list.

use std::fmt;

use kdive_base::{Address, Missing, VirtAddr, Why};
use kdive_target::walk::{Broken, Lap, chain};
use kdive_target::{Lacks, Style};
use serde::Serialize;

use crate::args::{Args, Opt, UsageError};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::operand;
use crate::sink::{Render, Sink, SinkExt};
use crate::source_lines;
use crate::structure::{self, Row, Shape};

/// Walks linked lists.
pub(crate) static LIST: Command = Command {
    names: &["list"],
    group: Group::Memory,
    summary: "walk a linked list",
    operands: "[offset | struct.member] start[:cpus] | *address | function | file:line",
    options: &[
        Opt::value("-o", "offset", "offset of the next pointer in each structure: bytes, or struct.member"),
        Opt::value("-e", "end", "end before the link at this address, as well as at null"),
        Opt::value("-s", "struct[.member,...]", "show this structure, or members of it, at each address"),
        Opt::value("-S", "struct[.member,...]", "the same without commas, and text up to its zero"),
        Opt::value("-l", "offset", "with -s: the start is a list_head at this offset in the structure"),
        Opt::flag("-x", "show integers in hexadecimal"),
        Opt::flag("-d", "show integers in decimal"),
        Opt::flag("-r", "walk a list of list_heads backwards, by their prev pointers"),
        Opt::flag("-B", "notice loops in constant memory (R. P. Brent), and tell their length and start"),
        Opt::flag("-h", "the start is a structure with an embedded list_head at the offset"),
        Opt::flag("-H", "the start is a list_head outside of the structures: LIST_HEAD()"),
        Opt::value(
            "-O",
            "offset",
            "with -h: offset of the list's head in the start, where it is another structure",
        ),
        Opt::value("--src", "directory", "for source lines: where the kernel's source tree is"),
    ],
    help: include_str!("list_cmd.md"),
    run: Run::Once(list),
};

const NAME: &str = "list";
/// Offset of `prev` from `next` in `struct list_head`.
const PREV: u64 = 8;

/// What the command line asks for.
struct Request {
    /// Offset of the link in a structure.
    offset: u64,
    /// Offset of the list's head in the start, where that is told apart.
    head: Option<u64>,
    /// Where the list ends, if not where it usually does.
    end: Option<VirtAddr>,
    /// What is shown of each structure.
    shapes: Vec<Shape>,
    /// Offset of the start in its structure, for `shapes`.
    embedded: u64,
    start: Start,
    backwards: bool,
    brent: bool,
    style: Style,
}

/// What the start is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Start {
    /// The first structure; each points to the next.
    First,
    /// A structure with an embedded `list_head`.
    Containing,
    /// A `list_head` outside of the structures.
    Head,
}

/// An entry of the list.
#[derive(Serialize)]
struct Entry {
    address: VirtAddr,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    records: Vec<Row>,
}

impl Render for Entry {
    type View = Style;
    fn render(&self, style: &Style, out: &mut dyn fmt::Write) -> fmt::Result {
        // As crash, without zeros in front.
        writeln!(out, "{:x}", self.address.0)?;
        self.records.iter().try_for_each(|record| record.render(style, out))
    }
}

/// How long the list was: for programs.
#[derive(Serialize)]
struct Summary {
    entries: u64,
}

impl Render for Summary {
    type View = ();
    fn render(&self, (): &(), _out: &mut dyn fmt::Write) -> fmt::Result {
        Ok(())
    }
}

/// What `-B` tells of a loop.
#[derive(Serialize)]
struct Loop {
    /// Entries on it.
    length: usize,
    /// Entries before it.
    before: usize,
    /// Its first link.
    first: VirtAddr,
}

impl Render for Loop {
    type View = ();
    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "{NAME}: loop detected, loop length: {}", self.length)?;
        writeln!(out, "{NAME}: length from start to loop: {}", self.before)
    }
}

fn list(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    if let [word] = args.operands.as_slice()
        && (args.is_plain() || args.has("--src"))
        && source_lines::wants(cx, word)
    {
        return source_lines::list(cx, word, args.value("--src"), out);
    }
    let (request, start) = Request::parse(cx, args)?;
    let (start, cpus) = operand::processors(cx, NAME, &start)?;
    let variable = operand::address(cx, NAME, start)?;
    let Some(cpus) = cpus else {
        let entries = request.walk(cx, variable, out)?;
        return Ok(out.trailer(&Summary { entries }, &())?);
    };
    let mut entries = 0_u64;
    for &cpu in &cpus {
        let start = cx.kernel.cpus()?.per_cpu(variable, cpu)?;
        out.heading(&format!("[{cpu}]: {:x}\n", start.0))?;
        entries = entries.saturating_add(request.walk(cx, start, out)?);
    }
    Ok(out.trailer(&Summary { entries }, &())?)
}

impl Request {
    /// The request, and the word that is the start.
    fn parse(cx: &Cx, args: &Args) -> Result<(Self, String), CommandError> {
        let offset_of = |word: &str| structure::offset(cx, NAME, word);
        let given = |option: &str| args.value(option).map(offset_of).transpose();
        let mut offset = given("-o")?;
        let mut start: Option<&String> = None;
        for (index, word) in args.operands.iter().enumerate() {
            let others = args.operands.len() > index.saturating_add(1) || start.is_some();
            match offset {
                None if others && is_offset(word) => offset = Some(offset_of(word)?),
                _ if start.is_none() => start = Some(word),
                _ => return Err(UsageError::new(NAME, format!("{word}: a start was given already")).into()),
            }
        }
        let start = start.ok_or_else(|| UsageError::new(NAME, "starting address required"))?;
        let kind = match (args.has("-h"), args.has("-H")) {
            (true, true) => return Err(UsageError::new(NAME, "-h and -H exclude each other").into()),
            (true, false) => Start::Containing,
            (false, true) => Start::Head,
            (false, false) => Start::First,
        };
        let shapes = structure::shapes(cx, NAME, args)?;
        let embedded = given("-l")?;
        if embedded.is_some() && shapes.is_empty() {
            return Err(UsageError::new(NAME, "-l option can only be used with -s or -S option").into());
        }
        let request = Self {
            offset: offset.unwrap_or(0),
            head: given("-O")?,
            end: args.value("-e").map(|word| operand::address(cx, NAME, word)).transpose()?,
            shapes,
            embedded: embedded.unwrap_or(0),
            start: kind,
            backwards: args.has("-r"),
            brent: args.has("-B"),
            style: structure::style(cx, args),
        };
        Ok((request, start.clone()))
    }

    /// Where a list lies, and where it ends.
    fn layout(&self, cx: &Cx, start: VirtAddr) -> Result<Layout, Broken> {
        let memory = cx.kernel.memory();
        let side = if self.backwards { PREV } else { 0 };
        let next = if self.start == Start::First { self.offset.wrapping_add(side) } else { side };
        let inside = if self.start == Start::First { 0 } else { self.offset };
        // The head of a list is no entry of it; a list without one begins and ends at its first link.
        let head = match (self.start, self.head) {
            (Start::First, _) => None,
            (Start::Containing, offset) => offset.map(|offset| start.add(offset)),
            (Start::Head, _) => Some(start),
        };
        let first = match head {
            Some(head) => memory.pointer(head.add(side))?,
            None => start.add(inside),
        };
        Ok(Layout { head, first, inside, next })
    }

    fn walk(&self, cx: &mut Cx, start: VirtAddr, out: &mut dyn Sink) -> Result<u64, CommandError> {
        let kernel = cx.kernel.clone();
        let memory = kernel.memory();
        let layout = self.layout(cx, start).map_err(|broken| self.error(broken, "first list entry"))?;
        let Layout { head, first, inside, next } = layout;
        let mut links = chain(memory, first, next).ending_at(VirtAddr(0)).ending_at_itself();
        links = match (self.end, head) {
            (Some(end), _) => links.ending_at(end),
            (None, Some(head)) => links.ending_at(head),
            (None, None) => links.ending_back_at(first, 1),
        };
        // Back at the first, or, where the start only points into the list, at the second: all the way round.
        links = match (head, memory.pointer(first.add(next))) {
            (Some(_), _) => links.ending_back_at(first, 1),
            (None, Ok(second)) => links.ending_back_at(second, 2),
            (None, Err(missing)) => return Err(self.error(missing.into(), "list entry")),
        };
        if self.brent {
            links = links.remembering_one();
        }
        let mut entries = 0_u64;
        for link in links {
            cx.cancel.check()?;
            let shown = match link {
                Ok(link) => link.sub(inside),
                Err(broken) => return self.ended(cx, &layout, broken, entries, out),
            };
            let records = structure::rows(&self.shapes, cx, shown.sub(self.embedded), &self.style)?;
            out.row(&Entry { address: shown, records }, &self.style)?;
            entries = entries.saturating_add(1);
        }
        Ok(entries)
    }

    /// A list that broke: what the dump lacks is a gap, what the kernel has wrong is an error.
    fn ended(
        &self,
        cx: &mut Cx,
        layout: &Layout,
        mut broken: Broken,
        entries: u64,
        out: &mut dyn Sink,
    ) -> Result<u64, CommandError> {
        let lap = match (&broken, self.brent) {
            (Broken::Cycle(at), true) => Lap::find(cx.kernel.memory(), layout.first, layout.next, *at).ok(),
            _ => None,
        };
        if let Broken::Missing(missing) = &broken
            && !is_wild(missing.why)
        {
            cx.lacks(&Lacks::Missing(*missing), "rest of the list", || format!("after {entries} entries"));
            return Ok(entries);
        }
        if let Some(lap) = lap {
            // Where the walk noticed the loop says nothing; where the loop begins does.
            broken = Broken::Cycle(lap.first);
            out.trailer(&Loop { length: lap.length, before: lap.before, first: lap.first }, &())?;
        }
        Err(match self.error(broken, "list entry") {
            CommandError::NotFound { what, .. } => {
                CommandError::NotFound { what, hint: Some(format!("{entries} entries lie before that")) }
            }
            other => other,
        })
    }

    /// crash's words, and why.
    fn error(&self, broken: Broken, what: &str) -> CommandError {
        let _ = self;
        CommandError::not_found(match broken {
            Broken::Missing(Missing { address: Address::Virtual(at), why }) if is_wild(why) => {
                format!("{NAME}: invalid kernel virtual address: {:x}  type: \"{what}\": {why}", at.0)
            }
            Broken::Cycle(at) => format!("{NAME}: duplicate list entry: {:x}", at.0),
            other => format!("{NAME}: {other}"),
        })
    }
}

/// Where a list lies.
#[derive(Clone, Copy)]
struct Layout {
    /// Its `list_head` that is no entry.
    head: Option<VirtAddr>,
    /// Its first link.
    first: VirtAddr,
    /// Offset of a link in the address that is shown.
    inside: u64,
    /// Offset of the next pointer in a link.
    next: u64,
}

/// Whether the kernel itself could not read there: the pointer is wrong, nothing is missing from the dump.
fn is_wild(why: Why) -> bool {
    matches!(why, Why::NotMapped { .. } | Why::NotCanonical)
}

/// Whether a word is an offset, next to another that is the start: a number that is no address, or `struct.member`.
fn is_offset(word: &str) -> bool {
    const USER_SPACE: u64 = 1 << 47;
    let is_member = word.contains('.') && !word.starts_with(|c: char| c.is_ascii_digit() || c == '(');
    is_member || operand::number(word).is_some_and(|number| number < USER_SPACE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_told_from_starts() {
        for offset in ["24", "0x18", "task_struct.tasks", "rq.cfs_tasks"] {
            assert!(is_offset(offset), "{offset}");
        }
        for start in ["init_task", "ffffffff9a52ea00", "0xffffffff9a52ea00", "runqueues:0", "($task.tasks)"] {
            assert!(!is_offset(start), "{start}");
        }
    }

    #[test]
    fn entries_are_crashs_lines() {
        let mut text = String::new();
        let entry = Entry { address: VirtAddr(0xff27_0289_184e_8b80), records: Vec::new() };
        entry.render(&Style::LINES, &mut text).unwrap();
        Entry { address: VirtAddr(0x1f), records: Vec::new() }.render(&Style::LINES, &mut text).unwrap();
        assert_eq!(text, "ff270289184e8b80\n1f\n");
    }
}
