//! `x`: memory as gdb examines it.

mod format;
mod unit;

use std::fmt;

use kdive_base::{Missing, VirtAddr, VirtualMemory};
use kdive_target::Lacks;
use kdive_target::c::EvalError;
use serde::Serialize;

use crate::args::{Args, Opt, UsageError};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::memory::Which;
use crate::operand;
use crate::settings::Radix;
use crate::sink::{Render, Sink, SinkExt};
use crate::sym;
use crate::variables::SessionVariables;
pub(crate) use format::Format;
use format::Shape;

/// Examines memory.
pub(crate) static X: Command = Command {
    names: &["x"],
    group: Group::Memory,
    summary: "memory as gdb shows it: x/8xg, x/s, x/4i",
    operands: "[expression]",
    options: &[Opt::value(
        Opt::FORMAT,
        "format",
        "count, one of x d u o t a c f s i z, and the size b h w g: 4xg",
    )],
    help: include_str!("../x.md"),
    run: Run::Expression(x),
};

/// What `x` did last: without an operand it goes on from there.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Examined {
    format: Format,
    next: Option<VirtAddr>,
}

fn x(cx: &mut Cx, args: &Args, expression: &str, out: &mut dyn Sink) -> Result<(), CommandError> {
    let last = cx.settings.examined;
    let format = Format::parse(args.value(Opt::FORMAT).unwrap_or_default(), last.format)?;
    let at = match (expression.trim(), last.next) {
        ("", Some(next)) => next,
        ("", None) => return Err(UsageError::new("x", "which address?").into()),
        (expression, _) => address(cx, expression)?,
    };
    let next = match format.shape {
        Shape::Instruction => instructions(cx, at, format, out),
        Shape::String => strings(cx, at, format, out),
        _ => units(cx, at, format, out),
    }?;
    cx.settings.examined = Examined { format, next: Some(next) };
    Ok(())
}

/// An expression, or what other commands take for an address.
fn address(cx: &Cx, expression: &str) -> Result<VirtAddr, CommandError> {
    let variables = SessionVariables::new(cx);
    let scope = variables.scope();
    let symbol = || cx.kernel.symbols().is_ok_and(|symbols| !symbols.by_name(expression).is_empty());
    let guessed = || cx.kernel.evaluate(expression, &scope).is_ok_and(|found| found.guessed.is_some());
    // Of a variable whose type is not known the place is meant: its value would be a guess.
    if symbol() && guessed() {
        return operand::address(cx, "x", expression);
    }
    // Hexadecimal digits without `0x` are no C, and neither is a symbol with a dot.
    let otherwise = |error: EvalError| operand::address(cx, "x", expression).map_err(|_| error.into());
    cx.kernel.eval_address(expression, &scope).or_else(otherwise)
}

/// A line of memory.
#[derive(Debug, Serialize)]
struct Row {
    address: VirtAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    symbol: Option<String>,
    /// What lies there, as shown.
    values: Vec<String>,
}

impl Render for Row {
    /// What stands before the address.
    type View = str;

    fn render(&self, indent: &str, out: &mut dyn fmt::Write) -> fmt::Result {
        write!(out, "{indent}0x{:x}", self.address.0)?;
        if let Some(symbol) = &self.symbol {
            write!(out, " <{symbol}>")?;
        }
        writeln!(out, ":\t{}", self.values.join("\t"))
    }
}

/// Numbers: as many in a line as gdb puts there. Gives the address behind the last.
fn units(cx: &mut Cx, at: VirtAddr, format: Format, out: &mut dyn Sink) -> Result<VirtAddr, CommandError> {
    let size = u64::from(format.size);
    let count = format.count.unsigned_abs();
    let mut at = if format.count < 0 { at.sub(count.wrapping_mul(size)) } else { at };
    let space = Which::ByAddress.open(cx, "x", at.0)?;
    let per_line = format.per_line() as u64;
    let mut left = count;
    let mut first = true;
    while left > 0 {
        cx.cancel.check()?;
        let wanted = left.min(per_line);
        let mut bytes = vec![0; wanted.saturating_mul(size) as usize];
        let (read, missing) = space.memory().read(at, &mut bytes);
        let whole = bytes.get(..read).unwrap_or_default().chunks_exact(size as usize);
        let values: Vec<String> = whole.map(|bytes| value(cx, bytes, format)).collect();
        let shown = values.len() as u64;
        if shown > 0 {
            out.row(&Row { address: at, symbol: sym::name(&cx.kernel, at, Radix::Decimal), values }, "")?;
        }
        at = at.add(shown.wrapping_mul(size));
        if let Some(missing) = missing {
            unread(cx, missing, first && shown == 0)?;
            break;
        }
        first = false;
        left = left.saturating_sub(wanted);
    }
    Ok(at)
}

fn value(cx: &Cx, bytes: &[u8], format: Format) -> String {
    let text = unit::text(bytes, format);
    let named = match format.shape {
        Shape::Address => sym::name(&cx.kernel, VirtAddr(unit::unsigned(bytes)), Radix::Decimal),
        _ => None,
    };
    named.map_or(text.clone(), |name| format!("{text} <{name}>"))
}

/// What cannot be read ends the listing: it is an error when nothing was shown, and a gap after that.
fn unread(cx: &mut Cx, missing: Missing, nothing: bool) -> Result<(), CommandError> {
    let lacks = Lacks::Missing(missing);
    if nothing {
        return Err(lacks.into());
    }
    cx.lacks(&lacks, "memory", || missing.address.to_string());
    Ok(())
}

/// The longest text in a line until `set print_max` says otherwise; the rest follows as another one.
const LONGEST_STRING: usize = 256;
/// The longest that it can say.
const MOST_BYTES: usize = 1 << 16;

fn strings(cx: &mut Cx, at: VirtAddr, format: Format, out: &mut dyn Sink) -> Result<VirtAddr, CommandError> {
    if format.size != 1 {
        return Err(UsageError::new("x", "only strings of bytes are shown: x/s").into());
    }
    let space = Which::ByAddress.open(cx, "x", at.0)?;
    let print_max = cx.settings.variables.get("print_max").and_then(|text| text.parse().ok());
    let longest = print_max.unwrap_or(LONGEST_STRING).clamp(1, MOST_BYTES);
    let mut at = at;
    for number in 0..format.count.max(0) {
        cx.cancel.check()?;
        let (text, next, missing) = string(space.memory(), at, longest);
        if let Some(missing) = missing {
            unread(cx, missing, number == 0)?;
            break;
        }
        out.row(
            &Row { address: at, symbol: sym::name(&cx.kernel, at, Radix::Decimal), values: vec![text] },
            "",
        )?;
        at = next;
    }
    Ok(at)
}

/// The text at an address between quotes, and the address behind it.
fn string(memory: &dyn VirtualMemory, at: VirtAddr, longest: usize) -> (String, VirtAddr, Option<Missing>) {
    let mut bytes = vec![0; longest];
    let (read, missing) = memory.read(at, &mut bytes);
    let read = bytes.get(..read).unwrap_or_default();
    let end = read.iter().position(|&byte| byte == 0);
    let text = read.get(..end.unwrap_or(read.len())).unwrap_or_default();
    let mut shown = "\"".to_owned();
    text.iter().for_each(|&byte| shown.push_str(&unit::escaped(byte, '"')));
    shown.push_str(if end.is_some() { "\"" } else { "\"..." });
    let behind = at.add(text.len().saturating_add(usize::from(end.is_some())) as u64);
    (shown, behind, missing.filter(|_| end.is_none()))
}

#[cfg(feature = "disassemble")]
fn instructions(
    cx: &mut Cx,
    at: VirtAddr,
    format: Format,
    out: &mut dyn Sink,
) -> Result<VirtAddr, CommandError> {
    use kdive_arch::x86_64::disassemble::Syntax;

    use crate::code::Instructions;

    if format.count < 0 {
        let what =
            "instructions before an address are not found for sure: `dis -r` shows those of its function";
        return Err(UsageError::new("x", what).into());
    }
    let kernel = cx.kernel.clone();
    let space = Which::ByAddress.open(cx, "x", at.0)?;
    let mut instructions = Instructions::new(space.memory(), at, Syntax::Att);
    let name = |at| sym::name(&kernel, at, Radix::Decimal);
    for number in 0..format.count {
        cx.cancel.check()?;
        match instructions.one() {
            Ok(found) => {
                let values = vec![found.text(&name)];
                out.row(
                    &Row {
                        address: found.address,
                        symbol: sym::name(&cx.kernel, found.address, Radix::Decimal),
                        values,
                    },
                    "   ",
                )?;
            }
            Err(missing) => {
                unread(cx, missing, number == 0)?;
                break;
            }
        }
    }
    Ok(instructions.at)
}

#[cfg(not(feature = "disassemble"))]
fn instructions(
    _cx: &mut Cx,
    _at: VirtAddr,
    _format: Format,
    _out: &mut dyn Sink,
) -> Result<VirtAddr, CommandError> {
    Err(Lacks::unavailable("this kdive was built without its disassembler").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_gdbs() {
        let values = vec!["0x001f0f66".to_owned(), "0x00441f0f".to_owned()];
        let row = Row { address: VirtAddr(0xffff_ffff_8184_5480), symbol: Some("vfs_read".into()), values };
        let mut text = String::new();
        row.render("", &mut text).unwrap();
        assert_eq!(text, "0xffffffff81845480 <vfs_read>:\t0x001f0f66\t0x00441f0f\n");
    }

    struct Text(Vec<u8>);

    impl VirtualMemory for Text {
        fn read(&self, at: VirtAddr, into: &mut [u8]) -> (usize, Option<Missing>) {
            let rest = self.0.get(at.0 as usize..).unwrap_or_default();
            let count = rest.len().min(into.len());
            into[..count].copy_from_slice(&rest[..count]);
            let why = kdive_base::Why::NeverPresent;
            (count, (count < into.len()).then(|| Missing::new(at.add(count as u64), why)))
        }
    }

    #[test]
    fn strings_end_at_nul_or_at_the_limit() {
        let memory = Text(b"f\x0f\x1f\0\"x\"\n\0".to_vec());
        assert_eq!(string(&memory, VirtAddr(0), 9), ("\"f\\017\\037\"".to_owned(), VirtAddr(4), None));
        assert_eq!(string(&memory, VirtAddr(4), 200).0, "\"\\\"x\\\"\\n\"");
        assert!(string(&memory, VirtAddr(9), 200).2.is_some());
        let (text, next, missing) = string(&Text(vec![b'a'; 300]), VirtAddr(0), 200);
        assert!(text.ends_with("a\"...") && next == VirtAddr(200) && missing.is_none());
    }
}
