//! `p`: the value of an expression.

use std::fmt;

use kdive_base::VirtAddr;
use kdive_debuginfo::Types;
use kdive_target::c::{Evaluated, Scope, Value};
use kdive_target::show::{Format, Node, Shown, Style};
use serde::Serialize;

use crate::args::{Args, Opt, UsageError};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::memory::Space;
use crate::operand;
use crate::sink::{Render, Sink, SinkExt};
use crate::structure::{note, style};
use crate::variables::SessionVariables;

/// Evaluates and shows.
pub(crate) static PRINT: Command = Command {
    names: &["p", "print"],
    group: Group::Memory,
    summary: "the value of an expression",
    operands: "expression | symbol[:cpus]",
    options: &[
        Opt::value(Opt::FORMAT, "letter", "as gdb's format: x z d u o t c a f s"),
        Opt::flag("-x", "integers in hexadecimal"),
        Opt::flag("-d", "integers in decimal"),
        Opt::flag("-u", "pointers lead into the current task's user memory"),
    ],
    help: include_str!("print.md"),
    run: Run::Expression(print),
};

/// A value that was shown.
#[derive(Serialize)]
struct Printed {
    /// The number by which expressions can use it again: `$1`.
    number: usize,
    /// The variable that it begins with.
    #[serde(skip_serializing_if = "Option::is_none")]
    symbol: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<VirtAddr>,
    #[serde(rename = "type")]
    of: String,
    /// What of the type is not known but guessed.
    #[serde(skip_serializing_if = "Option::is_none")]
    guessed: Option<String>,
    value: Shown,
}

impl Render for Printed {
    type View = Style;

    fn render(&self, style: &Style, out: &mut dyn fmt::Write) -> fmt::Result {
        match (&self.symbol, self.cpu) {
            (Some(symbol), Some(cpu)) => write!(out, "per_cpu({symbol}, {cpu}) = ")?,
            (Some(symbol), None) => write!(out, "{symbol} = ")?,
            (None, _) => {}
        }
        write!(out, "${} = ", self.number)?;
        // A function, and an array behind a name, starts on a line of its own.
        let braced = match self.value.node {
            Node::Function(_) => true,
            Node::Array(_) => self.symbol.is_some() && self.cpu.is_none(),
            _ => false,
        };
        if braced && !style.array_lines {
            out.write_str("\n ")?;
        }
        writeln!(out, "{}", self.value.text(style))
    }
}

/// A per-CPU variable whose processor was not named: its type, and where its copies lie.
#[derive(Serialize)]
struct Copies {
    #[serde(rename = "type")]
    of: String,
    /// By processor.
    addresses: Vec<(u32, VirtAddr)>,
    #[serde(skip)]
    declaration: String,
}

impl Render for Copies {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "PER-CPU DATA TYPE:\n  {};\nPER-CPU ADDRESSES:", self.declaration)?;
        self.addresses.iter().try_for_each(|(cpu, at)| writeln!(out, "  [{cpu}]: {at}"))
    }
}

fn print(cx: &mut Cx, args: &Args, text: &str, out: &mut dyn Sink) -> Result<(), CommandError> {
    let style = Style { format: format(args)?, ..style(cx, args) };
    // The last value again.
    let text = if text.is_empty() { "$" } else { text };
    let kernel = cx.kernel.clone();
    let user = args.has("-u").then(|| Space::of_current_task(cx, "p")).transpose()?;
    let (name, cpus) = operand::processors(cx, "p", text)?;
    let name = name.to_owned();
    let found = {
        let variables = SessionVariables::new(cx);
        let memory = user.as_ref().map_or_else(|| kernel.memory(), Space::memory);
        let scope = Scope { memory, ..variables.scope() };
        kernel.evaluate(&name, &scope)?
    };
    let memory = user.as_ref().map_or_else(|| kernel.memory(), Space::memory);
    // crash leaves `p/x` to gdb, which knows no names before values.
    let symbol = named(cx, &name).filter(|_| style.format.is_none());
    let Some(cpus) = cpus else {
        if symbol.as_deref() == Some(name.as_str())
            && let Some(at) = per_cpu(cx, &found.value)
        {
            return copies(cx, &name, at, &found, out);
        }
        let Evaluated { value, types, guessed } = found;
        let printed = printed(cx, &value, &types, guessed.map(|guess| guess.to_string()), |value| {
            kernel.shown(&types, memory, value, &style)
        });
        return Ok(out.row(&Printed { symbol, ..printed }, &style)?);
    };
    let known = kernel.cpus()?;
    let at = found
        .value
        .address()
        .ok_or_else(|| UsageError::new("p", format!("{name} is no per-CPU variable")))?;
    for cpu in cpus {
        cx.cancel.check()?;
        let value = Value::object(found.value.of, known.per_cpu(at, cpu)?);
        let guessed = found.guessed.as_ref().map(ToString::to_string);
        let show = |value: &Value| kernel.shown(&found.types, memory, value, &style);
        let printed = printed(cx, &value, &found.types, guessed, show);
        out.row(&Printed { symbol: Some(name.clone()), cpu: Some(cpu), ..printed }, &style)?;
    }
    Ok(())
}

/// Shows a value, keeps it, and notes what of it is missing or guessed.
fn printed(
    cx: &mut Cx,
    value: &Value,
    types: &Types,
    guessed: Option<String>,
    show: impl FnOnce(&Value) -> Shown,
) -> Printed {
    let shown = show(value);
    let address = value.address();
    note(cx, &shown, "value", address.unwrap_or_default());
    if let Some(guessed) = &guessed {
        cx.gaps.note("type", guessed, None);
    }
    let number = cx.history.push(value.clone(), types.clone());
    Printed { number, symbol: None, cpu: None, address, of: types.name_of(value.of), guessed, value: shown }
}

/// What follows the slash.
fn format(args: &Args) -> Result<Option<Format>, UsageError> {
    let Some(letter) = args.value(Opt::FORMAT) else { return Ok(None) };
    let wrong = |why: &str| UsageError::new("p", format!("/{letter}: {why}"));
    match Format::of(letter) {
        Some(format) => Ok(Some(format)),
        None if letter.contains(|size: char| "bhwg".contains(size) || size.is_ascii_digit()) => {
            Err(wrong("sizes and counts are for memory: a value has the size of its type"))
        }
        None => Err(wrong("expected one of x z d u o t c a f s")),
    }
}

/// The variable that an expression begins with, as crash puts it before the value.
fn named(cx: &Cx, text: &str) -> Option<String> {
    let first = text.split_ascii_whitespace().next()?;
    let plain = first.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let symbols = cx.kernel.symbols().ok()?;
    (plain && !symbols.by_name(first).is_empty()).then(|| first.to_owned())
}

/// Where a per-CPU variable lies in the area that every processor has a copy of.
fn per_cpu(cx: &Cx, value: &Value) -> Option<VirtAddr> {
    let at = value.address()?;
    let (start, end) = (cx.kernel.symbol("__per_cpu_start").ok()?, cx.kernel.symbol("__per_cpu_end").ok()?);
    (start..end).contains(&at).then_some(at)
}

fn copies(
    cx: &mut Cx,
    name: &str,
    at: VirtAddr,
    found: &Evaluated,
    out: &mut dyn Sink,
) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let cpus = kernel.cpus()?;
    let addresses = cpus.possible.iter().filter_map(|cpu| Some((cpu, cpus.per_cpu(at, cpu).ok()?)));
    let of = found.types.name_of(found.value.of);
    let declaration = found.types.declare(found.value.of, name);
    Ok(out.row(&Copies { of, addresses: addresses.collect(), declaration }, &())?)
}
