//! Operands that many commands take alike: addresses, counts, processors.

use kdive_base::VirtAddr;
use kdive_target::c::Scope;

use crate::args::{UsageError, number_list};
use crate::arithmetic::{self, Wrong};
use crate::command::CommandError;
use crate::cx::Cx;
use crate::select;

/// An address as crash's users type it: a symbol with or without an offset (`jiffies`, `panic+0x10`), hexadecimal digits
/// with or without `0x`, or an expression in parentheses: crash's, in which a symbol is its address, or C. A name goes
/// before a number: `add` is both.
pub(crate) fn address(cx: &Cx, command: &str, word: &str) -> Result<VirtAddr, CommandError> {
    if word.starts_with('(') {
        return expression(cx, command, word).map(VirtAddr);
    }
    if let Some(at) = named(cx, word) {
        return Ok(at);
    }
    if let Ok(address) = u64::from_str_radix(word.strip_prefix("0x").unwrap_or(word), 16) {
        return Ok(VirtAddr(address));
    }
    let near = cx.kernel.symbols().map(|symbols| symbols.near(word)).unwrap_or_default();
    Err(CommandError::NotFound {
        what: format!("{command}: {word} is no symbol and no address"),
        hint: near.first().map(|near| format!("did you mean {near}?")),
    })
}

/// The value of an expression: crash's arithmetic, or else C.
pub(crate) fn expression(cx: &Cx, command: &str, text: &str) -> Result<u64, CommandError> {
    match arithmetic::evaluate(cx, text) {
        Ok(value) => Ok(value),
        Err(Wrong::Never(why)) => Err(CommandError::not_found(format!("{command}: {text}: {why}"))),
        Err(Wrong::NotThis(_)) => Ok(cx.kernel.eval_address(text, &Scope::global(&cx.kernel))?.0),
    }
}

/// `symbol` and `symbol+offset`, the offset in decimal or behind `0x`.
fn named(cx: &Cx, word: &str) -> Option<VirtAddr> {
    let (name, offset) = match word.split_once('+') {
        Some((name, offset)) => (name, number(offset)?),
        None => (word, 0),
    };
    Some(arithmetic::symbol(cx, name)?.add(offset))
}

/// A number: decimal where it can be, else hexadecimal, with or without `0x`; `k`, `m` and `g` multiply it.
pub(crate) fn number(word: &str) -> Option<u64> {
    arithmetic::number(word)
}

/// A number of things to show.
pub(crate) fn count(command: &str, word: &str) -> Result<u64, UsageError> {
    number(word).ok_or_else(|| UsageError::new(command, format!("{word} is not a number")))
}

/// The processors in a list such as `0,2-4`; all that are plugged in where no list is given.
pub(crate) fn cpus(cx: &Cx, command: &str, list: Option<&str>) -> Result<Vec<u32>, CommandError> {
    let known = cx.kernel.cpus()?;
    let present = known.present.as_ref().unwrap_or(&known.possible);
    let chosen: Vec<u32> = match list {
        Some("a" | "all") | None => return Ok(present.iter().filter(|cpu| *cpu < known.limit).collect()),
        Some(list) => number_list(command, list, known.limit)?,
    };
    match chosen.iter().find(|cpu| !known.possible.contains(**cpu)) {
        Some(cpu) => Err(CommandError::not_found(format!("{command}: there is no CPU {cpu}"))),
        None => Ok(chosen),
    }
}

/// Takes `name:cpus` apart, the form of per-CPU operands: `runqueues:0,2-4`, `:a` for all, `:` alone for the processor of
/// the current task.
pub(crate) fn processors<'w>(
    cx: &Cx,
    command: &str,
    word: &'w str,
) -> Result<(&'w str, Option<Vec<u32>>), CommandError> {
    let is_list = |list: &str| {
        matches!(list, "a" | "all") || !list.contains(|c: char| !(c.is_ascii_digit() || ",-".contains(c)))
    };
    // `'file.c'::variable` has colons of its own.
    let split = word.rsplit_once(':').filter(|(name, list)| !name.ends_with(':') && is_list(list));
    let Some((name, list)) = split else { return Ok((word, None)) };
    let cpus = match list {
        "" => vec![select::current(cx)?.cpu?],
        list => {
            let known = cx.kernel.cpus()?;
            let chosen = number_list(command, list, known.limit)?;
            chosen.into_iter().filter(|&cpu| known.possible.contains(cpu)).collect()
        }
    };
    Ok((name, Some(cpus)))
}
/// Nanoseconds of an option that is given in seconds.
pub(crate) fn seconds(command: &'static str, option: &str, word: &str) -> Result<u64, UsageError> {
    let seconds = word.parse::<f64>().ok().filter(|seconds| (0.0..1e9).contains(seconds));
    let seconds = seconds
        .ok_or_else(|| UsageError::new(command, format!("{option} {word}: not a number of seconds")))?;
    Ok((seconds * 1e9) as u64)
}
