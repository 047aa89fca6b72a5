//! `dis`: the code at an address, or of a function.

mod differs;
mod gdb;
mod listing;
mod refs;
mod row;

use kdive_arch::x86_64::disassemble::{Instruction, Syntax};
use kdive_base::VirtAddr;
use kdive_target::Lacks;

use crate::args::{Args, Opt, UsageError};
use crate::code::{self, Instructions};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::memory::{self, Space, Which};
use crate::operand;
use crate::settings::Radix;
use crate::sink::{Sink, SinkExt};
pub(crate) use gdb::DISASSEMBLE;
use row::View;

/// Shows instructions.
pub(crate) static DIS: Command = Command {
    names: &["dis"],
    group: Group::Memory,
    summary: "the code of a function or at an address",
    operands: "[address | symbol | (expression)] [count]",
    options: &[
        Opt::flag("-r", "from the start of the function to the address"),
        Opt::flag("-f", "from the address to the end of the function"),
        Opt::flag("-l", "source file and line above the instructions they belong to (needs DWARF)"),
        memory::USER,
        Opt::flag("-x", "offsets in hexadecimal"),
        Opt::flag("-d", "offsets in decimal"),
        Opt::flag("-s", "the source at the address instead; the count is of lines behind it"),
        Opt::optional("-b", "num", is_number, "bytes that old kernels keep behind the ud2 of a BUG()"),
        Opt::value(Opt::FORMAT, "r", "the bytes of each instruction too"),
        Opt::flag("--intel", "Intel syntax"),
        Opt::flag("--refs", "the strings that constants and data operands point at"),
        Opt::value("--src", "directory", "where the kernel's source tree is; `set src` keeps it"),
    ],
    help: include_str!("../dis.md"),
    run: Run::Once(dis),
};

fn is_number(word: &str) -> bool {
    operand::number(word).is_some()
}

fn dis(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    if args.has("-b") {
        return bug_bytes(cx, args.value("-b"), out);
    }
    let (formats, words): (Vec<&String>, Vec<&String>) =
        args.operands.iter().partition(|word| word.starts_with('/'));
    let format = formats.first().map(|word| word.trim_start_matches('/')).or(args.value(Opt::FORMAT));
    if let Some(other) = format.filter(|format| *format != "r") {
        return Err(UsageError::new("dis", format!("/{other}: only /r is known")).into());
    }
    if args.has("-r") && args.has("-f") {
        return Err(UsageError::new("dis", "-r and -f exclude each other").into());
    }
    let [word, rest @ ..] = words.as_slice() else {
        return Err(UsageError::new("dis", "which address or symbol?").into());
    };
    let at = operand::address(cx, "dis", word)?;
    let count = match rest {
        [] => None,
        [count] => Some(operand::count("dis", count)?),
        [_, more, ..] => return Err(UsageError::new("dis", format!("{more} is too many")).into()),
    };
    if args.has("-s") {
        return crate::source_lines::of_code(cx, at, count, args.value("--src"), out);
    }
    let wanted = Wanted { at, count, word };
    let view = View { radix: radix(cx, args), bytes: format.is_some() };
    let listing = listing::Options {
        lines: args.has("-l"),
        refs: args.has("--refs"),
        syntax: if args.has("--intel") { Syntax::Intel } else { Syntax::Att },
    };
    show(cx, args, &wanted, &view, &listing, out)
}

/// What was asked for.
struct Wanted<'w> {
    at: VirtAddr,
    count: Option<u64>,
    word: &'w str,
}

pub(crate) fn radix(cx: &Cx, args: &Args) -> Radix {
    match (args.has("-x"), args.has("-d")) {
        (true, false) => Radix::Hexadecimal,
        (false, true) => Radix::Decimal,
        _ => cx.settings.radix,
    }
}

fn show(
    cx: &mut Cx,
    args: &Args,
    wanted: &Wanted<'_>,
    view: &View,
    options: &listing::Options,
    out: &mut dyn Sink,
) -> Result<(), CommandError> {
    let which = if args.has("-u") { Which::User } else { Which::Kernel };
    let space = which.open(cx, "dis", wanted.at.0)?;
    if let Space::User(_) = space {
        let instructions = Instructions::new(space.memory(), wanted.at, options.syntax);
        return stream(cx, instructions, wanted.count.unwrap_or(1), view, options, out);
    }
    let kernel = cx.kernel.clone();
    let whole = args.has("-r") || args.has("-f") || wanted.count.is_none() && is_function(cx, wanted);
    if !whole {
        let instructions = Instructions::new(kernel.memory(), wanted.at, options.syntax);
        let instructions = instructions.skipping(cx.settings.bug_bytes);
        return stream(cx, instructions, wanted.count.unwrap_or(1), view, options, out);
    }
    let function = code::function(&kernel, wanted.at).ok_or_else(|| {
        CommandError::not_found(format!(
            "dis: {} is in no function, so it has no start and no end",
            wanted.at
        ))
    })?;
    let code = of_function(cx, args, wanted, &function, options.syntax)?;
    let count = wanted.count.map_or(usize::MAX, |count| usize::try_from(count).unwrap_or(usize::MAX));
    let shown = match args.has("-r") {
        true => code.get(code.len().saturating_sub(count)..).unwrap_or_default(),
        false => code.get(..count.min(code.len())).unwrap_or_default(),
    };
    let mut rows = listing::Rows::new(&kernel, options, view.radix);
    for found in shown {
        cx.cancel.check()?;
        out.row(&rows.of(found), view)?;
    }
    differs::check(cx, shown);
    Ok(())
}

/// The wanted part of a function.
fn of_function(
    cx: &mut Cx,
    args: &Args,
    wanted: &Wanted<'_>,
    function: &code::Function,
    syntax: Syntax,
) -> Result<Vec<Instruction>, CommandError> {
    let kernel = cx.kernel.clone();
    let from = if args.has("-f") { wanted.at } else { function.range.start };
    let mut instructions = Instructions::new(kernel.memory(), from, syntax).skipping(cx.settings.bug_bytes);
    let mut code: Vec<Instruction> = Vec::new();
    while instructions.at < function.range.end {
        cx.cancel.check()?;
        // Up to the instruction that the address lies in, or begins.
        if args.has("-r") && code.last().is_some_and(|last| last.address >= wanted.at) {
            break;
        }
        match instructions.one() {
            Ok(found) => code.push(found),
            Err(missing) if code.is_empty() => return Err(Lacks::Missing(missing).into()),
            Err(missing) => {
                cx.lacks(&Lacks::Missing(missing), "code", || missing.address.to_string());
                break;
            }
        }
    }
    if function.padded && !args.has("-r") {
        code::without_padding(&mut code);
    }
    Ok(code)
}

/// Whether the operand names a function, of which all is shown.
fn is_function(cx: &Cx, wanted: &Wanted<'_>) -> bool {
    let symbols = cx.kernel.symbols();
    let named = symbols.map(|symbols| symbols.by_name(wanted.word)).unwrap_or_default();
    named.iter().any(|symbol| symbol.address == wanted.at && symbol.kind.is_code())
}

fn stream(
    cx: &mut Cx,
    mut instructions: Instructions<'_>,
    count: u64,
    view: &View,
    options: &listing::Options,
    out: &mut dyn Sink,
) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let mut rows = listing::Rows::new(&kernel, options, view.radix);
    let mut shown = Vec::new();
    for number in 0..count {
        cx.cancel.check()?;
        match instructions.one() {
            Ok(found) => {
                out.row(&rows.of(&found), view)?;
                shown.push(found);
            }
            Err(missing) if number == 0 => return Err(Lacks::Missing(missing).into()),
            Err(missing) => {
                cx.lacks(&Lacks::Missing(missing), "code", || missing.address.to_string());
                break;
            }
        }
    }
    differs::check(cx, &shown);
    Ok(())
}

fn bug_bytes(cx: &mut Cx, number: Option<&str>, out: &mut dyn Sink) -> Result<(), CommandError> {
    if let Some(number) = number {
        cx.settings.bug_bytes = operand::count("dis", number)?;
    }
    out.text(&format!("encoded bytes being skipped after ud2a: {}\n", cx.settings.bug_bytes))?;
    Ok(())
}
