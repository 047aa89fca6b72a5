//! `ptype`: the type of an expression in full, as gdb prints it; with `/o`, offsets, sizes and holes.

use std::fmt;

use kdive_debuginfo::{Type, TypeId, Types};
use kdive_target::show::{declaration, offsets};
use serde::Serialize;

use super::{Meaning, meaning};
use crate::args::{Args, Opt, UsageError};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::sink::{Render, Sink, SinkExt};
use crate::structure::Layout;

/// Shows a type in full.
pub(crate) static PTYPE: Command = Command {
    names: &["ptype"],
    group: Group::Memory,
    summary: "the type of an expression in full, with offsets and holes",
    operands: "[type | expression]",
    options: &[
        Opt::value(Opt::FORMAT, "letter", "o: with offsets, sizes and holes"),
        Opt::flag("-o", "the same as /o"),
    ],
    help: include_str!("ptype.md"),
    run: Run::Expression(ptype),
};

#[derive(Serialize)]
struct Full {
    #[serde(flatten)]
    layout: Layout,
    #[serde(skip)]
    text: String,
}

impl Render for Full {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "{}", self.text)
    }
}

fn ptype(cx: &mut Cx, args: &Args, text: &str, out: &mut dyn Sink) -> Result<(), CommandError> {
    let with_offsets = match args.value(Opt::FORMAT) {
        None => args.has("-o"),
        Some("o") => true,
        Some(letter) => return Err(UsageError::new("ptype", format!("/{letter}: expected /o")).into()),
    };
    // gdb's users type a blank before the slash too.
    let (with_offsets, text) = match text.strip_prefix("/o") {
        Some(rest) if rest.starts_with(char::is_whitespace) => (true, rest.trim_start()),
        _ => (with_offsets, text),
    };
    if text.is_empty() {
        return Err(UsageError::new("ptype", "the type of what?").into());
    }
    let kernel = cx.kernel.clone();
    let (types, of) = match meaning(cx, text)? {
        Meaning::Record(shape) => match shape.members.as_slice() {
            [] => (shape.types(&kernel)?.clone(), shape.of),
            [member] => (shape.types(&kernel)?.clone(), member.at.of),
            _ => return Err(UsageError::new("ptype", "one type at a time").into()),
        },
        Meaning::Type(types, of) => (types, of),
        Meaning::Value(found) => (found.types, found.value.of),
    };
    let shown = match with_offsets {
        true if matches!(types.stripped(of).as_deref(), Some(Type::Record(_))) => {
            offsets(&types, types.strip(of)).join("\n")
        }
        _ => format!("type = {}", full(&types, of)),
    };
    Ok(out.row(&Full { layout: Layout::of(&types, of), text: shown }, &())?)
}

/// Pointers and the like around a record or enum that is shown in full.
const DEEPEST: usize = 16;

/// A type with the body of the record or enum that it is made of; typedefs replaced by what they stand for.
fn full(types: &Types, of: TypeId) -> String {
    let mut inner = of;
    for _ in 0..DEEPEST {
        inner = types.strip(inner);
        inner = match types.get(inner).as_deref() {
            Some(Type::Pointer { to, .. }) => *to,
            Some(Type::Array { of, .. }) => *of,
            Some(Type::Record(_) | Type::Enum(_)) => return body(types, of, inner),
            _ => break,
        };
    }
    types.name_of(types.strip(of))
}

fn body(types: &Types, of: TypeId, inner: TypeId) -> String {
    let lines = declaration(types, inner);
    let text = lines.iter().map(|line| format!("{:1$}{2}", "", line.level.saturating_mul(4), line.text));
    let text = text.collect::<Vec<_>>().join("\n");
    // `struct task_struct *` less the name is what stands behind the body.
    let around = spelled(types, of);
    match around.strip_prefix(&types.name_of(inner)) {
        Some("") | None => text,
        Some(behind) => format!("{text}{behind}"),
    }
}

/// The name of a type whose own typedefs are replaced, down to the record that it is made of.
fn spelled(types: &Types, of: TypeId) -> String {
    let at = types.strip(of);
    let rebuilt = match types.get(at).as_deref() {
        Some(Type::Pointer { to, .. }) if is_made_of_record(types, *to) => types.pointer_to(types.strip(*to)),
        Some(Type::Array { of, count }) if is_made_of_record(types, *of) => {
            types.array_of(types.strip(*of), *count)
        }
        _ => at,
    };
    types.name_of(rebuilt)
}

fn is_made_of_record(types: &Types, of: TypeId) -> bool {
    matches!(types.stripped(of).as_deref(), Some(Type::Record(_) | Type::Enum(_)))
}
