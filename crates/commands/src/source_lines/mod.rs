//! Source: which file and line code came from, and those lines where the kernel's source tree is at hand.
//!
//! `list *ADDR`, `list FUNC`, `list FILE:LINE`, `info line`, `dis -s` and `dis -l` share it. The tree is what `--src` or
//! `set src` names; without it a file is looked for where the compiler found it.

mod text;

use kdive_base::{VirtAddr, printable};
#[cfg(not(feature = "dwarf"))]
use kdive_target::Lacks;
use kdive_target::{Field, Kernel, Want};

use crate::args::UsageError;
use crate::command::CommandError;
use crate::cx::Cx;
use crate::operand;
use crate::sink::{Sink, SinkExt};
use text::{Heading, Line, Style};

/// A place in the sources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SourcePlace {
    /// The file with the directory that the compiler ran in.
    pub(crate) path: String,
    /// The file as the compiler was told of it: `fs/read_write.c`.
    pub(crate) file: String,
    /// The line, from 1; 0 for code that belongs to no line.
    pub(crate) line: u32,
}

/// What gdb lists.
const LINES: u32 = 10;
/// Lines that it lists before the one meant.
const BEFORE: u32 = 5;

/// Where the instruction at an address came from: the line in the innermost function inlined there.
#[cfg(feature = "dwarf")]
pub(crate) fn place(kernel: &Kernel, at: VirtAddr) -> Field<Option<SourcePlace>> {
    let frames = kernel.source(at)?;
    let found = frames.into_iter().next().and_then(|frame| frame.at);
    Ok(found.map(|found| SourcePlace {
        path: printable(found.file.as_bytes()),
        file: printable(found.relative().as_bytes()),
        line: found.line.unwrap_or(0),
    }))
}

/// Without a reader of DWARF there are no lines.
#[cfg(not(feature = "dwarf"))]
pub(crate) fn place(_kernel: &Kernel, _at: VirtAddr) -> Field<Option<SourcePlace>> {
    Err(Lacks::unavailable("this kdive was built without DWARF"))
}

/// The same as crash writes it: `fs/read_write.c: 450`.
pub(crate) fn location(kernel: &Kernel, at: VirtAddr) -> Option<String> {
    let found = place(kernel, at).ok()??;
    Some(match found.line {
        0 => found.path,
        line => format!("{}: {line}", found.path),
    })
}

/// The place of code, or why there is none.
pub(crate) fn required(cx: &Cx, command: &str, at: VirtAddr) -> Result<SourcePlace, CommandError> {
    place(&cx.kernel, at)?.ok_or_else(|| {
        CommandError::not_found(format!(
            "{command}: no line is known of {at}: it is no code that DWARF describes"
        ))
    })
}

/// Whether an operand of `list` asks for source: `*ADDRESS`, `FILE:LINE`, or a function.
pub(crate) fn wants(cx: &Cx, word: &str) -> bool {
    word.starts_with('*') || file_and_line(word).is_some() || function(cx, word).is_some()
}

fn function(cx: &Cx, word: &str) -> Option<VirtAddr> {
    let symbols = cx.kernel.symbols().ok()?;
    let named = symbols.by_name(word);
    named.iter().find(|symbol| symbol.kind.is_code()).map(|symbol| symbol.address)
}

fn file_and_line(word: &str) -> Option<(&str, u32)> {
    let (file, line) = word.rsplit_once(':')?;
    let line = line.parse().ok().filter(|&line| line > 0)?;
    file.contains('.').then_some((file, line))
}

/// `list *ADDRESS`, `list FUNCTION`, `list FILE:LINE`, as gdb lists. `tree` is what `--src` gave.
pub(crate) fn list(
    cx: &mut Cx,
    word: &str,
    tree: Option<&str>,
    out: &mut dyn Sink,
) -> Result<(), CommandError> {
    if let Some((file, line)) = file_and_line(word).filter(|_| !word.starts_with('*')) {
        let place = SourcePlace { path: file.to_owned(), file: file.to_owned(), line };
        return lines_around(cx, &place, tree, out);
    }
    if let Some(address) = word.strip_prefix('*') {
        let at = operand::address(cx, "list", address.trim())?;
        let place = required(cx, "list", at)?;
        let function = cx.kernel.place(at).map(|place| place.symbol.name.to_owned());
        out.header(&Heading { address: at, function, file: place.file.clone(), line: place.line }, &())?;
        return lines_around(cx, &place, tree, out);
    }
    let at = function(cx, word).ok_or_else(|| {
        let what = format!("{word}: expected *ADDRESS, a function, or FILE:LINE");
        CommandError::from(UsageError::new("list", what))
    })?;
    let place = required(cx, "list", at)?;
    lines_around(cx, &place, tree, out)
}

fn lines_around(
    cx: &mut Cx,
    place: &SourcePlace,
    tree: Option<&str>,
    out: &mut dyn Sink,
) -> Result<(), CommandError> {
    let first = place.line.saturating_sub(BEFORE).max(1);
    let Some(text) = file(cx, place, tree) else {
        let last = first.saturating_add(LINES).saturating_sub(1);
        not_at_hand(cx, place, &format!("lines {first} to {last}"));
        return Ok(());
    };
    show(&text, first, first.saturating_add(LINES), place.line, Style::Gdb, out)
}

/// Notes that a source file is not there, and how to give it.
fn not_at_hand(cx: &mut Cx, place: &SourcePlace, what: &str) {
    let why =
        "the file is not at hand: give the kernel's source tree with --src DIRECTORY or `set src DIRECTORY`";
    cx.gaps.note("source lines", why, Some(format!("{}, {what}", place.file)));
}

/// The text of a source file.
fn file(cx: &Cx, place: &SourcePlace, tree: Option<&str>) -> Option<String> {
    let tree = tree.or_else(|| cx.settings.variables.get("src").map(String::as_str));
    let want = Want::Source { tree, file: &place.path };
    let found = cx.kernel.artifacts().find(&want)?;
    Some(String::from_utf8_lossy(&found.bytes).into_owned())
}

fn show(
    text: &str,
    first: u32,
    end: u32,
    marked: u32,
    style: Style,
    out: &mut dyn Sink,
) -> Result<(), CommandError> {
    let numbered = (1_u32..).zip(text.lines()).skip_while(|(number, _)| *number < first);
    for (number, line) in numbered.take_while(|(number, _)| *number < end) {
        // What the terminal would act on stays out; tabs are the sources' own.
        let text: Vec<String> = line.split('\t').map(|part| printable(part.as_bytes())).collect();
        out.row(&Line { line: number, text: text.join("\t"), marked: number == marked }, &style)?;
    }
    Ok(())
}

/// `dis -s`: file and line of code, and the source from a little before to `count` lines behind, or to the end of the
/// function.
#[cfg(feature = "disassemble")]
pub(crate) fn of_code(
    cx: &mut Cx,
    at: VirtAddr,
    count: Option<u64>,
    tree: Option<&str>,
    out: &mut dyn Sink,
) -> Result<(), CommandError> {
    let place = required(cx, "dis", at)?;
    out.header(&text::FileLine { file: place.file.clone(), line: place.line }, &())?;
    let Some(text) = file(cx, &place, tree) else {
        not_at_hand(cx, &place, &format!("line {}", place.line));
        return Ok(());
    };
    let behind = match count {
        Some(count) => u32::try_from(count).unwrap_or(u32::MAX),
        None => last_line(cx, at, &place).saturating_sub(place.line),
    };
    let first = place.line.saturating_sub(BEFORE).max(1);
    show(&text, first, place.line.saturating_add(behind).saturating_add(1), place.line, Style::Marked, out)
}

/// The last line of the same file that the function's code came from, and the brace behind it.
#[cfg(feature = "disassemble")]
fn last_line(cx: &Cx, at: VirtAddr, place: &SourcePlace) -> u32 {
    /// Functions are read in steps no longer than an instruction can be.
    const STEP: usize = 4;
    let Some(function) = crate::code::function(&cx.kernel, at) else {
        return place.line.saturating_add(LINES);
    };
    let own = |at| self::place(&cx.kernel, at).ok().flatten().filter(|own| own.path == place.path);
    let lines =
        (function.range.start.0..function.range.end.0).step_by(STEP).filter_map(|at| own(VirtAddr(at)));
    lines.map(|own| own.line).max().unwrap_or(place.line).max(place.line)
}
