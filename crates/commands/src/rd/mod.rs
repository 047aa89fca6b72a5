//! `rd`: memory as numbers, symbols or text.

pub(crate) mod copy;
pub(crate) mod rows;
mod text;

use kdive_base::VirtAddr;

use crate::args::{Args, Opt, UsageError};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::memory::{self, Space, Which};
use crate::operand;
use crate::sink::Sink;
use crate::words::Mode;
use rows::{Radix, View};

/// Reads memory.
pub(crate) static RD: Command = Command {
    names: &["rd"],
    group: Group::Memory,
    summary: "memory as numbers of any size, as symbols and slab objects, or as text",
    operands: "address [count]",
    options: &[
        memory::PHYSICAL,
        memory::USER,
        memory::MACHINE,
        memory::FILE,
        Opt::flag("-d", "numbers in decimal, with a sign"),
        Opt::flag("-D", "numbers in decimal, without a sign"),
        Opt::flag("-s", "the symbols that words point to"),
        Opt::flag("-S", "the same, and the slab caches of objects; -SS adds the objects' addresses"),
        Opt::flag("-x", "no text beside the numbers"),
        Opt::flag("-8", "numbers of 8 bits"),
        Opt::flag("-16", "numbers of 16 bits"),
        Opt::flag("-32", "numbers of 32 bits"),
        Opt::flag("-64", "numbers of 64 bits, which is the default"),
        Opt::flag("-a", "text: up to the first byte that is none, or the text in `count` bytes"),
        Opt::flag("-N", "numbers of 16 and 32 bits in network byte order"),
        Opt::flag("-R", "the memory before the address, up to it"),
        Opt::optional(
            "-o",
            "bytes",
            is_number,
            "begin so far behind the address; alone: show offsets for addresses",
        ),
        Opt::value("-e", "address", "end before this address"),
        Opt::value("-r", "file", "copy the bytes into a file; `count` is in bytes"),
    ],
    help: include_str!("rd.md"),
    run: Run::Once(rd),
};

fn is_number(word: &str) -> bool {
    operand::number(word).is_some()
}

/// What is to be read.
struct Request {
    space: Space,
    /// The first address, with `-o`'s offset.
    start: u64,
    count: Option<u64>,
    /// The address to end before.
    end: Option<u64>,
}

impl Request {
    /// Bytes to read, for units of `size` bytes; `default` units where nothing says how many.
    fn bytes(&self, size: u64, default: u64) -> u64 {
        match self.end {
            Some(end) => end.saturating_sub(self.start).div_ceil(size).saturating_mul(size),
            None => self.count.unwrap_or(default).saturating_mul(size),
        }
    }
}

fn request(cx: &Cx, args: &Args) -> Result<Request, CommandError> {
    let (word, count) = match args.operands.as_slice() {
        [] => return Err(UsageError::new("rd", "which address?").into()),
        [word] => (word, None),
        [word, count] => (word, Some(operand::count("rd", count)?)),
        [_, _, more, ..] => {
            return Err(UsageError::new("rd", format!("{more}: one address and one count")).into());
        }
    };
    if count == Some(0) {
        return Err(UsageError::new("rd", "invalid count request: 0").into());
    }
    let VirtAddr(at) = operand::address(cx, "rd", word)?;
    let start = at.wrapping_add(args.value("-o").and_then(operand::number).unwrap_or(0));
    let end =
        args.value("-e").map(|word| operand::address(cx, "rd", word)).transpose()?.map(|VirtAddr(end)| end);
    if let Some(end) = end.filter(|&end| end <= start) {
        return Err(UsageError::new("rd", format!("invalid ending address: {end:x}")).into());
    }
    if end.is_some() && count.is_some() {
        return Err(UsageError::new("rd", "give a count or an ending address, not both").into());
    }
    let space = Which::of("rd", args)?.open(cx, "rd", start)?;
    Ok(Request { space, start, count, end })
}

fn rd(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    let request = request(cx, args)?;
    if let Some(path) = args.value("-r") {
        if request.count.is_none() && request.end.is_none() {
            return Err(
                UsageError::new("rd", "-r option requires either a count argument or the -e option").into()
            );
        }
        return copy::copy(cx, "rd", request.space.memory(), request.start, request.bytes(1, 0), path, out);
    }
    let form = args.last_of(&["-8", "-16", "-32", "-64", "-a"]).unwrap_or("-64");
    if form == "-a" {
        let limited = request.count.is_some() || request.end.is_some();
        let bytes = limited.then(|| request.bytes(1, 0));
        let before = if args.has("-R") { bytes.unwrap_or(0).saturating_sub(1) } else { 0 };
        let start = request.start.saturating_sub(before);
        return text::show(cx, request.space.memory(), start, bytes, out);
    }
    let view = view(args, form, &request.space);
    let size = view.size as u64;
    let bytes = request.bytes(size, 1);
    let start = match args.has("-R") {
        true => request.start.saturating_sub(bytes.saturating_sub(size)),
        false => request.start,
    };
    let view = View { offsets_from: (args.has("-o") && args.value("-o").is_none()).then_some(start), ..view };
    rows::show(cx, request.space.memory(), start, bytes, &view, out)
}

fn view(args: &Args, form: &str, space: &Space) -> View {
    let size = match form {
        "-8" => 1,
        "-16" => 2,
        "-32" => 4,
        _ => 8,
    };
    let radix = match args.last_of(&["-d", "-D"]) {
        Some("-d") => Radix::Signed,
        Some(_) => Radix::Unsigned,
        None => Radix::Hexadecimal,
    };
    let symbolic = match (args.count("-S"), args.has("-s")) {
        (0, false) => Mode::Plain,
        (0, true) => Mode::Symbols,
        (1, _) => Mode::Symbolic,
        _ => Mode::SymbolicWithValue,
    };
    let named = symbolic != Mode::Plain;
    View {
        size,
        radix,
        text: radix == Radix::Hexadecimal && !named && !args.has("-x"),
        // Only words of the kernel point to what it has.
        symbolic: if size == 8 && radix == Radix::Hexadecimal && space.is_kernel() {
            symbolic
        } else {
            Mode::Plain
        },
        network: args.has("-N"),
        offsets_from: None,
    }
}
